"""The algorithms of a train step: one pass, one pass at noisy weights, or two passes as in SAM.

A step is one graph. State that outlasts it (weights, running statistics, group weights, momentum) lives in a Parameter.

An assignment to the weights must `ops.depend` on every gradient taken at the old weights. Without this, MindSpore 2.8
may move a weight before the last operator that reads it. It put the weights back before BatchNorm's gradient was taken,
which made the gradient of the first convolution wrong by a hundredth at a radius of 0.5.
"""
import mindspore.nn as nn
import mindspore.ops as ops

from losses.step.mixed_precision import value_and_grad

_add = ops.MultitypeFuncGraph("add")


@_add.register("Tensor", "Tensor")
def _add_tensor(left, right):
    return left + right


class Step(nn.Cell):
    """The parts of a step. `losses/step/build.py` chooses them.

    Inputs: images float32 (n, C, H, W), normalised, of this rank; labels int32 (N,), or (N, 2) with mixup, and groups
        int32 (N,), distribution indices, of the samples whose risk is taken.
    Outputs: a tuple of
        losses float32 (N,), of the first pass;
        logits float32 (N, K), of the first pass;
        perturbed losses float32 (N,), of the last pass;
        gradient norm float32 (), l2 norm of the first gradient over all weights;
        objective float32 (), of the last pass.

    Args:
        model (InPlace or Stacked): the model with the weights at which a gradient is taken.
        objective (Objective): the objective to minimise.
        perturbation (nn.Cell): map from weights and their gradients to the weights of the last pass.
        all_reduce, all_reduce_second (nn.Cell): maps from local to global gradients of the first and the second pass.
        update (nn.Cell): cell that takes gradients, losses and groups, and applies or accumulates the gradients.
        loss (TrainingLoss): map from logits and labels to the losses of samples.
        scaling (LossScaling or None): the loss scale of mixed precision.
    """

    def __init__(self, model, objective, perturbation, all_reduce, all_reduce_second, update, loss, scaling=None):
        super().__init__(auto_prefix=False)  # parameters keep the names that they have in the network
        self.model = model
        self.objective = objective
        self.perturbation = perturbation
        self.all_reduce = all_reduce
        self.all_reduce_second = all_reduce_second
        self.update = update
        self.loss = loss
        self.weights = model.weights
        self.gradient = value_and_grad(self.first_pass, model.perturbed_weights, scaling)
        self.second_gradient = value_and_grad(self.second_pass, model.perturbed_weights, scaling)
        self.hyper_map = ops.HyperMap()

    def first_pass(self, images, labels, groups):
        logits = self.model(images)
        losses = self.loss(logits, labels)
        return self.objective.first_risk(losses, logits, labels, groups), losses, logits

    def second_pass(self, images, labels, groups, first_losses, first_logits):
        logits = self.model(images)
        losses = self.loss(logits, labels)
        return self.objective.second_risk(losses, logits, labels, groups, first_losses, first_logits), losses


class OnePassStep(Step):
    """ERM, GroupDRO, IRM, REx: follow the gradient at w."""

    def construct(self, images, labels, groups):
        (risk, losses, logits), gradients = self.gradient(images, labels, groups)
        gradients = self.all_reduce(gradients)
        norm = self.model.norm(gradients)
        self.update(self.model.sum_copies(ops.depend(gradients, norm)), losses, groups)
        return losses, logits, losses, norm, risk


class NoisyStep(Step):
    """DAMP, DAAP: follow the gradient at noisy weights. Running statistics move, the weights come back."""

    def construct(self, images, labels, groups):
        self.model.perturb(self.perturbation(self.weights, self.weights), self.weights)  # to w (1 + noise)
        (risk, losses, logits), gradients = self.gradient(images, labels, groups)
        self.model.restore(gradients)  # back to w
        norm = self.model.norm(gradients)
        self.update(gradients, losses, groups)
        return losses, logits, losses, norm, risk


class TwoPassStep(Step):
    """SAM, ASAM, SharpDRO: follow the gradient at w + e(w), for a sharpness plus the gradient at w.

    The second pass leaves no trace but its gradient: weights and running statistics come back from copies, not by
    subtraction, so that they return bit for bit.
    """

    def construct(self, images, labels, groups):
        self.model.reset()
        (_, losses, logits), gradients = self.gradient(images, labels, groups)
        gradients = self.all_reduce(gradients)
        norm = self.model.norm(gradients)
        self.model.perturb(self.perturbation(self.weights, gradients), gradients)  # climb to w + e(w)
        (risk, perturbed_losses), second = self.second_gradient(
            images, labels, groups, ops.stop_gradient(losses), ops.stop_gradient(logits))
        self.model.restore(second)  # back to w
        second = self.all_reduce_second(second)
        if self.objective.adds_first_gradient:  # the gradient of L at w plus the gradient of R at w + e(w)
            second = self.hyper_map(_add, gradients, second)
        self.update(self.model.sum_copies(second), losses, groups)
        return losses, logits, perturbed_losses, norm, risk
