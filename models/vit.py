"""Vision transformers (Dosovitskiy 2021), as the DAMP authors train them.

The original exists only in JAX (trungtrinh44/DAMP, models/vit, `ViT_S1k16`). It is Google's network with two options;
Beyer 2022 calls it the better plain baseline. Attributes are named as in timm's `VisionTransformer`, where queries,
keys and values are one layer, `qkv`.
"""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
from mindspore.common.initializer import Normal, TruncatedNormal, Uniform, XavierUniform

import utils.runtime.device  # noqa: F401, first: it sets the environment that MindSpore reads
from models import PATCH


def sincos_positions(height, width, channels):
    """Return fixed positions of a grid of patches, row by row: [sin x, cos x, sin y, cos y].

    Each of the four has the frequencies 10000^(-i / (channels/4 - 1)) for i = 0..channels/4 - 1 (Chen 2021, MoCo v3).

    Args:
        height, width (int): number of patches on the sides of the grid.
        channels (int): number of channels, a multiple of 4.

    Returns:
        numpy.ndarray: float32 (1, height * width, channels).
    """
    frequencies = 10000 ** -(np.arange(channels // 4) / (channels // 4 - 1))
    y, x = (grid.reshape(-1, 1) * frequencies for grid in np.mgrid[:height, :width])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], 1).astype(np.float32)[None]


@ops.constexpr
def _positions(height, width, channels):
    return ms.Tensor(sincos_positions(height, width, channels))


def layer_norm(channels):
    return nn.LayerNorm((channels,), epsilon=1e-6)


def dense(inputs, outputs, weights, biases="zeros"):
    return nn.Dense(inputs, outputs, weight_init=weights, bias_init=biases)


class PatchEmbed(nn.Cell):
    """The embedding of patches with their positions: images (N, 3, H, W) to (N, T, C).

    It cuts images into T patches, maps each patch to a vector, and adds the positions.
    """

    def __init__(self, channels):
        super().__init__()
        # LeCun's normal, truncated at two standard deviations and rescaled to make up for that, as in JAX.
        sigma = (3 * PATCH ** 2) ** -0.5 / 0.87962566103423978
        self.proj = nn.Conv2d(3, channels, PATCH, PATCH, pad_mode="valid", has_bias=True,
                              weight_init=TruncatedNormal(sigma, a=-2 * sigma, b=2 * sigma), bias_init="zeros")

    def construct(self, x):
        x = self.proj(x)
        n, channels, height, width = x.shape
        return x.reshape((n, channels, height * width)).transpose((0, 2, 1)) + _positions(height, width, channels)


class Attention(nn.Cell):
    """Self-attention of a given number of tokens with several heads: (N T, C) to (N T, C)."""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        # Queries, keys and values are drawn as three layers, each Xavier-uniform on its own.
        self.qkv = dense(channels, 3 * channels, Uniform((3 / channels) ** 0.5))
        self.proj = dense(channels, channels, XavierUniform())
        # Operators, because methods and functions would be compiled anew in each block.
        self.reshape, self.transpose, self.unstack = ops.Reshape(), ops.Transpose(), ops.Unstack(axis=0)
        self.matmul, self.matmul_transposed = ops.BatchMatMul(), ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(axis=-1)

    def construct(self, x, tokens):
        channels = x.shape[1]
        qkv = self.reshape(self.qkv(x), (-1, tokens, 3, self.heads, channels // self.heads))
        queries, keys, values = self.unstack(self.transpose(qkv, (2, 0, 3, 1, 4)))
        weights = self.softmax(self.matmul_transposed(queries * self.scale, keys))
        attended = self.transpose(self.matmul(weights, values), (0, 2, 1, 3))
        return self.proj(self.reshape(attended, (-1, channels)))


class Mlp(nn.Cell):
    """Two layers with a GELU between them. The GELU has its tanh form, like JAX's `gelu`."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.fc1 = dense(channels, hidden, XavierUniform(), Normal(1e-6))
        self.fc2 = dense(hidden, channels, XavierUniform(), Normal(1e-6))

    def construct(self, x):
        return self.fc2(ops.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Cell):
    """A pre-norm block: attention, then a perceptron, each added to its input; (N T, C) to (N T, C)."""

    def __init__(self, channels, heads, hidden):
        super().__init__()
        self.norm1 = layer_norm(channels)
        self.attn = Attention(channels, heads)
        self.norm2 = layer_norm(channels)
        self.mlp = Mlp(channels, hidden)

    def construct(self, x, tokens):
        x = x + self.attn(self.norm1(x), tokens)
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Cell):
    """A vision transformer for images with sides that are multiples of 16.

    It is built as in the DAMP experiments. Positions are fixed: they are not parameters, and fit every size. There is
    no class token. LayerNorm has eps 1e-6, and the last LayerNorm comes before the mean over the tokens. GELU has its
    tanh form, and there is no dropout. Layers start Xavier-uniform, and biases of the perceptrons start normal with
    1e-6. The classifier starts at 0.

    Args:
        channels, depth, heads, hidden (int): channels of a token; number of blocks; heads of an attention; width of a
            perceptron.
        num_classes (int): number of logits.

    Inputs: float32 images (N, 3, H, W), normalised. Outputs: float32 logits (N, num_classes).
    """

    def __init__(self, channels, depth, heads, hidden, num_classes):
        super().__init__()
        self.patch_embed = PatchEmbed(channels)
        self.blocks = nn.CellList([Block(channels, heads, hidden) for _ in range(depth)])
        self.norm = layer_norm(channels)
        self.head = dense(channels, num_classes, "zeros")

    def construct(self, x):
        x = self.patch_embed(x)
        n, tokens, channels = x.shape
        x = x.reshape((n * tokens, channels))  # every layer would do so itself, and take much longer to compile
        for block in self.blocks:
            x = block(x, tokens)
        return self.head(self.norm(x).reshape((n, tokens, channels)).mean(1))


def vit_s16(num_classes):
    """Return a ViT-S/16."""
    return VisionTransformer(384, 12, 6, 1536, num_classes)


def vit_b16(num_classes):
    """Return a ViT-B/16."""
    return VisionTransformer(768, 12, 12, 3072, num_classes)
