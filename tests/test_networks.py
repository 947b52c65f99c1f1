"""The networks against their originals, and what the methods make of their parameters."""
import json
import os

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
import pytest
from PIL import Image

from utils.runtime.device import pynative_mode
from corruptions.utils.errors import UserError
from losses import create_step
from losses.cross_entropy import cross_entropy
from losses.optimizers import weight_decay_mask
from losses.perturbations import is_weight_or_gamma
from main import main
from models import MODELS, check_image_size, create_model, find_model, is_model
from models.torch_names import torch_name
from models.wideresnet import LeakyReLU
from tests.formula import formula_batch, formula_weight
from tests.step_errors import relative_error

with open(os.path.join(os.path.dirname(__file__), "golden", "networks.json"), encoding="utf-8") as golden:
    ORIGINALS = {entry["case"]["name"]: entry for entry in json.load(golden)}


class Gradients(nn.Cell):
    """Mean loss, logits, and the gradient of the loss by some weights."""

    def __init__(self, network, weights):
        super().__init__(auto_prefix=False)
        self.network = network
        self.gradient = ops.value_and_grad(self.loss, None, ms.ParameterTuple(weights), has_aux=True)

    def loss(self, images, labels):
        logits = self.network(images)
        return cross_entropy(logits, labels).mean(), logits

    def construct(self, images, labels):
        return self.gradient(images, labels)


# test_step.py compares steps of a wide ResNet, too; resnet18 differs little from the deeper ResNets.
SLOW = ("wideresnet", "wideresnet28-3", "resnet50", "resnet50_damp", "vit_s16", "vit_b16")


def draw_weights(network, settled):
    """Give a network the weights of the formula; return its parameters by their names in PyTorch."""
    weights = {torch_name(p.name): p for p in network.get_parameters()}
    for item, parameter in weights.items():
        ops.assign(parameter, ms.Tensor(formula_weight(item, parameter.shape, settled)))
    return weights


def evaluation_error(network, images, entry):
    with pynative_mode():
        logits = network.set_train(False)(images).asnumpy()
    return relative_error(logits, entry["evaluation"])


@pytest.mark.parametrize("name", ["resnet50", "resnet50_damp", "vit_s16"])
def test_evaluates_as_its_original(name):
    """Without the gradients, whose graphs take long to compile."""
    entry = ORIGINALS[name]
    network = create_model(name, entry["case"]["classes"])
    draw_weights(network, settled=False)
    assert evaluation_error(network, ms.Tensor(formula_batch(entry["case"])[0]), entry) <= 1e-4


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
                                  for name in ORIGINALS])
def test_equals_its_original(name):
    entry = ORIGINALS[name]
    case = entry["case"]
    network = create_model(name, case["classes"])
    assert sum(p.size for p in network.trainable_params()) == entry["parameters"]
    weights = draw_weights(network, settled=False)
    images, labels = (ms.Tensor(array) for array in formula_batch(case))
    errors = {"evaluation": evaluation_error(network, images, entry)}
    ends = [weights[case["first"]], weights[case["last"]]]
    gradients_of = Gradients(network, ends).set_train()
    (loss, logits), gradients = gradients_of(images, labels)
    errors["training"] = relative_error(logits.asnumpy(), entry["training"])
    errors["loss"] = relative_error(loss.asnumpy(), entry["loss"])
    assert {key: error for key, error in errors.items() if error > 1e-4} == {}
    if case["settled"]:
        draw_weights(network, settled=True)
        _, gradients = gradients_of(images, labels)
    for end, gradient in zip(("first", "last"), gradients, strict=True):
        values = gradient.asnumpy().reshape(-1)
        errors[end] = max(relative_error(values[np.linspace(0, values.size - 1, 64).astype(int)], entry[end]["values"]),
                          relative_error(np.linalg.norm(values), entry[end]["norm"]))
    print(name, errors)  # pytest -s shows them
    assert max(errors["first"], errors["last"]) <= 1e-3, errors


@pytest.mark.parametrize("name, count", [("resnet18", 11689512), ("resnet50", 25557032)])
def test_parameter_counts_are_torchvisions(name, count):
    assert sum(p.size for p in create_model(name, 1000).trainable_params()) == count


# What the DAMP authors' code does by the names that flax gives: its noise and ASAM's scaling take `kernel` and `scale`,
# its weight decay takes all for CIFAR and TinyImageNet and `kernel` for ImageNet (optimizers/optims.py, train*.py).
KINDS = {  # a parameter of each kind: its name in flax; noise and scaling; weight decay without biases and norms
    ("vit_s16", "patch_embed.proj.weight"): ("embedding.kernel", True, True),
    ("vit_s16", "patch_embed.proj.bias"): ("embedding.bias", False, False),
    ("vit_s16", "blocks.0.norm1.gamma"): ("LayerNorm_0.scale", True, False),
    ("vit_s16", "blocks.0.norm1.beta"): ("LayerNorm_0.bias", False, False),
    ("vit_s16", "blocks.0.attn.qkv.weight"): ("query.kernel, key.kernel, value.kernel", True, True),
    ("vit_s16", "blocks.0.attn.qkv.bias"): ("query.bias, key.bias, value.bias", False, False),
    ("vit_s16", "blocks.0.attn.proj.weight"): ("out.kernel", True, True),
    ("vit_s16", "blocks.0.attn.proj.bias"): ("out.bias", False, False),
    ("vit_s16", "blocks.0.mlp.fc1.weight"): ("Dense_0.kernel", True, True),
    ("vit_s16", "blocks.0.mlp.fc1.bias"): ("Dense_0.bias", False, False),
    ("vit_s16", "norm.gamma"): ("encoder_norm.scale", True, False),
    ("vit_s16", "norm.beta"): ("encoder_norm.bias", False, False),
    ("vit_s16", "head.weight"): ("head.kernel", True, True),
    ("vit_s16", "head.bias"): ("head.bias", False, False),
    ("resnet18_cifar", "conv1.weight"): ("conv_init.kernel", True, True),
    ("resnet18_cifar", "bn1.gamma"): ("bn_init.scale", True, False),
    ("resnet18_cifar", "bn1.beta"): ("bn_init.bias", False, False),
    ("resnet18_cifar", "layer2.0.downsample.0.weight"): ("conv_proj.kernel", True, True),
    ("resnet18_cifar", "layer2.0.downsample.1.gamma"): ("norm_proj.scale", True, False),
    ("resnet18_cifar", "fc.weight"): ("classify.kernel", True, True),
    ("resnet18_cifar", "fc.bias"): ("classify.bias", False, False),
    ("preactresnet18", "layer2.0.shortcut.0.weight"): ("conv_proj.kernel", True, True),
    ("preactresnet18", "bn.gamma"): ("bn_final.scale", True, False),
    ("preactresnet18", "bn.beta"): ("bn_final.bias", False, False),
}


def test_every_kind_of_parameter_is_treated_as_by_the_damp_authors():
    weights = {model: {p.name: p for p in create_model(model, 10).trainable_params()}
               for model in {model for model, _ in KINDS}}
    for (model, name), (flax_name, noisy, decayed) in KINDS.items():
        is_decayed = weight_decay_mask([weights[model][name]], "kernels")
        assert (is_weight_or_gamma(name), *is_decayed) == (noisy, decayed), name
        assert noisy == all(item.endswith(("kernel", "scale")) for item in flax_name.split(", "))
        assert decayed == flax_name.endswith("kernel")
    listed = {name.rpartition(".")[2] for _, name in KINDS}
    assert {name.rpartition(".")[2] for subset in weights.values() for name in subset} == listed


class Small(nn.Cell):
    """Each kind of parameter once."""

    def __init__(self):
        super().__init__()
        self.dense, self.norm = nn.Dense(4, 4, bias_init="ones"), nn.LayerNorm((4,), beta_init="ones")

    def construct(self, x):
        return self.norm(self.dense(x))


@pytest.mark.parametrize("decay, moved", [("all", ["dense.weight", "dense.bias", "norm.gamma", "norm.beta"]),
                                          ("kernels", ["dense.weight"])])
def test_weight_decay_moves_what_it_is_about(decay, moved):
    step = create_step(Small(), "erm", lr=0.5, momentum=0.0, weight_decay=0.25, weight_decay_on=decay)
    before = {p.name: p.asnumpy().copy() for p in step.weights}
    assert list(before) == ["dense.weight", "dense.bias", "norm.gamma", "norm.beta"]
    step.optimizer(tuple(ops.zeros_like(p) for p in step.weights))
    for p in step.weights:
        np.testing.assert_allclose(p.asnumpy(), before[p.name] * (0.875 if p.name in moved else 1), rtol=1e-6)


def weights_of(name, classes=10):
    ms.set_seed(0)
    return {p.name: p.asnumpy() for p in create_model(name, classes).get_parameters()}


def test_initialisation_of_torchvisions():
    weights = weights_of("resnet18", 20)
    for name, fan_out in (("conv1.weight", 64 * 49), ("layer3.0.conv2.weight", 256 * 9)):
        assert abs(weights[name].std() / np.sqrt(2 / fan_out) - 1) < 0.03
    assert all((value == 1).all() for name, value in weights.items() if name.endswith("gamma"))
    for name in ("fc.weight", "fc.bias"):
        assert 0.8 < np.abs(weights[name]).max() * np.sqrt(512) <= 1


@pytest.mark.parametrize("name, last", [("resnet18_cifar", "fc"), ("preactresnet18", "linear")])
def test_initialisation_of_the_damp_authors_resnets(name, last):
    weights = weights_of(name)
    assert abs(weights["layer4.1.conv2.weight"].std() / np.sqrt(2 / (512 * 9)) - 1) < 0.01
    zero = {item for item, value in weights.items() if item.endswith("gamma") and (value == 0).all()}
    assert zero == ({f"layer{k}.{i}.bn2.gamma" for k in (1, 2, 3, 4) for i in (0, 1)} if last == "fc" else set())
    assert 0.99 < np.abs(weights[f"{last}.weight"]).max() * np.sqrt(10) <= 1 and (weights[f"{last}.bias"] == 0).all()


def test_initialisation_of_the_vit():
    weights = weights_of("vit_s16")
    assert "pos_embed" not in weights and "cls_token" not in weights and (weights["head.weight"] == 0).all()
    assert abs(weights["patch_embed.proj.weight"].std() * np.sqrt(3 * 256) - 1) < 0.01
    assert np.abs(weights["patch_embed.proj.weight"]).max() < 2 / np.sqrt(3 * 256) / 0.8796
    for name, limit in (("attn.qkv", np.sqrt(6 / 768)), ("attn.proj", np.sqrt(6 / 768)), ("mlp.fc1", np.sqrt(6 / 1920)),
                        ("mlp.fc2", np.sqrt(6 / 1920))):
        assert 0.999 < np.abs(weights[f"blocks.3.{name}.weight"]).max() / limit <= 1
        spread = weights[f"blocks.3.{name}.bias"].std()
        assert spread == 0 if "attn" in name else abs(spread / 1e-6 - 1) < 0.1


def test_leaky_relu_and_its_gradient():
    x = np.array([-3, -1e-30, -0.0, 0, 1e-30, 2.5], np.float32)
    above = np.array([1, -2, 3, -4, 5, -6], np.float32)
    slope = np.where(x > 0, 1, 0.1)
    value, gradient = ops.vjp(LeakyReLU(), ms.Tensor(x))
    np.testing.assert_allclose(value.asnumpy(), slope * x, rtol=2e-7)
    np.testing.assert_allclose(gradient(ms.Tensor(above))[0].asnumpy(), slope * above, rtol=2e-7)


def test_names_that_stand_for_a_family():
    weights = weights_of("wideresnet16-4")
    assert weights["fc.weight"].shape == (10, 256) and "unit3.1.layer.2.weight" in weights
    assert "unit3.2.layer.2.weight" not in weights
    shapes = [p.shape for p in create_model("wideresnet", 10).get_parameters()]
    assert shapes == [p.shape for p in create_model("wideresnet28-2", 10).get_parameters()]
    for name, reason in (("wideresnet27-1", "28"), ("wideresnet28-0", "width"), ("alexnet", "resnet18_cifar"),
                         ("wideresnet28-", "unknown"), ("mindcv:alexnet", "mindcv")):
        assert not is_model(name)
        with pytest.raises(UserError, match=reason) as error:
            find_model(name)
        assert "\n" not in str(error.value)


def test_sizes_that_a_network_cannot_take():
    for name in MODELS:
        check_image_size(name, 224, 224)
    check_image_size("resnet50", 8, 8)
    for height, width in ((8, 8), (32, 40), (28, 32)):
        with pytest.raises(UserError, match="multiples of 16"):
            check_image_size("vit_s16", height, width)


def test_a_run_whose_images_do_not_fit_ends_in_one_line(tmp_path, capsys):
    for number in range(20):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((50, 50, 3), 10 * number, np.uint8)).save(path)
    with pytest.raises(SystemExit) as end:
        main(["-d", "folder", "--data_dir", str(tmp_path / "images"), "--image_size", "40", "-m", "vit_s16", "-b", "2",
              "--num_severity", "2", "--log_dir", str(tmp_path / "logs")])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and "-m vit_s16: cannot take" in error
    assert os.listdir(tmp_path / "logs") == []


@pytest.mark.parametrize("name", ["resnet50", "resnet18_cifar", "preactresnet18", "wideresnet"])
def test_small_and_odd_sizes_run(name):
    with pynative_mode():
        network = create_model(name, 3).set_train(False)
        for height, width in ((8, 8), (9, 15)):
            assert network(ops.zeros((2, 3, height, width), ms.float32)).shape == (2, 3)


def test_mindcv_is_an_optional_extra():
    """Its ResNets differ from torchvision's in how their pooling pads, so they do not take the place of ours."""
    pytest.importorskip("mindcv")
    network, entry = create_model("mindcv:resnet18", 10), ORIGINALS["resnet18"]
    names = {"down_sample": "downsample", "classifier": "fc"}
    for parameter in network.get_parameters():
        name = torch_name(parameter.name)
        for theirs, usual in names.items():
            name = name.replace(theirs, usual)
        ops.assign(parameter, ms.Tensor(formula_weight(name, parameter.shape)))
    with pynative_mode():
        network.max_pool = nn.SequentialCell([nn.Pad(((0, 0), (0, 0), (1, 1), (1, 1))), nn.MaxPool2d(3, 2)])
        logits = network.set_train(False)(ms.Tensor(formula_batch(entry["case"])[0])).asnumpy()
    assert relative_error(logits, entry["evaluation"]) < 1e-4
