"""`--accumulate`: micro-batches one after the other, with the gradient of the whole batch."""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
import pytest

from corruptions.utils.errors import UserError
from losses import create_step
from losses.config.checks import check_world_size
from losses.config.resolve import resolve
from models import create_model
from tests.test_methods import assert_same, difference, example, train

# Objectives that look at the whole batch, each kind of perturbation, and all three algorithms of a step.
CASES = [("erm", {}), ("sharpdro", {"rho": 0.5, "momentum": 0.9}),
         ("sharpdro_agnostic", {"rho": 0.5, "risk": "worst_case"}), ("irm", {"irm_lambda": 3.0, "irm_anneal": 1}),
         *(pytest.param(*case, marks=pytest.mark.slow) for case in (
             ("damp", {"num_sub_batches": 1, "sigma": 0.3}), ("asam", {"rho": 0.5}),
             ("sharpdro_agnostic", {"rho": 0.5}), ("sharpdro", {"perturbation": "none"}),
             ("sharpdro", {"perturbation": "multiplicative", "sigma": 0.3})))]


def errors_of(step, k=0):
    """The results of a step, but for its weights."""
    out = step.train_batch(*example(k))
    return {name: np.asarray(value) for name, value in out._asdict().items()}


@pytest.mark.parametrize("method, options", CASES)
def test_equals_the_undivided_batch(method, options):
    whole, step = train(method, **options)
    parts, accumulated = train(method, accumulate=4, **options)
    assert difference(whole, parts) < 1e-6
    assert difference(whole, train(method, steps=0, **options)[0]) > 1e-3  # the steps do something
    first, second = errors_of(step, 3), errors_of(accumulated, 3)
    for name in first:
        np.testing.assert_allclose(second[name], first[name], rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.slow
def test_parts_without_exact_accumulation_are_something_else():
    """The mean of the steps of parts, m-sharpness, differs far more than rounding does."""
    whole, parts = (train("sharpdro", rho=0.5, **options)[0] for options in ({}, {"num_sub_batches": 4}))
    assert difference(whole, parts) > 1e-4


def test_weights_over_distributions_move_once_a_batch():
    whole, step = train("group_dro", step_size=0.5)
    parts, accumulated = train("group_dro", step_size=0.5, accumulate=3)
    q = [each.objective.group_weights.adv_probs.asnumpy() for each in (step, accumulated)]
    np.testing.assert_allclose(*q, rtol=1e-6)
    assert q[0].std() > 0.01 and difference(whole, parts) < 1e-6


@pytest.mark.slow
def test_it_repeats_bit_for_bit():
    assert_same(train("sharpdro", accumulate=4)[0], train("sharpdro", accumulate=4)[0])


def images(k=0):
    rng = np.random.RandomState(k)
    return (ms.Tensor(rng.standard_normal((8, 3, 8, 8)), ms.float32), ms.Tensor(np.arange(8) % 3, ms.int32),
            ms.Tensor(np.arange(8) % 2, ms.int32))


class Normalised(nn.Cell):
    """A network with BatchNorm whose statistics show how often they moved."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, momentum=0.5)
        self.classifier = nn.Dense(3, 3)

    def construct(self, x):
        return self.classifier(self.norm(x).mean((2, 3)))


@pytest.mark.parametrize("method, options", [("erm", {}), ("sharpdro", {}), ("damp", {"num_sub_batches": 1})])
def test_running_statistics_move_once_for_each_part(method, options):
    """In a second pass, and where gradients are carried back, they stay."""
    network = Normalised()
    step = create_step(network, method, 2, accumulate=2, **options)
    batch = images()
    step.train_batch(*batch)
    parts = batch[0].asnumpy().reshape(2, 4, 3, 8, 8)
    mean = np.zeros(3)
    for part in parts:
        mean = 0.5 * mean + 0.5 * part.mean((0, 2, 3))
    np.testing.assert_allclose(network.norm.moving_mean.asnumpy(), mean, atol=1e-6)


@pytest.mark.slow
def test_batch_norm_has_the_statistics_of_a_part():
    """So two equal halves have the gradient of the whole."""
    rng = np.random.RandomState(0)
    half = rng.standard_normal((4, 3, 8, 8))
    batch = (ms.Tensor(np.concatenate([half, half]), ms.float32), ms.Tensor([0, 1, 2, 0] * 2, ms.int32),
             ms.Tensor([0, 0, 1, 1] * 2, ms.int32))
    weights = []
    for options in ({}, {"accumulate": 2}):
        ms.set_seed(0)
        network = create_model("wideresnet10", 3)
        step = create_step(network, "sharpdro", 2, **options)
        step.train_batch(*batch)
        weights.append({p.name: p.asnumpy() for p in network.trainable_params()})
    assert difference(*weights) < 2e-5


class WithCell(nn.Cell):
    def __init__(self, cell):
        super().__init__()
        self.drop, self.dense = cell, nn.Dense(6, 4)

    def construct(self, x):
        return self.dense(self.drop(x))


class OwnDropout(nn.Cell):
    def construct(self, x):
        return ops.dropout(x, 0.5, training=True)


@pytest.mark.parametrize("cell", [nn.Dropout(p=0.5), nn.Dropout(), nn.Dropout(keep_prob=0.5), nn.Dropout1d(0.5)])
def test_dropout_is_an_error(cell):
    with pytest.raises(UserError, match="--accumulate: drop is a Dropout"):
        create_step(WithCell(cell), "erm", 3, accumulate=2)


def test_dropout_that_drops_nothing_is_none():
    for cell in (nn.Dropout(p=0.0), nn.Dropout(keep_prob=1.0)):
        create_step(WithCell(cell), "erm", 3, accumulate=2)


def test_random_numbers_are_noticed_as_soon_as_logits_are_not_0():
    network = WithCell(OwnDropout())
    for parameter in network.dense.trainable_params():
        parameter.set_data(ms.ops.zeros_like(parameter))
    step = create_step(network, "erm", 3, accumulate=2)
    step.train_batch(*example())
    with pytest.raises(UserError, match="other logits when it runs again"):
        step.train_batch(*example())


def test_random_numbers_of_other_cells_are_noticed_in_the_first_step():
    network = WithCell(OwnDropout())
    before = network.dense.weight.asnumpy().copy()
    step = create_step(network, "erm", 3, accumulate=2)
    with pytest.raises(UserError, match="other logits when it runs again"):
        step.train_batch(*example())
    assert (network.dense.weight.asnumpy() == before).all()


class Counted(nn.Cell):
    """A network with a state that is not BatchNorm's."""

    def __init__(self):
        super().__init__()
        self.dense, self.calls = nn.Dense(6, 4), ms.Parameter(ms.Tensor(0.0), name="calls", requires_grad=False)

    def construct(self, x):
        return ops.depend(self.dense(x), ops.assign_add(self.calls, ms.Tensor(1.0)))


@pytest.mark.slow
def test_other_states_move_once_for_each_part():
    network = Counted()
    create_step(network, "sharpdro", 3, accumulate=3).train_batch_async(*example())
    assert network.calls.asnumpy() == 3


@pytest.mark.parametrize("method, options", [("sharpdro", {"rho": 0.5}),
                                             ("damp", {"num_sub_batches": 1, "sigma": 0.3})])
def test_a_step_that_is_interrupted_leaves_the_weights(method, options):
    weights, step = train(method, steps=0, accumulate=4, **options)
    backward, calls = step.graph.backward, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3 + 4 * (method == "sharpdro"):
            raise KeyboardInterrupt
        return backward(*arguments)
    step.graph.backward = interrupted
    with pytest.raises(KeyboardInterrupt):
        step.train_batch(*example())
    left = {parameter.name: parameter.asnumpy() for parameter in step.weights}
    assert all((left[name] == weights[name]).all() for name in left)
    assert not any(part.asnumpy().any() for part in step.graph.update.accumulated)


@pytest.mark.parametrize("options, problem", [
    ({"accumulate": 0}, "--accumulate 0: '0' is not a whole number"), ({"accumulate": "2"}, "2: is of a type"),
    ({"accumulate": 2.0}, "--accumulate 2.0: '2.0' is not a whole"), ({"num_sub_batches": "2"}, "2: is of a type"),
    ({"accumulate": 4, "num_sub_batches": 2, "sync_bn": False}, "1, or leave it out, because sub-batches"),
    ({"method": "damp", "accumulate": 4}, "each of 8 sub-batches has a perturbation of its own.*--no-sync_bn")])
def test_what_does_not_go_together(options, problem):
    with pytest.raises(UserError, match=problem):
        resolve(**options)


def test_one_part_is_the_whole_batch():
    assert resolve(accumulate=1) == resolve()


def test_workers_do_not_accumulate(monkeypatch):
    monkeypatch.setattr("utils.runtime.distributed.world_size", lambda: 2)
    with pytest.raises(UserError, match="--accumulate 4: works with one worker, and there are 2"):
        check_world_size(resolve("erm", accumulate=4), 100)


def test_a_batch_that_cannot_be_cut():
    _, step = train("erm", steps=0, accumulate=5)
    with pytest.raises(UserError, match="12 samples: cannot be cut into 5 parts"):
        step.train_batch(*example())
