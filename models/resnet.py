"""Residual networks (He 2015): torchvision's for ImageNet, and the networks of the DAMP experiments.

Attribute names follow torchvision, so that its weights map onto ours by name (`torch_names.py`).
"""
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore.common.initializer import Uniform

import utils.runtime.device  # noqa: F401, first: it sets the environment that MindSpore reads
from models.layers import batch_norm, conv


class BasicBlock(nn.Cell):
    """A block of 3x3 convolutions: relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))).

    Args:
        in_channels, channels (int): channels of the input; channels of the convolutions. The output has `expansion`
            times the channels of the convolutions.
        stride (int): stride of the first convolution and the shortcut.
        damp (bool): as in `ResNet`.
    """

    expansion = 1

    def __init__(self, in_channels, channels, stride, damp):
        super().__init__()
        self.conv1 = conv(in_channels, channels, 3, stride, same=damp)
        self.bn1 = batch_norm(channels)
        self.conv2 = conv(channels, channels, 3, same=damp)
        self.bn2 = batch_norm(channels, "zeros" if damp else "ones")
        self.downsample = shortcut(in_channels, channels, stride, damp)

    def construct(self, x):
        y = ops.relu(self.bn1(self.conv1(x)))
        return ops.relu(self.downsample(x) + self.bn2(self.conv2(y)))


class Bottleneck(nn.Cell):
    """A block like `BasicBlock`, with convolutions of 1x1, 3x3 and 1x1. The 3x3 has the stride, as in torchvision."""

    expansion = 4

    def __init__(self, in_channels, channels, stride, damp):
        super().__init__()
        self.conv1 = conv(in_channels, channels, 1)
        self.bn1 = batch_norm(channels)
        self.conv2 = conv(channels, channels, 3, stride, same=damp)
        self.bn2 = batch_norm(channels)
        self.conv3 = conv(channels, 4 * channels, 1)
        self.bn3 = batch_norm(4 * channels, "zeros" if damp else "ones")
        self.downsample = shortcut(in_channels, 4 * channels, stride, damp)

    def construct(self, x):
        y = ops.relu(self.bn1(self.conv1(x)))
        y = ops.relu(self.bn2(self.conv2(y)))
        return ops.relu(self.downsample(x) + self.bn3(self.conv3(y)))


def shortcut(in_channels, out_channels, stride, damp):
    """Return a 1x1 convolution and a norm if a block changes the shape, and otherwise an identity."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.SequentialCell([conv(in_channels, out_channels, 1, stride, same=damp), batch_norm(out_channels)])


class ResNet(nn.Cell):
    """A residual network of four stages.

    By default it is built as in torchvision and the SharpDRO authors' code. Convolutions are padded alike at both ends.
    The classifier starts uniform in ±1/sqrt(inputs), as PyTorch's layers do.

    With `damp` it is built as by the DAMP authors (trungtrinh44/DAMP, models/resnet.py). Convolutions and pooling of
    stride 2 are padded as in JAX, an even side by 0 before it and 1 after it. The last norm of every block starts with
    scale 0. The classifier starts uniform in ±1/sqrt(classes) with bias 0. One difference remains in the running
    variance of a batch: the authors divide by N H W; this network, like PyTorch, divides by N H W - 1.

    Args:
        block (type): `BasicBlock` or `Bottleneck`.
        blocks (tuple of int): number of blocks in each stage.
        num_classes (int): number of logits.
        damp (bool): whether to build it as the DAMP authors do, see above.
        small (bool): whether to begin with a 3x3 convolution, for images of 32 and 64 pixels. Otherwise it begins with
            a 7x7 convolution of stride 2 and max-pooling, and each of these halves the side.

    Inputs: float32 images (N, 3, H, W), normalised. Outputs: float32 logits (N, num_classes).
    """

    def __init__(self, block, blocks, num_classes, damp=False, small=False):
        super().__init__()
        self.conv1 = conv(3, 64, 3, same=damp) if small else conv(3, 64, 7, stride=2, same=damp)
        self.bn1 = batch_norm(64)
        self.maxpool = nn.Identity() if small else pooling(damp)
        self.layer1 = stage(block, 64, 64, 1, blocks[0], damp)
        self.layer2 = stage(block, 64 * block.expansion, 128, 2, blocks[1], damp)
        self.layer3 = stage(block, 128 * block.expansion, 256, 2, blocks[2], damp)
        self.layer4 = stage(block, 256 * block.expansion, 512, 2, blocks[3], damp)
        features = 512 * block.expansion
        self.fc = classifier(features, num_classes) if damp else nn.Dense(
            features, num_classes, weight_init=Uniform(features ** -0.5), bias_init=Uniform(features ** -0.5))

    def construct(self, x):
        x = self.maxpool(ops.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def pooling(damp):
    """Return max-pooling of 3x3 and stride 2, padded as `ResNet` says."""
    if damp:
        return nn.MaxPool2d(3, 2, pad_mode="same")
    # Padding with zeros equals padding with minus infinity here, because the input of the pooling comes out of a ReLU.
    return nn.SequentialCell([nn.Pad(((0, 0), (0, 0), (1, 1), (1, 1))), nn.MaxPool2d(3, 2)])


def stage(block, in_channels, channels, stride, number, *options):
    """Return `number` blocks, one after the other. The first has the stride; `options` go to each block."""
    first = block(in_channels, channels, stride, *options)
    return nn.SequentialCell([first] + [block(channels * block.expansion, channels, 1, *options)
                                        for _ in range(number - 1)])


def classifier(features, num_classes):
    """Return the last layer as the DAMP authors build it: weights uniform in ±1/sqrt(classes), biases 0."""
    return nn.Dense(features, num_classes, weight_init=Uniform(num_classes ** -0.5), bias_init="zeros")


def resnet18(num_classes, **options):
    """Return a ResNet-18. `options` are as in `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, **options)


def resnet50(num_classes, **options):
    """Return a ResNet-50. `options` are as in `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, **options)
