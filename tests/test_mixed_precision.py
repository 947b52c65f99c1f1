"""`--amp`: float16 operators, a loss scale that cancels, and steps that are skipped where a gradient overflows."""
import re
from types import SimpleNamespace

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
import pytest

from utils.runtime.device import saturates
from corruptions.utils.errors import UserError
from losses import create_step
from losses.config.resolve import resolve
from losses.step.mixed_precision import (
    LARGEST_SCALE,
    Autocast,
    LossScaling,
    NanOnOverflow,
    ScaledGradient,
    SkipOnOverflow,
)
from losses.training.loop import PendingLosses
from main import main
from models import create_model
from tests.test_methods import assert_same, difference, example, train
from utils.errors import NotFiniteError
from utils.records.checkpoint import Progress, lasting_parameters, load_checkpoint, save_checkpoint

# Each algorithm of a step, and each way in which gradients reach the optimizer.
CASES = [("group_dro", {"step_size": 0.5}), ("sharpdro", {"rho": 0.5, "momentum": 0.9}),
         pytest.param("erm", {"perturbation": "sign", "rho": 0.1}, marks=pytest.mark.slow),
         ("damp", {"num_sub_batches": 1, "sigma": 0.3}),
         ("sharpdro", {"num_sub_batches": 4, "sync_bn": False, "clip_norm": 1.0}),
         ("sharpdro", {"accumulate": 4}), ("irm", {"irm_anneal": 1, "irm_lambda": 2})]  # irm counts batches
OVERFLOWING = 2.0 ** 120


def set_scale(step, value):
    ops.assign(step.scaling.loss_scale, ms.Tensor(value, ms.float32))


def state(step):
    """All that a step leaves for the next one, but for its loss scale."""
    scale = ("loss_scale", "finite_steps", "skipped_steps", "hopeless_steps")
    return {p.name: p.asnumpy().copy() for p in lasting_parameters(step) if p.name not in scale}


def without_calls(values):
    """The state without the counter of a noise, which also moves in a step that is skipped."""
    return {name: value for name, value in values.items() if not name.endswith("calls")}


@pytest.mark.parametrize("method, options", CASES)
def test_an_overflow_skips_the_step_and_the_scale_cancels(method, options):
    _, step = train(method, steps=1, amp=True, **options)
    before = state(step)
    set_scale(step, OVERFLOWING)
    outs = step.train_batch(*example(1))
    assert np.isfinite(outs.losses).all() and not np.isfinite(outs.gradient_norm)
    assert_same(without_calls(before), state(step))
    scaling = step.scaling
    assert scaling.loss_scale.asnumpy() == LARGEST_SCALE and scaling.finite_steps.asnumpy() == 0
    assert scaling.skipped_steps.asnumpy() == 1 and scaling.hopeless_steps.asnumpy() == 0
    after = []
    for scale in (2.0 ** 10, 2.0 ** 14):
        for parameter in lasting_parameters(step):
            if parameter.name in before:
                ops.assign(parameter, ms.Tensor(before[parameter.name]))
        set_scale(step, scale)
        assert np.isfinite(step.train_batch(*example(1)).gradient_norm)
        after.append(state(step))
    assert_same(*after)  # to the bit, because the scale is a power of two
    assert difference(without_calls(before), after[0]) > 1e-4


def test_steps_are_near_the_steps_of_float32():
    options = {"rho": 0.5, "momentum": 0.9}
    before = train("sharpdro", steps=0, **options)[0]
    full, half = (train("sharpdro", amp=amp, **options)[0] for amp in (None, True))
    assert 1e-6 < difference(full, half) < 0.02 * difference(full, before)


class Identity(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(3, 3, weight_init=ms.Tensor(np.eye(3), ms.float32), has_bias=False)

    def construct(self, x):
        return self.dense(x)


def test_only_the_training_is_float16():
    """1 + 2^-12 has no place between 1 and the next number of float16."""
    network = Identity()
    x = ms.Tensor([[1 + 2 ** -12, 2, 3]], ms.float32)
    logits = Autocast(network)(x)
    assert logits.dtype == ms.float32 and logits.asnumpy().tolist() == [[1, 2, 3]]
    assert network(x).asnumpy()[0, 0] == np.float32(1 + 2 ** -12)


class Halved(nn.Cell):
    """A function with float16 in between, and its gradient."""

    def __init__(self):
        super().__init__()
        self.w = ms.Parameter(ms.Tensor([1.0, 2.0], ms.float32), name="w")
        self.gradient = ScaledGradient(self.value, ms.ParameterTuple([self.w]), LossScaling([]))

    def value(self, x):
        y = self.w.astype(ms.float16)
        return (y * x.astype(ms.float16)).astype(ms.float32).sum() * 1e-9, y

    def construct(self, x):
        return self.gradient(x)


def test_a_gradient_that_float16_does_not_have_survives():
    (value, _), (gradient,) = Halved()(ms.Tensor([3.0, 5.0], ms.float32))
    np.testing.assert_allclose(gradient.asnumpy(), [3e-9, 5e-9], rtol=2e-3)  # the least of float16 is 6e-8
    np.testing.assert_allclose(value.asnumpy(), 13e-9, rtol=1e-3)  # the value has no scale


class Sign(nn.Cell):
    def construct(self, weights, gradients):
        return (weights[0] + ops.sign(gradients[0]),)


@pytest.mark.parametrize("number, is_finite", [(2.0, True), (np.inf, False), (np.nan, False)])
def test_an_infinite_first_gradient_reaches_the_second(number, is_finite):
    """Though the sign of an infinite number is finite."""
    weights, gradients = (ms.Tensor([1.0, 2.0]),), (ms.Tensor([number, -3.0], ms.float32),)
    moved = NanOnOverflow(Sign())(weights, gradients)[0].asnumpy()
    assert moved.tolist() == [2, 1] if is_finite else np.isnan(moved).all()


def optimizer_with_scale(state=()):
    weight = ms.Parameter(ms.Tensor([1.0]), name="weight")
    return weight, SkipOnOverflow(nn.SGD([weight], 0.5), LossScaling(list(state)))


def test_the_scale_doubles_after_2000_finite_steps():
    weight, skip = optimizer_with_scale()
    ops.assign(skip.scaling.finite_steps, ms.Tensor(1998, ms.int32))
    scales = []
    for _ in range(3):
        skip((ms.Tensor([1.0]),))
        scales.append(float(skip.scaling.loss_scale.asnumpy()))
    assert scales == [2 ** 16, 2 ** 17, 2 ** 17] and weight.asnumpy() == -0.5


def test_the_scale_is_halved_to_no_less_than_1_and_skipped_steps_are_counted():
    weight, skip = optimizer_with_scale()
    ops.assign(skip.scaling.loss_scale, ms.Tensor(4.0, ms.float32))
    counts = []
    for number in (np.inf, np.nan, -np.inf, 0.0, np.inf):
        skip((ms.Tensor([number], ms.float32),))
        scaling = skip.scaling
        counts.append(tuple(float(p.asnumpy()) for p in (scaling.loss_scale, scaling.skipped_steps,
                                                         scaling.hopeless_steps)))
    assert counts == [(2, 1, 0), (1, 2, 0), (1, 3, 1), (1, 3, 1), (1, 4, 2)]
    assert weight.asnumpy() == 1


def test_the_scale_is_at_most_2_to_the_24():
    _, skip = optimizer_with_scale()
    for scale, expected in ((2.0 ** 23, 2.0 ** 24), (2.0 ** 24, 2.0 ** 24)):
        ops.assign(skip.scaling.loss_scale, ms.Tensor(scale, ms.float32))
        ops.assign(skip.scaling.finite_steps, ms.Tensor(1999, ms.int32))
        skip((ms.Tensor([1.0]),))
        assert skip.scaling.loss_scale.asnumpy() == expected


@pytest.mark.parametrize("method, options", [
    pytest.param("sharpdro", {"optimizer": "adamw"}, marks=pytest.mark.slow), ("damp", {"num_sub_batches": 2})])
def test_networks_with_batch_norm(method, options):
    """Copies of a network, too, which `damp` trains with BatchNorm over all of them."""
    network = create_model("wideresnet10", 3)
    step = create_step(network, method, 2, amp=True, **options)
    rng = np.random.RandomState(0)
    batch = (ms.Tensor(rng.standard_normal((8, 3, 8, 8)), ms.float32), ms.Tensor(np.arange(8) % 3, ms.int32),
             ms.Tensor(np.arange(8) % 2, ms.int32))
    start = state(step)
    first = step.train_batch(*batch)
    before = state(step)
    statistics = [name for name in before if "moving_mean" in name]
    assert statistics and all(difference({n: start[n]}, {n: before[n]}) > 1e-3 for n in statistics)
    set_scale(step, OVERFLOWING)
    step.train_batch(*batch)
    assert_same(without_calls(before), state(step))
    set_scale(step, 2.0 ** 16)
    assert step.train_batch(*batch).losses.mean() < first.losses.mean()


def outs(loss, norm):
    return type("Outs", (), {"losses": ms.Tensor([loss, 1.0], ms.float32), "gradient_norm": ms.Tensor(norm, ms.float32),
                             "perturbed_losses": ms.Tensor([norm, 1.0], ms.float32)})


@pytest.mark.parametrize("losses, norms, hopeless, error", [
    ([2.0, 2.0], [np.inf, 1.0], 0, None),
    ([2.0, 2.0, 2.0], [np.inf, np.nan, 1.0], 1,
     "a gradient overflows float16 even at loss scale 1, at step 4 of epoch 0"),
    ([2.0, 2.0], [1.0, 1.0], 1, "a gradient overflows float16 even at loss scale 1, before step 5 of epoch 0"),
    ([2.0, np.nan], [1.0, 1.0], 0, "the loss is not finite at step 4 of epoch 0")])
def test_the_loop_skips_an_overflow_and_stops_where_no_scale_helps(losses, norms, hopeless, error):
    scaling = LossScaling([])
    ops.assign(scaling.hopeless_steps, ms.Tensor(hopeless, ms.int32))
    pending = PendingLosses(Progress(0, 3, 1.0), scaling)
    for loss, norm in zip(losses, norms, strict=True):
        pending.add(outs(loss, norm))
    if error:
        with pytest.raises(NotFiniteError, match=f"{error}; begin another run without --amp, or lower --lr"):
            pending.read()
    else:
        assert pending.read() == Progress(0, 5) and pending.loss == 4


@pytest.mark.slow
def test_a_run_says_how_many_steps_were_skipped(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("losses.step.mixed_precision.INITIAL_SCALE", 2.0 ** 120)
    main(["-d", "photos", "-n", "60", "--num_val", "10", "-m", "wideresnet10", "--method", "erm", "--amp", "-b", "20",
          "--total_epoch", "1", "--eval_batch_size", "500", "--num_severity", "2", "--data_dir", str(tmp_path / "data"),
          "--log_dir", str(tmp_path / "logs")])
    out = capsys.readouterr().out
    [number, batches] = map(int, re.search(r"(\d+) of (\d+) steps overflowed float16 and were skipped", out).groups())
    assert 1 <= number < batches
    [log] = (tmp_path / "logs").glob("*/log.txt")
    scale = 2.0 ** 24 / 2 ** (number - 1)
    assert f"loss scale {scale:g}, {number} of {batches} steps skipped" in log.read_text()


def test_a_checkpoint_has_the_scale(tmp_path):
    _, step = train("sharpdro", amp=True)
    set_scale(step, 8.0)
    path, after = str(tmp_path / "0_model.ckpt"), []
    save_checkpoint(step, path, Progress(1))
    for _ in range(2):
        load_checkpoint(step, path)
        assert step.scaling.loss_scale.asnumpy() == 8 and step.scaling.finite_steps.asnumpy() == 3
        step.train_batch(*example(4))
        after.append(state(step))
        set_scale(step, 2.0)
    assert_same(*after)


@pytest.mark.parametrize("value", ["no", 2.5, 1])
def test_amp_is_true_or_false(value):
    with pytest.raises(UserError, match=f"--amp {value}: is of a type"):
        create_step(Identity(), "erm", 3, amp=value)


def test_no_amp_is_the_default():
    assert resolve(amp=False) == resolve() and resolve(amp=True) != resolve()


def test_a_device_that_saturates_is_an_error(monkeypatch):
    monkeypatch.setattr("losses.create.saturates", lambda: True)
    with pytest.raises(UserError, match="--amp: this device gives the largest number where float16 overflows"):
        train("erm", steps=1, amp=True)


@pytest.mark.parametrize("device, name, variable, expected", [
    ("CPU", "ascend910", "SATURATION_MODE", False), ("Ascend", "ascend910", None, True),
    ("Ascend", "ascend910b", None, False), ("Ascend", "ascend910b", "SATURATION_MODE", True)])
def test_devices_that_saturate(device, name, variable, expected, monkeypatch):
    monkeypatch.setattr("utils.runtime.device.device", lambda: device)
    context = SimpleNamespace(get_instance=lambda: SimpleNamespace(get_ascend_soc_version=lambda: name))
    monkeypatch.setattr("mindspore._c_expression.MSContext", context)
    monkeypatch.delenv("MS_ASCEND_CHECK_OVERFLOW_MODE", raising=False)
    if variable:
        monkeypatch.setenv("MS_ASCEND_CHECK_OVERFLOW_MODE", variable)
    assert saturates() is expected
