"""Copies of a network side by side in one graph.

Each copy has its own weights and its own part of the batch. BatchNorm is computed over all copies together.

The DAMP authors map their network over the sub-batches of a batch (trungtrinh44/DAMP, optimizers/optims.py,
`jax.vmap`). They average BatchNorm's statistics over the sub-batches (`sync_batch_norm`). Here M copies of a network
are one network with M times the channels, and its convolutions have M times the groups (see `StackedConv2d` for
Ascend). An operation that treats every channel alike, such as an activation or a pooling, stays as it is.
"""
import contextlib
import copy
import functools
import os
import tempfile

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
from mindspore import Parameter, ParameterTuple

from utils.runtime.device import device
from corruptions.utils.errors import UserError
from models import create_model
from models.modes import evaluation_mode, training_modes

HINT = "give --no-sync_bn (create_step: sync_bn=False), or another network"


def _stacked(parameter, copies):
    """Return a Parameter (copies, ...) with the values of `parameter` in each copy."""
    values = np.repeat(parameter.asnumpy()[None], copies, 0)
    return Parameter(ms.Tensor(values), name=f"saved.copies.{parameter.name}")


class StackedConv2d(nn.Cell):
    """M copies of an `nn.Conv2d`: (n, M C, H, W) to (n, M K, H', W')."""

    def __init__(self, layer, copies):
        super().__init__(auto_prefix=False)
        # On Ascend, MindSpore has groups for depthwise convolutions alone. The others are M convolutions there.
        is_depthwise = layer.group == layer.in_channels == layer.out_channels
        self.parts = copies if device() == "Ascend" and not is_depthwise else 1
        together = copies // self.parts
        self.convolve = ops.Conv2D(together * layer.out_channels, layer.kernel_size, pad_mode=layer.pad_mode,
                                   pad=layer.padding, stride=layer.stride, dilation=layer.dilation,
                                   group=together * layer.group)
        self.weight = _stacked(layer.weight, copies)
        self.bias = _stacked(layer.bias, copies) if layer.has_bias else None
        self.channels, self.kernels = layer.in_channels, (-1, *layer.weight.shape[1:])
        self.reshape = ops.Reshape()  # an operator, because a method would be compiled anew in each layer

    def construct(self, x):
        if self.parts == 1:
            y = self.convolve(x, self.reshape(self.weight, self.kernels))
        else:
            results = ()
            for part in range(self.parts):
                own = x[:, part * self.channels:(part + 1) * self.channels]
                results += (self.convolve(own, self.weight[part]),)
            y = ops.concat(results, 1)
        return y if self.bias is None else y + self.reshape(self.bias, (1, -1, 1, 1))


class StackedBatchNorm2d(nn.Cell):
    """M copies of an `nn.BatchNorm2d`: (n, M C, H, W) to the same shape.

    A channel has one mean and variance for all copies, and a scale and shift of its own in each copy. The running
    statistics are the parameters of the layer itself.
    """

    def __init__(self, layer, copies):
        super().__init__(auto_prefix=False)
        self.normalise_batch, self.normalise = layer.bn_train, layer.bn_infer
        self.channels = layer.num_features
        self.ones, self.zeros = ops.ones((self.channels,), ms.float32), ops.zeros((self.channels,), ms.float32)
        self.moving_mean, self.moving_variance = layer.moving_mean, layer.moving_variance
        self.gamma, self.beta = _stacked(layer.gamma, copies), _stacked(layer.beta, copies)
        self.reshape = ops.Reshape()

    def construct(self, x):
        normalise = self.normalise_batch if self.training else self.normalise
        y = normalise(self.reshape(x, (-1, self.channels, x.shape[2], x.shape[3])), self.ones, self.zeros,
                      self.moving_mean, self.moving_variance)[0]
        param_shape = (1, -1, 1, 1)
        return self.reshape(y, x.shape) * self.reshape(self.gamma, param_shape) + self.reshape(self.beta, param_shape)


class StackedDense(nn.Cell):
    """M copies of an `nn.Dense`: (n, M C) to (n, M K)."""

    def __init__(self, layer, copies):
        super().__init__(auto_prefix=False)
        self.copies = copies
        self.matmul = ops.BatchMatMul(transpose_b=True)
        self.weight = _stacked(layer.weight, copies)
        self.bias = _stacked(layer.bias, copies) if layer.has_bias else None

    def construct(self, x):
        y = self.matmul(x.reshape((x.shape[0], self.copies, -1)).transpose((1, 0, 2)), self.weight)
        y = y.transpose((1, 0, 2)).reshape((x.shape[0], -1))
        return y if self.bias is None else y + self.bias.reshape((1, -1))


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
STACKED_LAYERS = {nn.Conv2d: StackedConv2d, nn.BatchNorm2d: StackedBatchNorm2d, nn.Dense: StackedDense}


def has_batch_norm(network):
    """Whether a network has layers with batch statistics."""
    return any(isinstance(cell, BATCH_NORMS) for _, cell in network.cells_and_names())


@functools.cache
def model_has_batch_norm(model):
    """Whether the network called `model`, as in `models.find_model`, has BatchNorm."""
    return has_batch_norm(create_model(model, 2))


def running_statistics(network):
    """Return the running statistics of a network's BatchNorm, a list of Parameter."""
    return [statistic for _, cell in network.cells_and_names() if isinstance(cell, BATCH_NORMS)
            for statistic in (cell.moving_mean, cell.moving_variance)]


class StackedNetwork(nn.Cell):
    """M copies of a network. The first copy is for the first N/M images of a batch, and so on.

    Its parameters are `weights` and the network's own running statistics. `weights` is a ParameterTuple of the
    network's trainable parameters in their order. Each has the shape (M, ...) and starts as M copies of the network's
    values. Weights that are not trained are copied as they are now.

    Args:
        network (nn.Cell): network from float32 images (n, C, H, W) to logits (n, K). All its weights are in
            `nn.Conv2d`, `nn.BatchNorm2d` and `nn.Dense`, and nothing else mixes channels (see `check_stackable`).
        copies (int): M.

    Inputs: float32 images (N, C, H, W), N a multiple of M. Outputs: float32 logits (N, K).

    Raises:
        UserError: the network has weights elsewhere.
    """

    def __init__(self, network, copies):
        super().__init__(auto_prefix=False)
        replaced = {}
        for name, cell in network.cells_and_names():
            usual = (getattr(cell, "data_format", "NCHW") == "NCHW"
                     and getattr(cell, "use_batch_statistics", None) is None)
            if type(cell) in STACKED_LAYERS and usual:
                replaced[id(cell)] = STACKED_LAYERS[type(cell)](cell, copies)
            elif list(cell.parameters_and_names(expand=False)):
                raise UserError(f"sync_bn: {name or 'the network'} has weights and is a {type(cell).__name__}, "
                                f"whose copies cannot be laid side by side; {HINT}")
        # Wherever the network refers to a layer, its deep copy refers to the layer's replacement.
        self.network = copy.deepcopy(network, replaced)
        stacked = {parameter.name: parameter for parameter in self.get_parameters()}
        self.weights = ParameterTuple(stacked[f"saved.copies.{weight.name}"] for weight in network.trainable_params())
        self.copies = copies

    def construct(self, images):
        parts = images.reshape((self.copies, -1, *images.shape[1:])).transpose((1, 0, 2, 3, 4))
        logits = self.network(parts.reshape((parts.shape[0], -1, *images.shape[2:])))
        return logits.reshape((parts.shape[0], self.copies, -1)).transpose((1, 0, 2)).reshape((images.shape[0], -1))


@contextlib.contextmanager
def _silence_compiler_reports():
    """Keep MindSpore's reports on graphs that it cannot compile out of the current folder while the body runs."""
    before = os.environ.get("MS_OM_PATH")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MS_OM_PATH"] = folder
        try:
            yield
        finally:
            os.environ.pop("MS_OM_PATH") if before is None else os.environ.update(MS_OM_PATH=before)


def check_stackable(network, height, width, channels=3):
    """Check by trying that copies of a network can be laid side by side for images of a size.

    Raises:
        UserError: `StackedNetwork` raises it, or the copies do not do what the network does, or a layer is frozen.
    """
    copies = StackedNetwork(network, 2)
    images = ms.Tensor(np.random.RandomState(0).standard_normal((4, channels, height, width)), ms.float32)
    if len(set(training_modes(network))) > 1:
        raise UserError(f"sync_bn: a layer of the network has a mode of its own, such as a frozen norm, which copies "
                        f"of the network do not follow; {HINT}")
    # Compiled, because the process crashes at its end after MindSpore 2.8 has run small copies operator by operator.
    with evaluation_mode(network):  # the copies, too, because they share cells with it, such as a SyncBatchNorm
        expected_logits = network(images).asnumpy()
        try:
            with _silence_compiler_reports():
                logits = copies.set_train(False)(images).asnumpy()
            same = np.allclose(logits, expected_logits, rtol=1e-3, atol=1e-3 * np.abs(expected_logits).max())
        except (RuntimeError, TypeError, ValueError):  # shapes that do not fit together, which MindSpore reports
            same = False
    if not same:
        raise UserError(f"sync_bn: the network mixes channels in other places than convolutions and dense layers, so "
                        f"copies of it cannot be laid side by side; {HINT}")
