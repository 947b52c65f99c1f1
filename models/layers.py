"""Layers that several families share."""
import mindspore.nn as nn
from mindspore.common.initializer import HeNormal


def conv(in_channels, out_channels, kernel_size, stride=1, same=False):
    """A convolution without bias, kernels Kaiming-normal by fan-out (He 2015).

    Args:
        in_channels, out_channels, kernel_size, stride (int): its shape.
        same (bool): pad as JAX's SAME does, so that ceil(side / stride) pixels remain: a 3x3 kernel of stride 2 pads an
            even side by 0 before it and 1 after it. Otherwise as is usual in PyTorch: kernel_size // 2 on both ends.
    """
    padding = {"pad_mode": "same"} if same else {"pad_mode": "pad", "padding": kernel_size // 2}
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, **padding, has_bias=False,
                     weight_init=HeNormal(mode="fan_out", nonlinearity="relu"))


def batch_norm(channels, scale="ones"):
    """BatchNorm as PyTorch has it by default; `scale` is what its scale starts with."""
    # MindSpore's momentum is the share that is kept: 0.9 here is PyTorch's 0.1.
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.9, gamma_init=scale)
