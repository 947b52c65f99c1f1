"""Perturbations: where, near the weights, a gradient is taken.

A perturbation is a cell from weights and their gradients to perturbed weights. `losses/step.py` moves the network there
and back.
"""
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore.ops import functional as F

_square_sum = ops.MultitypeFuncGraph("square_sum")
_scale_by_weight = ops.MultitypeFuncGraph("scale_by_weight")
_climb = ops.MultitypeFuncGraph("climb")


@_square_sum.register("Tensor")
def _square_sum_tensor(gradient):
    return ops.square(gradient).sum()


@_scale_by_weight.register("Tensor", "Tensor")
def _scale_by_weight_tensor(weight, gradient):
    return ops.abs(weight) * gradient


@_climb.register("Tensor", "Tensor", "Tensor")
def _climb_tensor(scale, weight, direction):
    return weight + scale * direction


class L2Norm(nn.Cell):
    """l2 norm over a tuple of tensors taken as one vector, float32 ()."""

    def __init__(self):
        super().__init__()
        self.hyper_map = ops.HyperMap()

    def construct(self, tensors):
        return ops.sqrt(ops.addn(self.hyper_map(_square_sum, tensors)))


class L2Ascent(nn.Cell):
    """Climb to w + rho g / ||g||, the highest point of a linear loss in a ball of radius rho (SAM, Foret 2021).

    Adaptive (ASAM, Kwon 2021): w + rho w^2 g / || |w| g ||, so that the ball scales with the weights.

    Args:
        rho (float): radius, >= 0.
        adaptive (bool): scale by the weights' magnitude.

    Inputs: weights and gradients, tuples of float32 tensors of the same shapes.
    Outputs: the perturbed weights, and the norm that the gradient was divided by, float32 ().
    """

    def __init__(self, rho, adaptive=False):
        super().__init__()
        self.rho = rho
        self.adaptive = adaptive
        self.hyper_map = ops.HyperMap()
        self.norm = L2Norm()

    def construct(self, weights, gradients):
        directions = gradients
        if self.adaptive:
            directions = self.hyper_map(_scale_by_weight, weights, gradients)
        norm = self.norm(directions)
        if self.adaptive:
            directions = self.hyper_map(_scale_by_weight, weights, directions)
        return self.hyper_map(F.partial(_climb, self.rho / (norm + 1e-12)), weights, directions), norm
