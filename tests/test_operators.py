"""Operators of the compiled graphs. MindSpore documents where its operators run: each has to be documented for
Ascend and GPU, or to be what MindSpore itself makes of a function that is; that they run on CPU is seen here. A graph
that left a line to Python would have an operator for it, which is documented for nothing.
"""
import collections
import contextlib
import importlib
import operator
import re
import sys

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
import pytest

from utils.runtime.device import MINDSPORE_VERSION
from losses import create_step
from losses.collectives import AllGatherOutputs, AllGatherRows, AllReduceGradients, SyncBatchNorm
from losses.evaluation.cells import EvaluationStep, GradientNorm
from losses.group_weights import GroupWeights
from losses.methods import METHODS
from losses.training.validation_weights import UpdateGroupWeights
from models.preactresnet import PreActResNet
from models.resnet import BasicBlock, Bottleneck, ResNet
from models.vit import VisionTransformer
from models.wideresnet import WideResNet
from tests.graph_operators import list_operators
from utils.runtime import distributed

DEVICES = {"Ascend", "GPU"}
PLATFORMS = re.compile(r"Supported Platforms:\s*\n\s*(.*)")
PLACES = [importlib.import_module(f"mindspore.{name}") for name in ("ops", "ops.auto_generate")]

# The compiler's own: reading a Parameter, the order of what has effects, tuples, a copy of what is about to be
# overwritten (which the library of every device has by this name).
STRUCTURE = {"Load", "UpdateState", "MakeTuple", "TupleGetItem", "TensorMove", "Switch"}
# float32 is what networks compute in, and float16 with --amp; CANN documents products and bitwise operations of these
# integers, not of uint32.
TYPES = {"FLOAT", "FLOAT16", "INT32", "INT64", "BOOL"}


def example(size=8, number=8):
    labels = ms.Tensor(np.arange(number) % 10, ms.int32)
    return ms.Tensor(np.ones((number, 3, size, size)), ms.float32), labels, ops.zeros_like(labels)


class Tiny(nn.Cell):
    """A network with what every network has; methods differ in their use of its logits and weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.dense = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dense(4, 10)

    def construct(self, x):
        return self.dense(self.norm(self.conv(x)).mean((2, 3)))


class Alone(nn.Cell):
    """A function or cell by itself, or the gradient of what it gives, by its input and its weights."""

    def __init__(self, function, gradient):
        super().__init__(auto_prefix=False)
        self.function = function
        weights = function.trainable_params() if isinstance(function, nn.Cell) else []
        self.gradient = ops.grad(self.value, 0, ms.ParameterTuple(weights) if weights else None) if gradient else None

    def value(self, *inputs):
        return self.function(*inputs)

    def construct(self, *inputs):
        return self.value(*inputs) if self.gradient is None else self.gradient(*inputs)


X = ms.Tensor(np.ones((4, 4)), ms.float32)
IMAGES = ms.Tensor(np.ones((2, 3, 8, 8)), ms.float32)
SIXTEEN = ms.Tensor(np.ones((2, 4, 8, 8)), ms.float32)


def first_half(x):
    return ops.strided_slice(x, (0, 0), (2, 4), (1, 1))


def gather(x):
    return ops.gather_elements(x, 1, ms.Tensor([[0], [1], [2], [3]], ms.int32))


def twice(x):
    return ops.concat((x, x))


def total(x):
    return ops.sum(x, 1)


def modulo(x):
    return x % 2


# Operators without documentation of their own, to what MindSpore makes them of, which has some: the function or layer
# that is documented, what is compiled to see it, its input, and whether it is the gradient. Where a device has no
# kernel for Muls, AddScalar or SumExt, MindSpore puts Mul, Add and ReduceSum in their place, as it does on CPU.
MADE_OF = {
    "AddScalar": (ops.log1p, ops.log1p, X, True),
    "BatchNormGrad": (nn.BatchNorm2d, nn.BatchNorm2d(3), IMAGES, True),
    "BiasAddGrad": (nn.Dense, nn.Dense(4, 2), X, True),
    "Conv2DBackpropFilter": (nn.Conv2d, nn.Conv2d(3, 2, 3), IMAGES, True),
    "Conv2DBackpropInput": (nn.Conv2d, nn.Conv2d(3, 2, 3), IMAGES, True),
    "GatherDGradV2": (ops.gather_elements, gather, X, True),
    "GeLUGrad": (nn.GELU, nn.GELU(), X, True),
    "LayerNormGrad": (nn.LayerNorm, nn.LayerNorm((4,)), X, True),
    "MaxPoolGrad": (nn.MaxPool2d, nn.MaxPool2d(2, 2), IMAGES, True),
    "Muls": (ops.square, ops.square, X, True),
    "RemainderTensorScalar": (ops.remainder, modulo, X, False),
    "ReluGrad": (ops.relu, ops.relu, X, True),
    "SoftmaxBackward": (ops.softmax, ops.softmax, X, True),
    "SplitWithSize": (ops.cat, twice, X, True),
    "SqrtGrad": (ops.sqrt, ops.sqrt, X, True),
    "StridedSliceGrad": (ops.strided_slice, first_half, X, True),
    "SumExt": (ops.sum, total, X, False),
}


OF_THE_TABLE = pytest.mark.skipif(not MINDSPORE_VERSION.startswith("2.8."), reason="the table is of MindSpore 2.8")


def platforms(documented):
    """The platforms that the documentation of a function or class names, or the documentation that it refers to."""
    text = documented.__doc__ or ""
    if named := PLATFORMS.search(text):
        return set(re.findall(r"``(\w+)``", named[1]))
    if second := re.search(r"[Rr]efer to :\w+:`mindspore\.([\w.]+)`", text):
        with contextlib.suppress(AttributeError):  # some are not in the library
            return platforms(operator.attrgetter(second[1])(ms))
    return set()


def is_documented(name):
    return any(platforms(getattr(place, name)) >= DEVICES for place in PLACES if hasattr(place, name))


STEPS = {**{method: {"method": method} for method, row in METHODS.items() if row.data == "plain"},
         "sub-batches": {"method": "damp", "num_sub_batches": 2},
         "noise side by side": {"method": "daap", "num_sub_batches": 2, "sync_bn": True},
         "ascent side by side": {"method": "asam", "num_sub_batches": 2, "sync_bn": True},
         "last seen, adjusted": {"method": "group_dro", "group_loss": "last_seen", "group_adjustment": 1.0,
                                 "group_sizes": [6, 5, 4, 3, 2, 1]},
         "argmax": {"method": "sharpdro", "worst_case": "argmax", "risk": "worst_case"},
         "plain": {"method": "sharpdro_agnostic", "ood_weights": "plain"},
         "adamw": {"method": "erm", "optimizer": "adamw", "weight_decay_on": "kernels", "clip_norm": 1.0},
         "sign": {"method": "sam", "perturbation": "sign"},
         "adaptive": {"method": "sharpdro", "perturbation": "adaptive", "nesterov": True},
         "mixed precision": {"method": "sharpdro", "amp": True}}
NETWORKS = {"wideresnet": (lambda: WideResNet(10, 1, 10), 32),
            "preactresnet": (lambda: PreActResNet((1, 1, 1, 1), 10), 32),
            "resnet": (lambda: ResNet(BasicBlock, (1, 1, 1, 1), 10), 64),
            "resnet, damp": (lambda: ResNet(Bottleneck, (1, 1, 1, 1), 10, damp=True), 64),
            "vit": (lambda: VisionTransformer(64, 1, 2, 128, 10), 32)}


# For every change; all others are slow. Together these have nearly all operators.
FAST = ("rex", "sharpdro_agnostic", "sub-batches", "ascent side by side", "last seen, adjusted", "mixed precision",
        "wideresnet", "vit")


def graphs(names):
    """Yield a name, a cell and inputs of what a training compiles; `names` chooses steps and networks."""
    for name, options in STEPS.items():
        if name not in names:
            continue
        step = create_step(Tiny(), recipe="sharpdro", **options)
        images, labels, groups = example()
        yield name, step.graph, (images, labels, groups)
        if step.apply_accumulated is not None:
            yield f"{name}, its end", step.apply_accumulated, (ops.ones((8,), ms.float32), groups)
        if step.presampled_noise is not None:
            yield f"{name}, its noise", step.presampled_noise.draw_noise, (ms.Tensor([0], ms.int32),)
        if step.scaling is not None:
            yield f"{name}, its start", step.scaling, ()
    yield "guide", UpdateGroupWeights(GroupWeights(6, 0.01, group_loss="validation"), 50), (ops.ones((6,), ms.float32),)
    for name in NETWORKS.keys() & set(names):
        create, size = NETWORKS[name]
        yield name, create_step(create(), "erm", recipe="sharpdro").graph, example(size, 2)
    images, labels, _ = example()
    yield "evaluation", EvaluationStep(Tiny()).set_train(False), (images, labels)
    yield "gradient norm", GradientNorm(Tiny()).set_train(False), (images, labels, ops.ones((8,), ms.float32),
                                                                   ms.Tensor(1, ms.float32))


def of_several_workers():
    """The same for the cells that several workers train with."""
    network = Tiny()
    weights = ms.ParameterTuple(network.trainable_params())
    statistics = ms.ParameterTuple([network.norm.moving_mean, network.norm.moving_variance])
    gradients = tuple(ops.ones_like(weight) for weight in weights)
    yield "sum", Alone(AllReduceGradients(weights, statistics), False), (gradients,)
    yield "rows of all", AllGatherOutputs(), (X, X[0])
    yield "whole batch", Alone(AllGatherRows(), True), (X,)
    norm = network.norm
    yield "statistics of all", Alone(SyncBatchNorm(norm), True), (SIXTEEN, norm.gamma, norm.beta, norm.moving_mean,
                                                                  norm.moving_variance)


SELECT = ops.select


def select_of_equal_shapes(condition, x, y):
    """`ops.select` as GPUs have it. Their kernel does not broadcast, and leaves the rest of the result as it was."""
    if condition.shape != x.shape or x.shape != y.shape:
        raise ValueError("select: a condition of another shape")
    return SELECT(condition, x, y)


@pytest.fixture(scope="module", params=[FAST, pytest.param((*STEPS, *NETWORKS), marks=pytest.mark.slow)],
                ids=["fast", "all"])
def operators(tmp_path_factory, request):
    """Each operator to the types that it has, and the names of the graphs that it is in."""
    folder, operators = tmp_path_factory.mktemp("graphs"), collections.defaultdict(lambda: (set(), set()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "select", select_of_equal_shapes)
        patch.setattr("utils.runtime.device.hash_dtype", lambda: ms.int64)  # as on Ascend; test_methods has uint32
        for name, cell, inputs in graphs(request.param):
            for key, types in list_operators(cell, inputs, folder).items():
                operators[key][0].update(types)
                operators[key][1].add(name)
        patch.setattr(distributed, "world_size", lambda: 2)
        for name, cell, inputs in of_several_workers():
            for key, types in list_operators(cell, inputs, folder).items():
                operators[key][0].update(types)
                operators[key][1].add(name)
    return operators


@OF_THE_TABLE
def test_operators_are_documented_for_all_devices(operators, request):
    missing = {name: places for name, (_, places) in operators.items()
               if not is_documented(name) and name not in STRUCTURE | MADE_OF.keys()}
    assert missing == {}
    if "all" in request.node.callspec.id:
        assert STRUCTURE | MADE_OF.keys() <= operators.keys()


def test_operators_have_types_that_all_devices_know(operators):
    assert {name: (types - TYPES, places) for name, (types, places) in operators.items() if types - TYPES} == {}


@OF_THE_TABLE
@pytest.mark.parametrize("name", MADE_OF)
def test_what_mindspore_makes_of_a_documented_function(name, tmp_path):
    documented, function, x, gradient = MADE_OF[name]
    assert not is_documented(name)
    assert platforms(documented) >= DEVICES
    assert name in list_operators(Alone(function, gradient), (x,), tmp_path)


@pytest.mark.parametrize("options, graphs", [
    ({"method": "sharpdro"}, 1), ({"method": "damp"}, 1), ({"method": "damp", "num_sub_batches": 4}, 5),
    ({"method": "asam", "num_sub_batches": 4, "sync_bn": True}, 1),
    ({"method": "damp", "num_sub_batches": 4, "sync_bn": True}, 5)],
    ids=["two passes", "noise", "sub-batches", "ascent side by side", "noise side by side"])
def test_a_step_is_so_many_runs_of_graphs_that_are_compiled_once(options, graphs, monkeypatch):
    ran = []
    run = nn.Cell.compile_and_run
    monkeypatch.setattr(nn.Cell, "compile_and_run", lambda cell, *args: [ran.append(cell), run(cell, *args)][1])
    step = create_step(Tiny(), recipe="sharpdro", **options)
    step.must_check_stacking = False
    for _ in range(2):
        ran.clear()
        step.train_batch(*example())
        assert len(ran) == graphs
    assert {len(cell.compile_cache) for cell in ran} == {1}


def ran_alone(function):
    """The operators that a function has MindSpore run outside of graphs, as far as its library is called for them by
    name: slices, stacks and the signs of arithmetic are not.
    """
    operators = set()

    def look(_, event, called):
        if event == "c_call" and type(getattr(called, "__self__", None)).__name__ == "PyCapsule":
            operators.add(called.__name__)
    sys.setprofile(look)
    try:
        function()
    finally:
        sys.setprofile(None)
    return {name for name in operators if name.startswith("pyboost_") or name == "__call__"}


@OF_THE_TABLE
@pytest.mark.parametrize("options, alone", [
    ({"method": "sharpdro"}, set()), ({"method": "damp"}, set()),
    ({"method": "asam", "num_sub_batches": 4, "sync_bn": True}, set()),
    ({"method": "damp", "num_sub_batches": 4}, {"pyboost_split", "__call__"})])
def test_what_runs_between_graphs(options, alone):
    """Only what cuts a batch into sub-batches and puts their results together, all of it documented."""
    step, batch = create_step(Tiny(), recipe="sharpdro", **options), example()
    step.must_check_stacking = False
    step.train_batch(*batch)
    assert ran_alone(lambda: step.train_batch(*batch)) == alone
    assert ran_alone(lambda: ops.concat((X, X))) | ran_alone(lambda: ops.split(X, 2)) == {"pyboost_split", "__call__"}
    assert all(platforms(function) >= DEVICES for function in (ops.split, ops.cat, ops.stack, ops.strided_slice))
