"""Optimisers and learning rates against those of PyTorch and of the DAMP authors."""
import itertools
import json
import os
from dataclasses import replace

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
import pytest
from mindspore import Parameter

from corruptions.utils.errors import UserError
from losses import create_step
from losses.components import OPTIMIZERS
from losses.config.recipes import RECIPES
from losses.config.resolve import resolve
from losses.config.settings import RunConfig
from losses.create import create_optimizer
from losses.optimizers import weight_decay_mask
from losses.schedules import create_schedule, set_learning_rate, warmup_epochs
from losses.training.step_cache import StepCache
from models import MODELS, Network, create_model
from models.dropout import find_dropout
from tests import crosscheck
from tests.golden import record_optimizers as recorded

FOLDER = os.path.join(os.path.dirname(__file__), "golden")
GOLDEN = crosscheck.load_json(os.path.join(FOLDER, "optimizers.json"))
CASES = {case: list(entries) for case, entries in itertools.groupby(
    GOLDEN["optimizers"], key=lambda entry: json.dumps(entry["options"]))}


@pytest.mark.parametrize("case", CASES)
def test_ten_steps_equal_those_of_pytorch_and_of_the_damp_authors(case):
    """The learning rate differs in every step, in one compiled graph."""
    options = json.loads(case)
    weights = [Parameter(ms.Tensor(value, ms.float32), name=name) for name, value in recorded.start().items()]
    optimizer = create_optimizer(weights, resolve("erm", **options))
    assert [weight.name for weight in optimizer.parameters] == list(recorded.SHAPES)
    for step in range(recorded.STEPS):
        set_learning_rate(optimizer, recorded.rate(options["lr"], step))
        now = {weight.name: weight.asnumpy().astype(np.float64) for weight in weights}
        optimizer(tuple(ms.Tensor(value, ms.float32) for value in recorded.gradients(now, step).values()))
        for entry in CASES[case]:
            expected = {0: entry["first"], recorded.STEPS - 1: entry["last"]}.get(step, {})
            for weight in weights if expected else []:
                np.testing.assert_allclose(weight.asnumpy(), expected[weight.name], rtol=0, atol=2e-6,
                                           err_msg=f"{entry['source']}, step {step}, {weight.name}")


def test_every_optimizer_is_recorded():
    assert {json.loads(case)["optimizer"] for case in CASES} == set(OPTIMIZERS)
    assert {entry["source"] for entry in GOLDEN["optimizers"]} == {"torch.optim", "DAMP"}


def test_adamw_divides_by_what_the_moments_lack():
    """A gradient that stays: every step is lr long, the first one, too, and after thousands. The betas are those that
    float32 has, as in the kernel.
    """
    beta1, beta2 = (float(np.float32(beta)) for beta in (0.9, 0.999))
    weight = Parameter(ms.Tensor([1.0], ms.float32), name="weight")
    optimizer = create_optimizer([weight], resolve("erm", optimizer="adamw", lr=0.25, weight_decay=0.0))
    for first in (0, 1, 2, 20, 5000):
        ops.assign(optimizer.global_step, ms.Tensor([first], ms.int32))
        ops.assign(optimizer.moment1[0], ms.Tensor([0.3 * (1 - beta1 ** first)], ms.float32))
        ops.assign(optimizer.moment2[0], ms.Tensor([0.09 * (1 - beta2 ** first)], ms.float32))
        ops.assign(weight, ms.Tensor([1.0], ms.float32))
        optimizer((ms.Tensor([0.3], ms.float32),))
        np.testing.assert_allclose(weight.asnumpy(), 0.75, rtol=2e-6)


@pytest.fixture(scope="module")
def one_step():
    """Options to a perceptron's weights before and after one step of SAM with three sub-batches."""
    entry = crosscheck.load_json(os.path.join(FOLDER, "damp_sam_asam.json"))[0]
    rng = np.random.RandomState(0)
    x, y = ms.Tensor(rng.standard_normal((12, 6)), ms.float32), ms.Tensor(np.arange(12) % 4, ms.int32)

    def take(**options):
        network = crosscheck.Perceptron(entry["params"])
        before = {p.name: p.asnumpy().astype(np.float64) for p in network.get_parameters()}
        step = create_step(network, "sam", 1, num_sub_batches=3, rho=0.5, **options)
        step.train_batch(x, y, ops.zeros_like(y))
        return before, {p.name: p.asnumpy().astype(np.float64) for p in network.get_parameters()}
    return take


def test_clipping_is_of_the_mean_of_the_sub_batches_last_gradients_and_before_weight_decay(one_step):
    plain = {"momentum": 0.0, "nesterov": False}
    before, after = one_step(lr=1.0, weight_decay=0.0, **plain)
    gradient = {name: before[name] - after[name] for name in before}
    norm = np.sqrt(sum((value ** 2).sum() for value in gradient.values()))
    _, clipped = one_step(lr=0.5, weight_decay=0.2, weight_decay_on="kernels", clip_norm=float(norm / 3), **plain)
    _, adamw = one_step(optimizer="adamw", clip_norm=float(norm / 3))
    for name, value in gradient.items():
        decay_mask = name.endswith("kernel")
        np.testing.assert_allclose(clipped[name], before[name] - 0.5 * (value / 3 + 0.2 * decay_mask * before[name]),
                                   atol=2e-6)
        small = np.abs(value) < 1e-5 * norm  # of which rounding is too large a part
        expected = before[name] - 0.001 * (value / (np.abs(value) + 3e-8) + 0.1 * decay_mask * before[name])
        np.testing.assert_allclose(adamw[name][~small], expected[~small], atol=2e-6)


def test_weight_decay_on_kernels_leaves_out_norms_and_biases():
    weights = create_model("wideresnet10", 10).trainable_params()
    kernels = {weight.name for weight, ours in zip(weights, weight_decay_mask(weights, "kernels"), strict=True) if ours}
    assert kernels == {weight.name for weight in weights if weight.name.endswith(".weight")}
    assert {weight.name.rpartition(".")[2] for weight in weights} == {"weight", "bias", "gamma", "beta"}
    assert all(weight_decay_mask(weights, "all"))


def test_a_run_after_another_begins_with_a_fresh_optimizer():
    def settings(**options):
        return RunConfig(method=resolve("erm", **options), model="wideresnet10")
    cells = StepCache()
    adamw = settings(optimizer="adamw", clip_norm=1.0)
    _, step, _, _ = cells.get(adamw, 10, [1])
    start = [p.asnumpy().tobytes() for p in step.get_parameters()]
    for parameter in step.get_parameters():
        ops.assign(parameter, parameter + 1)
    _, again, _, _ = cells.get(adamw, 10, [1])
    assert again is step and [p.asnumpy().tobytes() for p in step.get_parameters()] == start
    assert {"moment1.init_conv.weight", "moment2.init_conv.weight", "global_step", "learning_rate"} <= {
        p.name for p in step.get_parameters()}
    for second in ({"clip_norm": 2.0}, {"weight_decay_on": "all"}, {"optimizer": "sgd"}):
        assert cells.get(settings(**{"optimizer": "adamw", "clip_norm": 1.0, **second}), 10, [1])[1] is not step


@pytest.mark.parametrize("second", [{"momentum": 0.5}, {"nesterov": True}, {"label_smoothing": 0.1}, {"mixup": 0.8},
                                    {"accumulate": 2}, {"amp": True}, {"weight_decay": 0.1}])
def test_a_run_with_another_option_has_a_step_of_its_own(second):
    cells, first = StepCache(), RunConfig(method=resolve("erm"), model="wideresnet10")
    step = cells.get(first, 10, [1])[1]
    assert cells.get(first, 10, [1])[1] is step
    assert cells.get(RunConfig(method=resolve("erm", **second), model="wideresnet10"), 10, [1])[1] is not step


@pytest.mark.parametrize("method, first, second", [
    ("sam", {"rho": 0.1}, {"rho": 0.9}), ("damp", {"sigma": 0.1}, {"sigma": 0.9}), ("damp", {"seed": 1}, {"seed": 2}),
    ("group_dro", {"step_size": 0.1}, {"step_size": 0.9})])
def test_a_run_with_another_radius_noise_or_step_size_has_a_step_of_its_own(method, first, second):
    """They are constants of the graph."""
    def settings(seed=0, **options):
        return RunConfig(method=resolve(method, num_sub_batches=1, **options), model="wideresnet10", seed=seed)
    cells = StepCache()
    step = cells.get(settings(**first), 10, [1])[1]
    assert cells.get(settings(**first), 10, [1])[1] is step and cells.get(settings(**second), 10, [1])[1] is not step


class Dropping(nn.Cell):
    def __init__(self, classes):
        super().__init__()
        self.drop, self.fc = nn.Dropout(p=0.5), nn.Dense(3, classes)

    def construct(self, images):
        return self.fc(self.drop(images.mean((2, 3))))


def test_a_run_after_another_drops_what_it_would_drop_alone(monkeypatch):
    """MindSpore keeps the state of dropout outside of all parameters."""
    monkeypatch.setitem(MODELS, "dropping", Network(Dropping, "with dropout"))
    config, cells = RunConfig(method=resolve("erm"), model="dropping"), StepCache()
    images, labels = ops.ones((8, 3, 4, 4), ms.float32), ops.zeros((8,), ms.int32)
    runs = []
    for _ in range(2):
        _, step, _, _ = cells.get(config, 2, [1])
        step.train_batch(images, labels, labels)
        runs.append(step.weights[0].asnumpy().tobytes())
    assert runs[0] == runs[1]
    assert find_dropout(Dropping(2)) == "drop is a Dropout" and find_dropout(create_model("wideresnet10", 2)) is None


@pytest.mark.parametrize("entry", GOLDEN["schedules"], ids=lambda entry: f"{entry['options']['batches']}")
def test_learning_rates_equal_those_of_the_damp_authors(entry):
    """The published experiments are CIFAR, ImageNet with ResNet50, ImageNet with ViT."""
    options = dict(entry["options"])
    steps_per_epoch = options.pop("batches")
    schedule = create_schedule(**options, steps_per_epoch=steps_per_epoch)
    for step, rate in entry["rates"]:
        assert schedule(*divmod(step, steps_per_epoch)) == pytest.approx(rate, rel=1e-12)


def test_a_cosine_without_warm_up_goes_from_lr_to_the_final_one():
    schedule = create_schedule("cosine", 0.4, 4, 10, warmup="0epochs", final_lr=0.1)
    assert [schedule(*at) for at in ((0, 0), (2, 0), (4, 0))] == pytest.approx([0.4, 0.25, 0.1])
    steps = [schedule(*divmod(step, 10)) for step in range(40)]
    assert sorted(steps, reverse=True) == steps and len(set(steps)) == 40


@pytest.mark.parametrize("name", ["step", "linear"])
def test_the_other_schedules_change_between_epochs_alone(name):
    schedule = create_schedule(name, 0.1, 10, 7)
    assert all(schedule(epoch, batch) == schedule(epoch, 0) for epoch in range(10) for batch in range(7))
    assert schedule(0, 0) == 0.1 > schedule(9, 0)


def test_the_length_of_a_warm_up():
    assert [warmup_epochs(text, 40) for text in ("5epochs", "1epoch", "100steps", "1step", "0steps")] == [
        5, 1, 2.5, 0.025, 0]
    for text in ("5", "epochs", "-1steps", "2.5epochs", "5 epochs later"):
        with pytest.raises(UserError, match=f"--warmup {text}: is not a length"):
            resolve("erm", schedule="cosine", warmup=text)


def test_what_takes_the_place_of_a_recipes_optimizer_or_schedule_has_defaults_of_its_own():
    adamw, cosine = resolve("damp", optimizer="adamw"), resolve("damp", schedule="cosine")
    assert (adamw.lr, adamw.weight_decay, adamw.weight_decay_on, adamw.momentum, adamw.nesterov) == (
        0.001, 0.1, "kernels", None, None)
    assert (cosine.lr, cosine.warmup, cosine.final_lr, cosine.nesterov) == (0.1, "0epochs", 0.0, True)
    assert resolve("damp", optimizer="adamw", lr=0.5).lr == 0.5
    assert resolve("damp", optimizer="sgd", schedule="linear") == resolve("damp")


def test_a_recipe_may_have_another_optimizer(monkeypatch):
    training = {**RECIPES["damp"].training, "optimizer": "adamw", "lr": 0.002, "schedule": "cosine",
                "warmup": "3steps"}
    monkeypatch.setitem(RECIPES, "damp", replace(RECIPES["damp"], training=training))
    ours, sgd = resolve("damp"), resolve("damp", optimizer="sgd", schedule="step")
    assert (ours.lr, ours.momentum, ours.nesterov, ours.warmup, ours.final_lr) == (0.002, None, None, "3steps", 0.0)
    assert (sgd.lr, sgd.momentum, sgd.nesterov, sgd.warmup, sgd.final_lr) == (0.1, 0.9, False, None, None)
