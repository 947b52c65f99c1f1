"""The train steps against the authors' results, and the properties that the method promises."""
import math
import os

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
import pytest
from scipy.special import log_softmax

from utils.runtime.device import pynative_mode
from losses import create_step
from losses.cross_entropy import cross_entropy
from losses.evaluation.cells import EvaluationStep, GradientNorm
from losses.group_weights import GroupWeights
from losses.schedules import linear_schedule, set_learning_rate, step_schedule
from models import create_model
from tests import crosscheck
from tests.step_errors import FIRST_STEP_TOLERANCES, relative_error, step_errors, update_error
from utils.records.checkpoint import Progress, load_checkpoint, save_checkpoint

GOLDEN = os.path.join(os.path.dirname(__file__), "golden", "release_step.json")


def test_equals_the_release():
    first, later = crosscheck.check_step_case(crosscheck.load_json(GOLDEN)[0])
    tolerances = {**FIRST_STEP_TOLERANCES, "gradient norm": 1e-5}
    assert {name: error for name, error in first.items() if error > tolerances[name]} == {}
    tolerances = {"gradient norm": 5e-4, "evaluation logits": 5e-4, "parameter sums": 5e-4, "parameter norms": 1e-4,
                  "running statistics": 2e-5}  # a value lands on the other side of 0 in float32
    assert {name: error for name, error in later.items() if error > tolerances.get(name, 2e-4)} == {}


def test_steps_that_are_not_numbers_are_infinitely_far_from_the_release():
    """A comparison with a limit would let nan pass."""
    entry = crosscheck.load_json(GOLDEN)[0]
    measured = {**entry, "steps": [{**step, "second_loss": [math.nan] * len(step["second_loss"])}
                                   for step in entry["steps"]], "running": {name: [math.nan] * 2
                                                                            for name in entry["running"]}}
    first, later = step_errors(measured, entry)
    assert first["second losses"] == later["second losses"] == later["running statistics"] == math.inf
    assert first["first losses"] == later["parameter sums"] == 0
    assert relative_error([1, math.nan], [1, 2]) == math.inf
    updates = np.ones((2, 5))
    assert update_error(updates, updates) == 0 and update_error(updates * [[1], [math.nan]], updates) == math.inf


@pytest.mark.slow
def test_equals_the_release_with_a_large_adaptive_ascent():
    first, later = crosscheck.check_step_case(crosscheck.load_json(GOLDEN)[1])
    tolerances = {**FIRST_STEP_TOLERANCES, "second losses": 3e-5, "sharpness": 1e-5}
    assert {name: error for name, error in first.items() if error > tolerances[name]} == {}
    tolerances = {"evaluation logits": 5e-3, "parameter sums": 5e-3}  # 1e-5 or, as above, 1e-3, as processors round
    assert {name: error for name, error in later.items() if error > tolerances.get(name, 1e-3)} == {}


class Gradient(nn.Cell):
    """The gradient of the mean loss where the weights are."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network
        self.of = ops.grad(self.loss, None, ms.ParameterTuple(network.trainable_params()))
        self.set_train()

    def loss(self, images, labels):
        return cross_entropy(self.network(images), labels).mean()

    def construct(self, images, labels):
        return self.of(images, labels)


@pytest.mark.parametrize("method, options", [
    ("sam", {"rho": 0.5}), pytest.param("sam", {"perturbation": "sign", "rho": 0.01}, marks=pytest.mark.slow),
    ("damp", {"sigma": 0.3}),
    pytest.param("sharpdro", {"perturbation": "multiplicative", "sigma": 0.3}, marks=pytest.mark.slow)],
    ids=["l2", "sign", "noise", "noise and sharpness"])
def test_a_step_follows_the_gradient_where_the_perturbation_leads(method, options):
    """Every weight, though MindSpore is free to put weights back before the last gradient is taken."""
    network = create_model("wideresnet10", 10)
    weights = network.trainable_params()
    start = [(p.asnumpy() * np.random.RandomState(0).uniform(0.5, 1.5, p.shape)).astype(np.float32) for p in weights]
    images, labels = (ms.Tensor(array) for array in example_batch()[:2])

    def move(values):
        for weight, value in zip(weights, values, strict=True):
            ops.assign(weight, ms.Tensor(value))
    gradient = Gradient(network)
    move(start)
    first = gradient(images, labels)
    step = create_step(network, method, 1, recipe="sharpdro", lr=1.0, momentum=0.0, weight_decay=0.0, **options)
    with pynative_mode():
        place = step.perturbation(step.weights, first) if step.perturbation.needs_gradient else step.perturbation(
            step.weights)
    if not step.perturbation.needs_gradient:
        ops.assign(step.perturbation.numbers.calls, ms.Tensor(0, ms.int32))
    move([value.asnumpy() for value in place])
    wanted = gradient(images, labels)
    if method == "sharpdro":  # the gradient of the mean loss at the weights, and q = 1 times that where they are led
        wanted = [item + second for item, second in zip(first, wanted, strict=True)]
    move(start)
    step.train_batch(images, labels, ops.zeros_like(labels))
    for weight, before, value in zip(weights, start, wanted, strict=True):
        followed, value = before - weight.asnumpy(), value.asnumpy()
        assert np.abs(followed - value).max() <= 1e-4 * np.abs(value).max() + 1e-6, weight.name


class Bench:
    """A step on a small network that can be put back to where it started, so that tests share its graph."""

    def __init__(self, method):
        ms.set_seed(0)
        self.network = create_model("wideresnet10", 10)
        self.step = create_step(self.network, method)
        self.start = {p.name: p.asnumpy().copy() for p in self.step.get_parameters()}

    def reset(self, rate):
        for parameter in self.step.get_parameters():
            ops.assign(parameter, ms.Tensor(self.start[parameter.name]))
        set_learning_rate(self.step.optimizer, rate)
        self.step.set_train()

    def run(self, images, labels, groups):
        return self.step.train_batch(ms.Tensor(images), ms.Tensor(labels), ms.Tensor(groups))

    def values(self, parameters):
        return {p.name: p.asnumpy().copy() for p in parameters}


@pytest.fixture(scope="module")
def sharpdro():
    return Bench("sharpdro")


@pytest.fixture(scope="module")
def erm():
    return Bench("erm")


def example_batch(groups=None):
    rng = np.random.RandomState(0)
    images = rng.standard_normal((20, 3, 32, 32)).astype(np.float32)
    if groups is None:
        groups = np.arange(20) % 6
    return images, rng.randint(0, 10, 20).astype(np.int32), np.asarray(groups, np.int32)


def test_weights_come_back_bit_for_bit(sharpdro):
    sharpdro.reset(rate=0.0)
    before = sharpdro.values(sharpdro.step.weights)
    losses, _, perturbed, _, _ = sharpdro.run(*example_batch())
    after = sharpdro.values(sharpdro.step.weights)
    assert np.abs(perturbed - losses).max() > 1e-3  # it did go somewhere
    for name, value in before.items():
        assert value.tobytes() == after[name].tobytes(), name


def test_running_statistics_move_in_the_first_pass_only(sharpdro, erm):
    for bench in (sharpdro, erm):
        bench.reset(rate=0.0)
        bench.run(*example_batch())
    statistics = [[p for p in bench.network.get_parameters() if "moving" in p.name] for bench in (sharpdro, erm)]
    ours, reference = (bench.values(subset) for bench, subset in zip((sharpdro, erm), statistics, strict=True))
    assert any(np.abs(reference[name] - erm.start[name]).max() > 0.01 for name in reference)
    for name in reference:
        np.testing.assert_array_equal(ours[name], reference[name], err_msg=name)


def test_absent_distributions_contribute_nothing(sharpdro):
    sharpdro.reset(rate=0.1)
    images, labels, groups = example_batch(groups=[1] * 12 + [4] * 8)
    losses, _, perturbed, norm, sharpness = sharpdro.run(images, labels, groups)
    q = sharpdro.step.objective.group_weights.adv_probs.asnumpy().astype(float)
    means = np.array([losses[groups == s].mean() if (groups == s).any() else 0 for s in range(6)])
    np.testing.assert_allclose(q, np.exp(0.01 * means) / np.exp(0.01 * means).sum(), rtol=1e-6)
    gains = [(perturbed - losses)[groups == s].mean() for s in (1, 4)]
    np.testing.assert_allclose(sharpness, q[1] * gains[0] + q[4] * gains[1], rtol=1e-4)
    assert np.isfinite(norm) and all(np.isfinite(v).all() for v in sharpdro.values(sharpdro.step.weights).values())


def test_gradient_norm_goes_over_batches_and_leaves_no_trace(erm):
    """The gradient of a mean over 20 samples, in one batch and in two, is that of plain descent with a still norm."""
    erm.reset(rate=0.0)
    images, labels, groups = example_batch()
    erm.run(images, labels, groups)  # running statistics that are not those of the start
    gradient_norm = GradientNorm(erm.network)
    gradient_norm.set_train(False)
    before = erm.values(erm.network.get_parameters())

    def norm(parts):
        for k, part in enumerate(parts):
            shares = np.isin(np.arange(20), part) / 20
            value = gradient_norm(ms.Tensor(images), ms.Tensor(labels), ms.Tensor(shares, ms.float32),
                                  ms.Tensor(k > 0, ms.float32))
        return float(value)
    shares = ms.Tensor(np.full(20, np.nan), ms.float32)
    assert np.isnan(float(gradient_norm(ms.Tensor(images), ms.Tensor(labels), shares, ms.Tensor(0, ms.float32))))
    at_once, in_parts, half = norm([range(20)]), norm([range(7), range(7, 20)]), norm([range(7)])
    assert at_once == pytest.approx(in_parts, rel=1e-5) and abs(half - at_once) > 1e-3
    after = erm.values(erm.network.get_parameters())
    assert {name: value.tobytes() for name, value in before.items()} == {
        name: value.tobytes() for name, value in after.items()}


def test_order_of_the_batch_does_not_matter(sharpdro):
    images, labels, groups = example_batch()
    order = np.random.RandomState(1).permutation(20)
    results = []
    for subset in (slice(None), order):
        sharpdro.reset(rate=0.1)
        losses, _, _, _, sharpness = sharpdro.run(images[subset], labels[subset], groups[subset])
        results.append((losses.mean(), sharpness, sharpdro.step.objective.group_weights.adv_probs.asnumpy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5)


def test_one_pass_step_is_sgd_on_the_mean_loss(erm):
    """The step along the gradient lowers the mean loss by rate * norm^2, to first order."""
    rate = 1e-3
    batch = example_batch()
    erm.reset(rate)
    losses, _, same, norm, risk = erm.run(*batch)
    np.testing.assert_array_equal(losses, same)
    np.testing.assert_allclose(risk, losses.mean(), rtol=1e-6)
    after = erm.run(*batch)[0]
    assert 0.9 < (losses.mean() - after.mean()) / (rate * norm ** 2) < 1.1


def test_evaluation_leaves_running_statistics_alone(erm):
    erm.reset(rate=0.1)
    evaluation = EvaluationStep(erm.network)
    images, labels, groups = example_batch()
    statistics = [p for p in erm.network.get_parameters() if "moving" in p.name]
    for _ in range(2):
        erm.step.set_train()
        before = erm.values(statistics)
        erm.run(images, labels, groups)
        assert any(np.abs(value - before[name]).max() > 0 for name, value in erm.values(statistics).items())
        evaluation.set_train(False)
        before = erm.values(statistics)
        losses, logits = evaluation(ms.Tensor(images), ms.Tensor(labels))
        assert losses.shape == (20,) and logits.shape == (20, 10)
        for name, value in erm.values(statistics).items():
            np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("n", [7, 20, 100])
def test_cross_entropy_is_that_of_scipy_in_every_run(n):
    rng = np.random.RandomState(0)
    logits, labels = 5 * rng.standard_normal((n, 10)).astype(np.float32), rng.randint(0, 10, n).astype(np.int32)
    compiled = ms.jit(cross_entropy)
    runs = [compiled(ms.Tensor(logits), ms.Tensor(labels)).asnumpy() for _ in range(40)]
    expected = -log_softmax(logits.astype(float), 1)[np.arange(n), labels]
    np.testing.assert_allclose(runs[0], expected, rtol=1e-6, atol=5e-7)
    assert len({losses.tobytes() for losses in runs}) == 1  # MindSpore tries out ways to share out the work at first


def test_initialisation_is_the_releases():
    weights = {p.name: p.asnumpy() for p in create_model("wideresnet", 10).get_parameters()}
    wide = weights["unit3.1.layer.2.weight"]
    assert wide.shape == (128, 128, 3, 3)
    assert abs(wide.std() / np.sqrt(2 / (128 * 9)) - 1) < 0.01 and np.abs(wide).max() / wide.std() > 3
    shortcut = weights["unit2.0.identity.weight"]
    assert abs(shortcut.std() / np.sqrt(2 / 64) - 1) < 0.1
    assert abs(weights["fc.weight"].std() / np.sqrt(2 / 138) - 1) < 0.1
    assert np.abs(weights["fc.weight"]).max() / weights["fc.weight"].std() > 2.5  # normal, not uniform
    assert (weights["fc.bias"] == 0).all() and (weights["unit4.0.gamma"] == 1).all()
    assert sum(v.size for n, v in weights.items() if "moving" not in n) == 1467610  # the authors', counted in PyTorch


def test_group_means_of_two_groups():
    weights = GroupWeights(3, 0.5)
    means, counts = weights.means(ms.Tensor([1.0, 2.0, 6.0], ms.float32), ms.Tensor([2, 0, 0], ms.int32))
    np.testing.assert_allclose(means.asnumpy(), [4, 0, 1])
    np.testing.assert_allclose(counts.asnumpy(), [2, 0, 1])


def test_checkpoint_loads_into_the_bare_network(sharpdro, tmp_path):
    sharpdro.reset(rate=0.1)
    sharpdro.run(*example_batch())
    path = str(tmp_path / "model.ckpt")
    save_checkpoint(sharpdro.step, path, Progress(1, 2, 3.25))
    assert load_checkpoint(create_model("wideresnet10", 10), path).loss == 3.25  # of the epoch that has begun
    save_checkpoint(sharpdro.step, path, Progress(7))
    stored = ms.load_checkpoint(path)
    assert "group_weights.adv_probs" in stored and not [name for name in stored if name.startswith("saved.")]
    network = create_model("wideresnet10", 10)
    missing, _ = ms.load_param_into_net(network, stored)
    assert missing == []
    assert load_checkpoint(create_model("wideresnet10", 10), path) == Progress(7)
    for ours, theirs in zip(network.get_parameters(), sharpdro.network.get_parameters(), strict=True):
        np.testing.assert_array_equal(ours.asnumpy(), theirs.asnumpy())


def test_learning_rate_reaches_the_compiled_step(erm):
    moves = []
    erm.reset(rate=0.1)
    erm.run(*example_batch())
    for rate in (0.1, 0.02):
        erm.reset(rate=0.0)
        set_learning_rate(erm.step.optimizer, rate)
        erm.run(*example_batch())
        moves.append(sum(np.abs(p.asnumpy() - erm.start[p.name]).sum(dtype=float) for p in erm.step.weights))
    np.testing.assert_allclose(moves[1] / moves[0], 0.2, rtol=1e-3)


def test_step_schedule():
    rates = [step_schedule(0.1, epoch, 200) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    np.testing.assert_allclose(rates, np.array([1, 1, .2, .2, .04, .04, .008, .008]) * 0.1)


def test_linear_schedule():
    rates = [linear_schedule(0.1, epoch, 300) for epoch in (0, 150, 210, 270, 299)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.0505, 0.001, 0.001])
