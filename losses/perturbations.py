"""Perturbations: the points near the weights at which a gradient is taken.

A perturbation is a cell that maps weights and their gradients to perturbed weights. A step (`losses/step/`) moves the
network there and back. An *ascent* (`needs_gradient`) climbs along the gradients; a *noise* ignores the gradients. From
the gradients of M copies of the network, (M, ...), an ascent makes M perturbed weights, (M, ...), each independently.
"""
import math

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
from mindspore import Parameter
from mindspore.ops import functional as F

_square_sum = ops.MultitypeFuncGraph("square_sum")
_scale_by_weight = ops.MultitypeFuncGraph("scale_by_weight")
_ascend = ops.MultitypeFuncGraph("ascend")
_ascend_sign = ops.MultitypeFuncGraph("ascend_sign")
_multiply = ops.MultitypeFuncGraph("multiply")
_add_noise = ops.MultitypeFuncGraph("add_noise")


@_square_sum.register("Bool", "Tensor")
def _square_sum_tensor(stacked, gradient):
    squares = ops.square(gradient)
    return squares.reshape((squares.shape[0], -1)).sum(1) if stacked else squares.sum()


@_scale_by_weight.register("Bool", "Tensor", "Tensor")
def _scale_by_weight_tensor(scaled, weight, gradient):
    return ops.abs(weight) * gradient if scaled else gradient


@_ascend.register("Tensor", "Tensor", "Tensor")
def _ascend_tensor(scale, weight, direction):
    return weight + (scale.reshape((-1,) + (1,) * weight.ndim) if scale.ndim else scale) * direction


@_ascend_sign.register("Number", "Tensor", "Tensor")
def _ascend_sign_tensor(rho, weight, gradient):
    return weight + rho * ops.sign(gradient)


@_multiply.register("Tensor", "Number", "Bool", "Number", "Number", "Tensor")
def _multiply_tensor(noise, sigma, noisy, start, stop, weight):
    return weight * (1 + sigma * noise[start:stop].reshape(weight.shape)) if noisy else weight + 0


@_add_noise.register("Tensor", "Number", "Bool", "Number", "Number", "Tensor")
def _add_noise_tensor(noise, sigma, noisy, start, stop, weight):
    return weight + sigma * noise[start:stop].reshape(weight.shape) if noisy else weight + 0


def is_weight_or_gamma(name):
    """Whether a parameter is a weight or a norm's scale, judged by its name.

    Biases and a norm's shifts are neither, nor are the token and the positions that some transformers learn.
    """
    return name.rpartition(".")[2] not in ("bias", "beta", "cls_token", "pos_embed")


class L2Norm(nn.Cell):
    """The l2 norm of a tuple of tensors, taken as one vector, float32 ().

    Stacked tensors (M, ...) are taken as M vectors, and the norms are float32 (M,).
    """

    def __init__(self):
        super().__init__()
        self.hyper_map = ops.HyperMap()

    def construct(self, tensors, stacked=False):
        return ops.sqrt(ops.addn(self.hyper_map(F.partial(_square_sum, stacked), tensors)))


class GradientAscent(nn.Cell):
    """Climb to w + rho g / ||g||, the highest point of a linear loss in a ball of radius rho (SAM, Foret 2021).

    Adaptive (ASAM, Kwon 2021): w + rho w^2 g / || |w| g ||, so that the ball scales with the weights. The SharpDRO
    authors' code scales for every weight; the DAMP authors' ASAM does not scale for biases and a norm's shifts.

    Args:
        rho (float): radius, >= 0.
        adaptive_mask (tuple of bool): for each weight whether its ball scales with its magnitude.
    """

    needs_gradient = True

    def __init__(self, rho, adaptive_mask):
        super().__init__()
        self.rho = rho
        self.adaptive_mask = adaptive_mask
        self.adaptive = any(adaptive_mask)
        self.hyper_map = ops.HyperMap()
        self.norm = L2Norm()

    def construct(self, weights, gradients):
        directions = gradients
        if self.adaptive:
            directions = self.hyper_map(_scale_by_weight, self.adaptive_mask, weights, gradients)
        norm = self.norm(directions, gradients[0].ndim > weights[0].ndim)
        if self.adaptive:
            directions = self.hyper_map(_scale_by_weight, self.adaptive_mask, weights, directions)
        return self.hyper_map(F.partial(_ascend, self.rho / (norm + 1e-12)), weights, directions)


class SignAscent(nn.Cell):
    """Climb to w + rho sign(g), as in the SharpDRO paper (Eq. 9).

    Args:
        rho (float): step of every weight, >= 0.
    """

    needs_gradient = True

    def __init__(self, rho):
        super().__init__()
        self.rho = rho
        self.hyper_map = ops.HyperMap()

    def construct(self, weights, gradients):
        return self.hyper_map(F.partial(_ascend_sign, self.rho), weights, gradients)


class CounterBasedNormal(nn.Cell):
    """A vector of standard normal numbers that depends only on a seed and on the number of earlier calls.

    A hash of the position, the call and the seed gives uniform numbers. Box and Muller's formula makes them normal. The
    count of calls is a Parameter, so a resumed run draws the same numbers as an uninterrupted run. MindSpore's own
    generators keep their state where no checkpoint reaches it.

    With several ranks, each rank is called for its own sub-batches of a batch. Every rank counts the calls of all
    ranks, so a sub-batch has the same numbers on any rank.

    Args:
        size (int): least length of the vector; an odd length is rounded up.
        seed (int): 0 to 2^32 - 1.
        sub_batches (int): calls for a batch, of all ranks together; a multiple of the world size.
        share (tuple): rank and world size.
        integers (ms.dtype): the dtype of the hash, ms.uint32 or ms.int64; both give the same numbers.
    """

    def __init__(self, size, seed, sub_batches=1, share=(0, 1), integers=ms.uint32):
        super().__init__()
        positions = np.arange((size + 1) // 2, dtype=np.uint32) * np.uint32(0x9E3779B9)  # spread out
        self.positions = ms.Tensor(positions, integers)
        self.seed = ms.Tensor(seed, integers)
        rank, world_size = share
        self.calls_per_rank, self.sub_batches = sub_batches // world_size, sub_batches
        self.rank_offset = ms.Tensor(rank * self.calls_per_rank, ms.int32)  # calls of the lower ranks in a batch
        # Checkpoints know the Parameter by the name of this attribute.
        self.calls = Parameter(ms.Tensor(0, ms.int32), name="noise_calls", requires_grad=False)
        # A Tensor, because a plain number in a graph is rounded to 2^-32, and `uniform` would reach 1.
        self.scale = ms.Tensor((1 - 2 ** -24) / 2 ** 32, ms.float32)
        self.shifts = (ms.Tensor(16, integers), ms.Tensor(15, integers))
        # For int64 a factor with the same lowest 32 bits that keeps products within 63 bits.
        second = 0x846CA68B if integers == ms.uint32 else 0x846CA68B - 2 ** 32
        self.factors = (ms.Tensor(0x7FEB352D, integers), ms.Tensor(second, integers))
        self.mask32 = None if integers == ms.uint32 else ms.Tensor(2 ** 32 - 1, integers)

    def low32(self, x):
        """Return the lowest 32 bits, which are all bits of a uint32."""
        return x if self.mask32 is None else ops.bitwise_and(x, self.mask32)

    def hash32(self, x):
        """Scatter 32 bits over 32 bits, one to one (a multiply-and-shift hash)."""
        x = self.low32(ops.bitwise_xor(x, ops.bitwise_right_shift(x, self.shifts[0])) * self.factors[0])
        x = self.low32(ops.bitwise_xor(x, ops.bitwise_right_shift(x, self.shifts[1])) * self.factors[1])
        return ops.bitwise_xor(x, ops.bitwise_right_shift(x, self.shifts[0]))

    def uniform(self, key):
        """Return float32 in [0, 1) for every position."""
        return self.hash32(self.low32(self.positions + key)).astype(ms.float32) * self.scale

    def construct(self):
        call = ops.assign_add(self.calls, ms.Tensor(1, ms.int32))
        number = (call + self.rank_offset).astype(self.seed.dtype)
        key = self.hash32(self.low32(self.hash32(self.hash32(self.seed)) + number))
        if self.calls_per_rank < self.sub_batches:
            # After the last call of this rank in a batch, the calls of the other ranks are counted, too.
            is_last = (ops.floor_mod(call, self.sub_batches) == self.calls_per_rank).astype(ms.int32)
            # `call` is the moving Parameter, so the key must be there before the counter moves.
            skipped_calls = ops.depend(is_last * (self.sub_batches - self.calls_per_rank), key)
            key = ops.depend(key, ops.assign_add(self.calls, skipped_calls))
        # log1p, because on CPU the last bit of `ops.log` depends on how the work was shared out among threads.
        radius = ops.sqrt(-2 * ops.log1p(-self.uniform(key)))
        angle = 2 * math.pi * self.uniform(self.hash32(self.low32(key + self.factors[0])))
        # Not cut to an odd length, because on CPU a slice of the whole vector takes longer than all of the above.
        return ops.concat((radius * ops.cos(angle), radius * ops.sin(angle)))


class GaussianNoise(nn.Cell):
    """A random perturbation of weights and norm scales: w (1 + sigma n) or w + sigma n (DAMP, Algorithms 1, 3).

    Here n ~ N(0, 1). Biases and a norm's shifts stay unchanged.

    Args:
        sigma (float): standard deviation, >= 0.
        multiplicative (bool): whether the noise multiplies the weights; otherwise it is added to them.
        weights (ParameterTuple): the network's weights.
        seed, sub_batches, share, integers: as in `CounterBasedNormal`.
    """

    needs_gradient = False

    def __init__(self, sigma, multiplicative, weights, seed, *numbers):
        super().__init__()
        self.sigma = sigma
        self.mask = tuple(is_weight_or_gamma(weight.name) for weight in weights)
        stops = np.cumsum([weight.size for weight in weights]).tolist()
        self.starts, self.stops = (0, *stops[:-1]), tuple(stops)  # ends of each weight's part of one long vector
        self.numbers = CounterBasedNormal(stops[-1], seed, *numbers)
        self.apply_noise = _multiply if multiplicative else _add_noise
        self.hyper_map = ops.HyperMap()

    def construct(self, weights, gradients=None):
        # Slices, because the compiler takes ten seconds for `ops.split`.
        noisy = F.partial(self.apply_noise, self.numbers(), self.sigma)
        return self.hyper_map(noisy, self.mask, self.starts, self.stops, weights)
