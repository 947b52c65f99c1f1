"""Cells that make one training of several workers: what each has of a batch, a gradient or statistics becomes what one
worker would have. They are in no graph where there is one worker.

Collectives of one graph have to come in the same order on all workers, so that each needs what the one before has
given. There are few of them, because each takes half a millisecond, however small it is.
"""
import mindspore.nn as nn
import mindspore.ops as ops

from utils import workers
from utils.errors import UserError

_flat = ops.MultitypeFuncGraph("flat")
_cut = ops.MultitypeFuncGraph("cut")


@_flat.register("Tensor")
def _flat_tensor(tensor):
    return tensor.reshape((-1,))


@_cut.register("Tensor", "Number", "Number", "Tensor")
def _cut_tensor(joined, start, stop, like):
    return joined[start:stop].reshape(like.shape)


class WholeBatch(nn.Cell):
    """The rows of all workers, (N, ...), from this one's, (n, ...), n the same for all. A gradient of the whole goes to
    this one's rows alone, so that the sum over workers of what it becomes at the weights is the gradient of the batch.
    """

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.gather = ops.AllGather()
        self.rank = workers.rank()

    def construct(self, rows):
        return self.gather(rows)

    def bprop(self, rows, whole, gradient):
        n = rows.shape[0]
        return (gradient[self.rank * n:(self.rank + 1) * n],)


class RowsOfAll(nn.Cell):
    """Of each of several float32 tensors (n, ...) the rows of all workers, (N, ...), one worker's after the other's, in
    one collective. Nothing is differentiated through it.
    """

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.gather = ops.AllGather()
        self.count = workers.count()

    def construct(self, *tensors):
        every = self.gather(ops.concat([tensor.reshape((-1,)) for tensor in tensors])).reshape((self.count, -1))
        rows, start = (), 0
        for tensor in tensors:
            rows += (every[:, start:start + tensor.size].reshape((-1, *tensor.shape[1:])),)
            start += tensor.size
        return rows


class Total(nn.Cell):
    """The sums over workers of each of several float32 tensors, in one collective.

    Args:
        like (sequence of Parameter): of the tensors' shapes.
    """

    def __init__(self, like):
        super().__init__(auto_prefix=False)
        stops = []
        for tensor in like:
            stops.append(tensor.size + (stops[-1] if stops else 0))
        self.starts, self.stops = (0, *stops[:-1]), tuple(stops)
        self.is_one = len(stops) == 1
        self.reduce = ops.AllReduce()
        self.hyper_map = ops.HyperMap()

    def construct(self, tensors):
        if self.is_one:
            return (self.reduce(tensors[0]),)
        joined = self.reduce(ops.concat(self.hyper_map(_flat, tensors)))
        return self.hyper_map(ops.partial(_cut, joined), self.starts, self.stops, tensors)


class Moments(nn.Cell):
    """What each worker has, float32 (C,), of all workers, (W, C). All of them go on with it, so that the gradient of
    this one's is the sum of what theirs give.
    """

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.gather, self.reduce = ops.AllGather(), ops.AllReduce()
        self.rank = workers.rank()

    def construct(self, own):
        return self.gather(own.reshape((1, -1)))

    def bprop(self, own, every, gradient):
        return (self.reduce(gradient)[self.rank],)


class BatchNormOfAll(nn.Cell):
    """What `ops.BatchNorm` is to an `nn.BatchNorm2d` that trains, with mean and variance over the images of all
    workers; called as that is, and its result the first of a tuple, too.
    """

    def __init__(self, layer):
        super().__init__(auto_prefix=False)
        self.eps, self.momentum = layer.eps, layer.momentum
        self.moments = Moments()
        self.count = workers.count()

    def construct(self, x, gamma, beta, moving_mean, moving_variance):
        own = (1, -1, 1, 1)
        channels = x.shape[1]
        mean = x.mean((0, 2, 3))
        off = x - mean.reshape(own)
        variance = (off * off).mean((0, 2, 3))
        every = self.moments(ops.concat((mean, variance)))
        means, variances = every[:, :channels], every[:, channels:]
        mean = means.mean(0)
        off = means - mean
        variance = (variances + off * off).mean(0)
        number = self.count * x.size // channels
        unbiased = ops.stop_gradient(variance) * (number / (number - 1))
        moved = (ops.assign(moving_mean, moving_mean + self.momentum * (ops.stop_gradient(mean) - moving_mean)),
                 ops.assign(moving_variance, moving_variance + self.momentum * (unbiased - moving_variance)))
        scale = gamma / ops.sqrt(variance + self.eps)
        y = (x - mean.reshape(own)) * scale.reshape(own) + beta.reshape(own)
        return (ops.depend(y, moved),)


def synchronise(network, norms):
    """Have the BatchNorm of a network take the statistics of all workers when it trains.

    Args:
        network (nn.Cell): is changed.
        norms (tuple): the classes of layers with statistics of batches.

    Raises:
        UserError: one of them is no `nn.BatchNorm2d`.
    """
    for name, cell in network.cells_and_names():
        if isinstance(cell, norms):
            if type(cell) is not nn.BatchNorm2d:
                raise UserError(f"sync_bn: {name or 'the network'} is a {type(cell).__name__}, of which several "
                                "workers have no statistics together; give --no-sync_bn (create_step: sync_bn=False)")
            cell.bn_train = BatchNormOfAll(cell)
