"""Profile of a step: python tests/benchmarks/kernels.py [--release CLONE --release_python PYTHON]

Prints for each kind of kernel the time in a step on CPU and how often it is called, by MindSpore's own profiler, and
what convolutions would take at the rate of a product of large matrices. With a clone of the PyTorch release and a
Python that has torch, the authors' step stands beside it, by PyTorch's profiler. Each number is a median of several
steps, taken in turns.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

from utils.runtime.device import set_up_device, pynative_mode, synchronize  # noqa: E402, I001, first: it sets what MindSpore reads

import contextlib  # noqa: E402
import csv  # noqa: E402
import glob  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402

import mindspore as ms  # noqa: E402
import mindspore.nn as nn  # noqa: E402
import mindspore.ops as ops  # noqa: E402
import numpy as np  # noqa: E402
from mindspore.profiler import ProfilerActivity, ProfilerLevel  # noqa: E402

from losses import create_step  # noqa: E402
from models import check_image_size, create_model, find_model  # noqa: E402
from tests.benchmarks.release_process import start_release  # noqa: E402
from corruptions.utils.cli import Parser, positive_int, validated_by  # noqa: E402
from corruptions.utils.errors import exit_on_error  # noqa: E402

# Kinds of kernels, to the names that they have in MindSpore and in PyTorch, which has one for both gradients of a
# convolution.
KINDS = {
    "convolution": ("Conv2D", "aten::mkldnn_convolution"),
    "gradients of convolutions": ("Conv2DBackpropInput Conv2DBackpropFilter", "aten::convolution_backward"),
    "BatchNorm": ("BatchNorm", "aten::native_batch_norm"),
    "gradient of BatchNorm": ("BatchNormGrad", "aten::native_batch_norm_backward"),
    # Together, because LeakyReLU is made of sums and products here, and one kernel there.
    "activations, sums, products": (
        "ReLU ReluGrad Maximum Add AddN Mul Sub",
        "aten::leaky_relu aten::leaky_relu_ aten::leaky_relu_backward aten::add aten::add_ aten::mul aten::mul_ "
        "aten::sub aten::sub_"),
}


def of_kinds(kernels, framework):
    """Sum up kernels.

    Args:
        kernels (dict): name to number of calls and milliseconds.
        framework (int): 0 for MindSpore's names, 1 for PyTorch's.

    Returns:
        dict: kind, or 'all else' or 'all', to the same.
    """
    result = {kind: np.zeros(2) for kind in (*KINDS, "all else", "all")}
    kinds = {name: kind for kind, names in KINDS.items() for name in names[framework].split()}
    for name, numbers in kernels.items():
        result[kinds.get(name, "all else")] += numbers
        result["all"] += numbers
    return result


def profiled(take_step):
    """The kernels of one step: name to number of calls and milliseconds."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w", encoding="utf-8") as nowhere:
        with contextlib.redirect_stdout(nowhere):
            profiler = ms.profiler.Profiler(output_path=folder, activities=[ProfilerActivity.CPU],
                                            profiler_level=ProfilerLevel.Level0)
            take_step()
            profiler.analyse()
        [path] = glob.glob(os.path.join(folder, "**", "cpu_op_type_info_*.csv"), recursive=True)
        with open(path, newline="", encoding="utf-8") as file:
            return {row["op_type"]: (int(row["type_occurrences"]), float(row["total_compute_time"]))
                    for row in csv.DictReader(file)}


class Product(nn.Cell):
    def construct(self, left, right):
        return ops.matmul(left, right)


def matmul_rate(side=2048, runs=9):
    """Operations a second of a product of matrices, the fastest of several."""
    matrix, product, seconds = ops.ones((side, side), ms.float32), Product(), []
    for _ in range(runs):
        start = time.perf_counter()
        product(matrix, matrix)
        synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * side ** 3 / min(seconds)


def convolution_operations(network, image_size):
    """Operations (multiplications and additions) of the convolutions of one image: forward, and all gradients."""
    result = []

    def note(cell, _, output):
        result.append(2 * cell.weight.size // cell.out_channels * output.size)
    hooks = [cell.register_forward_hook(note) for _, cell in network.cells_and_names() if isinstance(cell, nn.Conv2d)]
    with pynative_mode():
        network.set_train(False)(ops.ones((1, 3, image_size, image_size), ms.float32))
    for hook in hooks:
        hook.remove()
    return sum(result), 2 * sum(result) - result[0]  # no gradient goes to the images


def main():
    parser = Parser(prog="kernels.py", description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", type=validated_by(find_model), default="wideresnet", help="network")
    parser.add_argument("-b", "--batch_size", type=positive_int, default=100, help="images in a batch")
    parser.add_argument("--image_size", type=positive_int, default=32, help="side of the images, in pixels")
    parser.add_argument("--runs", type=positive_int, default=5, help="steps")
    parser.add_argument("--release", help="clone of zhuohuangai/SharpDRO")
    parser.add_argument("--release_python", default="python3", help="Python interpreter that has torch")
    args = parser.parse_args()
    with exit_on_error(parser.prog):
        check_image_size(args.model, args.image_size, args.image_size)
        profile(args)


def profile(args):
    """Profile the steps and print the results."""
    set_up_device("CPU")
    rng = np.random.RandomState(0)
    shape = (args.batch_size, 3, args.image_size, args.image_size)
    batch = (ms.Tensor(rng.standard_normal(shape).astype(np.float32)),
             *(ms.Tensor(rng.randint(0, classes, args.batch_size), ms.int32) for classes in (10, 6)))
    forward, backward = convolution_operations(create_model(args.model, 10), args.image_size)
    step = create_step(create_model(args.model, 10), "sharpdro", recipe="sharpdro")
    sources = [lambda: of_kinds(profiled(lambda: step.train_batch(*batch)), 0)]
    if args.release:
        ask = start_release(args.release_python, args.release, args.model, args.batch_size, args.image_size)
        sources.append(lambda: of_kinds(ask("profile"), 1))
    result = [[] for _ in sources]
    for run in range(args.runs + 2):
        for into, source in zip(result, sources, strict=True):
            kinds = source()
            if run >= 2:  # the first ones set up kernels and memory
                into.append(kinds)
    rate = matmul_rate()
    operations = {"convolution": forward, "gradients of convolutions": backward}  # of an image in one pass
    print(f"two-pass step (sharpdro), {args.model}, batches of {args.batch_size}; product of matrices: "
          f"{rate / 1e9:.0f} GFLOP/s")
    titles = [*("ours: ms", "calls", "release: ms", "calls")[:2 * len(result)], "at that rate: ms"]
    print(f"{'':28s}" + "".join(f"{title:>18s}" for title in titles))
    for kind in result[0][0]:
        cells = [f"{statistics.median(kinds[kind][place] for kinds in into):18.{1 - place}f}"
                 for into in result for place in (1, 0)]
        if kind in operations:
            cells.append(f"{2 * args.batch_size * operations[kind] / rate * 1e3:18.1f}")
        print(f"{kind:28s}" + "".join(cells))


if __name__ == "__main__":
    main()
