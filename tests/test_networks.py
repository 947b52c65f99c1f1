"""The networks against their originals, and what the methods make of their parameters."""
import json
import os

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
import pytest

from losses.step import cross_entropy
from models import create_model
from tests.formula import formula_batch, formula_weight
from utils.torch_weights import torch_name

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


def relative_error(ours, theirs):
    return np.abs(ours - np.asarray(theirs)).max() / np.abs(theirs).max()


@pytest.mark.parametrize("name", ORIGINALS)
def test_equals_its_original(name):
    entry = ORIGINALS[name]
    case = entry["case"]
    network = create_model(name, case["classes"])
    assert sum(p.size for p in network.trainable_params()) == entry["parameters"]
    weights = {torch_name(p.name): p for p in network.get_parameters()}

    def draw(settled):
        for one, parameter in weights.items():
            ops.assign(parameter, ms.Tensor(formula_weight(one, parameter.shape, settled)))
    draw(settled=False)
    images, labels = (ms.Tensor(array) for array in formula_batch(case))
    errors = {"evaluation": relative_error(network.set_train(False)(images).asnumpy(), entry["evaluation"])}
    ends = [weights[case["first"]], weights[case["last"]]]
    gradients_of = Gradients(network, ends).set_train()
    (loss, logits), gradients = gradients_of(images, labels)
    errors["training"] = relative_error(logits.asnumpy(), entry["training"])
    errors["loss"] = relative_error(loss.asnumpy(), entry["loss"])
    assert {key: error for key, error in errors.items() if error > 1e-4} == {}
    if case["settled"]:
        draw(settled=True)
        _, gradients = gradients_of(images, labels)
    for end, gradient in zip(("first", "last"), gradients, strict=True):
        values = gradient.asnumpy().reshape(-1)
        errors[end] = max(relative_error(values[np.linspace(0, values.size - 1, 64).astype(int)], entry[end]["values"]),
                          relative_error(np.linalg.norm(values), entry[end]["norm"]))
    print(name, errors)
    assert max(errors["first"], errors["last"]) <= 1e-3, errors
