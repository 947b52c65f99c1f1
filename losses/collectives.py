"""Cells that gather and reduce over ranks, so that several processes compute the same results as one process.

No graph has these cells if the world size is 1. The collectives of a graph must run in the same order on all ranks, so
each collective depends on the one before. A collective takes half a millisecond, however small it is, so there are few.
"""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import ParameterTuple

from corruptions.utils.errors import UserError
from utils.runtime import distributed

_flat = ops.MultitypeFuncGraph("flat")
_cut = ops.MultitypeFuncGraph("cut")
_assign_scaled = ops.MultitypeFuncGraph("assign_scaled")


@_flat.register("Tensor")
def _flat_tensor(tensor):
    return tensor.reshape((-1,))


@_cut.register("Tensor", "Number", "Number", "Tensor")
def _cut_tensor(joined, start, stop, like):
    return joined[start:stop].reshape(like.shape)


@_assign_scaled.register("Number", "Tensor", "Tensor")
def _assign_scaled_tensor(scale, target, total):
    return ops.assign(target, scale * total)


class AllGatherRows(nn.Cell):
    """All-gather rows (n, ...) to (N, ...), with the same n on all ranks.

    The backward pass keeps the gradient of this rank's rows. So the gradients with respect to the weights, summed over
    ranks, are the gradient of the whole batch.
    """

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.gather = ops.AllGather()
        self.rank = distributed.rank()

    def construct(self, rows):
        return self.gather(rows)

    def bprop(self, rows, whole, gradient):
        n = rows.shape[0]
        return (gradient[self.rank * n:(self.rank + 1) * n],)


class AllGatherOutputs(nn.Cell):
    """All-gather several float32 tensors (n, ...) to (N, ...) in one collective. It has no gradient."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.gather = ops.AllGather()
        self.world_size = distributed.world_size()

    def construct(self, *tensors):
        every = self.gather(ops.concat([tensor.reshape((-1,)) for tensor in tensors])).reshape((self.world_size, -1))
        rows, start = (), 0
        for tensor in tensors:
            rows += (every[:, start:start + tensor.size].reshape((-1, *tensor.shape[1:])),)
            start += tensor.size
        return rows


class AllReduceSum(nn.Cell):
    """All-reduce several float32 tensors to their sums over ranks, in one collective.

    Args:
        like (sequence of Parameter): parameters with the shapes of the tensors.
    """

    def __init__(self, like):
        super().__init__(auto_prefix=False)
        stops = []
        for tensor in like:
            stops.append(tensor.size + (stops[-1] if stops else 0))
        self.starts, self.stops = (0, *stops[:-1]), tuple(stops)
        self.is_single = len(stops) == 1
        self.reduce = ops.AllReduce()
        self.hyper_map = ops.HyperMap()

    def construct(self, tensors):
        if self.is_single:
            return (self.reduce(tensors[0]),)
        joined = self.reduce(ops.concat(self.hyper_map(_flat, tensors)))
        return self.hyper_map(ops.partial(_cut, joined), self.starts, self.stops, tensors)


class AllReduceGradients(nn.Cell):
    """All-reduce a tuple of gradients to their sums over ranks.

    The same collective turns the running statistics into means over ranks.

    Args:
        weights (sequence of Parameter): the weights that the gradients belong to.
        statistics (sequence of Parameter): the running statistics that become means; may be empty.
    """

    def __init__(self, weights, statistics):
        super().__init__(auto_prefix=False)
        self.statistics, self.num_weights = ParameterTuple(statistics), len(weights)
        self.all_reduce = AllReduceSum((*weights, *statistics))
        self.scale = 1 / distributed.world_size()
        self.hyper_map = ops.HyperMap()

    def construct(self, gradients):
        if len(self.statistics) == 0:
            return self.all_reduce(gradients)
        totals = self.all_reduce(gradients + self.statistics)
        averaged = self.hyper_map(ops.partial(_assign_scaled, self.scale), self.statistics, totals[self.num_weights:])
        return ops.depend(totals[:self.num_weights], averaged)


class AllGatherMoments(nn.Cell):
    """All-gather float32 (C,) to (W, C). The loss of every rank depends on it, so the backward pass all-reduces."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.gather, self.reduce = ops.AllGather(), ops.AllReduce()
        self.rank = distributed.rank()

    def construct(self, local):
        return self.gather(local.reshape((1, -1)))

    def bprop(self, local, every, gradient):
        return (self.reduce(gradient)[self.rank],)


class SyncBatchNorm(nn.Cell):
    """`ops.BatchNorm` in training, with mean and variance over the images of all ranks.

    The cell replaces `bn_train` in an `nn.BatchNorm2d` and takes the same inputs. Like `bn_train` it returns a tuple
    with the result as first element.
    """

    def __init__(self, layer):
        super().__init__(auto_prefix=False)
        self.eps, self.momentum = layer.eps, layer.momentum
        self.moments = AllGatherMoments()
        self.world_size = distributed.world_size()

    def construct(self, x, gamma, beta, moving_mean, moving_variance):
        x = x.astype(ms.float32)  # in mixed precision it is float16, which sums would overflow
        channel_shape = (1, -1, 1, 1)
        channels = x.shape[1]
        mean = x.mean((0, 2, 3))
        off = x - mean.reshape(channel_shape)
        variance = (off * off).mean((0, 2, 3))
        every = self.moments(ops.concat((mean, variance)))
        means, variances = every[:, :channels], every[:, channels:]
        mean = means.mean(0)
        off = means - mean
        variance = (variances + off * off).mean(0)
        number = self.world_size * x.size // channels
        unbiased = ops.stop_gradient(variance) * (number / (number - 1))
        moved = (ops.assign(moving_mean, moving_mean + self.momentum * (ops.stop_gradient(mean) - moving_mean)),
                 ops.assign(moving_variance, moving_variance + self.momentum * (unbiased - moving_variance)))
        scale = gamma / ops.sqrt(variance + self.eps)
        y = (x - mean.reshape(channel_shape)) * scale.reshape(channel_shape) + beta.reshape(channel_shape)
        return (ops.depend(y, moved),)


def convert_sync_batchnorm(network, norms):
    """Make every BatchNorm of a network take its training statistics over all ranks.

    Args:
        network (nn.Cell): the network, changed in place.
        norms (tuple): the classes of layers with batch statistics.

    Raises:
        UserError: a layer of these classes is not an `nn.BatchNorm2d`.
    """
    for name, cell in network.cells_and_names():
        if isinstance(cell, norms):
            if type(cell) is not nn.BatchNorm2d:
                raise UserError(f"sync_bn: {name or 'the network'} is a {type(cell).__name__}, which "
                                "cannot share its statistics between workers; give --no-sync_bn (create_step: "
                                "sync_bn=False)")
            cell.bn_train = SyncBatchNorm(cell)
