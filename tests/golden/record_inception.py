"""Record images of hendrycks/robustness at 299 pixels: python tests/golden/record_inception.py SCRIPT

SCRIPT is its `ImageNet-C/create_c/make_imagenet_c_inception.py`. Writes `inception.json` beside this file: for each
corruption the SHA-256 of its image at each severity, drawn after `numpy.random.seed(SEVERITY)`. motion_blur and snow
need ImageMagick, and impulse_noise a scikit-image before 0.20, so they are left out.
"""
import hashlib
import json
import os
import sys

import numpy as np
from skimage import data

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))

from corruptions import SETS  # noqa: E402
from corruptions.weather import frost_folder  # noqa: E402
from tests.benchmarks.published import load_published  # noqa: E402

LEFT_OUT = ("motion_blur", "snow", "impulse_noise")


def image():
    """A photograph, uint8 (299, 299, 3)."""
    return np.ascontiguousarray(data.astronaut()[:299, 100:399])


def main():
    published, record = load_published(sys.argv[1], frost_folder(None), 299), {}
    for name in SETS["all"]:
        if name not in LEFT_OUT:
            record[name] = []
            for severity in range(1, 6):
                np.random.seed(severity)
                record[name].append(hashlib.sha256(published[name](image(), severity).tobytes()).hexdigest())
    with open(os.path.join(HERE, "inception.json"), "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
