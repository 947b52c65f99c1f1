"""The epoch loop, with steps that compute nothing."""
from types import SimpleNamespace

import numpy as np
import pytest

import losses.training.loop
from corruptions.utils.errors import UserError
from corruptions.utils.signals import Interrupted
from losses.config.resolve import resolve
from losses.step.train_step import StepOutputs
from losses.training.loop import train_epoch
from losses.training.run import describe_recipe
from utils.records.checkpoint import Progress

BATCHES, LOGITS, LABELS = 7, np.eye(4), [0, 1, 2, 0]


class Out:
    """An output of a device that counts how often somebody waits for it."""

    waits = 0

    def __init__(self, values):
        self.values = np.asarray(values, np.float32)

    def asnumpy(self):
        Out.waits += 1
        return self.values


class Step:
    optimizer = scaling = None
    is_compiled = True

    def __init__(self, wrong=None):
        self.number, self.wrong, self.waits = 0, wrong, []

    def get_parameters(self):
        return []

    def train_batch_async(self, images, labels, groups):
        losses = np.arange(4) + np.pi * self.number if self.number != self.wrong else np.full(4, np.nan)
        self.waits.append(Out.waits)
        self.number += 1
        return StepOutputs(Out(losses), Out(LOGITS), Out(losses), Out([1, 2]), Out([3, 4]))


class Records:
    """Records of a run, with a row of the log at the first step alone, and with the parts of folder and log."""

    def __init__(self, save_every=None):
        self.save_every, self.saved, self.rows, self.lines = save_every, [], [], []
        self.folder = self.train_log = self

    def logs_batch(self, batch):
        return batch == 0

    def saves_batch(self, done):
        return self.save_every is not None and done % self.save_every == 0

    def save(self, progress):
        self.saved.append(progress)

    def write_batch(self, epoch, batch, losses, hits, severities, norm, *_):
        self.rows.append((batch, losses.tolist(), hits.tolist(), norm))

    def log(self, line):
        self.lines.append(line)


def train(monkeypatch, ahead, step, records):
    monkeypatch.setattr(losses.training.loop, "max_steps_in_flight", lambda: ahead)
    monkeypatch.setattr(losses.training.loop, "set_learning_rate", lambda *_: None)
    batch = tuple(map(Out, (np.zeros((4, 1)), LABELS, LABELS, LABELS)))
    return train_epoch(step, iter([batch] * BATCHES), BATCHES, Progress(3), records, lambda *_: 0.1)


@pytest.mark.parametrize("ahead, waited", [(1, [1, 2, 3, 4, 5, 6]), (3, [1, 4]), (50, [1])])
def test_waits_for_the_device_no_more_than_it_has_to(ahead, waited, monkeypatch):
    """Before which steps somebody has waited since the one before; the first step is logged."""
    step, records = Step(), Records()
    monkeypatch.setattr(losses.training.loop, "time", SimpleNamespace(monotonic=iter([0.0, 2.0]).__next__))
    done, steps_per_second = train(monkeypatch, ahead, step, records)
    assert steps_per_second == BATCHES / 2
    assert [k for k in range(1, BATCHES) if step.waits[k] > step.waits[k - 1]] == waited
    assert done == Progress(3, BATCHES, float(sum(np.float32(1.5 + np.pi * k) for k in range(BATCHES))))
    assert records.rows == [(0, [0, 1, 2, 3], [True, True, True, False], 1.5)]


@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_a_loss_that_is_no_number_names_its_step_and_nothing_is_saved(ahead, monkeypatch):
    records = Records(save_every=2)
    with pytest.raises(UserError, match="not finite at step 4 of epoch 3"):
        train(monkeypatch, ahead, Step(wrong=4), records)
    assert [progress.batches for progress in records.saved] == [2, 4]


@pytest.mark.parametrize("wrong", [None, 4])
def test_a_signal_saves_what_is_finite_alone(wrong, monkeypatch):
    step, records = Step(wrong), Records()

    def check():
        if step.number == 6:
            raise Interrupted(15)
    monkeypatch.setattr(losses.training.loop, "raise_if_interrupted", check)
    with pytest.raises(UserError if wrong else Interrupted):
        train(monkeypatch, 50, step, records)
    assert [progress.batches for progress in records.saved] == ([] if wrong else [6])


@pytest.mark.parametrize("method, options, says", [
    ("sharpdro", {}, "recipe sharpdro"), ("damp", {}, "recipe damp"),
    ("sharpdro", {"total_epoch": 3}, "recipe sharpdro"),
    ("sam", {"dataset": "tinyimagenet", "recipe": "damp/tinyimagenet"}, "recipe damp/tinyimagenet"),
    ("erm", {"recipe": "damp"}, "recipe damp"),
    ("erm", {"recipe": "damp", "perturbation": "multiplicative"}, "recipe damp"),
    ("erm", {"momentum": 0.5, "amp": True}, "recipe sharpdro with --amp --momentum 0.5"),
    ("erm", {"optimizer": "adamw"}, "recipe sharpdro with --lr 0.001 --optimizer adamw --weight_decay 0.1 "
                                    "--weight_decay_on kernels")])
def test_the_terminal_has_the_recipe_and_what_differs_from_it(method, options, says):
    assert describe_recipe(resolve(method, **options), options.get("dataset", "cifar10")) == says
