"""The gradients of a convolution by kernels that are faster on CPU than MindSpore's own choice.

MindSpore's CPU backend hands oneDNN plain layouts, in which its gradients of convolutions are slow (tests/README.md has
the times). A gradient by the images is itself a convolution, whose kernel is faster. The gradient by the weights is
faster for a few rows of the images at a time.
"""
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter

MOST_CHANNELS = 128  # with more of them, turning the weights costs more than is gained
BAND_PIXELS = 256  # of an image at a time; with more, oneDNN's gradient by the weights is up to three times slower
MOST_PIXELS = 64 * 64  # of an image that is cut into bands


class FastConvolution(nn.Cell):
    """A 3x3 convolution with stride 1 and padding 1: float32 (N, C, H, W) and weights (K, C, 3, 3) to (N, K, H, W).

    The gradients equal MindSpore's own up to the order of float32 sums.

    Args:
        in_channels, out_channels (int): C and K, at most `MOST_CHANNELS`.
    """

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.convolve = ConvolutionWithTurned(in_channels, out_channels)
        self.reverse = ops.ReverseV2((2, 3))

    def construct(self, images, weights):
        turned = self.reverse(weights).transpose(1, 0, 2, 3)
        return self.convolve(images, weights, ops.stop_gradient(turned))


class ConvolutionWithTurned(nn.Cell):
    """A convolution with its gradients, from weights (K, C, 3, 3) and the same weights turned, (C, K, 3, 3).

    The turned weights are made before, because weights that `bprop` reads may be those that a step has put back
    meanwhile.
    """

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.convolve = ops.Conv2D(out_channels, 3, pad_mode="pad", pad=1)
        self.convolve_back = ops.Conv2D(in_channels, 3, pad_mode="pad", pad=1)
        # The gradients by the weights of whole images, and of bands at the top, in the middle and at the bottom.
        self.whole, self.top, self.middle, self.bottom = (
            Conv2DBackpropFilter(out_channels, 3, pad_mode="pad", pad=padding, pad_list=padding)
            for padding in ((1, 1, 1, 1), (1, 0, 1, 1), (0, 0, 1, 1), (0, 1, 1, 1)))

    def construct(self, images, weights, turned):
        return self.convolve(images, weights)

    def bprop(self, images, weights, turned, out, gradient):
        """Return the gradients by the images and by the weights, from the gradient by the result; none by `turned`."""
        kind = gradient.dtype  # float16 in mixed precision, in which images and weights may be float32
        by_images = self.convolve_back(gradient, turned.astype(kind))
        by_weights = self.gradient_by_weights(images.astype(kind), weights.shape, gradient)
        return by_images.astype(images.dtype), by_weights.astype(weights.dtype), ops.zeros_like(turned)

    def gradient_by_weights(self, images, shape, gradient):
        """Return the gradient by weights of the given shape: the sum over bands of rows. A band sees a row around it.
        """
        height, width = images.shape[2], images.shape[3]
        rows = BAND_PIXELS // width
        if height * width > MOST_PIXELS or not 0 < rows < height:
            return self.whole(gradient, images, shape)
        result = self.top(gradient[:, :, :rows], images[:, :, :rows + 1], shape)
        first = rows
        while first + rows < height:
            result = result + self.middle(gradient[:, :, first:first + rows], images[:, :, first - 1:first + rows + 1],
                                          shape)
            first = first + rows
        return result + self.bottom(gradient[:, :, first:], images[:, :, first - 1:], shape)
