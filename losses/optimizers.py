"""Optimisers: cells that take the gradients of their `parameters`, in that order, and move them. The `learning_rate` is
a Parameter, which `losses.schedules.set_learning_rate` sets; whatever else has to outlast a step is one, too.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
from mindspore.ops import functional as F

from losses.perturbations import L2Norm, is_weight_or_gamma

_scale = ops.MultitypeFuncGraph("scale")
_adamw = ops.MultitypeFuncGraph("adamw")
_fused_adamw = ops.AdamWeightDecay()


@_scale.register("Tensor", "Tensor")
def _scale_tensor(factor, gradient):
    return factor * gradient


@_adamw.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Bool", "Tensor", "Tensor", "Tensor",
                 "Tensor")
def _adamw_tensor(rate, beta1, beta2, eps, decay, no_decay, decayed, gradient, weight, moment1, moment2):
    return _fused_adamw(weight, moment1, moment2, rate, beta1, beta2, eps, decay if decayed else no_decay, gradient)


def is_kernel(weight):
    """Whether a parameter is a weight of a convolution or a dense layer; biases, and a norm's scales and shifts are
    not. The DAMP authors tell them by the name `kernel`, here it is what has several dimensions and is no bias.
    """
    return weight.ndim > 1 and is_weight_or_gamma(weight.name)


def weight_decay_mask(weights, decay):
    """Which weights weight decay is for.

    Args:
        weights (list of Parameter): a network's.
        decay (str): a key of `losses.methods.WEIGHT_DECAY_FILTERS`.

    Returns:
        tuple of bool: for each of them.
    """
    return tuple(decay == "all" or is_kernel(weight) for weight in weights)


def sgd(weights, decayed, lr, weight_decay, momentum, nesterov):
    """MindSpore's stochastic gradient descent, which computes what `torch.optim.SGD` does: weight decay is added to the
    gradient, momentum (Nesterov's, if so) comes after it.

    Args:
        weights (list of Parameter): what is moved.
        decayed (tuple of bool): which of them weight decay is for.
        lr, weight_decay, momentum (float), nesterov (bool): as in `torch.optim.SGD`.

    Returns:
        nn.SGD: its parameters are in the order of `weights`.
    """
    # As groups of parameters: given a plain list, nn.SGD spares those named gamma and beta from weight decay, and
    # PyTorch does not.
    groups = [{"params": some, "weight_decay": decay} for decay, chosen in ((weight_decay, True), (0.0, False))
              if (some := [weight for weight, own in zip(weights, decayed, strict=True) if own == chosen])]
    if len(groups) > 1:
        groups.append({"order_params": weights})
    return nn.SGD(groups, learning_rate=lr, momentum=momentum, nesterov=nesterov)


class AdamW(nn.Optimizer):
    """Adam with decoupled weight decay (Loshchilov 2019), as `torch.optim.AdamW` and optax compute it:

        m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
        w = w - lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay w)

    MindSpore's `nn.AdamWeightDecay` leaves out the divisions by 1 - b^t, so that its first step is 3.2 times as long,
    and `mint.optim.AdamW` is for Ascend alone. Here they are moved into the scalars that its fused kernel takes,
    which is three times as fast as the formula written with tensors.

    Args:
        weights (list of Parameter): what is moved.
        decayed (tuple of bool): which of them weight decay is for.
        lr, weight_decay (float): as above.
        betas (tuple of float): b1 and b2, in [0, 1).
        eps (float): above 0.
    """

    def __init__(self, weights, decayed, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(lr, weights)
        self.decayed = decayed
        self.moment1 = self.parameters.clone(prefix="moment1", init="zeros")
        self.moment2 = self.parameters.clone(prefix="moment2", init="zeros")
        # Tensors, because a plain number in a graph is rounded to 8 decimals. The logarithms are those of the betas as
        # float32 has them, so that the division takes out what the kernel has put in.
        rounded = [float(np.float32(beta)) for beta in betas]
        self.beta1, self.beta2 = (ms.Tensor(beta, ms.float32) for beta in rounded)
        self.log1, self.log2 = (ms.Tensor(math.log(beta), ms.float32) for beta in rounded)
        self.eps = ms.Tensor(eps, ms.float32)
        self.decay = ms.Tensor(weight_decay, ms.float32)
        self.no_decay = ms.Tensor(0, ms.float32)
        self.one = ms.Tensor([1], ms.int32)
        self.hyper_map = ops.HyperMap()

    def construct(self, gradients):
        steps = ops.assign_add(self.global_step, self.one).astype(ms.float32).reshape(())
        # expm1, because 1 - b2^t is off by up to 6e-5 of itself in the first steps, and this by 7e-6 at most.
        correction1 = -ops.expm1(steps * self.log1)
        correction2 = ops.sqrt(-ops.expm1(steps * self.log2))
        rate = self.learning_rate * correction2 / correction1
        decay = self.decay * correction1 / correction2  # the kernel multiplies it by the rate
        update = F.partial(_adamw, rate, self.beta1, self.beta2, self.eps * correction2, decay, self.no_decay)
        return self.hyper_map(update, self.decayed, gradients, self.parameters, self.moment1, self.moment2)


class ClipByGlobalNorm(nn.Cell):
    """An optimiser that gets gradients of a limited length: where their l2 norm over all weights is above `clip_norm`,
    all are scaled down to it (Pascanu 2013). Weight decay comes after it, as in the DAMP authors' chain.

    Args:
        optimizer (nn.Optimizer): moves the weights.
        clip_norm (float): above 0.
    """

    def __init__(self, optimizer, clip_norm):
        super().__init__(auto_prefix=False)  # the optimiser's parameters keep their names
        self.optimizer = optimizer
        self.clip_norm = ms.Tensor(clip_norm, ms.float32)
        self.one = ms.Tensor(1, ms.float32)
        self.norm = L2Norm()
        self.hyper_map = ops.HyperMap()

    @property
    def parameters(self):
        """The weights of the optimiser."""
        return self.optimizer.parameters

    @property
    def learning_rate(self):
        """The Parameter of the optimiser."""
        return self.optimizer.learning_rate

    def construct(self, gradients):
        factor = ops.minimum(self.clip_norm / self.norm(gradients), self.one)
        return self.optimizer(self.hyper_map(F.partial(_scale, factor), gradients))


@dataclass(frozen=True)
class Optimizer:
    """What moves the weights along a gradient, found by name.

    Attributes:
        create (callable): (weights, which of them weight decay is for, **options) to a cell.
        summary (str): what it is, for the help.
        defaults (dict): the options that it reads, to their defaults where the recipe has another optimiser.
    """

    create: Callable
    summary: str
    defaults: dict


# The betas and eps of adamw are no options: all published experiments have the same.
OPTIMIZERS = {
    "sgd": Optimizer(sgd, "gradient descent with --momentum; weight decay is part of the gradient",
                     {"lr": 0.1, "weight_decay": 5e-4, "decay": "all", "momentum": 0.9, "nesterov": False}),
    "adamw": Optimizer(AdamW, "Adam with betas 0.9 and 0.999; weight decay times the learning rate is taken "
                       "off the weights", {"lr": 0.001, "weight_decay": 0.1, "decay": "kernels"}),
}

WEIGHT_DECAY_FILTERS = {
    "all": "all weights",
    "kernels": "weights of convolutions and dense layers, not biases, nor scales and shifts of norms",
}
