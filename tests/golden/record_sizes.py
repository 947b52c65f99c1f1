"""Record this project's corruptions of sizes that the published code has no constants for: record_sizes.py

    python tests/golden/record_sizes.py

Writes `other_sizes.npz` beside this file, with severity 3 alone. The published code takes square images, so these
pixels are those of this project. They tell whether a later version makes others.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))

from tests.corruption_errors import SIZES, record_corruptions  # noqa: E402

if __name__ == "__main__":
    record_corruptions(os.path.join(HERE, "corruptions_32.npz"), os.path.join(HERE, "other_sizes.npz"), SIZES[:3], (3,))
