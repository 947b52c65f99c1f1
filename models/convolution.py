"""The gradients of a convolution by kernels that are faster on CPU than MindSpore's own.

MindSpore's CPU backend has no fast layout for its gradients of convolutions (see tests/README.md). A gradient by the
images is itself a convolution, whose kernel is faster. Where images are large and channels are few, one product of
patches is faster than the gradient by the weights.
"""
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter

MOST_CHANNELS = 128  # with more of them, turning the weights costs more than is gained
PATCHES_SIDE, PATCHES_CHANNELS = 32, 64  # the least side and the most channels for a product of patches


class FastConvolution(nn.Cell):
    """A 3x3 convolution with stride 1 and padding 1: float32 (N, C, H, W) and weights (K, C, 3, 3) to (N, K, H, W).

    The gradients equal MindSpore's own up to the order of float32 sums.

    Args:
        in_channels, out_channels (int): C and K, at most `MOST_CHANNELS`.
    """

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.convolve = ops.Conv2D(out_channels, 3, pad_mode="pad", pad=1)
        self.convolve_back = ops.Conv2D(in_channels, 3, pad_mode="pad", pad=1)
        self.reverse = ops.ReverseV2((2, 3))
        self.takes_patches = in_channels <= PATCHES_CHANNELS
        self.product = ops.BatchMatMul(transpose_b=True)
        self.weight_gradient = Conv2DBackpropFilter(out_channels, 3, pad_mode="pad", pad=1, pad_list=(1, 1, 1, 1))

    def construct(self, images, weights):
        return self.convolve(images, weights)

    def bprop(self, images, weights, out, gradient):
        """Return the gradients by the images and by the weights, from the gradient by the result."""
        by_images = self.convolve_back(gradient, self.reverse(weights).transpose(1, 0, 2, 3))
        if self.takes_patches and images.shape[2] >= PATCHES_SIDE:
            patches = ops.unfold(images, 3, 1, 1, 1)  # (N, 9 C, H W)
            number, channels, height, width = gradient.shape
            products = self.product(gradient.reshape(number, channels, height * width), patches)
            by_weights = products.sum(0).reshape(weights.shape)
        else:
            by_weights = self.weight_gradient(gradient, images, weights.shape)
        return by_images, by_weights
