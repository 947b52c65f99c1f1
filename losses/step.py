"""Train steps: one graph that takes a mini-batch, differentiates an objective and moves the weights.

Whatever has to outlast the graph (weights, running statistics, group weights, momentum) lives in a Parameter; a step
returns only what is worth logging.
"""
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import ParameterTuple

from losses.perturbations import L2Norm

_assign = ops.MultitypeFuncGraph("assign")
_add = ops.MultitypeFuncGraph("add")


@_assign.register("Tensor", "Tensor")
def _assign_tensor(target, value):
    return ops.assign(target, value)


@_add.register("Tensor", "Tensor")
def _add_tensor(left, right):
    return left + right


class TrainStep(nn.Cell):
    """What every step shares: the network, its loss per sample, the objective and the optimiser.

    Inputs: images float32 (N, 3, H, W), normalised; labels int32 (N,); groups int32 (N,), distribution indices.
    Outputs: a tuple of
        losses float32 (N,), at the weights;
        logits float32 (N, K), at the weights;
        perturbed losses float32 (N,), at the perturbed weights (the same as `losses` if nothing is perturbed);
        gradient norm float32 (), of the first pass;
        objective float32 (), of the last pass.
    """

    def __init__(self, network, objective, optimizer):
        super().__init__(auto_prefix=False)  # the network keeps the parameter names it has on its own
        self.network = network
        self.objective = objective
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self.hyper_map = ops.HyperMap()
        self.first_gradient = ops.value_and_grad(self.first_pass, None, self.weights, has_aux=True)
        self.set_train()

    def first_pass(self, images, labels, groups):
        logits = self.network(images)
        losses = ops.cross_entropy(logits, labels, reduction="none")
        self.objective.observe(ops.stop_gradient(losses), groups)
        return self.objective.risk(losses, logits, labels, groups), losses, logits


class OnePassStep(TrainStep):
    """Gradient of the objective's risk at the weights."""

    def __init__(self, network, objective, optimizer):
        super().__init__(network, objective, optimizer)
        self.norm = L2Norm()

    def construct(self, images, labels, groups):
        (risk, losses, logits), gradients = self.first_gradient(images, labels, groups)
        norm = self.norm(gradients)
        self.optimizer(gradients)
        return losses, logits, losses, norm, risk


class TwoPassStep(TrainStep):
    """A gradient at the weights, a second one at the weights that the perturbation leads to.

    The second pass leaves no trace but its gradient: weights and running statistics are put back from copies, not by
    subtraction, so they return bit for bit.
    """

    def __init__(self, network, objective, perturbation, optimizer):
        super().__init__(network, objective, optimizer)
        self.perturbation = perturbation
        statistics = [p for p in network.get_parameters() if not p.requires_grad]
        self.moved = ParameterTuple(list(self.weights) + statistics)
        self.saved = self.moved.clone(prefix="saved", init="zeros")
        self.second_gradient = ops.value_and_grad(self.second_pass, None, self.weights, has_aux=True)

    def second_pass(self, images, labels, groups, first_losses):
        logits = self.network(images)
        losses = ops.cross_entropy(logits, labels, reduction="none")
        if self.objective.is_sharpness:
            value = self.objective.sharpness(losses, first_losses, groups)
        else:
            value = self.objective.risk(losses, logits, labels, groups)
        return value, losses

    def construct(self, images, labels, groups):
        (_, losses, logits), gradients = self.first_gradient(images, labels, groups)
        self.hyper_map(_assign, self.saved, self.moved)
        perturbed, norm = self.perturbation(self.weights, gradients)
        self.hyper_map(_assign, self.weights, perturbed)
        (value, perturbed_losses), second = self.second_gradient(images, labels, groups, ops.stop_gradient(losses))
        self.hyper_map(_assign, self.moved, self.saved)
        if self.objective.is_sharpness:
            second = self.hyper_map(_add, gradients, second)
        self.optimizer(second)
        return losses, logits, perturbed_losses, norm, value


class EvaluationStep(nn.Cell):
    """Losses and hits of a batch, running statistics in use and left as they are.

    Inputs: images float32 (N, 3, H, W), normalised; labels int32 (N,).
    Outputs: losses float32 (N,); hits bool (N,), true where the largest logit is the label's.
    """

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, images, labels):
        logits = self.network(images)
        return ops.cross_entropy(logits, labels, reduction="none"), logits.argmax(1) == labels
