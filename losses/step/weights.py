"""Models with a place for perturbed weights: the network itself, or copies of it in one graph, one a sub-batch."""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import ParameterTuple

from losses.perturbations import L2Norm

assign_tensor = ops.MultitypeFuncGraph("assign")
_broadcast_assign = ops.MultitypeFuncGraph("broadcast_assign")
_assign_row = ops.MultitypeFuncGraph("assign_row")
_sum_copies = ops.MultitypeFuncGraph("sum_copies")


@assign_tensor.register("Tensor", "Tensor")
def _assign_tensor(target, value):
    return ops.assign(target, value)


@_broadcast_assign.register("Tensor", "Tensor")
def _broadcast_assign_tensor(copies, value):
    return ops.assign(copies, ops.broadcast_to(value, copies.shape))


@_assign_row.register("Tensor", "Tensor", "Tensor")
def _assign_row_tensor(number, copies, value):
    return ops.scatter_update(copies, number, value.reshape((1, *value.shape)))


@_sum_copies.register("Tensor")
def _sum_copies_tensor(gradients):
    return gradients.sum(0)


class PerturbableModel(nn.Cell):
    """A network with a place for perturbed weights. Maps images (n, C, H, W) to logits.

    Args:
        network (nn.Cell): map from float32 images to float32 logits.
        weights (ParameterTuple): the weights that are trained.
        perturbed_weights (ParameterTuple): the weights that `network` reads.
        restored (list of Parameter): the parameters that `restore` puts back to their values before `perturb`.
    """

    def __init__(self, network, weights, perturbed_weights, restored):
        super().__init__(auto_prefix=False)
        self.network = network
        self.weights = weights
        self.perturbed_weights = perturbed_weights
        self.restored = ParameterTuple(restored)
        self.saved = self.restored.clone(prefix="saved", init="zeros")
        self.norm_of = L2Norm()
        self.hyper_map = ops.HyperMap()

    def perturb(self, values, after):
        """Put `values` where the next pass reads its weights, once the tensors `after` are there."""
        self.hyper_map(assign_tensor, self.saved, self.restored)
        return self.hyper_map(assign_tensor, self.perturbed_weights, ops.depend(values, after))

    def restore(self, after):
        """Put back the values from before `perturb`, once the tensors `after` are there."""
        return self.hyper_map(assign_tensor, self.restored, ops.depend(self.saved, after))


class InPlace(PerturbableModel):
    """The network itself: perturbed weights take the place of its own for one pass.

    Args:
        gather_logits (nn.Cell): map from this rank's logits to the logits of the samples that enter the risk.
    """

    def __init__(self, network, weights, restored, gather_logits):
        super().__init__(network, weights, weights, restored)
        self.gather_logits = gather_logits

    def construct(self, images):
        return self.gather_logits(self.network(images))

    def reset(self):
        """Do nothing, because before a first pass the weights are in place."""
        return self.weights

    def norm(self, gradients):
        return self.norm_of(gradients)

    def sum_copies(self, gradients):
        return gradients


class Stacked(PerturbableModel):
    """M copies of the network in one graph: each has perturbed weights of its own, (M, ...), and 1/M of the batch.

    Args:
        network (StackedNetwork): the copies.
    """

    def __init__(self, network, weights, restored):
        super().__init__(network, weights, network.weights, restored)

    def construct(self, images):
        return self.network(images)

    def reset(self):
        """Give all copies the weights of the network."""
        return self.hyper_map(_broadcast_assign, self.perturbed_weights, self.weights)

    def norm(self, gradients):
        """Return the mean over the copies of the l2 norm of the gradient of each copy's own risk.

        The norms are summed, because the graph differentiates the mean of these risks.
        """
        return self.norm_of(gradients, True).sum()

    def sum_copies(self, gradients):
        return self.hyper_map(_sum_copies, gradients)


class NoPerturbation(nn.Cell):
    """The identity: the last gradient is taken at the weights themselves."""

    def construct(self, weights, gradients):
        return weights


class DrawNoise(nn.Cell):
    """Give one of M copies the weights that a noise makes.

    This is a graph of its own, because the noise of all copies at once takes five times the memory. The compiler also
    merges several draws in a graph into one.

    Inputs: int32 (1,), number of the copy.
    """

    def __init__(self, noise, weights, noisy_weights):
        super().__init__(auto_prefix=False)
        self.noise = noise
        self.weights = weights
        self.noisy_weights = noisy_weights
        self.hyper_map = ops.HyperMap()

    def construct(self, number):
        return self.hyper_map(ops.partial(_assign_row, number), self.noisy_weights,
                              self.noise(self.weights, self.weights))


class PresampledNoise(nn.Cell):
    """The perturbation of stacked copies by a noise: `draw` fills `noisy_weights` (M, ...) before the graph runs."""

    def __init__(self, noise, weights, noisy_weights, num_copies):
        super().__init__(auto_prefix=False)
        self.draw_noise = DrawNoise(noise, weights, noisy_weights)
        self.noisy_weights = noisy_weights
        self.num_copies = num_copies

    def draw(self):
        for number in range(self.num_copies):
            self.draw_noise(ms.Tensor([number], ms.int32))

    def construct(self, weights, gradients):
        return self.noisy_weights
