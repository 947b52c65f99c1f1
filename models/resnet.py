"""Residual networks (He 2015): torchvision's for ImageNet, and those of the DAMP experiments.

Attribute names follow torchvision, so that its weights map onto ours by name (`torch_names.py`).
"""
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore.common.initializer import Uniform

from models.layers import batch_norm, conv


class BasicBlock(nn.Cell):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))), 3x3 convolutions.

    Args:
        in_channels, channels (int): of the input; of the convolutions, and of the output over `expansion`.
        stride (int): of the first convolution and the shortcut.
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
    """As `BasicBlock`, with convolutions of 1x1, 3x3 and 1x1; the 3x3 has the stride, as in torchvision."""

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
    """1x1 convolution and norm where a block changes the shape."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.SequentialCell([conv(in_channels, out_channels, 1, stride, same=damp), batch_norm(out_channels)])


class ResNet(nn.Cell):
    """A residual network of four stages.

    As torchvision, and the SharpDRO release, build it: convolutions padded alike at both ends; classifier uniform in
    ±1/sqrt(inputs), as PyTorch's layers start.

    With `damp` as the DAMP authors build it (trungtrinh44/DAMP, models/resnet.py): convolutions and pooling of stride 2
    padded as JAX does, an even side by 0 before it and 1 after it; the last norm of every block starts with scale 0,
    the classifier uniform in ±1/sqrt(classes) with bias 0. What differs: their running variance is that of the batch
    divided by N H W, here and in PyTorch by N H W - 1.

    Args:
        block (type): `BasicBlock` or `Bottleneck`.
        blocks (tuple of int): blocks of each stage.
        num_classes (int): number of logits.
        damp (bool): see above.
        small (bool): begin with a 3x3 convolution, for images of 32 and 64 pixels, instead of a 7x7 convolution of
            stride 2 and max-pooling, each of which halves the side.

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
    """Max-pooling of 3x3 and stride 2, padded as `ResNet` says."""
    if damp:
        return nn.MaxPool2d(3, 2, pad_mode="same")
    # Padding with zeros is padding with minus infinity here: what is pooled comes out of a ReLU.
    return nn.SequentialCell([nn.Pad(((0, 0), (0, 0), (1, 1), (1, 1))), nn.MaxPool2d(3, 2)])


def stage(block, in_channels, channels, stride, number, *options):
    """So many blocks, one after the other, the first with the stride; `options` go to each."""
    first = block(in_channels, channels, stride, *options)
    return nn.SequentialCell([first] + [block(channels * block.expansion, channels, 1, *options)
                                        for _ in range(number - 1)])


def classifier(features, num_classes):
    """The DAMP authors' last layer: weights uniform in ±1/sqrt(classes), biases 0."""
    return nn.Dense(features, num_classes, weight_init=Uniform(num_classes ** -0.5), bias_init="zeros")


def resnet18(num_classes, **options):
    """ResNet-18, `options` as in `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, **options)


def resnet50(num_classes, **options):
    """ResNet-50, `options` as in `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, **options)
