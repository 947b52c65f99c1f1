"""The uses of gradients: the optimizer, or accumulators that the optimizer reads after the last sub-batch."""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops

_accumulate = ops.MultitypeFuncGraph("accumulate")
_clear = ops.MultitypeFuncGraph("clear")


@_accumulate.register("Number", "Tensor", "Tensor")
def _accumulate_tensor(scale, total, gradient):
    return ops.assign_add(total, scale * gradient)


@_clear.register("Tensor", "Tensor")
def _clear_tensor(zero, total):
    return ops.assign(total, ops.broadcast_to(zero, total.shape))


class ApplyGradients(nn.Cell):
    """Move the weights along the gradients of a batch that was taken whole."""

    def __init__(self, optimizer):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer

    def construct(self, gradients, losses, groups):
        return self.optimizer(gradients)


class ApplyChunked(nn.Cell):
    """Move the weights where the graph has cut the batch into chunks.

    The objective is first updated by the losses of all chunks.
    """

    def __init__(self, objective, optimizer):
        super().__init__(auto_prefix=False)
        self.objective = objective
        self.optimizer = optimizer

    def construct(self, gradients, losses, groups):
        self.objective.update(ops.stop_gradient(losses), groups)
        return self.optimizer(gradients)


class AccumulateGradients(nn.Cell):
    """Add the gradients, times `scale`, to the accumulated gradients of earlier sub-batches."""

    def __init__(self, accumulated, scale):
        super().__init__(auto_prefix=False)
        self.accumulated = accumulated
        self.scale = scale
        self.hyper_map = ops.HyperMap()

    def construct(self, gradients, losses, groups):
        return self.hyper_map(ops.partial(_accumulate, self.scale), self.accumulated, gradients)


class ClearAccumulated(nn.Cell):
    """Set the accumulated gradients to 0."""

    def __init__(self, accumulated):
        super().__init__(auto_prefix=False)
        self.accumulated = accumulated
        self.zero = ms.Tensor(0, ms.float32)
        self.hyper_map = ops.HyperMap()

    def construct(self):
        return self.hyper_map(ops.partial(_clear, self.zero), self.accumulated)


class UpdateWeights(nn.Cell):
    """Move the weights along the accumulated gradients, and clear these.

    The clearing must `ops.depend` on the move that reads the gradients.

    Args:
        optimizer (nn.Optimizer): the optimizer that moves the weights.
        accumulated (ParameterTuple): the gradients of this rank.
        all_reduce (nn.Cell): map from the gradients of this rank to the gradients of all ranks.
    """

    def __init__(self, optimizer, accumulated, all_reduce):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.accumulated = accumulated
        self.all_reduce = all_reduce
        self.zero = ms.Tensor(0, ms.float32)
        self.hyper_map = ops.HyperMap()

    def construct(self):
        moved = self.optimizer(self.all_reduce(self.accumulated))
        return self.hyper_map(ops.partial(_clear, ops.depend(self.zero, moved)), self.accumulated)


class ApplyAccumulated(nn.Cell):
    """Apply the accumulated gradients after the last sub-batch.

    Update the objective by the losses of the whole batch first.

    Args:
        objective (Objective): the objective to update.
        Others as in `UpdateWeights`.
    """

    def __init__(self, objective, optimizer, accumulated, all_reduce):
        super().__init__(auto_prefix=False)
        self.objective = objective
        self.update_weights = UpdateWeights(optimizer, accumulated, all_reduce)

    def construct(self, losses, groups):
        self.objective.update(losses, groups)
        return self.update_weights()
