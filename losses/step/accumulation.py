"""Exact gradient accumulation: the step of a whole batch, with the memory of a part of it.

The losses of all samples decide what an objective weighs, so no part of a batch knows its gradient by itself. Each pass
therefore runs the network twice on every micro-batch, as in GradCache (Gao et al. 2021, https://arxiv.org/abs/2101.06983).
The first time it keeps only the logits. The objective of all logits gives the gradient of each logit. The second time,
the gradients of a micro-batch's logits are carried back to the weights, and added up.
"""
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
from mindspore import ParameterTuple

from corruptions.utils.errors import UserError
from losses.perturbations import L2Norm
from losses.step.gradients import AccumulateGradients, ClearAccumulated, UpdateWeights
from losses.step.mixed_precision import value_and_grad
from losses.step.weights import assign_tensor
from models.dropout import find_dropout


def check_deterministic(network):
    """Raise a `UserError` if a network has a cell that drops other values each time that the network runs."""
    dropout = find_dropout(network)
    if dropout is not None:
        raise UserError(f"--accumulate: {dropout}, which drops other values each time that the network runs; leave it "
                        "out, or take a network without it")


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


class RiskGradient(nn.Cell):
    """The objective of a pass, the losses, and the gradient of each logit.

    Args:
        objective (Objective), loss (TrainingLoss): as in `Step`.
        is_second (bool): whether it is the second pass, whose inputs end with the losses and the logits of the first.
    """

    def __init__(self, objective, loss, is_second):
        super().__init__(auto_prefix=False)
        self.objective, self.loss, self.is_second = objective, loss, is_second
        self.gradient = ops.value_and_grad(self.risk, 0, None, has_aux=True)

    def risk(self, logits, labels, groups, *first):
        losses = self.loss(logits, labels)
        if self.is_second:
            return self.objective.second_risk(losses, logits, labels, groups, *first), losses
        return self.objective.first_risk(losses, logits, labels, groups), losses

    def construct(self, logits, labels, groups, *first):
        return self.gradient(logits, labels, groups, *first)


class Backward(nn.Cell):
    """Add a micro-batch's part of the gradient of the weights, and return the logits of the micro-batch again.

    Running statistics and other parameters that are not trained stay as they are.
    """

    def __init__(self, network, weights, accumulated, scaling):
        super().__init__(auto_prefix=False)
        self.network = network
        self.accumulate = AccumulateGradients(accumulated, 1)
        self.statistics = ParameterTuple(network.untrainable_params())
        self.has_statistics = len(self.statistics) > 0
        self.saved = self.statistics.clone(prefix="saved.before", init="zeros")
        self.gradient = value_and_grad(self.weighted_logits, weights, scaling)
        self.hyper_map = ops.HyperMap()

    def weighted_logits(self, images, logit_gradients):
        logits = self.network(images)
        return (logits * logit_gradients).sum(), logits

    def construct(self, images, logit_gradients):
        if self.has_statistics:
            self.hyper_map(assign_tensor, self.saved, self.statistics)
        (_, logits), gradients = self.gradient(images, logit_gradients)
        if self.has_statistics:
            self.hyper_map(assign_tensor, self.statistics, ops.depend(self.saved, gradients))
        self.accumulate(gradients, None, None)
        return logits


class Perturb(nn.Cell):
    """Move the network to its perturbed weights. A noise does not read the gradients, which are 0 then."""

    def __init__(self, model, perturbation, accumulated):
        super().__init__(auto_prefix=False)
        self.model, self.perturbation, self.accumulated = model, perturbation, accumulated
        self.weights = model.weights

    def construct(self):
        return self.model.perturb(self.perturbation(self.weights, self.accumulated), self.accumulated)


class Restore(nn.Cell):
    """Put the network back where it was before `Perturb`."""

    def __init__(self, model, accumulated):
        super().__init__(auto_prefix=False)
        self.model, self.accumulated = model, accumulated

    def construct(self):
        return self.model.restore(self.accumulated)


class Norm(nn.Cell):
    """The l2 norm of the accumulated gradients."""

    def __init__(self, accumulated):
        super().__init__(auto_prefix=False)
        self.accumulated, self.norm = accumulated, L2Norm()

    def construct(self):
        return self.norm(self.accumulated)


class AccumulatedStep:
    """A step of `losses/step/algorithms.py`, with the same inputs and outputs, in several graphs.

    If a part of a step raises an error, the weights are those from before the step. The first step whose logits are not
    all 0 checks that the network computes the same logits both times.

    Args:
        model (InPlace): the model with the weights at which gradients are taken.
        objective, loss, optimizer: as in `create_train_step`.
        perturbation (nn.Cell or None): the perturbation; None if all passes are at the weights themselves.
        is_two_pass (bool): whether a second pass follows the first. If not, a perturbation is a noise.
        micro_batches (int): number of parts N of a batch that follow one another.
        scaling (LossScaling or None): the loss scale of mixed precision.
    """

    def __init__(self, model, objective, perturbation, optimizer, loss, is_two_pass, micro_batches, scaling=None):
        check_deterministic(model.network)
        accumulated = model.weights.clone(prefix="saved.accumulated", init="zeros")
        self.model, self.loss, self.micro_batches = model, loss, micro_batches
        self.is_two_pass, self.is_noisy = is_two_pass, perturbation is not None and not is_two_pass
        self.logits = Logits(model.network)
        self.first_risk, self.second_risk = (RiskGradient(objective, loss, second) for second in (False, True))
        self.backward = Backward(model.network, model.weights, accumulated, scaling)
        self.norm = Norm(accumulated)
        self.keeps_gradients = objective.adds_first_gradient  # the second pass adds its gradients to those of the first
        if perturbation is not None:
            self.perturb, self.restore = Perturb(model, perturbation, accumulated), Restore(model, accumulated)
        self.clear = ClearAccumulated(accumulated)
        self.update = UpdateWeights(optimizer, accumulated, nn.Identity())
        self.is_perturbed, self.is_checked = False, False

    def __call__(self, images, labels, groups):
        try:
            return self.take(images, labels, groups)
        except BaseException:
            self.move_back()
            self.clear()
            raise

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
            if not self.keeps_gradients:
                self.clear()
            perturbed_logits = ops.concat([self.logits(part) for part in parts])
            (risk, perturbed_losses), logit_gradients = self.second_risk(perturbed_logits, labels, groups, losses,
                                                                         logits)
            self.accumulate(parts, logit_gradients, perturbed_logits)
        self.move_back()
        self.update()
        return losses, logits, perturbed_losses, norm, risk

    def move(self):
        """Move the network to its perturbed weights."""
        self.perturb()
        self.is_perturbed = True

    def move_back(self):
        """Put the network back, if it was moved."""
        if self.is_perturbed:
            self.restore()
            self.is_perturbed = False

    def accumulate(self, parts, logit_gradients, logits):
        """Add the gradient of the weights of all micro-batches."""
        rows = (ops.split(tensor, len(parts[0])) for tensor in (logit_gradients, logits))
        for part, gradients, first in zip(parts, *rows, strict=True):
            again = self.backward(part, gradients)
            if not self.is_checked:
                check_same_logits(first.asnumpy(), again.asnumpy())
                self.is_checked = bool(first.asnumpy().any())  # a classifier that begins at 0 hides other logits
