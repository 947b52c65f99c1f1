"""Residual networks with pre-activation blocks (He 2016), as the DAMP authors build them for small images.

The original exists only in JAX. Attributes are named as in kuangliu/pytorch-cifar, where most PyTorch code for this
network comes from. The last norm, `bn`, is missing there.
"""
import mindspore.nn as nn
import mindspore.ops as ops

import utils.runtime.device  # noqa: F401, first: it sets the environment that MindSpore reads
from models.layers import batch_norm, conv
from models.resnet import classifier, stage


class PreActBlock(nn.Cell):
    """A block of 3x3 convolutions: a = relu(norm(x)); shortcut(a) + conv(relu(norm(conv(a)))).

    In the DAMP authors' code every shortcut starts from the activated input. In pytorch-cifar a shortcut that does not
    change the shape starts from x. A shortcut that changes the shape is a 1x1 convolution without norm.
    """

    expansion = 1

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.bn1 = batch_norm(in_channels)
        self.conv1 = conv(in_channels, channels, 3, stride, same=True)
        self.bn2 = batch_norm(channels)
        self.conv2 = conv(channels, channels, 3, same=True)
        changes_shape = stride > 1 or in_channels != channels
        self.shortcut = (nn.SequentialCell([conv(in_channels, channels, 1, stride, same=True)]) if changes_shape
                         else nn.Identity())

    def construct(self, x):
        x = ops.relu(self.bn1(x))
        return self.shortcut(x) + self.conv2(ops.relu(self.bn2(self.conv1(x))))


class PreActResNet(nn.Cell):
    """A residual network of four stages of pre-activation blocks, as in trungtrinh44/DAMP, models/resnet.py.

    The stem is a 3x3 convolution without norm or pooling. Convolutions of stride 2 are padded as in JAX, an even side
    by 0 before it and 1 after it. The classifier starts uniform in ±1/sqrt(classes) with bias 0. No norm starts with
    scale 0.

    Args:
        blocks (tuple of int): number of blocks in each stage.
        num_classes (int): number of logits.

    Inputs: float32 images (N, 3, H, W), normalised. Outputs: float32 logits (N, num_classes).
    """

    def __init__(self, blocks, num_classes):
        super().__init__()
        self.conv1 = conv(3, 64, 3, same=True)
        self.layer1 = stage(PreActBlock, 64, 64, 1, blocks[0])
        self.layer2 = stage(PreActBlock, 64, 128, 2, blocks[1])
        self.layer3 = stage(PreActBlock, 128, 256, 2, blocks[2])
        self.layer4 = stage(PreActBlock, 256, 512, 2, blocks[3])
        self.bn = batch_norm(512)
        self.linear = classifier(512, num_classes)

    def construct(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.linear(ops.relu(self.bn(x)).mean((2, 3)))


def preactresnet18(num_classes):
    """Return a PreActResNet-18."""
    return PreActResNet((2, 2, 2, 2), num_classes)
