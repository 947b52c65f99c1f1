"""Exact gradient accumulation: the step of a whole batch, with the memory of a part of it.

The losses of all samples decide what an objective weighs, so no part of a batch knows its gradient by itself. Each pass
therefore runs the network twice on every micro-batch, as in GradCache (Gao et al. 2021, https://arxiv.org/abs/2101.06983).
The first time it keeps only the logits. The objective of all logits gives the gradient of each logit. The second time,
the gradients of a micro-batch's logits are carried back to the weights, and added up.
"""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
from mindspore import ParameterTuple

from corruptions.utils.errors import UserError
from losses.perturbations import L2Norm

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
    """Raise a `UserError` if a network has a cell that drops other values each time that the network runs."""
    for name, cell in network.cells_and_names():
        is_off = getattr(cell, "p", None) == 0 or getattr(cell, "keep_prob", None) == 1
        if type(cell).__name__.startswith("Dropout") and not is_off:
            raise UserError(f"--accumulate: {name} is a {type(cell).__name__}, which drops other values each time that "
                            "the network runs; leave it out, or take a network without it")


def check_same_logits(first, again):
    """Raise a `UserError` if a network has computed other logits the second time, by more than rounding."""
    if np.abs(first - again).max() > 0.01 * np.abs(first).max():
        raise UserError("--accumulate: the network computes other logits when it runs again on the same images, "
                        "perhaps by dropout; leave it out, or take a network without random numbers")


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
    """Add a micro-batch's part of the gradient of the weights, and return the logits of the micro-batch again.

    Running statistics and other parameters that are not trained stay as they are.
    """

    def __init__(self, network, weights, accumulated):
        super().__init__(auto_prefix=False)
        self.network, self.accumulated = network, accumulated
        self.statistics = ParameterTuple([p for p in network.get_parameters() if not p.requires_grad])
        self.has_statistics = len(self.statistics) > 0
        self.saved = self.statistics.clone(prefix="saved.before", init="zeros")
        self.gradient = ops.value_and_grad(self.weighted_logits, None, weights, has_aux=True)
        self.hyper_map = ops.HyperMap()

    def weighted_logits(self, images, logit_gradients):
        logits = self.network(images)
        return (logits * logit_gradients).sum(), logits

    def construct(self, images, logit_gradients):
        if self.has_statistics:
            self.hyper_map(_copy, self.saved, self.statistics)
        (_, logits), gradients = self.gradient(images, logit_gradients)
        if self.has_statistics:
            self.hyper_map(_copy, self.statistics, ops.depend(self.saved, gradients))
        self.hyper_map(_add_to, self.accumulated, gradients)
        return logits


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


class Reset(nn.Cell):
    """Clear the accumulated gradients, and put the network back where it was before `Perturb`, if it was moved."""

    def __init__(self, model, accumulated, is_perturbed):
        super().__init__(auto_prefix=False)
        self.model, self.accumulated, self.is_perturbed = model, accumulated, is_perturbed
        self.zero = ms.Tensor(0, ms.float32)
        self.hyper_map = ops.HyperMap()

    def construct(self):
        if self.is_perturbed:
            self.model.restore(self.accumulated)
        return self.hyper_map(ops.partial(_clear, self.zero), self.accumulated)


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

    If a part of a step raises an error, the weights are those from before the step. The first step checks that the
    network computes the same logits both times.

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
        self.resets = [Reset(model, accumulated, is_perturbed) for is_perturbed in (False, True)]
        self.is_perturbed, self.is_checked = False, False

    def __call__(self, images, labels, groups):
        try:
            return self.take(images, labels, groups)
        except BaseException:
            self.resets[self.is_perturbed]()
            raise
        finally:
            self.is_perturbed = False

    def take(self, images, labels, groups):
        if len(images) % self.micro_batches:
            raise UserError(f"a batch of {len(images)} samples: cannot be cut into {self.micro_batches} parts; give a "
                            "multiple, or another accumulate")
        parts = ops.split(images, len(images) // self.micro_batches)
        if self.is_noisy:
            self.move()
        logits = ops.concat([self.logits(part) for part in parts])
        (risk, losses), logit_gradients = self.first_risk(logits, labels, groups)
        self.accumulate(parts, logit_gradients, logits)
        norm, perturbed_losses = self.norm(), losses
        if self.is_two_pass:
            self.move()
            perturbed_logits = ops.concat([self.logits(part) for part in parts])
            (risk, perturbed_losses), logit_gradients = self.second_risk(perturbed_logits, labels, groups, losses,
                                                                         logits)
            self.accumulate(parts, logit_gradients, perturbed_logits)
        self.update()
        return losses, logits, perturbed_losses, norm, risk

    def move(self):
        """Move the network to its perturbed weights."""
        self.perturb()
        self.is_perturbed = True

    def accumulate(self, parts, logit_gradients, logits):
        """Add the gradient of the weights of all micro-batches."""
        rows = (ops.split(tensor, len(parts[0])) for tensor in (logit_gradients, logits))
        for part, gradients, first in zip(parts, *rows, strict=True):
            again = self.backward(part, gradients)
            if not self.is_checked:
                check_same_logits(first.asnumpy(), again.asnumpy())
                self.is_checked = True
