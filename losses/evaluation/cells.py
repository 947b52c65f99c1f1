"""Cells that evaluate a network and leave it unchanged."""
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import ParameterTuple

from losses.collectives import AllReduceSum
from losses.cross_entropy import cross_entropy
from losses.perturbations import L2Norm
from losses.select import select_whole
from utils.runtime import distributed

_add_to_kept = ops.MultitypeFuncGraph("add_to_kept")


@_add_to_kept.register("Tensor", "Tensor", "Tensor")
def _add_to_kept_tensor(keep, total, gradient):
    # keep * total would not do: if the network has diverged, the total may be NaN, and 0 * NaN is NaN.
    return ops.assign(total, select_whole(keep > 0, total, ops.zeros_like(total)) + gradient)


class EvaluationStep(nn.Cell):
    """The losses and logits of a batch. Running statistics are used and not updated.

    Inputs: images float32 (N, 3, H, W), normalised; labels int32 (N,).
    Outputs: losses float32 (N,); logits float32 (N, K).
    """

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, images, labels):
        logits = self.network(images)
        return cross_entropy(logits, labels), logits


class GradientNorm(nn.Cell):
    """The l2 norm, over all weights, of the gradient of a weighted sum of losses.

    The sum may span several batches. After `set_train(False)`, running statistics are used and not updated.

    Inputs: images float32 (N, 3, H, W), normalised; labels int32 (N,); shares float32 (N,), the factors of the samples
        in the sum; keep float32 (), 1 to add to the previous batches, 0 to start a new sum.
    Outputs: float32 (), the norm of the sum so far, over the samples of all ranks. All ranks must make the same number
        of calls.
    """

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network
        self.total = ParameterTuple(network.trainable_params()).clone(prefix="saved.gradient", init="zeros")
        self.gradient = ops.grad(self.weighted_loss, None, ParameterTuple(network.trainable_params()))
        self.norm = L2Norm()
        self.all_reduce = AllReduceSum(network.trainable_params()) if distributed.world_size() > 1 else None
        self.hyper_map = ops.HyperMap()

    def weighted_loss(self, images, labels, shares):
        return (shares * cross_entropy(self.network(images), labels)).sum()

    def construct(self, images, labels, shares, keep):
        gradients = self.gradient(images, labels, shares)
        if self.all_reduce is not None:
            gradients = self.all_reduce(gradients)
        self.hyper_map(ops.partial(_add_to_kept, keep), self.total, gradients)
        return self.norm(self.total)
