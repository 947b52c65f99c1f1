"""BatchNorm over all sub-batches: against the DAMP authors' code, and against one undivided batch."""
import json
import os

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
import pytest

import losses.perturbations
from corruptions.utils.cli import parse
from corruptions.utils.errors import UserError
from losses import create_step
from losses.config.options import create_parser
from losses.config.resolve import resolve, resolve_config
from main import main
from models import MODELS, Network, create_model
from models.layers import batch_norm, conv
from models.modes import training_modes
from models.stacked import StackedConv2d, StackedNetwork, check_stackable
from models.torch_names import torch_name
from tests.formula import formula_batch, formula_weight

with open(os.path.join(os.path.dirname(__file__), "golden", "sync_bn.json"), encoding="utf-8") as golden:
    RECORDED = json.load(golden)
TITLES = [f"{entry['case']['method']}, {'all' if entry['case']['sync_bn'] else 'each'}" for entry in RECORDED]


class Small(nn.Cell):
    """The network of `golden/record_sync_bn.py`."""

    def __init__(self, channels=3, classes=5):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, 4, 3, same=True), batch_norm(4)
        self.conv2, self.bn2 = conv(4, 6, 3, 2, same=True), batch_norm(6)
        self.fc = nn.Dense(6, classes)

    def construct(self, x):
        x = ops.tanh(self.bn1(self.conv1(x)))
        return self.fc(ops.tanh(self.bn2(self.conv2(x))).mean((2, 3)))


def drawn(network=None):
    """A `Small`, or another, with weights and statistics drawn by the formula."""
    network = network or Small()
    for parameter in network.get_parameters():
        ops.assign(parameter, ms.Tensor(formula_weight(torch_name(parameter.name), parameter.shape)))
    return network


class FixedNoise(nn.Cell):
    """The noise of `golden/record_sync_bn.py` in place of one that is drawn: that of step K and copy M at call 4 K + M.
    """

    def __init__(self, numbers):
        super().__init__()
        self.numbers = ms.Tensor(numbers, ms.float32)
        self.calls = ms.Parameter(ms.Tensor(0, ms.int32), name="calls", requires_grad=False)

    def construct(self):
        call = ops.assign_add(self.calls, ms.Tensor(1, ms.int32)) - 1
        return ops.gather(self.numbers, call.reshape((1,)), 0).reshape((-1,))


def recorded_noise(weights, case):
    """The recorded noise, (steps times copies, size of all weights), in the order of the weights."""
    rows = [[formula_weight(f"noise.{k}.{m}.{torch_name(w.name)}", w.shape).reshape(-1) for w in weights]
            for k in range(case["steps"]) for m in range(case["sub_batches"])]
    return [np.concatenate(row) for row in rows]


@pytest.mark.parametrize("entry", [pytest.param(entry, marks=pytest.mark.slow) if entry["case"]["method"] == "sam" else
                                   entry for entry in RECORDED], ids=TITLES)
def test_equals_the_damp_authors(entry, monkeypatch):
    case = entry["case"]
    network = drawn()
    if case["method"] == "damp":
        numbers = recorded_noise(network.trainable_params(), case)
        monkeypatch.setattr(losses.perturbations, "CounterBasedNormal", lambda size, seed, *_: FixedNoise(numbers))
    options = {option: case[option] for option in ("lr", "momentum", "weight_decay", "sync_bn", "rho", "sigma")
               if option in case}
    step = create_step(network, case["method"], 1, num_sub_batches=case["sub_batches"], nesterov=True, **options)
    result = []
    for k in range(case["steps"]):
        images, labels = (ms.Tensor(array) for array in formula_batch({**case, "seed": k}))
        result.append(step.train_batch(images, labels, ops.zeros_like(labels))[0].mean())
    np.testing.assert_allclose(result, entry["losses"], rtol=1e-6)
    for parameter in network.get_parameters():
        name, value = torch_name(parameter.name), parameter.asnumpy().reshape(-1)
        wanted = np.array(entry["final"][name])
        if "running" in name and not case["sync_bn"]:
            continue  # the authors keep what the first sub-batch alone has left
        if name.endswith("running_var"):  # here of N H W values over N H W - 1
            side = 1 if name.startswith("bn1") else 2
            count = case["batch"] * case["height"] // side * case["width"] // side
            kept = 0.9 ** case["steps"] * formula_weight(name, parameter.shape)
            wanted = kept + (wanted - kept) * count / (count - 1)
        np.testing.assert_allclose(value, wanted, rtol=0, atol=2e-6, err_msg=name)


def two_steps(network, groups, **options):
    """A step, and what it gives for two batches of 12."""
    step = create_step(network, "erm", 3, recipe="sharpdro", **options)
    outs = []
    for k in range(2):
        images, labels = (ms.Tensor(array) for array in formula_batch(
            {"batch": 12, "height": 6, "width": 8, "classes": 5, "seed": k}))
        outs.append(step.train_batch(images, labels, ms.Tensor(groups, ms.int32)))
    return step, outs


@pytest.mark.parametrize("objective, perturbation, options", [
    ("mean", "l2", {"rho": 0.0}),
    pytest.param("sharpdro", "additive", {"sigma": 0.0, "step_size": 0.0}, marks=pytest.mark.slow),
    ("mean", "none", {})])
def test_without_a_perturbation_sub_batches_are_one_undivided_batch(objective, perturbation, options):
    options = {"objective": objective, "perturbation": perturbation, **options}
    groups = [0, 1, 2] * 4  # all sub-batches have the same shares of distributions
    item, second = drawn(), drawn()
    _, outs = two_steps(item, groups, **options)
    parts, result = two_steps(second, groups, num_sub_batches=4, sync_bn=True, **options)
    for ours, theirs in zip(second.get_parameters(), item.get_parameters(), strict=True):
        np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), atol=1e-6, err_msg=ours.name)
    for k in range(2):
        for ours, theirs in zip(result[k][:3], outs[k][:3], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-6)
        np.testing.assert_allclose(result[k][4], outs[k][4], atol=1e-6)
    assert len(parts.graph.compile_cache) == 1


@pytest.mark.slow
@pytest.mark.parametrize("perturbation, options", [("multiplicative", {"sigma": 0.3}), ("adaptive", {"rho": 0.5})])
def test_without_batch_norm_sub_batches_side_by_side_are_those_one_after_the_other(perturbation, options):
    """The sub-batches have their own distributions, and the same draws of noise."""
    class Plain(Small):
        def construct(self, x):
            return self.fc(ops.tanh(self.conv2(ops.tanh(self.conv1(x)))).mean((2, 3)))

    def train(sync_bn):
        network = drawn(Plain())
        step, outs = two_steps(network, [0, 1, 2, 2, 2, 2, 0, 0, 1, 1, 1, 0], objective="sharpdro",
                               perturbation=perturbation, num_sub_batches=4, sync_bn=sync_bn, **options)
        result = {p.name: p.asnumpy() for p in network.trainable_params()}
        return outs, {**result, "q": step.objective.group_weights.adv_probs.asnumpy()}
    (outs, weights), (result, trained) = train(False), train(True)
    for ours, theirs in zip(result[0] + result[1], outs[0] + outs[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for name, value in weights.items():
        np.testing.assert_allclose(trained[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["wideresnet10", "resnet18_cifar", "preactresnet18"])
def test_copies_of_our_networks_do_what_the_network_does(name):
    check_stackable(create_model(name, 10), 32, 32)


def test_a_check_leaves_the_modes_of_cells_that_copies_share():
    """Such as a SyncBatchNorm of several devices. If its mode changed, the second step would be an error."""
    network = create_model("wideresnet10", 10)
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.bn_train = nn.ReLU()  # stands for it; an evaluation calls neither
    network.set_train()
    check_stackable(network, 32, 32)
    assert set(training_modes(network)) == {True}


class Joined(Small):
    """A network that mixes channels where it joins two layers' outputs."""

    def construct(self, x):
        x = self.conv1(x)
        return self.fc(self.bn2(self.conv2(ops.concat((x[:, 2:], x[:, :2]), 1))).mean((2, 3)))


def test_networks_of_which_no_copies_can_be_made_are_refused():
    with pytest.raises(UserError, match="mixes channels.*--no-sync_bn"):
        check_stackable(drawn(Joined()), 6, 8)
    images, labels = (ms.Tensor(array) for array in formula_batch(
        {"batch": 12, "height": 6, "width": 8, "classes": 5, "seed": 0}))
    step = create_step(drawn(Joined()), "damp", 1, num_sub_batches=2)
    with pytest.raises(UserError, match="mixes channels"):
        step.train_batch(images, labels, ops.zeros_like(labels))
    for layer, name in ((nn.LayerNorm((6,)), "LayerNorm"), (nn.BatchNorm1d(6), "BatchNorm1d"),
                        (nn.BatchNorm2d(6, use_batch_statistics=False), "BatchNorm2d")):
        network = Small()
        network.norm = layer
        with pytest.raises(UserError, match=f"norm has weights and is a {name}"):
            StackedNetwork(network, 2)


class Flattened(Small):
    """A network that names the number of its channels."""

    def construct(self, x):
        return self.fc(self.bn2(self.conv2(self.bn1(self.conv1(x)))).mean((2, 3)).reshape((-1, 6)))


def test_shapes_that_do_not_go_together_are_refused_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="mixes channels"):
        check_stackable(drawn(Flattened()), 6, 8)
    assert not list(tmp_path.iterdir())


def resolve_run(argv):
    """The settings of a command line."""
    return resolve_config(*parse(create_parser(), argv)).method


def test_copies_of_convolutions_are_the_same_one_by_one_as_in_groups(monkeypatch):
    """On Ascend, where MindSpore has no groups but for depthwise convolutions."""
    results = []
    for target in ("CPU", "Ascend"):
        monkeypatch.setattr("models.stacked.device", lambda target=target: target)
        copies = StackedNetwork(drawn(), 3).set_train(False)
        convolutions = [cell for _, cell in copies.cells_and_names() if isinstance(cell, StackedConv2d)]
        assert [cell.parts for cell in convolutions] == ([1, 1] if target == "CPU" else [3, 3])
        assert {cell.convolve.group for cell in convolutions} == ({3} if target == "CPU" else {1})
        for weight in copies.weights:  # of each copy its own
            shift = np.arange(3, dtype=np.float32).reshape(-1, *[1] * (weight.ndim - 1))
            ops.assign(weight, weight * ms.Tensor(1 + 0.1 * shift))
        images = ms.Tensor(np.random.RandomState(0).standard_normal((6, 3, 8, 8)), ms.float32)
        results.append(copies(images).asnumpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-6)
    depthwise = nn.Conv2d(4, 4, 3, group=4, has_bias=False)
    assert StackedConv2d(depthwise, 3).parts == 1


def test_sync_bn_is_the_damp_recipes_and_about_several_sub_batches():
    assert [resolve(method).sync_bn for method in ("damp", "sam", "erm", "sharpdro")] == [True, True, False, False]
    ours = resolve("sam", "tinyimagenet", recipe="damp/tinyimagenet"), resolve("damp", recipe="damp/imagenet")
    assert [settings.sync_bn for settings in ours] == [False, True]
    assert not resolve("damp", num_sub_batches=1).sync_bn and not resolve("sam", sync_bn=False).sync_bn
    for sync_bn, flag in ((True, "--sync_bn"), (False, "--no-sync_bn")):
        with pytest.raises(UserError, match=f"{flag}: has no effect on one sub-batch"):
            resolve("sharpdro", sync_bn=sync_bn)
    assert not resolve_run(["--recipe", "damp", "--method", "damp", "-m", "vit_s16"]).sync_bn
    with pytest.raises(UserError, match="sync_bn: the network has no BatchNorm"):
        create_step(nn.SequentialCell(nn.Flatten(), nn.Dense(4, 2)), "damp", 1, sync_bn=True)


def test_a_network_of_ones_own_is_tried_before_a_run_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(MODELS, "joined", Network(lambda classes: Joined(classes=classes), "a test"))
    with pytest.raises(SystemExit) as ended:
        main(["-d", "photos", "-n", "40", "-m", "joined", "--method", "damp", "--log_dir", str(tmp_path)])
    assert ended.value.code == 2 and "mixes channels" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_network_without_batch_norm_needs_none(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["--method", "damp", "--sync_bn", "-m", "vit_s16", "-d", "photos", "--log_dir", str(tmp_path)])
    assert ended.value.code == 2 and "--sync_bn: vit_s16 has no BatchNorm" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
