"""Time an evaluation: python tests/benchmarks/evaluate.py [-m MODEL]

Prints images per second of evaluating arrays that are on disk, accuracy, likelihood and calibration included, and of
the bare forward graph on one batch that stays in memory, in turns, and the median ratio of the two; also per second of
processor time, which other programs on the machine disturb less.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

import utils.runtime.device  # noqa: E402, F401, I001, first: it sets the environment that MindSpore reads

import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402

import mindspore as ms  # noqa: E402
import numpy as np  # noqa: E402

from dataset.batches import normalise  # noqa: E402
from dataset.pipeline import iterate_arrays  # noqa: E402
from models import create_model, find_model  # noqa: E402
from corruptions.utils.cli import Parser, validated_by, positive_int, cpu_count  # noqa: E402
from losses.evaluation.predict import evaluate_arrays  # noqa: E402

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def stored_arrays(folder, count, images):
    """Random arrays of images, written to `folder` and memory-mapped."""
    rng = np.random.RandomState(0)
    paths = [os.path.join(folder, f"{k}.npy") for k in range(count)]
    for path in paths:
        np.save(path, rng.randint(0, 256, (images, 32, 32, 3)).astype(np.uint8))
    return [np.load(path, mmap_mode="r") for path in paths]


def main():
    parser = Parser(prog="evaluate.py", description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", type=validated_by(find_model), default="wideresnet", help="network")
    parser.add_argument("-b", "--batch_size", type=positive_int, default=128, help="images in a batch")
    parser.add_argument("--images", type=positive_int, default=1265,
                        help="images in an array; 1265 fill the last batch as much as 10000 do")
    parser.add_argument("--arrays", type=positive_int, default=4, help="arrays in an evaluation")
    parser.add_argument("--runs", type=positive_int, default=11, help="evaluations")
    parser.add_argument("--workers", type=positive_int, default=min(4, cpu_count()), help="threads that read images")
    args = parser.parse_args()

    network = create_model(args.model, 10).set_train(False)
    labels = np.random.RandomState(1).randint(0, 10, args.images).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        arrays = stored_arrays(folder, args.arrays, args.images)
        batch = ms.Tensor(normalise(arrays[0][:args.batch_size], MEAN, STD))
        steps = args.arrays * -(-args.images // args.batch_size)

        def forward():
            for _ in range(steps):
                network(batch).asnumpy()
            return steps * args.batch_size

        def evaluation():
            for _ in evaluate_arrays(network, iterate_arrays(arrays, labels, MEAN, STD, args.batch_size, args.workers)):
                pass
            return args.arrays * args.images

        kinds = {"bare forward graph": forward, "evaluation": evaluation}
        speeds = {name: [] for name in kinds}
        for run in range(args.runs + 1):  # the first sets up kernels and memory
            for name, kind in kinds.items():
                start = np.array([time.perf_counter(), time.process_time()])
                images = kind()
                if run:
                    speeds[name].append(images / (np.array([time.perf_counter(), time.process_time()]) - start))
    for k, clock in enumerate(("second", "second of processor time")):
        forwards, evaluations = ([speed[k] for speed in result] for result in speeds.values())
        ratios = [b / a for a, b in zip(forwards, evaluations, strict=True)]
        print(f"{args.model}, images per {clock}: bare forward graph {statistics.median(forwards):.0f}, evaluation "
              f"{statistics.median(evaluations):.0f}, ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to "
              f"{max(ratios):.2f})")


if __name__ == "__main__":
    main()
