"""Wide residual networks with pre-activation blocks, as in the SharpDRO authors' code.

Attribute names follow the authors' code, so that its weights map onto ours by name (`models/torch_names.py`).
"""
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore.common.initializer import XavierNormal
from mindspore.ops.auto_generate import ReluGrad

import utils.runtime.device  # noqa: F401, first: it sets the environment that MindSpore reads
from models.layers import batch_norm, conv

NEGATIVE_SLOPE = 0.1


class LeakyReLU(nn.Cell):
    """The activation max(x, 0.1 x).

    Its gradient is written as 0.1 dout + relu'(x) 0.9 dout, because on the CPU backend the gradient of `nn.LeakyReLU`
    takes seven times as long. The sign of the result is all that the gradient needs, so no other tensor is kept for it.
    """

    def __init__(self):
        super().__init__()
        self.relu_gradient = ReluGrad()  # passes the gradient on where the result is positive

    def construct(self, x):
        return ops.maximum(x, NEGATIVE_SLOPE * x)

    def bprop(self, x, out, dout):
        return NEGATIVE_SLOPE * dout + self.relu_gradient((1 - NEGATIVE_SLOPE) * dout, out),


class Residual(nn.Cell):
    """A pre-activation block: x + conv(act(conv(act(x)))), act = BatchNorm and LeakyReLU.

    With `activate_before_residual` the shortcut, too, starts from the activated input.
    """

    def __init__(self, in_channels, out_channels, stride=1, activate_before_residual=False):
        super().__init__()
        act = [batch_norm(in_channels), LeakyReLU()]
        rest = [conv(in_channels, out_channels, 3, stride), batch_norm(out_channels), LeakyReLU(),
                conv(out_channels, out_channels, 3)]
        if activate_before_residual:
            self.pre_act = nn.SequentialCell(act)
            self.layer = nn.SequentialCell(rest)
        else:
            self.pre_act = nn.Identity()
            self.layer = nn.SequentialCell(act + rest)
        changes_shape = stride > 1 or in_channels != out_channels
        self.identity = conv(in_channels, out_channels, 1, stride) if changes_shape else nn.Identity()

    def construct(self, x):
        x = self.pre_act(x)
        return self.identity(x) + self.layer(x)


class WideResNet(nn.Cell):
    """The network WRN-depth-width (Zagoruyko 2016) for small images. The authors' code uses WRN-28-2.

    Args:
        depth (int): number of layers, 6 k + 4 for k >= 1 blocks in each of the three stages.
        width (int): factor on the channel numbers 16, 32, 64.
        num_classes (int): number of logits.

    Inputs: float32 images (N, 3, H, W), normalised. Outputs: float32 logits (N, num_classes).
    """

    def __init__(self, depth, width, num_classes):
        super().__init__()
        blocks, remainder = divmod(depth - 4, 6)
        if remainder or blocks < 1:
            raise ValueError(f"depth must be 6 k + 4 with k >= 1, not {depth}")
        channels = [16 * width, 32 * width, 64 * width]
        self.init_conv = conv(3, 16, 3)
        self.unit1 = self._stage(16, channels[0], 1, blocks, activate_before_residual=True)
        self.unit2 = self._stage(channels[0], channels[1], 2, blocks)
        self.unit3 = self._stage(channels[1], channels[2], 2, blocks)
        self.unit4 = nn.SequentialCell([batch_norm(channels[2]), LeakyReLU()])
        self.fc = nn.Dense(channels[2], num_classes, weight_init=XavierNormal(), bias_init="zeros")

    @staticmethod
    def _stage(in_channels, out_channels, stride, blocks, activate_before_residual=False):
        first = Residual(in_channels, out_channels, stride, activate_before_residual)
        return nn.SequentialCell([first] + [Residual(out_channels, out_channels) for _ in range(blocks - 1)])

    def construct(self, x):
        x = self.unit3(self.unit2(self.unit1(self.init_conv(x))))
        return self.fc(self.unit4(x).mean((2, 3)))
