"""Optimizers: cells that take the gradients of their `parameters`, in the same order, and move the parameters.

The `learning_rate` is a Parameter, which `losses.schedules.set_learning_rate` sets. All other state that outlasts a
step is kept in Parameters, too.
"""
import math

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
def _adamw_tensor(rate, beta1, beta2, eps, decay, no_decay, decay_mask, gradient, weight, moment1, moment2):
    return _fused_adamw(weight, moment1, moment2, rate, beta1, beta2, eps, decay if decay_mask else no_decay, gradient)


def is_kernel(weight):
    """Whether a parameter is a weight of a convolution or a dense layer, not a bias, nor a norm's scale or shift.

    The DAMP authors recognise such weights by the name `kernel`. Here they have several dimensions and are not biases.
    """
    return weight.ndim > 1 and is_weight_or_gamma(weight.name)


def weight_decay_mask(weights, decay):
    """Return a mask of the weights that weight decay applies to.

    Args:
        weights (list of Parameter): the weights of a network.
        decay (str): a key of `losses.components.WEIGHT_DECAY_FILTERS`.

    Returns:
        tuple of bool: one for each weight.
    """
    return tuple(decay == "all" or is_kernel(weight) for weight in weights)


def sgd(weights, decay_mask, lr, weight_decay, momentum, nesterov):
    """Return MindSpore's stochastic gradient descent, which computes the same as `torch.optim.SGD`.

    Weight decay is added to the gradient. Momentum, or Nesterov's momentum, comes after it.

    Args:
        weights (list of Parameter): the weights to move.
        decay_mask (tuple of bool): mask of the weights that weight decay applies to.
        lr, weight_decay, momentum (float), nesterov (bool): as in `torch.optim.SGD`.

    Returns:
        nn.SGD: the optimizer, with its parameters in the order of `weights`.
    """
    # Parameter groups, because with a plain list nn.SGD applies no weight decay to parameters named gamma and beta,
    # and PyTorch does.
    groups = [{"params": members, "weight_decay": decay} for decay, chosen in ((weight_decay, True), (0.0, False))
              if (members := [weight for weight, is_decayed in zip(weights, decay_mask, strict=True)
                              if is_decayed == chosen])]
    if len(groups) > 1:
        groups.append({"order_params": weights})
    return nn.SGD(groups, learning_rate=lr, momentum=momentum, nesterov=nesterov)


class AdamW(nn.Optimizer):
    """Adam with decoupled weight decay (Loshchilov 2019), as `torch.optim.AdamW` and optax compute it:

        m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
        w = w - lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay w)

    b1, b2 and eps have the defaults of PyTorch and optax, 0.9, 0.999 and 1e-8.

    MindSpore's `nn.AdamWeightDecay` leaves out the divisions by 1 - b^t, so that its first step is 3.2 times as long.
    `mint.optim.AdamW` is for Ascend alone. Here the divisions are moved into the scalars that the fused kernel of
    `nn.AdamWeightDecay` takes. This is three times as fast as the formula written with tensors.

    Args:
        weights (list of Parameter): the weights to move.
        decay_mask (tuple of bool): mask of the weights that weight decay applies to.
        lr, weight_decay (float): as in the formula.
    """

    def __init__(self, weights, decay_mask, lr, weight_decay):
        super().__init__(lr, weights)
        self.decay_mask = decay_mask
        self.moment1 = self.parameters.clone(prefix="moment1", init="zeros")
        self.moment2 = self.parameters.clone(prefix="moment2", init="zeros")
        # Tensors, because a plain number in a graph is rounded to 8 decimals. The logarithms are taken of the betas
        # rounded to float32, so that the division takes out exactly what the kernel has put in.
        rounded = [float(np.float32(beta)) for beta in (0.9, 0.999)]
        self.beta1, self.beta2 = (ms.Tensor(beta, ms.float32) for beta in rounded)
        self.log1, self.log2 = (ms.Tensor(math.log(beta), ms.float32) for beta in rounded)
        self.eps = ms.Tensor(1e-8, ms.float32)
        self.decay = ms.Tensor(weight_decay, ms.float32)
        self.no_decay = ms.Tensor(0, ms.float32)
        self.unit = ms.Tensor([1], ms.int32)
        self.hyper_map = ops.HyperMap()

    def construct(self, gradients):
        steps = ops.assign_add(self.global_step, self.unit).astype(ms.float32).reshape(())
        # expm1, because 1 - b2^t has a relative error of up to 6e-5 in the first steps, and expm1 of 7e-6 at most.
        correction1 = -ops.expm1(steps * self.log1)
        correction2 = ops.sqrt(-ops.expm1(steps * self.log2))
        rate = self.learning_rate * correction2 / correction1
        decay = self.decay * correction1 / correction2  # the kernel multiplies the decay by the rate
        update = F.partial(_adamw, rate, self.beta1, self.beta2, self.eps * correction2, decay, self.no_decay)
        return self.hyper_map(update, self.decay_mask, gradients, self.parameters, self.moment1, self.moment2)


class ClipByGlobalNorm(nn.Cell):
    """An optimizer that clips the global norm of the gradients (Pascanu 2013).

    If the l2 norm over all weights is above `clip_norm`, all gradients are scaled down to this norm. Weight decay comes
    after clipping, as in the DAMP authors' chain.

    Args:
        optimizer (nn.Optimizer): the optimizer that moves the weights.
        clip_norm (float): largest norm, above 0.
    """

    def __init__(self, optimizer, clip_norm):
        super().__init__(auto_prefix=False)  # the optimizer's parameters keep their names
        self.optimizer = optimizer
        self.clip_norm = ms.Tensor(clip_norm, ms.float32)
        self.unit = ms.Tensor(1, ms.float32)
        self.norm = L2Norm()
        self.hyper_map = ops.HyperMap()

    @property
    def parameters(self):
        """The weights of the optimizer."""
        return self.optimizer.parameters

    @property
    def learning_rate(self):
        """The learning rate of the optimizer, a Parameter."""
        return self.optimizer.learning_rate

    def construct(self, gradients):
        factor = ops.minimum(self.clip_norm / self.norm(gradients), self.unit)
        return self.optimizer(self.hyper_map(F.partial(_scale, factor), gradients))
