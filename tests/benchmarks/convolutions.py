"""Other forms of a step's kernels: python tests/benchmarks/convolutions.py [--output FILE.csv]

MindSpore's CPU backend hands oneDNN plain layouts, for which oneDNN copies patches and multiplies matrices. This script
measures each pass of the convolutions of WRN-28-2 beside other forms that give the same numbers, among them those of
`models/convolution.py`, and BatchNorm beside its formula. The forms of a row are taken in turns. Each number is a
median, of other forms as a multiple of the time of MindSpore's own kernel.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

from utils.runtime.device import set_up_device, synchronize  # noqa: E402, I001, first: it sets what MindSpore reads

import statistics  # noqa: E402
import time  # noqa: E402

import mindspore as ms  # noqa: E402
import mindspore.nn as nn  # noqa: E402
import mindspore.ops as ops  # noqa: E402
import numpy as np  # noqa: E402

from corruptions.utils.cli import Parser, positive_int  # noqa: E402
from corruptions.utils.errors import exit_on_error  # noqa: E402
from corruptions.utils.files import write_csv  # noqa: E402
from models.convolution import FastConvolution  # noqa: E402

# Input channels, output channels, side of the input, side of the kernel, stride: the kinds of WRN-28-2.
LAYERS = ((16, 32, 32, 3, 1), (32, 32, 32, 3, 1), (32, 64, 32, 3, 2), (64, 64, 16, 3, 1), (64, 128, 16, 3, 2),
          (128, 128, 8, 3, 1), (16, 32, 32, 1, 1), (32, 64, 32, 1, 2), (64, 128, 16, 1, 2))
NORMS = ((32, 32), (64, 16), (128, 8))  # channels and side of the images
PASSES = ("forward", "gradient by the inputs", "gradient by the weights")
OWN, HERE, SLICES, PRODUCT, FORMULA = TITLES = ("own kernel, ms", "as here", "products of slices", "one product",
                                                "formula")


class Convolution(nn.Cell):
    """A convolution as MindSpore's own kernel: images (N, C, H, W) and kernel (O, C, K, K) to (N, O, H', W')."""

    def __init__(self, kernel, stride):
        super().__init__()
        self.stride, self.padding = stride, kernel // 2

    def construct(self, images, kernel):
        return ops.conv2d(images, kernel, None, self.stride, "pad", self.padding)


class Patches(nn.Cell):
    """The same as products of matrices: one for each place of the kernel, or one with all places side by side."""

    def __init__(self, kernel, stride, together):
        super().__init__()
        self.stride, self.padding, self.together = stride, kernel // 2, together
        self.places = [(row, column) for row in range(kernel) for column in range(kernel)]

    def slices(self, images):
        """For each place of the kernel the values under it, (N, C, H' W')."""
        number, channels, side, _ = images.shape
        width = self.padding
        padded = ops.pad(images, (width, width, width, width)) if width else images
        stop = side - (side - 1) % self.stride
        return [padded[:, :, row:row + stop:self.stride, column:column + stop:self.stride].reshape(number, channels, -1)
                for row, column in self.places]

    def construct(self, images, kernel):
        outs, side = kernel.shape[0], (images.shape[2] - 1) // self.stride + 1
        parts = self.slices(images)
        if self.together:
            matrix = kernel.transpose(0, 2, 3, 1).reshape(outs, -1)
            result = ops.matmul(matrix, ops.concat(parts, 1))
        else:
            result = 0.0
            for place, (row, column) in enumerate(self.places):
                result = result + ops.matmul(kernel[:, :, row, column], parts[place])
        return result.reshape(images.shape[0], outs, side, side)


class Forward(nn.Cell):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def construct(self, images, kernel, sensitivity):
        return self.form(images, kernel)


class Gradient(nn.Cell):
    """The gradient by the images (0) or by the kernel (1). A convolution is linear: no forward pass is computed."""

    def __init__(self, form, position):
        super().__init__()
        self.position, self.gradient = position, ops.GradOperation(get_all=True, sens_param=True)(form)

    def construct(self, images, kernel, sensitivity):
        return self.gradient(images, kernel, sensitivity)[self.position]


class TurnedGradient(nn.Cell):
    """The gradient by the images as a convolution of the sensitivity with the turned kernel, for a stride of 1."""

    def __init__(self, form):
        super().__init__()
        self.form, self.reverse = form, ops.ReverseV2((2, 3))

    def construct(self, images, kernel, sensitivity):
        return self.form(sensitivity, self.reverse(kernel).transpose(1, 0, 2, 3))


def forms_of(name, inputs, outputs, kernel, stride):
    """Return the forms of a pass, a dict of title to cell; MindSpore's own kernel comes first."""
    own, slices, product = Convolution(kernel, stride), Patches(kernel, stride, False), Patches(kernel, stride, True)
    products = {SLICES: slices} if kernel == 1 else {SLICES: slices, PRODUCT: product}  # 1x1 has one slice alone
    if name == PASSES[0]:
        return {title: Forward(form) for title, form in {OWN: own, **products}.items()}
    forms = {OWN: own, HERE: FastConvolution(inputs, outputs)} if (kernel, stride) == (3, 1) else {OWN: own}
    position = PASSES.index(name) - 1
    result = {title: Gradient(form, position) for title, form in forms.items()}
    turn = TurnedGradient if name == PASSES[1] and stride == 1 else lambda form: Gradient(form, position)
    return result | {title: turn(form) for title, form in products.items()}


class Norm(nn.Cell):
    """BatchNorm in training mode: MindSpore's own kernel, or its formula."""

    def __init__(self, channels, by_formula):
        super().__init__()
        self.by_formula = by_formula
        self.norm = ops.BatchNorm(is_training=True)
        self.moving = ms.Parameter(ops.zeros(channels), name="mean"), ms.Parameter(ops.ones(channels), name="variance")

    def construct(self, images, scale, shift):
        if not self.by_formula:
            return self.norm(images, scale, shift, self.moving[0], self.moving[1])[0]
        mean = images.mean((0, 2, 3), True)
        centred = images - mean
        factor = scale.reshape(1, -1, 1, 1) * ops.rsqrt(ops.square(centred).mean((0, 2, 3), True) + 1e-5)
        return centred * factor + shift.reshape(1, -1, 1, 1)


class NormStep(nn.Cell):
    """BatchNorm and its gradients."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm
        self.gradient = ops.GradOperation(get_all=True, sens_param=True)(norm)

    def construct(self, images, scale, shift, sensitivity):
        return self.norm(images, scale, shift), self.gradient(images, scale, shift, sensitivity)


def flat(result):
    """Return the tensors in nested tuples as a list of arrays."""
    return [result.asnumpy()] if isinstance(result, ms.Tensor) else [array for part in result for array in flat(part)]


def compare(forms, arguments, runs):
    """Return the median milliseconds of cells that give the same numbers, taken in turns; a dict as `forms`."""
    first, seconds = None, {name: [] for name in forms}
    for run in range(runs + 2):  # the first ones compile, and set up kernels and memory
        for name, form in forms.items():
            synchronize()
            start = time.perf_counter()
            result = form(*arguments)
            synchronize()
            seconds[name].append(time.perf_counter() - start)
            if run == 0:
                values = flat(result)
                first = values if first is None else first
                for value, expected in zip(values, first, strict=True):
                    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    return {name: 1000 * statistics.median(times[2:]) for name, times in seconds.items()}


def tensor(rng, *shape):
    return ms.Tensor(rng.standard_normal(shape).astype(np.float32))


def measure(batch_size, runs):
    """Yield the rows of the table: the kernel, the pass, and the milliseconds of each form."""
    rng = np.random.RandomState(0)
    for inputs, outputs, side, kernel, stride in LAYERS:
        images, weights = tensor(rng, batch_size, inputs, side, side), tensor(rng, outputs, inputs, kernel, kernel)
        sensitivity = tensor(rng, batch_size, outputs, side // stride, side // stride)
        for name in PASSES:
            times = compare(forms_of(name, inputs, outputs, kernel, stride), (images, weights, sensitivity), runs)
            yield f"{kernel}x{kernel}, {inputs} to {outputs} channels, {side}x{side}, stride {stride}", name, times
    for channels, side in NORMS:
        arguments = [tensor(rng, batch_size, channels, side, side), tensor(rng, channels), tensor(rng, channels),
                     tensor(rng, batch_size, channels, side, side)]
        forms = {OWN: NormStep(Norm(channels, False)), FORMULA: NormStep(Norm(channels, True))}
        yield f"BatchNorm, {channels} channels, {side}x{side}", "all passes", compare(forms, arguments, runs)


def main():
    parser = Parser(prog="convolutions.py", description=__doc__.splitlines()[0])
    parser.add_argument("-b", "--batch_size", type=positive_int, default=100, help="images in a batch")
    parser.add_argument("--runs", type=positive_int, default=7, help="times that each form is taken")
    parser.add_argument("--output", metavar="FILE", help="CSV file to write")
    args = parser.parse_args()
    with exit_on_error(parser.prog):
        set_up_device("CPU")
        rows = []
        for kernel, name, times in measure(args.batch_size, args.runs):
            ratios = {title: value / times[OWN] for title, value in times.items()}
            cells = {title: f"{value:.2f}" for title, value in (ratios | {OWN: times[OWN]}).items()}
            print(f"{kernel}, {name}: {', '.join(f'{title} {cell}' for title, cell in cells.items())}", flush=True)
            rows.append([kernel, name, *(cells.get(title, "") for title in TITLES)])
        if args.output:
            write_csv(args.output, dict(zip(("kernel", "pass", *TITLES), zip(*rows, strict=True), strict=True)))


if __name__ == "__main__":
    main()
