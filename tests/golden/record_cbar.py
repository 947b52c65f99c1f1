"""Record what the published classes of C-bar make of an image: python tests/golden/record_cbar.py CLONE/imagenet_c_bar

CLONE is facebookresearch/augmentation-corruption. The classes are given images of 33 pixels, a size with a middle
pixel, so that all fifteen are in one small file, with the levels of the size that has published ones, 32 where both
have. The format is that of `corruptions_32.npz`.
"""
import argparse
import os
import sys

import numpy as np
from skimage import data

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.benchmarks.published import load_bar  # noqa: E402

SIZE, SEVERITIES = 33, (1, 3, 5)
OUTPUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cbar_33.npz")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="CLONE/imagenet_c_bar", help="the published classes")
    functions = load_bar(parser.parse_args().folder, SIZE)
    image = data.astronaut()[60:60 + 5 * SIZE:5, 180:180 + 5 * SIZE:5]
    result = {"image-0": image, "seed_offset": 0}
    for name, function in functions.items():
        for severity in SEVERITIES:
            np.random.seed(1000 * severity)
            result[f"{name}-{severity}-0"] = function(image.copy(), severity)
    np.savez_compressed(OUTPUT, **result)
    print(f"written to {OUTPUT}")


if __name__ == "__main__":
    main()
