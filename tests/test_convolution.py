"""The gradients of convolutions on CPU: against MindSpore's own kernels and central differences."""
import mindspore as ms
import mindspore.nn as nn
import numpy as np
import pytest
from scipy.signal import correlate

from models import create_model, layers
from models.convolution import FastConvolution
from tests.benchmarks.convolutions import Convolution, Gradient


def example(number, ins, outs, height, width):
    rng = np.random.RandomState(0)
    return [rng.standard_normal(shape) for shape in ((number, ins, height, width), (outs, ins, 3, 3),
                                                     (number, outs, height, width))]


def tensors(arrays):
    return [ms.Tensor(array, ms.float32) for array in arrays]


@pytest.mark.parametrize("shape", [(5, 3, 16, 32, 32), (3, 16, 32, 33, 40), (2, 64, 8, 9, 64), (2, 3, 8, 17, 16),
                                   (4, 32, 64, 16, 16), (4, 32, 32, 9, 7), (2, 3, 4, 80, 80), (2, 3, 4, 8, 300)])
def test_gradients_equal_those_of_mindspore(shape):
    """Of images with two bands of rows and with many, with a last band of one row, and of images that are not cut."""
    _, ins, outs, *_ = shape
    arguments = tensors(example(*shape))
    for position in range(2):
        gradient, expected = (Gradient(cell, position)(*arguments).asnumpy()
                              for cell in (FastConvolution(ins, outs), Convolution(3, 1)))
        np.testing.assert_allclose(gradient, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("side", [4, 32])
def test_gradients_are_those_of_the_result(side):
    """The gradients of sum(sensitivity * result) at a few places, by differences in float64 of a linear function."""
    images, weights, sensitivity = example(2, 2, 3, side, side)

    def value():
        result = [[sum(correlate(np.pad(channel, 1), kernel, "valid")
                       for channel, kernel in zip(image, kernels, strict=True)) for kernels in weights]
                  for image in images]
        return (sensitivity * result).sum()
    arguments = tensors([images, weights, sensitivity])
    gradients = [Gradient(FastConvolution(2, 3), position)(*arguments) for position in range(2)]
    places = [(1, 0, 0, 3), (0, 1, 2, 1)], [(2, 1, 0, 2), (0, 0, 1, 1)]
    for array, gradient, chosen in zip((images, weights), gradients, places, strict=True):
        for place in chosen:
            before, values = array[place], []
            for shift in (0.5, -0.5):
                array[place] = before + shift
                values.append(value())
            array[place] = before
            assert gradient.asnumpy()[place] == pytest.approx(values[0] - values[1], rel=1e-4)


def test_networks_have_them_on_cpu_alone(monkeypatch):
    """In 3x3 convolutions with stride 1 and few channels; the names of parameters stay the same."""
    def fast(network):
        return {name.removesuffix(".conv2d") for name, cell in network.cells_and_names()
                if isinstance(cell, FastConvolution)}
    network = create_model("resnet18_cifar", 10)
    shapes = {name: (cell.kernel_size, cell.stride, max(cell.in_channels, cell.out_channels))
              for name, cell in network.cells_and_names() if isinstance(cell, nn.Conv2d)}
    assert fast(network) == {name for name, (kernel, stride, channels) in shapes.items()
                             if kernel == (3, 3) and stride == (1, 1) and channels <= 128} and len(fast(network)) == 8
    monkeypatch.setattr(layers, "device", lambda: "GPU")
    other = create_model("resnet18_cifar", 10)
    assert not fast(other)
    assert [weight.name for weight in network.get_parameters()] == [weight.name for weight in other.get_parameters()]
