"""Mixed precision: float16 operators in the network, and dynamic loss scaling around every pass.

The weights, the loss and the objective stay float32. Each gradient is taken of the loss times a scale, so that small
gradients do not vanish in float16, and is divided by the scale at once. The perturbation and the optimizer therefore
see the gradient of the loss itself.

A gradient that overflows float16 is infinite or NaN. Then the step is skipped: weights, optimizer, running statistics
and the state of the objective (such as q) stay as they were, and the scale is halved.
"""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import Parameter, ParameterTuple, amp

from losses.select import select_whole
from losses.step.weights import assign_tensor

# The first three as in PyTorch's GradScaler. Far above the largest scale, its reciprocal would be 0 in float32.
INITIAL_SCALE, SCALE_FACTOR, SCALE_WINDOW, LARGEST_SCALE = 2 ** 16, 2, 2000, 2 ** 24

_add_number = ops.MultitypeFuncGraph("add_number")
_put_back = ops.MultitypeFuncGraph("put_back")


@_add_number.register("Tensor", "Tensor")
def _add_number_tensor(number, tensor):
    return tensor + number


@_put_back.register("Tensor", "Tensor", "Tensor")
def _put_back_tensor(is_finite, parameter, saved):
    return ops.assign(parameter, select_whole(is_finite, parameter, saved))


class Autocast(nn.Cell):
    """A network whose convolutions and products are float16, as MindSpore's amp level "auto" chooses them.

    Inputs: float32 images. Outputs: float32 logits. The network itself is unchanged, so that it evaluates in float32.
    """

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network
        amp.auto_mixed_precision(self, "auto", ms.float16)

    def construct(self, images):
        return self.network(images).astype(ms.float32)


class LossScaling(nn.Cell):
    """The loss scale, and copies of the state that an overflow puts back.

    The scale is halved after an overflow, to no less than 1, and doubled after 2000 steps without one, to at most 2^24.

    Args:
        state (list of Parameter): the parameters that a step changes before all its gradients are known.

    Attributes:
        loss_scale (Parameter): float32 (), the scale of the next step.
        finite_steps (Parameter): int32 (), number of steps since the scale has changed.
        skipped_steps (Parameter): int32 (), number of all steps that overflowed and were skipped.
        hopeless_steps (Parameter): int32 (), number of the steps that overflowed at scale 1.
    """

    def __init__(self, state):
        super().__init__(auto_prefix=False)
        self.scaler = amp.DynamicLossScaler(INITIAL_SCALE, SCALE_FACTOR, SCALE_WINDOW)
        self.loss_scale, self.finite_steps = self.scaler.scale_value, self.scaler.counter
        for name in ("loss_scale", "finite_steps"):  # checkpoints know parameters by these names
            parameter = getattr(self, name)
            parameter.name, parameter.requires_grad = name, False
        self.skipped_steps, self.hopeless_steps = (
            Parameter(ms.Tensor(0, ms.int32), name=name, requires_grad=False) for name in ("skipped_steps",
                                                                                           "hopeless_steps"))
        self.state = ParameterTuple(state)
        self.saved = self.state.clone(prefix="saved.before_step", init="zeros")
        self.has_state = len(state) > 0
        self.hyper_map = ops.HyperMap()

    def construct(self):
        """Save the state, before a step."""
        return self.hyper_map(assign_tensor, self.saved, self.state)

    def end_step(self, is_finite):
        """Put the state back unless all gradients were finite, bool (), and move the scale."""
        if self.has_state:
            self.hyper_map(ops.partial(_put_back, is_finite), self.state, self.saved)
        is_skipped = ops.logical_not(is_finite)
        ops.assign_add(self.skipped_steps, is_skipped.astype(ms.int32))
        ops.assign_add(self.hopeless_steps, ops.logical_and(is_skipped, self.loss_scale <= 1).astype(ms.int32))
        self.scaler.adjust(is_finite)
        return ops.assign(self.loss_scale, ops.minimum(self.loss_scale, LARGEST_SCALE))


class ScaledGradient(nn.Cell):
    """`ops.value_and_grad` with a loss scale: the same inputs and outputs as that of `function`.

    Args:
        function (callable): map from inputs to a tuple with the scalar to differentiate first.
        weights (ParameterTuple): the weights to differentiate with respect to.
        scaling (LossScaling): the scale.
    """

    def __init__(self, function, weights, scaling):
        super().__init__(auto_prefix=False)
        self.function, self.scaler = function, scaling.scaler
        self.gradient = ops.value_and_grad(self.scaled, None, weights, has_aux=True)

    def scaled(self, *inputs):
        outputs = self.function(*inputs)
        return self.scaler.scale(outputs[0]), outputs

    def construct(self, *inputs):
        (_, outputs), gradients = self.gradient(*inputs)
        return outputs, self.scaler.unscale(gradients)


def value_and_grad(function, weights, scaling=None):
    """Return a map from the inputs of `function` to its outputs and the gradient of the first output.

    Arguments are as in `ScaledGradient`; without `scaling` the gradient is taken without a scale.
    """
    if scaling is None:
        return ops.value_and_grad(function, None, weights, has_aux=True)
    return ScaledGradient(function, weights, scaling)


class NanOnOverflow(nn.Cell):
    """An ascent that makes all weights NaN if the first gradient is not finite.

    So the second gradient is not finite either, whatever an ascent makes of an infinite gradient.
    """

    def __init__(self, perturbation):
        super().__init__(auto_prefix=False)
        self.perturbation = perturbation
        self.zero, self.nan = ms.Tensor(0, ms.float32), ms.Tensor(float("nan"), ms.float32)
        self.hyper_map = ops.HyperMap()

    def construct(self, weights, gradients):
        number = ops.select(amp.all_finite(gradients), self.zero, self.nan)
        return self.hyper_map(ops.partial(_add_number, number), self.perturbation(weights, gradients))


class SkipOnOverflow(nn.Cell):
    """An optimizer that leaves the weights alone if a gradient is not finite, and ends the step of a `LossScaling`."""

    def __init__(self, optimizer, scaling):
        super().__init__(auto_prefix=False)
        self.optimizer, self.scaling = optimizer, scaling

    def construct(self, gradients):
        is_finite = amp.all_finite(gradients)
        if is_finite:
            self.optimizer(gradients)
        return self.scaling.end_step(is_finite)
