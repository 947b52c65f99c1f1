"""Layers that several network families share."""
import mindspore.nn as nn
from mindspore.common.initializer import HeNormal

from utils.runtime.device import device
from models.convolution import MOST_CHANNELS, FastConvolution


def conv(in_channels, out_channels, kernel_size, stride=1, same=False):
    """Return a convolution without bias. Its kernels are Kaiming-normal by fan-out (He 2015).

    Args:
        in_channels, out_channels, kernel_size, stride (int): shape of the convolution.
        same (bool): whether to pad as JAX's SAME does, so that ceil(side / stride) pixels remain. A 3x3 kernel of
            stride 2 then pads an even side by 0 before it and 1 after it. Otherwise the padding is kernel_size // 2 on
            both ends, as is usual in PyTorch.
    """
    padding = {"pad_mode": "same"} if same else {"pad_mode": "pad", "padding": kernel_size // 2}
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, **padding, has_bias=False,
                      weight_init=HeNormal(mode="fan_out", nonlinearity="relu"))
    if (kernel_size, stride) == (3, 1) and max(in_channels, out_channels) <= MOST_CHANNELS and device() == "CPU":
        layer.conv2d = FastConvolution(in_channels, out_channels)  # with this stride, both paddings are the same
    return layer


def batch_norm(channels, scale="ones"):
    """Return a BatchNorm with PyTorch's defaults. `scale` is the initial value of its scale."""
    # MindSpore's momentum is the fraction that is kept: 0.9 here is 0.1 in PyTorch.
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.9, gamma_init=scale)
