"""Time the train steps: python tests/benchmarks/step.py [--release CLONE --release_python PYTHON]

Prints graph compilation times, the median times of steps of several methods taken in turns, by default one-pass (ERM)
and two-pass (SharpDRO), and the peak resident memory. With a clone of the PyTorch release and a Python that has torch,
the authors' own step takes its turn, too, with the same network, in a process of its own that waits while the others
run.

Under `msrun` the workers share the batch, and the first one prints.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

from utils.runtime.device import shutdown, set_up_device  # noqa: E402, I001, first: it sets the environment that MindSpore reads

import resource  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402

import mindspore as ms  # noqa: E402
import mindspore.nn as nn  # noqa: E402
import numpy as np  # noqa: E402

from losses import create_step  # noqa: E402
from models import check_image_size, create_model, find_model  # noqa: E402
from models.convolution import FastConvolution  # noqa: E402
from tests.benchmarks.release_process import start_release  # noqa: E402
from utils.runtime import distributed  # noqa: E402
from corruptions.utils.cli import Parser, positive_int, validated_by  # noqa: E402
from corruptions.utils.errors import UserError, exit_on_error  # noqa: E402
from utils.runtime.compile_cache import compile_cached  # noqa: E402


def use_own_gradients(network):
    """Give the convolutions of a network MindSpore's own gradients."""
    for layer in [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.Conv2d)]:
        if isinstance(layer.conv2d, FastConvolution):
            convolve = layer.conv2d.convolve.convolve
            del layer.conv2d
            layer.conv2d = convolve


def prepare_step(method, model, batch, cache=None):
    """Build and compile a step; return a function that takes one step and gives its seconds, and the compile time.

    `method` is a method's name, with marks after slashes as in the help of `--methods`. `cache` is a folder for
    `--compile_cache`, which serves the first step that is prepared.
    """
    name, *marks = method.split("/")
    unknown = [mark for mark in marks if mark not in ("sync_bn", "own") and not mark.isdigit()]
    if unknown:
        raise UserError(f"--methods {method}: {unknown[0]} is no number of sub-batches, sync_bn or own")
    network, more = create_model(model, 10), {"sync_bn": True} if "sync_bn" in marks else {}
    if "own" in marks:
        use_own_gradients(network)
    sub_batches = next((int(mark) for mark in marks if mark.isdigit()), 1)
    step = create_step(network, name, num_sub_batches=sub_batches, recipe="sharpdro", **more)
    ours = distributed.rank_slice(len(batch[0]), distributed.rank_and_world_size())
    images, *description = batch
    images = images[ours]
    start = time.perf_counter()
    example = step.example_inputs(len(batch[0]), images.shape[1:])
    if cache:
        compile_cached(step.graph, example, cache, (method, model), print)
    step.graph.compile(*example)  # what is compiled already is not compiled again
    compile_seconds = time.perf_counter() - start

    def timed():
        start = time.perf_counter()
        step.train_batch(images, *description)
        return time.perf_counter() - start
    timed()  # the first call also sets up kernels and memory
    return timed, compile_seconds


def main():
    parser = Parser(prog="step.py", description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", type=validated_by(find_model), default="wideresnet", help="network")
    parser.add_argument("--methods", nargs="+", default=["erm", "sharpdro"], metavar="METHOD",
                        help="methods, of which the first is the base of the ratios; damp/4 is damp with four "
                             "sub-batches, damp/4/sync_bn with BatchNorm over all of them; damp/own has MindSpore's "
                             "own gradients of convolutions")
    parser.add_argument("-b", "--batch_size", type=positive_int, default=100, help="images in a batch")
    parser.add_argument("--image_size", type=positive_int, default=32, help="side of the images, in pixels")
    parser.add_argument("--runs", type=positive_int, default=9, help="steps of each kind")
    parser.add_argument("--compile_cache", metavar="DIR", help="keep the first step there, or take it from there")
    parser.add_argument("--release", help="clone of zhuohuangai/SharpDRO, whose step trains its own network, "
                        "torchvision's or timm's")
    parser.add_argument("--release_python", default="python3", help="Python interpreter that has torch")
    args = parser.parse_args()
    with exit_on_error(parser.prog):
        check_image_size(args.model, args.image_size, args.image_size)
        measure(args)


def measure(args):
    """Time the steps and print the results."""
    set_up_device("auto")
    rng = np.random.RandomState(0)
    batch = (ms.Tensor(rng.standard_normal((args.batch_size, 3, args.image_size, args.image_size)).astype(np.float32)),
             ms.Tensor(rng.randint(0, 10, args.batch_size), ms.int32),
             ms.Tensor(rng.randint(0, 6, args.batch_size), ms.int32))
    steps = {}
    for method in args.methods:
        steps[method], seconds = prepare_step(method, args.model, batch, args.compile_cache)
        print(f"{method}: compiled in {seconds:.1f} s")
    if args.release:
        ask = start_release(args.release_python, args.release, args.model, args.batch_size, args.image_size)
        steps["release"] = lambda: ask("step")
    times = {name: [] for name in steps}
    for _ in range(args.runs):
        for name, timed in steps.items():
            times[name].append(timed())
    for name, seconds in times.items():
        print(f"{name}: median {statistics.median(seconds):.3f} s (from {min(seconds):.3f} to {max(seconds):.3f})")
    for base in (args.methods[0], "release"):
        for name in steps:
            if name != base and base in steps:
                ratios = [a / b for a, b in zip(times[name], times[base], strict=True)]
                print(f"{name} / {base}: median {statistics.median(ratios):.2f}")
    print(f"peak resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20:.2f} GiB")
    shutdown()


if __name__ == "__main__":
    main()
