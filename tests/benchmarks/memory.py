"""The memory and time that corruptions take for one image: python tests/benchmarks/memory.py

Each runs in a process of its own. The limit is ten times the image in float64, and 200 MiB, of which Python and its
libraries take about 85.
"""
import argparse
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402

from corruptions import CORRUPTIONS  # noqa: E402
from corruptions.utils.cli import Parser  # noqa: E402
from corruptions.utils.errors import exit_on_error  # noqa: E402

SHAPES = ((16, 20000, 3), (20000, 16, 1), (3000, 4000, 3), (3000, 4000, 1))
MEBIBYTE = 2 ** 20
# The kernel's own count: that of `resource` would begin with the memory of the process that starts this one.
CODE = """
import sys, time
import cv2, numpy as np
from corruptions import corrupt
cv2.setNumThreads(1)
name, severity, *shape = sys.argv[1:]
image = np.random.default_rng(0).integers(0, 256, [int(size) for size in shape], dtype=np.uint8)
start = time.perf_counter()
corrupt(image, name, int(severity))
seconds = time.perf_counter() - start
with open("/proc/self/status") as file:
    [peak] = [line.split()[1] for line in file if line.startswith("VmHWM:")]
print(1024 * int(peak), seconds)
"""


def limit(shape):
    """The bytes that corrupting an image of this shape may take."""
    return 10 * 8 * int(np.prod(shape)) + 200 * MEBIBYTE


def measure(name, shape, severity):
    """Corrupt one image in a new process.

    Returns:
        tuple: most bytes that the process held at a time, seconds that the corruption took.
    """
    output = subprocess.run([sys.executable, "-c", CODE, name, str(severity), *map(str, shape)], cwd=ROOT, check=True,
                            capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}).stdout
    peak, seconds = output.split()
    return int(peak), float(seconds)


def image_shape(text):
    try:
        shape = tuple(int(size) for size in text.split("x"))
    except ValueError:
        shape = ()
    if len(shape) not in (2, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is no image shape such as 3000x4000x3")
    return shape


def main():
    parser = Parser(prog="memory.py", description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", type=image_shape, default=SHAPES, metavar="HxWxC", help="images")
    parser.add_argument("-c", "--corruption", nargs="+", choices=CORRUPTIONS, default=list(CORRUPTIONS), metavar="NAME",
                        help="corruptions")
    parser.add_argument("--severity", type=int, choices=range(1, 6), default=5, help="severity")
    args = parser.parse_args()
    with exit_on_error(parser.prog):
        for shape in args.shapes:
            print(f"{'x'.join(map(str, shape))}, at most {limit(shape) // MEBIBYTE} MiB")
            for name in args.corruption:
                peak, seconds = measure(name, shape, args.severity)
                print(f"  {name:18s} {peak // MEBIBYTE:5d} MiB  {seconds:6.2f} s"
                      f"{'' if peak <= limit(shape) else '  TOO MUCH'}", flush=True)


if __name__ == "__main__":
    main()
