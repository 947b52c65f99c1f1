"""Train steps: one graph that takes a mini-batch, differentiates an objective and moves the weights.

Whatever has to outlast the graph (weights, running statistics, group weights, momentum) lives in a Parameter; a step
returns only what is worth logging.

What moves the weights depends (`ops.depend`) on all gradients at the place that it leaves. Without this, MindSpore 2.8
may move a weight before the last of what reads it: it put the weights back before BatchNorm's gradient was taken, which
at a radius of 0.5 made the gradient of the first convolution wrong by a hundredth.
"""
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import ParameterTuple

from losses.objectives import label_logits
from losses.perturbations import L2Norm
from utils.errors import UserError

_assign = ops.MultitypeFuncGraph("assign")
_add = ops.MultitypeFuncGraph("add")
_accumulate = ops.MultitypeFuncGraph("accumulate")
_clear = ops.MultitypeFuncGraph("clear")


@_assign.register("Tensor", "Tensor")
def _assign_tensor(target, value):
    return ops.assign(target, value)


@_add.register("Tensor", "Tensor")
def _add_tensor(left, right):
    return left + right


@_accumulate.register("Number", "Tensor", "Tensor")
def _accumulate_tensor(share, total, gradient):
    return ops.assign_add(total, share * gradient)


@_clear.register("Tensor")
def _clear_tensor(total):
    return ops.assign(total, ops.zeros_like(total))


def cross_entropy(logits, labels):
    """Cross-entropy of each sample, float32 (N,), of `logits` float32 (N, K) and `labels` int32 (N,).

    Neither `ops.cross_entropy`, which takes `ops.log`, whose last bit on CPU depends on how the work was shared out
    among threads, and so on timing; nor `ops.log_softmax`, which on CPU is off by 4e-6.
    """
    highest = ops.stop_gradient(ops.amax(logits, 1))
    others = ops.exp(logits - highest.reshape((-1, 1))).sum(1) - 1
    return ops.log1p(others) + highest - label_logits(logits, labels)


class EndBatch(nn.Cell):
    """What follows the last sub-batch: move the weights along the gradients that the sub-batches have left in
    Parameters, clear these, and let the objective observe the losses of the whole batch.
    """

    def __init__(self, objective, optimizer, accumulated):
        super().__init__(auto_prefix=False)
        self.objective = objective
        self.optimizer = optimizer
        self.accumulated = accumulated
        self.hyper_map = ops.HyperMap()

    def construct(self, losses, groups):
        self.objective.observe(losses, groups)
        self.optimizer(self.accumulated)
        return self.hyper_map(_clear, self.accumulated)


class TrainStep(nn.Cell):
    """What every step shares: the network, its loss per sample, the objective and the optimiser.

    Inputs: images float32 (N, 3, H, W), normalised; labels int32 (N,); groups int32 (N,), distribution indices.
    Outputs: a tuple of
        losses float32 (N,), of the first pass;
        logits float32 (N, K), of the first pass;
        perturbed losses float32 (N,), of the last pass;
        gradient norm float32 (), l2 norm of the first pass's gradient over all weights;
        objective float32 (), of the last pass.
    The first pass is at the weights, but for noises, whose only pass is at the noisy weights.

    Args:
        network (nn.Cell): images to logits.
        objective (Objective): what is minimised.
        perturbation (nn.Cell or None): where the last gradient is taken.
        optimizer (nn.Optimizer): moves the weights.
        sub_batches (int): parts of the batch, each with a perturbation of its own; their gradients are averaged.
    """

    def __init__(self, network, objective, perturbation, optimizer, sub_batches=1):
        super().__init__(auto_prefix=False)  # the network keeps the parameter names it has on its own
        self.network = network
        self.objective = objective
        self.perturbation = perturbation
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self.norm = L2Norm()
        self.hyper_map = ops.HyperMap()
        self.first_gradient = ops.value_and_grad(self.first_pass, None, self.weights, has_aux=True)
        self.sub_batches = sub_batches
        self.share = 1 / sub_batches
        if sub_batches > 1:
            self.accumulated = self.weights.clone(prefix="saved.accumulated", init="zeros")
            self.end_batch = EndBatch(objective, optimizer, self.accumulated)
            objective.observes_first = False
        self.set_train()

    def first_pass(self, images, labels, groups):
        logits = self.network(images)
        losses = cross_entropy(logits, labels)
        if self.objective.observes_first:
            self.objective.observe(ops.stop_gradient(losses), groups)
        return self.objective.risk(losses, logits, labels, groups), losses, logits

    def follow(self, gradients):
        """Move the weights, or keep the gradients until all sub-batches are through."""
        if self.sub_batches == 1:
            return self.optimizer(gradients)
        return self.hyper_map(ops.partial(_accumulate, self.share), self.accumulated, gradients)

    def run_batch(self, images, labels, groups):
        """Take one step, sub-batch by sub-batch; not part of a graph.

        Args:
            images, labels, groups (Tensor): as the inputs above; N must be a multiple of the number of sub-batches.

        Returns:
            tuple of numpy.ndarray: as the outputs above; norm and objective are means over the sub-batches.

        Raises:
            UserError: it is not.
        """
        if self.sub_batches == 1:
            return tuple(out.asnumpy() for out in self(images, labels, groups))
        if len(labels) % self.sub_batches:
            raise UserError(f"a batch of {len(labels)} samples: cannot be cut into {self.sub_batches} sub-batches; "
                            "give a multiple, or another num_sub_batches")
        results = [self(*part) for part in zip(*(t.split(t.shape[0] // self.sub_batches)
                                                 for t in (images, labels, groups)), strict=True)]
        losses, logits, perturbed, norms, values = zip(*results, strict=True)
        losses = ops.concat(losses)
        self.end_batch(losses, groups)
        return (losses.asnumpy(), *(ops.concat(parts).asnumpy() for parts in (logits, perturbed)),
                *(ops.stack(numbers).mean().asnumpy() for numbers in (norms, values)))


class OnePassStep(TrainStep):
    """Gradient of the objective's risk at the weights."""

    def construct(self, images, labels, groups):
        (risk, losses, logits), gradients = self.first_gradient(images, labels, groups)
        norm = self.norm(gradients)
        self.follow(ops.depend(gradients, norm))
        return losses, logits, losses, norm, risk


class NoisyStep(TrainStep):
    """Gradient of the objective's risk at randomly perturbed weights; running statistics move, weights come back."""

    def __init__(self, *args):
        super().__init__(*args)
        self.saved = self.weights.clone(prefix="saved", init="zeros")

    def construct(self, images, labels, groups):
        self.hyper_map(_assign, self.saved, self.weights)
        self.hyper_map(_assign, self.weights, self.perturbation(self.weights))
        (risk, losses, logits), gradients = self.first_gradient(images, labels, groups)
        self.hyper_map(_assign, self.weights, ops.depend(self.saved, gradients))
        norm = self.norm(gradients)
        self.follow(gradients)
        return losses, logits, losses, norm, risk


class TwoPassStep(TrainStep):
    """A gradient at the weights, a second one at the weights that the perturbation leads to.

    The second pass leaves no trace but its gradient: weights and running statistics are put back from copies, not by
    subtraction, so they return bit for bit.
    """

    def __init__(self, *args):
        super().__init__(*args)
        statistics = [p for p in self.network.get_parameters() if not p.requires_grad]
        self.moved = ParameterTuple(list(self.weights) + statistics)
        self.saved = self.moved.clone(prefix="saved", init="zeros")
        self.second_gradient = ops.value_and_grad(self.second_pass, None, self.weights, has_aux=True)

    def second_pass(self, images, labels, groups, first_losses, first_logits):
        logits = self.network(images)
        losses = cross_entropy(logits, labels)
        if self.objective.is_sharpness:
            value = self.objective.sharpness(losses, logits, first_losses, first_logits, groups)
        else:
            value = self.objective.risk(losses, logits, labels, groups)
        return value, losses

    def construct(self, images, labels, groups):
        (_, losses, logits), gradients = self.first_gradient(images, labels, groups)
        norm = self.norm(gradients)
        self.hyper_map(_assign, self.saved, self.moved)
        if self.perturbation is not None:
            if self.perturbation.needs_gradient:
                perturbed = self.perturbation(self.weights, gradients)
            else:
                perturbed = self.perturbation(self.weights)
            self.hyper_map(_assign, self.weights, ops.depend(perturbed, gradients))
        (value, perturbed_losses), second = self.second_gradient(
            images, labels, groups, ops.stop_gradient(losses), ops.stop_gradient(logits))
        self.hyper_map(_assign, self.moved, ops.depend(self.saved, second))
        if self.objective.is_sharpness:
            second = self.hyper_map(_add, gradients, second)
        self.follow(second)
        return losses, logits, perturbed_losses, norm, value


def create_train_step(network, objective, perturbation, optimizer, sub_batches):
    """The step that an objective and a perturbation need: as many passes as that takes, and no more."""
    if objective.is_sharpness or (perturbation is not None and perturbation.needs_gradient):
        return TwoPassStep(network, objective, perturbation, optimizer, sub_batches)
    if perturbation is not None:
        return NoisyStep(network, objective, perturbation, optimizer, sub_batches)
    return OnePassStep(network, objective, perturbation, optimizer, sub_batches)
