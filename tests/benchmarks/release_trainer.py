"""Trains with the authors' own Trainer; `release_training.py` starts it with a Python that has torch.

usage: release_trainer.py CLONE FOLDER EPOCHS NUM_GROUPS LR; reads the .npy files that are there, writes release.npz.

Where that code stops or differs on the way it is mended here, in memory: its evaluation reads an option that it does
not define, and is left out; its new learning rate comes an epoch late.
"""
import os
import sys
import tempfile
import types

import numpy as np
import torch

clone, folder, epochs, num_groups, lr = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.release import make_importable  # noqa: E402

make_importable(clone)

import train  # noqa: E402

from models.resnet import WideResNet  # noqa: E402


class Batches:
    """The batches of one epoch after the other, as a loader gives them."""

    def __init__(self):
        self.images, self.labels, self.groups = (np.load(os.path.join(folder, f"{name}.npy"), mmap_mode="r")
                                                 for name in ("images", "labels", "groups"))
        self.steps, self.next = len(self.images) // epochs, 0

    def __iter__(self):
        for k in range(self.next, self.next + self.steps):
            image, label, group = (torch.from_numpy(np.array(array[k])) for array in
                                   (self.images, self.labels, self.groups))
            yield (image, label.long()), group.long()
        self.next += self.steps


class Rows:
    """Keeps what would go to a CSV file, and swallows what would go to a text log."""

    def __init__(self):
        self.rows = []

    def log(self, epoch, batch, stats):
        self.rows.append(stats)

    def write(self, text):
        pass

    def flush(self):
        pass


model = WideResNet(width=1)
with np.load(os.path.join(folder, "weights.npz")) as weights:
    state = model.state_dict()
    state.update({name: torch.from_numpy(weights[name]) for name in weights.files})
    model.load_state_dict(state)

losses = []


class Trainer(train.Trainer):
    def update_stats(self, per_sample_loss, *arguments):
        losses.append(per_sample_loss.mean().item())
        super().update_stats(per_sample_loss, *arguments)

    def evaluation(self, *args):
        return 0, torch.zeros(1)


class PunctualStepLR(train.StepLR):
    def __call__(self, epoch):
        super().__call__(epoch + 1)


train.StepLR = PunctualStepLR
rows = Rows()
trainer = Trainer(torch.device("cpu"), model, rows, rows, None, None, num_groups)
with tempfile.TemporaryDirectory() as log_dir:
    trainer.train(types.SimpleNamespace(
        rho=0.05, is_adaptive=False, lr=lr, momentum=0.9, weight_decay=5e-4, total_epoch=epochs, step_size=0.01,
        log_train=1, save_step=epochs + 1, save_last=False, save_best=False, log_dir=log_dir, desc=""),
        Batches(), None, None)

model.eval()
tests, labels = (torch.from_numpy(np.load(os.path.join(folder, f"test_{name}.npy"))) for name in ("images", "labels"))
with torch.no_grad():
    accuracies = [np.mean([(model(severity[k:k + 100]).argmax(1) == labels[k:k + 100]).float().mean().item()
                           for k in range(0, len(labels), 100)]) for severity in tests]
np.savez(os.path.join(folder, "release.npz"), loss=losses, accuracy=accuracies,
         q=[[row[f"adv_prob_{s}"] for s in range(num_groups)] for row in rows.rows])
