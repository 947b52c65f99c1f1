"""Where perturbed weights go: into the network itself, or into copies of it in one graph, one for each sub-batch."""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import ParameterTuple

from losses.perturbations import L2Norm

_assign = ops.MultitypeFuncGraph("assign")
_broadcast_assign = ops.MultitypeFuncGraph("broadcast_assign")
_assign_row = ops.MultitypeFuncGraph("assign_row")
_sum_copies = ops.MultitypeFuncGraph("sum_copies")


@_assign.register("Tensor", "Tensor")
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
        network (nn.Cell): float32 images to float32 logits.
        weights (ParameterTuple): are trained.
        perturbed_weights (ParameterTuple): those that `network` reads.
        restored (list of Parameter): what `restore` puts back to the values that it had before `perturb`.
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
        self.hyper_map(_assign, self.saved, self.restored)
        return self.hyper_map(_assign, self.perturbed_weights, ops.depend(values, after))

    def restore(self, after):
        """Put back what was there before `perturb`, once the tensors `after` are there."""
        return self.hyper_map(_assign, self.restored, ops.depend(self.saved, after))


class InPlace(PerturbableModel):
    """The network itself: perturbed weights take the place of its own for one pass.

    Args:
        gather_logits (nn.Cell): this rank's logits to those of the samples whose risk is taken.
    """

    def __init__(self, network, weights, restored, gather_logits):
        super().__init__(network, weights, weights, restored)
        self.gather_logits = gather_logits

    def construct(self, images):
        return self.gather_logits(self.network(images))

    def reset(self):
        """Before a first pass the weights are where they belong."""
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
        """Mean over the copies of the l2 norm of the gradient of each one's own risk; what the graph differentiates is
        the mean of these risks.
        """
        return self.norm_of(gradients, True).sum()

    def sum_copies(self, gradients):
        return self.hyper_map(_sum_copies, gradients)


class NoPerturbation(nn.Cell):
    """Takes the last gradient at the weights themselves."""

    def construct(self, weights, gradients):
        return weights


class DrawNoise(nn.Cell):
    """Give one of M copies the weights that a noise makes. A graph of its own: the noise of all copies at once takes
    five times the memory, and the compiler makes one draw of several in a graph.

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
