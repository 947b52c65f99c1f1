"""One batch, one update: check the batch, cut it into sub-batches, run the graph of a step on each."""
from typing import NamedTuple

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops

from utils.runtime.device import pynative_mode
from corruptions.utils.errors import UserError
from losses.collectives import AllGatherOutputs
from models.modes import evaluation_mode, set_training_modes, training_modes
from models.stacked import check_stackable
from utils.runtime import distributed


class StepOutputs(NamedTuple):
    """The results of a step for the samples of all ranks; Tensor from `train_batch_async`, else numpy.ndarray.

    Attributes:
        losses: float32 (N,), of the first pass.
        logits: float32 (N, K), of the first pass.
        perturbed_losses: float32 (N,), of the last pass.
        gradient_norm: float32 (), l2 norm of the first pass's gradient over all weights. It is the gradient of the
            batch if the graph takes the batch whole and unperturbed, else a mean over sub-batches.
        objective: float32 (), of the last pass, mean over sub-batches.

    The first pass is at the weights. A noise has one pass, which is at the noisy weights.
    """

    losses: object
    logits: object
    perturbed_losses: object
    gradient_norm: object
    objective: object


class TrainStep(nn.Cell):
    """A network, an objective, a perturbation and an optimizer, and the graph that joins them. It is not a graph.

    With several ranks, each rank has its own N/W images of a batch, in the order of ranks, and all labels and groups.
    An objective that takes the batch whole sees the logits of all ranks. Every gradient is summed over ranks before it
    is applied, so that all ranks have the same weights at any time. Sub-batches are shared out among ranks.

    Args:
        network (nn.Cell): map from images to logits.
        objective (Objective), perturbation (nn.Cell or None), optimizer (nn.Optimizer): the parts.
        graph (Step or AccumulatedStep): cell that takes a gradient of the batch, or of a sub-batch, and applies or
            accumulates it.
        sub_batches (int): number of parts of the batch, each with a risk and a perturbation of its own. Their gradients
            are averaged.
        accumulation_steps (int): runs of the graph for a batch.
        apply_accumulated (ApplyAccumulated or None): cell that follows the last of these runs.
        presampled_noise (PresampledNoise or None): noise that is drawn before the graph runs.
        scaling (LossScaling or None): the loss scale of mixed precision.
    """

    def __init__(self, network, objective, perturbation, optimizer, graph, *, sub_batches=1, accumulation_steps=1,
                 apply_accumulated=None, presampled_noise=None, scaling=None):
        super().__init__(auto_prefix=False)  # the network keeps the parameter names it has on its own
        self.weights = optimizer.parameters
        self.network = network
        self.objective = objective
        self.perturbation = perturbation
        self.optimizer = optimizer
        self.graph = graph
        self.sub_batches = sub_batches
        self.accumulation_steps = accumulation_steps
        self.apply_accumulated = apply_accumulated
        self.presampled_noise = presampled_noise
        self.scaling = scaling
        self.gather_outputs = None
        if apply_accumulated is not None and distributed.world_size() > 1:
            self.gather_outputs = AllGatherOutputs()
        self.is_compiled = False  # whether a step was taken
        self.must_check_stacking = False  # set if copies of a network may compute something else than the network
        self.num_classes = self.num_groups = None  # `train_batch` checks labels and groups if known
        self.modes = training_modes(network) if network.training else None  # of layers; compiled graphs keep them
        self.set_train()
        if self.modes is not None:
            set_training_modes(network, self.modes)

    def example_inputs(self, batch_size, shape):
        """Return images, labels and groups of the shapes and types with which `train_batch` calls the graph.

        Args:
            batch_size (int): images in a batch, of all ranks together.
            shape (tuple of int): shape of an image, (C, H, W).
        """
        num_images = batch_size // distributed.world_size() // self.accumulation_steps
        images = ops.zeros((num_images, *shape), ms.float32)
        groups = ops.zeros((batch_size if self.sub_batches == 1 else num_images,), ms.int32)
        labels = groups if self.graph.loss.mixup is None else ops.zeros((*groups.shape, 2), ms.int32)
        return images, labels, groups

    def train_batch(self, images, labels, groups):
        """Take one step and wait for it; for arguments see `train_batch_async`.

        Returns:
            StepOutputs: of numpy.ndarray.

        Raises:
            UserError: as in `train_batch_async`, or a label or a distribution index is out of its range.
        """
        self.check_range("labels", labels, self.classes_of(images), () if self.graph.loss.mixup is None else (2,))
        self.check_range("groups", groups, self.num_groups)
        *rows, norms, values = (out.asnumpy() for out in self.train_batch_async(images, labels, groups))
        return StepOutputs(*rows, norms.mean(), values.mean())

    def train_batch_async(self, images, labels, groups):
        """Start one step on the device without waiting for it. A network in evaluation mode goes into training mode.

        Layers that are in evaluation mode by themselves at the first step, such as a frozen norm, stay so.

        Args:
            images (Tensor): float32 (N/W, C, H, W), normalised, the share of this rank; N must be a multiple of the
                number of sub-batches and of the world size.
            labels (Tensor): int32 (N,), of all ranks; (N, 2) with mixup.
            groups (Tensor): int32 (N,), distribution indices, of all ranks.

        Returns:
            StepOutputs: of Tensor; the gradient norm and the objective are float32 (M,) where M sub-batches follow one
                another.

        Raises:
            UserError: sizes do not go together, or copies of the network cannot be stacked, or the mode of a layer has
                changed since the first step.
        """
        self.set_modes()
        self.check_sizes(images, labels, groups)
        if self.must_check_stacking:
            check_stackable(self.network, *images.shape[2:], channels=images.shape[1])
            self.must_check_stacking = False
        if self.presampled_noise is not None:
            self.presampled_noise.draw()
        if self.scaling is not None:
            self.scaling()
        if self.apply_accumulated is None:
            outs = StepOutputs(*self.graph(images, labels, groups))
        else:
            outs = self.accumulate(images, labels, groups)
        self.is_compiled = True
        return outs

    def set_modes(self):
        """Put the network back into the modes of its layers after an evaluation, and check these modes.

        Raises:
            UserError: a layer is in another mode than at the first step, which the compiled graph would not follow.
        """
        if not self.network.training:
            self.set_train()
            if self.modes is not None:
                set_training_modes(self.network, self.modes)
        modes = training_modes(self.network)
        if self.is_compiled and self.modes != modes:
            raise UserError("set_train: a layer of the network is in another mode than at the first step, whose graph "
                            "keeps the modes; put it back, or create a new step")
        self.modes = modes

    def accumulate(self, images, labels, groups):
        """Run the graph on one sub-batch of this rank after the other, then move the weights."""
        local_rows = distributed.rank_slice(len(labels), distributed.rank_and_world_size())
        # Not Tensor.split, which is documented for Ascend alone.
        sub_batches = zip(*(ops.split(tensor, tensor.shape[0] // self.accumulation_steps)
                            for tensor in (images, labels[local_rows], groups[local_rows])), strict=True)
        *rows, norms, values = zip(*(self.graph(*sub_batch) for sub_batch in sub_batches), strict=True)
        outs = (*map(ops.concat, rows), ops.stack(norms), ops.stack(values))
        if self.gather_outputs is not None:
            outs = self.gather_outputs(*outs)
        self.apply_accumulated(outs[0], groups)
        return StepOutputs(*outs)

    def check_sizes(self, images, labels, groups):
        is_tensor = isinstance(images, ms.Tensor)
        if not is_tensor or images.dtype != ms.float32 or not images.ndim or not len(images):
            kind = f"{images.dtype} of shape {images.shape}" if is_tensor else type(images).__name__
            raise UserError(f"images: must be a Tensor of float32 of shape (N, C, H, W), N above 0, not {kind}")
        if len(labels) % self.sub_batches:
            raise UserError(f"a batch of {len(labels)} samples: cannot be cut into {self.sub_batches} sub-batches; "
                            "give a multiple, or another num_sub_batches")
        if len(groups) != len(labels):
            raise UserError(f"{len(groups)} groups: must be as many as the labels, {len(labels)}")
        if len(labels) != len(images) * distributed.world_size():
            raise UserError(f"{len(images)} images: are not this rank's share of {len(labels)} labels, which are those "
                            f"of all {distributed.world_size()} ranks; see utils.runtime.distributed.rank_slice")

    def classes_of(self, images):
        """Return the number of classes of the network, found once by running the network on one image."""
        if self.num_classes is None:
            with pynative_mode(), evaluation_mode(self.network):
                self.num_classes = self.network(images[:1]).shape[1]
        return self.num_classes

    @staticmethod
    def check_range(name, values, number, per_sample=()):
        """Raise a `UserError` unless `values` is a Tensor of integers (N, *per_sample), from 0 to below `number`.

        The range is not checked if `number` is None.
        """
        is_tensor = isinstance(values, ms.Tensor)
        if not is_tensor or values.shape[1:] != per_sample or values.ndim == 0 or values.dtype not in (ms.int32,
                                                                                                       ms.int64):
            kind = f"{values.dtype} of shape {values.shape}" if is_tensor else type(values).__name__
            shape = f"(N, {per_sample[0]})" if per_sample else "(N,)"
            raise UserError(f"{name}: must be a Tensor of int32 of shape {shape}, not {kind}")
        values = values.asnumpy()
        outside = [] if number is None else values[(values < 0) | (values >= number)]
        if len(outside):
            raise UserError(f"{name}: has {outside[0]}, and must have values from 0 to {number - 1}")
