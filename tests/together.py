"""Trainings of small networks, alone or as one of several workers under `msrun`; `tests/test_devices.py` compares them.

    msrun --worker_num=2 --local_worker_num=2 --join=True tests/together.py OUT.npz CASE ...

With `main` in place of a file, it is `main.py` with `Plain` as the network `plain`.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from utils.runtime.device import all_gather_bytes, shutdown, set_up_device  # noqa: E402, I001, first: it sets MindSpore's environment

import mindspore as ms  # noqa: E402
import mindspore.nn as nn  # noqa: E402
import mindspore.ops as ops  # noqa: E402
import numpy as np  # noqa: E402

from losses import create_step  # noqa: E402
from main import main  # noqa: E402
from models import MODELS, Network  # noqa: E402
from models.layers import batch_norm, conv  # noqa: E402
from models.torch_names import torch_name  # noqa: E402
from tests.formula import formula_weight  # noqa: E402
from utils.runtime import distributed  # noqa: E402

STEPS, BATCH, CLASSES, GROUPS = 20, 16, 5, 4
OUTPUTS = ("losses", "logits", "perturbed", "norm", "value")  # of every step
EQUAL = {  # what a number of workers does not change
    "erm": {"method": "erm"},
    "irm": {"method": "irm", "irm_lambda": 2.0, "irm_anneal": 3},
    "rex": {"method": "rex", "rex_beta": 2.0},
    "group_dro": {"method": "group_dro", "step_size": 0.1},
    "group_dro last_seen": {"method": "group_dro", "step_size": 0.1, "group_loss": "last_seen"},
    "sharpdro": {"method": "sharpdro", "step_size": 0.1},
    "sharpdro_agnostic": {"method": "sharpdro_agnostic", "rho": 0.5},  # scores above what rounding does to them
    "sam": {"method": "sam", "num_sub_batches": 1},
    "asam, adamw": {"method": "asam", "num_sub_batches": 1, "optimizer": "adamw", "clip_norm": 0.5, "lr": 0.01},
    "sam in sub-batches": {"method": "sam", "num_sub_batches": 4},
    "damp": {"method": "damp", "num_sub_batches": 4},
    "group_dro x additive": {"method": "group_dro", "perturbation": "additive", "num_sub_batches": 4},
    "sharpdro x multiplicative": {"method": "sharpdro", "perturbation": "multiplicative", "num_sub_batches": 4},
}
SYNCHRONISED = {
    "sharpdro, sync_bn": {"method": "sharpdro", "sync_bn": True},
    "damp, sync_bn": {"method": "damp", "num_sub_batches": 4, "sync_bn": True},
    "sam in sub-batches, sync_bn": {"method": "sam", "num_sub_batches": 4, "sync_bn": True},
}
APART = {
    "sharpdro, batch_norm": {"method": "sharpdro"},
    "sam, own ascents": {"method": "sam", "num_sub_batches": 1, "sync_perturbation": False},
    "sam in two sub-batches": {"method": "sam", "num_sub_batches": 2},
}


HALF = {  # float16 rounds the gradient of each part of a batch for itself
    "sharpdro, amp": {"method": "sharpdro", "step_size": 0.1, "amp": True},
}


class Plain(nn.Cell):
    """Two convolutions, without BatchNorm."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        self.conv1, self.conv2 = conv(3, 4, 3), conv(4, 6, 3, 2)
        self.fc = nn.Dense(6, classes)

    def construct(self, x):
        return self.fc(ops.tanh(self.conv2(ops.tanh(self.conv1(x)))).mean((2, 3)))


class Normed(nn.Cell):
    """A network with BatchNorm, two of them on parallel branches."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 4, 3), batch_norm(4)
        self.conv2, self.bn2 = conv(4, 6, 3, 2), batch_norm(6)
        self.shortcut, self.bn3 = conv(4, 6, 1, 2), batch_norm(6)
        self.fc = nn.Dense(6, CLASSES)

    def construct(self, x):
        x = ops.tanh(self.bn1(self.conv1(x)))
        return self.fc(ops.tanh(self.bn2(self.conv2(x)) + self.bn3(self.shortcut(x))).mean((2, 3)))


def batch(k):
    """Images (BATCH, 3, 6, 8), labels and groups of step k; the last group is in few batches."""
    rng = np.random.RandomState(k)
    images = rng.standard_normal((BATCH, 3, 6, 8)).astype(np.float32)
    return images, rng.randint(0, CLASSES, BATCH).astype(np.int32), rng.choice(
        GROUPS, BATCH, p=[0.5, 0.3, 0.18, 0.02]).astype(np.int32)


def train(title, options):
    """Parameters and outputs after the training, names to arrays."""
    network = (Normed if "bn" in title or "batch_norm" in title else Plain)()
    for parameter in network.get_parameters():
        ops.assign(parameter, ms.Tensor(formula_weight(torch_name(parameter.name), parameter.shape)))
    sizes = {"weight_decay": 5e-4, "num_groups": GROUPS, "lr": 0.1, **options}
    if distributed.world_size() == 1 and "num_sub_batches" not in options:
        sizes.pop("sync_bn", None)  # one worker has the whole batch
    step = create_step(network, **sizes)
    ours = distributed.rank_slice(BATCH, distributed.rank_and_world_size())
    outs = []
    for k in range(STEPS):
        images, labels, groups = batch(k)
        outs.append(step.train_batch(*map(ms.Tensor, (images[ours], labels, groups))))
    result = {f"{title}/{p.name}": p.asnumpy() for p in step.get_parameters() if not p.name.startswith("saved.")}
    for name, values in zip(OUTPUTS, zip(*outs, strict=True), strict=True):
        result[f"{title}/{name}"] = np.stack(values)
    return result


def train_all(path, names):
    """Train cases, all if there are no names, and have the first worker write what they give, and whether that is the
    same on all.
    """
    set_up_device("CPU")
    cases = {**EQUAL, **SYNCHRONISED, **APART, **HALF}
    result = {}
    for name in names or cases:
        if distributed.world_size() > 1 or "sync_perturbation" not in cases[name]:
            result.update(train(name, cases[name]))
    every = all_gather_bytes(b"".join(result[name].tobytes() for name in sorted(result)))
    if distributed.is_main_process():
        np.savez(path, alike=len(set(every)) == 1, **result)
    shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "main":
        MODELS["plain"] = Network(lambda classes: Plain(classes), "a test")
        main(sys.argv[2:])
    else:
        train_all(sys.argv[1], sys.argv[2:])
