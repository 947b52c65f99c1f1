"""Exact gradient accumulation: the step of a whole batch, with the memory of a part of it.

The losses of all samples decide what an objective weighs, so no part of a batch knows its gradient by itself. Each pass
therefore runs the network twice on every micro-batch, as in GradCache (Gao et al. 2021, https://arxiv.org/abs/2101.06983).
The first time it keeps only the logits. The objective of all logits gives the gradient of each logit. The second time,
the gradients of a micro-batch's logits are carried back to the weights, and added up.
"""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import ParameterTuple

from corruptions.utils.errors import UserError
from losses.perturbations import L2Norm
from models.stacked import running_statistics

_add_to = ops.MultitypeFuncGraph("add_to")
_copy = ops.MultitypeFuncGraph("copy")
_clear = ops.MultitypeFuncGraph("clear")


@_add_to.register("Tensor", "Tensor")
def _add_to_tensor(total, gradient):
    return ops.assign_add(total, gradient)


@_copy.register("Tensor", "Tensor")
def _copy_tensor(target, value):
    return ops.assign(target, value)


@_clear.register("Tensor", "Tensor")
def _clear_tensor(zero, total):
    return ops.assign(total, ops.broadcast_to(zero, total.shape))


def check_deterministic(network):
    """Raise a `UserError` if a network draws random numbers, so that two runs on the same images differ."""
    for name, cell in network.cells_and_names():
        if isinstance(cell, nn.Dropout) and cell.p > 0:
            raise UserError(f"--accumulate: {name} is a Dropout, which drops other values each time that the network "
                            "runs; leave it out, or take a network without Dropout")


class Logits(nn.Cell):
    """The logits of a micro-batch. BatchNorm's running statistics move."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, images):
        return self.network(images)


class FirstRisk(nn.Cell):
    """The objective of the first pass, the losses, and the gradient of each logit."""

    def __init__(self, objective, loss):
        super().__init__(auto_prefix=False)
        self.objective, self.loss = objective, loss
        self.gradient = ops.value_and_grad(self.risk, 0, None, has_aux=True)

    def risk(self, logits, labels, groups):
        losses = self.loss(logits, labels)
        return self.objective.first_risk(losses, logits, labels, groups), losses

    def construct(self, logits, labels, groups):
        return self.gradient(logits, labels, groups)


class SecondRisk(nn.Cell):
    """The objective of the second pass, the losses, and the gradient of each logit."""

    def __init__(self, objective, loss):
        super().__init__(auto_prefix=False)
        self.objective, self.loss = objective, loss
        self.gradient = ops.value_and_grad(self.risk, 0, None, has_aux=True)

    def risk(self, logits, labels, groups, first_losses, first_logits):
        losses = self.loss(logits, labels)
        return self.objective.second_risk(losses, logits, labels, groups, first_losses, first_logits), losses

    def construct(self, logits, labels, groups, first_losses, first_logits):
        return self.gradient(logits, labels, groups, first_losses, first_logits)


class Backward(nn.Cell):
    """Add a micro-batch's part of the gradient of the weights. Running statistics stay as they are."""

    def __init__(self, network, weights, accumulated):
        super().__init__(auto_prefix=False)
        self.network, self.accumulated = network, accumulated
        self.statistics = ParameterTuple(running_statistics(network))
        self.has_statistics = len(self.statistics) > 0
        self.saved = self.statistics.clone(prefix="saved.before", init="zeros")
        self.gradient = ops.grad(self.weighted_logits, None, weights)
        self.hyper_map = ops.HyperMap()

    def weighted_logits(self, images, logit_gradients):
        return (self.network(images) * logit_gradients).sum()

    def construct(self, images, logit_gradients):
        if self.has_statistics:
            self.hyper_map(_copy, self.saved, self.statistics)
        gradients = self.gradient(images, logit_gradients)
        if self.has_statistics:
            self.hyper_map(_copy, self.statistics, ops.depend(self.saved, gradients))
        return self.hyper_map(_add_to, self.accumulated, gradients)


class Perturb(nn.Cell):
    """Move the network to its perturbed weights, and clear the accumulated gradients unless they are kept.

    A noise does not read the gradients, which are 0 then.
    """

    def __init__(self, model, perturbation, accumulated, keeps_gradients):
        super().__init__(auto_prefix=False)
        self.model, self.perturbation, self.accumulated = model, perturbation, accumulated
        self.weights = model.weights
        self.keeps_gradients = keeps_gradients
        self.zero = ms.Tensor(0, ms.float32)
        self.hyper_map = ops.HyperMap()

    def construct(self):
        moved = self.model.perturb(self.perturbation(self.weights, self.accumulated), self.accumulated)
        if self.keeps_gradients:
            return moved
        return self.hyper_map(ops.partial(_clear, ops.depend(self.zero, moved)), self.accumulated)


class Norm(nn.Cell):
    """The l2 norm of the accumulated gradients."""

    def __init__(self, accumulated):
        super().__init__(auto_prefix=False)
        self.accumulated, self.norm = accumulated, L2Norm()

    def construct(self):
        return self.norm(self.accumulated)


class Update(nn.Cell):
    """Put the network back where it was before `Perturb`, move its weights, and clear the accumulated gradients."""

    def __init__(self, model, optimizer, accumulated, is_perturbed):
        super().__init__(auto_prefix=False)
        self.model, self.optimizer, self.accumulated = model, optimizer, accumulated
        self.is_perturbed = is_perturbed
        self.zero = ms.Tensor(0, ms.float32)
        self.hyper_map = ops.HyperMap()

    def construct(self):
        if self.is_perturbed:
            self.model.restore(self.accumulated)
        moved = self.optimizer(self.accumulated)
        return self.hyper_map(ops.partial(_clear, ops.depend(self.zero, moved)), self.accumulated)


class AccumulatedStep:
    """A step of `losses/step/algorithms.py`, with the same inputs and outputs, in several graphs.

    Args:
        model (InPlace): the model with the weights at which gradients are taken.
        objective, loss, optimizer: as in `create_train_step`.
        perturbation (nn.Cell or None): the perturbation; None if all passes are at the weights themselves.
        is_two_pass (bool): whether a second pass follows the first. If not, a perturbation is a noise.
        micro_batches (int): number of parts N of a batch that follow one another.
    """

    def __init__(self, model, objective, perturbation, optimizer, loss, is_two_pass, micro_batches):
        check_deterministic(model.network)
        accumulated = model.weights.clone(prefix="saved.accumulated", init="zeros")
        self.model, self.loss, self.micro_batches = model, loss, micro_batches
        self.is_two_pass, self.is_noisy = is_two_pass, perturbation is not None and not is_two_pass
        self.logits = Logits(model.network)
        self.first_risk, self.second_risk = FirstRisk(objective, loss), SecondRisk(objective, loss)
        self.backward = Backward(model.network, model.weights, accumulated)
        self.norm = Norm(accumulated)
        if perturbation is not None:
            self.perturb = Perturb(model, perturbation, accumulated, objective.adds_first_gradient)
        self.update = Update(model, optimizer, accumulated, perturbation is not None)

    def __call__(self, images, labels, groups):
        if len(images) % self.micro_batches:
            raise UserError(f"a batch of {len(images)} samples: cannot be cut into {self.micro_batches} parts; give a "
                            "multiple, or another accumulate")
        parts = ops.split(images, len(images) // self.micro_batches)
        if self.is_noisy:
            self.perturb()
        logits = ops.concat([self.logits(part) for part in parts])
        (risk, losses), logit_gradients = self.first_risk(logits, labels, groups)
        self.accumulate(parts, logit_gradients)
        norm, perturbed_losses = self.norm(), losses
        if self.is_two_pass:
            self.perturb()
            perturbed_logits = ops.concat([self.logits(part) for part in parts])
            (risk, perturbed_losses), logit_gradients = self.second_risk(perturbed_logits, labels, groups, losses,
                                                                         logits)
            self.accumulate(parts, logit_gradients)
        self.update()
        return losses, logits, perturbed_losses, norm, risk

    def accumulate(self, parts, logit_gradients):
        """Add the gradient of the weights of all micro-batches."""
        for part, gradients in zip(parts, ops.split(logit_gradients, len(parts[0])), strict=True):
            self.backward(part, gradients)
