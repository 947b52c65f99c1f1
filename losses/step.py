"""Train steps: one graph that takes a mini-batch, differentiates an objective and moves the weights.

Whatever has to outlast the graph (weights, running statistics, group weights, momentum) lives in a Parameter; a step
returns only what is worth logging.

What moves the weights depends (`ops.depend`) on all gradients at the place that it leaves, what clears gradients on
what they have moved. Without this, MindSpore 2.8 may move a weight before the last of what reads it: it put the weights
back before BatchNorm's gradient was taken, which at a radius of 0.5 made the gradient of the first convolution wrong by
a hundredth.
"""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import ParameterTuple

from utils.device import pynative_mode
from losses.collectives import AllGatherOutputs, AllGatherRows, AllReduceSum
from losses.objectives import label_logits
from losses.perturbations import L2Norm
from models.side_by_side import StackedNetwork, check_stackable, running_statistics
from utils import distributed
from utils.errors import UserError

_assign = ops.MultitypeFuncGraph("assign")
_add = ops.MultitypeFuncGraph("add")
_accumulate = ops.MultitypeFuncGraph("accumulate")
_clear = ops.MultitypeFuncGraph("clear")
_broadcast_assign = ops.MultitypeFuncGraph("broadcast_assign")
_assign_row = ops.MultitypeFuncGraph("assign_row")
_sum_copies = ops.MultitypeFuncGraph("sum_copies")
_assign_scaled = ops.MultitypeFuncGraph("assign_scaled")


@_assign.register("Tensor", "Tensor")
def _assign_tensor(target, value):
    return ops.assign(target, value)


@_add.register("Tensor", "Tensor")
def _add_tensor(left, right):
    return left + right


@_accumulate.register("Number", "Tensor", "Tensor")
def _accumulate_tensor(share, total, gradient):
    return ops.assign_add(total, share * gradient)


@_clear.register("Tensor", "Tensor")
def _clear_tensor(zero, total):
    return ops.assign(total, ops.broadcast_to(zero, total.shape))


@_broadcast_assign.register("Tensor", "Tensor")
def _broadcast_assign_tensor(copies, value):
    return ops.assign(copies, ops.broadcast_to(value, copies.shape))


@_assign_row.register("Tensor", "Tensor", "Tensor")
def _assign_row_tensor(number, copies, value):
    return ops.scatter_update(copies, number, value.reshape((1, *value.shape)))


@_sum_copies.register("Tensor")
def _sum_copies_tensor(gradients):
    return gradients.sum(0)


@_assign_scaled.register("Number", "Tensor", "Tensor")
def _assign_scaled_tensor(share, target, total):
    return ops.assign(target, share * total)


def cross_entropy(logits, labels):
    """Cross-entropy of each sample, float32 (N,), of `logits` float32 (N, K) and `labels` int32 (N,).

    Neither `ops.cross_entropy`, which takes `ops.log`, whose last bit on CPU depends on how the work was shared out
    among threads, and so on timing; nor `ops.log_softmax`, which on CPU is off by 4e-6.
    """
    highest = ops.stop_gradient(ops.amax(logits, 1))
    others = ops.exp(logits - highest.reshape((-1, 1))).sum(1) - 1
    return ops.log1p(others) + highest - label_logits(logits, labels)


class AllReduceGradients(nn.Cell):
    """Gradients (tuple) of all workers, summed; running statistics become means over them, which costs no collective of
    its own.

    Args:
        weights, statistics (ParameterTuple): what the gradients are of; what becomes a mean, may be empty.
    """

    def __init__(self, weights, statistics):
        super().__init__(auto_prefix=False)
        self.statistics, self.number = statistics, len(weights)
        self.total = AllReduceSum((*weights, *statistics))
        self.share = 1 / distributed.world_size()
        self.hyper_map = ops.HyperMap()

    def construct(self, gradients):
        if len(self.statistics) == 0:
            return self.total(gradients)
        totals = self.total(gradients + self.statistics)
        moved = self.hyper_map(ops.partial(_assign_scaled, self.share), self.statistics, totals[self.number:])
        return ops.depend(totals[:self.number], moved)


class ApplyAccumulated(nn.Cell):
    """What follows the last sub-batch: move the weights along the gradients that the sub-batches have left in
    Parameters, clear these, and let the objective observe the losses of the whole batch.
    """

    def __init__(self, objective, optimizer, accumulated, sum_over_workers):
        super().__init__(auto_prefix=False)
        self.objective = objective
        self.optimizer = optimizer
        self.accumulated = accumulated
        self.sum_over_workers = sum_over_workers
        self.zero = ms.Tensor(0, ms.float32)
        self.hyper_map = ops.HyperMap()

    def construct(self, losses, groups):
        self.objective.observe(losses, groups)
        gradients = self.accumulated
        if self.sum_over_workers is not None:
            gradients = self.sum_over_workers(gradients)
        moved = self.optimizer(gradients)
        return self.hyper_map(ops.partial(_clear, ops.depend(self.zero, moved)), self.accumulated)


class DrawNoise(nn.Cell):
    """Give one of M copies the weights that a noise makes. A graph of its own, because the noise of all copies at once
    takes five times the memory, and the compiler makes one of several draws within a graph.

    Inputs: int32 (1,), the copy's number.
    """

    def __init__(self, noise, weights, copies):
        super().__init__(auto_prefix=False)
        self.noise = noise
        self.weights = weights
        self.copies = copies
        self.hyper_map = ops.HyperMap()

    def construct(self, number):
        return self.hyper_map(ops.partial(_assign_row, number), self.copies, self.noise(self.weights))


class TrainStep(nn.Cell):
    """What every step shares: the network, its loss per sample, the objective and the optimiser.

    Where several workers train together, each has its own N/W images of a batch, in the order of the workers, and all
    labels and groups. An objective that takes the batch whole sees the logits of all workers, and every gradient is
    summed over them before it is followed, so that all have the same weights at any time. Sub-batches are shared out.

    Inputs: images float32 (N, 3, H, W), normalised; labels int32 (N,); groups int32 (N,), distribution indices.
    Outputs: a tuple of
        losses float32 (N,), of the first pass;
        logits float32 (N, K), of the first pass;
        perturbed losses float32 (N,), of the last pass;
        gradient norm float32 (), l2 norm of the first pass's gradient over all weights: mean over the sub-batches, or
            of the batch where the graph takes it whole and unperturbed;
        objective float32 (), of the last pass, mean over the sub-batches.
    The first pass is at the weights, but for noises, whose only pass is at the noisy weights.

    Args:
        network (nn.Cell): images to logits.
        objective (Objective): what is minimised.
        perturbation (nn.Cell or None): where the last gradient is taken.
        optimizer (nn.Optimizer): moves the weights.
        sub_batches (int): parts of the batch, each with an objective and a perturbation of its own; their gradients are
            averaged. Of several workers each has as many of them.
        sync_bn (bool): BatchNorm's statistics are those of all sub-batches together, each seen through its own
            perturbed weights, so that all go through the graph at once. Otherwise they go one after the other, each
            with statistics of its own.
    """

    is_two_pass = False

    def __init__(self, network, objective, perturbation, optimizer, sub_batches=1, sync_bn=False):
        super().__init__(auto_prefix=False)  # the network keeps the parameter names it has on its own
        self.network = network
        self.objective = objective
        self.perturbation = perturbation
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self.norm = L2Norm()
        self.hyper_map = ops.HyperMap()
        self.sub_batches = sub_batches
        own = max(1, sub_batches // distributed.world_size())  # of this worker
        self.parts = own if sync_bn else 1  # of a batch in the graph
        self.copies = self.parts if self.parts > 1 and perturbation is not None else 0
        # What images go through, and the weights that it has: those of the network, or of copies of it, (M, ...).
        self.predict = StackedNetwork(network, self.copies) if self.copies else network
        self.is_checked = True  # that copies of the network do what it does
        self.num_classes = self.num_groups = None  # `run_batch` checks labels and groups against what is known
        self.points = self.predict.weights if self.copies else self.weights
        self.put = _broadcast_assign if self.copies else _assign
        self.first_gradient = ops.value_and_grad(self.first_pass, None, self.points, has_aux=True)
        # Noises need no gradient: their copies are made before the graph runs. A first pass at the weights goes before
        # the one at these copies, which it leaves alone.
        self.noisy = self.perturb_copy = None
        if self.copies and not perturbation.needs_gradient:
            self.noisy = self.points.clone(prefix="saved.noisy", init="zeros") if self.is_two_pass else self.points
            self.perturb_copy = DrawNoise(perturbation, self.weights, self.noisy)
        self.turns = own // self.parts  # runs of the graph for a batch
        self.share = 1 / (self.turns * distributed.world_size())
        # Where several workers train together: the logits of all, if the objective takes the batch whole.
        self.whole = self.sum_over_workers = None
        if distributed.world_size() > 1:
            statistics = () if sync_bn else running_statistics(network)
            self.sum_over_workers = AllReduceGradients(self.weights, ParameterTuple(statistics))
            self.whole = AllGatherRows() if sub_batches == 1 else None
        self.ends_apart = self.turns > 1 or sub_batches > 1 and distributed.world_size() > 1
        if self.ends_apart:
            self.accumulated = self.weights.clone(prefix="saved.accumulated", init="zeros")
            self.end_batch = ApplyAccumulated(objective, optimizer, self.accumulated, self.sum_over_workers)
            self.rows_of_all = AllGatherOutputs() if distributed.world_size() > 1 else None
        if sub_batches > 1:
            objective.observes_first = False
        self.set_train()

    def logits(self, images):
        """Of the images, or of those of all workers."""
        own = self.predict(images)
        return own if self.whole is None else self.whole(own)

    def first_pass(self, images, labels, groups):
        logits = self.logits(images)
        losses = cross_entropy(logits, labels)
        if self.objective.observes_first:
            self.objective.observe(ops.stop_gradient(losses), groups)
        return self.mean_over_parts(self.objective.risk, losses, logits, labels, groups), losses, logits

    def mean_over_parts(self, function, *tensors):
        """Mean of what a function of an objective makes of each part of the batch."""
        if self.parts == 1:
            return function(*tensors)
        total = 0.0
        for part in range(self.parts):
            total = total + function(*(t.reshape((self.parts, -1, *t.shape[1:]))[part] for t in tensors))
        return total / self.parts

    def length(self, gradients):
        """l2 norm of a gradient; mean over copies of that of the own risk of each, whose mean the graph differentiates.
        """
        return self.norm(gradients, True).sum() if self.copies else self.norm(gradients)

    def follow(self, gradients, losses, groups):
        """Move the weights, or keep the gradients until all sub-batches are through."""
        if self.copies:
            gradients = self.hyper_map(_sum_copies, gradients)
        if self.ends_apart:
            return self.hyper_map(ops.partial(_accumulate, self.share), self.accumulated, gradients)
        if self.parts > 1:
            self.objective.observe(ops.stop_gradient(losses), groups)
        return self.optimizer(gradients)

    def example(self, batch_size, shape):
        """Images, labels and groups of the shapes and types that the graph gets for a batch, as `run_batch` calls it.

        Args:
            batch_size (int): images in a batch, of all workers together.
            shape (tuple of int): of an image, (C, H, W).
        """
        own = batch_size // distributed.world_size() // self.turns
        images = ops.zeros((own, *shape), ms.float32)
        labels = ops.zeros((own if self.whole is None else batch_size,), ms.int32)
        return images, labels, ops.zeros_like(labels)

    def run_batch(self, images, labels, groups):
        """Take one step and wait for it; for arguments see `launch`.

        Returns:
            tuple of numpy.ndarray: as the outputs above, of all workers' samples.

        Raises:
            UserError: as `launch`, or a label or a distribution index is out of its range.
        """
        self.check_range("labels", labels, self.classes_of(images))
        self.check_range("groups", groups, self.num_groups)
        *rows, norms, values = (out.asnumpy() for out in self.launch(images, labels, groups))
        return *rows, norms.mean(), values.mean()

    def classes_of(self, images):
        """Number of classes that the network knows; it is tried on one image, once."""
        if self.num_classes is None:
            modes = [(cell, cell.training) for _, cell in self.network.cells_and_names()]
            with pynative_mode():
                self.num_classes = self.network.set_train(False)(images[:1]).shape[1]
            self.network.set_train(modes[0][1])
            for cell, is_training in modes:  # a user may have frozen the statistics of a norm
                cell.add_flags(training=is_training)
        return self.num_classes

    @staticmethod
    def check_range(name, values, number):
        """Raise a `UserError` unless `values` is a Tensor of integers (N,), from 0 to below `number` if that is known.
        """
        if not isinstance(values, ms.Tensor) or values.ndim != 1 or values.dtype not in (ms.int32, ms.int64):
            kind = f"{values.dtype} of shape {values.shape}" if isinstance(values, ms.Tensor) else type(values).__name__
            raise UserError(f"{name}: must be a Tensor of int32 of shape (N,), not {kind}")
        values = values.asnumpy()
        outside = [] if number is None else values[(values < 0) | (values >= number)]
        if len(outside):
            raise UserError(f"{name}: has {outside[0]}, and must have numbers from 0 to {number - 1}")

    def launch(self, images, labels, groups):
        """Have the device take one step, as many runs of the graph as that takes, without waiting for it; not part of a
        graph.

        Args:
            images, labels, groups (Tensor): as the inputs above; N must be a multiple of the number of sub-batches, and
                of that of workers.

        The network is put into training mode.

        Returns:
            tuple of Tensor: as the outputs above, of all workers' samples; the gradient norm and the objective are of
                each sub-batch, float32 (M,), where these go one after the other.

        Raises:
            UserError: it is not, or the network is none of which copies can be laid side by side.
        """
        if not self.network.training:  # somebody has evaluated it
            self.set_train()
        if len(labels) % self.sub_batches:
            raise UserError(f"a batch of {len(labels)} samples: cannot be cut into {self.sub_batches} sub-batches; "
                            "give a multiple, or another num_sub_batches")
        if len(groups) != len(labels):
            raise UserError(f"{len(groups)} groups: must be as many as the labels, {len(labels)}")
        if len(labels) != len(images) * distributed.world_size():
            raise UserError(f"{len(images)} images: are not a worker's share of {len(labels)} labels, which are those "
                            f"of all {distributed.world_size()} workers; give utils.distributed.own_part of the images")
        if not self.is_checked:
            check_stackable(self.network, *images.shape[2:], channels=images.shape[1])
            self.is_checked = True
        if self.perturb_copy is not None:
            for copy in range(self.copies):
                self.perturb_copy(ms.Tensor([copy], ms.int32))
        if not self.ends_apart:
            return self(images, labels, groups)
        own = distributed.rank_slice(len(labels), distributed.rank_and_world_size())
        # Not Tensor.split, which is documented for Ascend alone.
        results = [self(*part) for part in zip(*(ops.split(t, t.shape[0] // self.turns)
                                                 for t in (images, labels[own], groups[own])), strict=True)]
        *rows, norms, values = zip(*results, strict=True)
        outs = (*map(ops.concat, rows), ops.stack(norms), ops.stack(values))
        if self.rows_of_all is not None:
            outs = self.rows_of_all(*outs)
        self.end_batch(outs[0], groups)
        return outs


class OnePassStep(TrainStep):
    """Gradient of the objective's risk at the weights."""

    def construct(self, images, labels, groups):
        (risk, losses, logits), gradients = self.first_gradient(images, labels, groups)
        if self.whole is not None:
            gradients = self.sum_over_workers(gradients)
        norm = self.length(gradients)
        self.follow(ops.depend(gradients, norm), losses, groups)
        return losses, logits, losses, norm, risk


class NoisyStep(TrainStep):
    """Gradient of the objective's risk at randomly perturbed weights; running statistics move, weights come back."""

    def __init__(self, *args):
        super().__init__(*args)
        self.saved = None if self.copies else self.weights.clone(prefix="saved", init="zeros")

    def construct(self, images, labels, groups):
        if not self.copies:
            self.hyper_map(_assign, self.saved, self.weights)
            self.hyper_map(_assign, self.weights, self.perturbation(self.weights))
        (risk, losses, logits), gradients = self.first_gradient(images, labels, groups)
        if not self.copies:
            self.hyper_map(_assign, self.weights, ops.depend(self.saved, gradients))
        norm = self.length(gradients)
        self.follow(gradients, losses, groups)
        return losses, logits, losses, norm, risk


class TwoPassStep(TrainStep):
    """A gradient at the weights, a second one at the weights that the perturbation leads to.

    The second pass leaves no trace but its gradient: weights and running statistics are put back from copies, not by
    subtraction, so they return bit for bit.
    """

    is_two_pass = True

    def __init__(self, *args):
        super().__init__(*args)
        statistics = [p for p in self.network.get_parameters() if not p.requires_grad]
        self.moved = ParameterTuple(([] if self.copies else list(self.weights)) + statistics)
        self.saved = self.moved.clone(prefix="saved", init="zeros")
        self.sum_second = None if self.whole is None else AllReduceGradients(self.weights, ParameterTuple(()))
        self.second_gradient = ops.value_and_grad(self.second_pass, None, self.points, has_aux=True)

    def second_pass(self, images, labels, groups, first_losses, first_logits):
        logits = self.logits(images)
        losses = cross_entropy(logits, labels)
        if self.objective.is_sharpness:
            value = self.mean_over_parts(self.objective.sharpness, losses, logits, first_losses, first_logits, groups)
        else:
            value = self.mean_over_parts(self.objective.risk, losses, logits, labels, groups)
        return value, losses

    def construct(self, images, labels, groups):
        if self.copies:
            self.hyper_map(self.put, self.points, self.weights)
        (_, losses, logits), gradients = self.first_gradient(images, labels, groups)
        if self.whole is not None:
            gradients = self.sum_over_workers(gradients)
        norm = self.length(gradients)
        self.hyper_map(_assign, self.saved, self.moved)
        if self.perturbation is not None:
            if self.perturbation.needs_gradient:
                perturbed = self.perturbation(self.weights, gradients)
            elif self.copies:
                perturbed = self.noisy
            else:
                perturbed = self.perturbation(self.weights)
            self.hyper_map(self.put, self.points, ops.depend(perturbed, gradients))
        (value, perturbed_losses), second = self.second_gradient(
            images, labels, groups, ops.stop_gradient(losses), ops.stop_gradient(logits))
        self.hyper_map(_assign, self.moved, ops.depend(self.saved, second))
        if self.whole is not None:
            second = self.sum_second(second)
        if self.objective.is_sharpness:
            second = self.hyper_map(_add, gradients, second)
        self.follow(second, losses, groups)
        return losses, logits, perturbed_losses, norm, value


def create_train_step(network, objective, perturbation, *args):
    """The step that an objective and a perturbation need: as many passes as that takes, and no more. Arguments are
    those of `TrainStep`.
    """
    if objective.is_sharpness or (perturbation is not None and perturbation.needs_gradient):
        return TwoPassStep(network, objective, perturbation, *args)
    if perturbation is not None:
        return NoisyStep(network, objective, perturbation, *args)
    return OnePassStep(network, objective, perturbation, *args)
