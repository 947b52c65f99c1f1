"""One run, from settings and data to a trained network, its records and its report; with a stage one where the method
has one.
"""
import os
from dataclasses import dataclass, field, fields, replace

import numpy as np

from utils.device import set_seed
from losses.create import build_step
from losses.evaluation import EvaluationStep, GradientNorm
from losses.methods import DATA
from losses.resolve import Settings, resolve
from losses.stage_one import ENVIRONMENTS
from losses.train import fit
from losses.treatment import treatment
from models import create_model
from utils.evaluate import evaluate, predict
from utils.records.checkpoint import load_checkpoint
from utils.records.logs import RunFolder
from utils.records.report import report_results
from utils.records.run import RunRecords
from utils.schedule import SCHEDULES


@dataclass(frozen=True)
class RunSettings:
    """One run, but for its data and its folder. Fields are named as the options of `main.py`.

    Attributes:
        method (Settings): the method and how it is trained.
        dataset, corruption (str): names, for the report; `corruption` is also what `corrupt_aug` takes by default.
        model (str): a key of `models.MODELS`.
        seed (int): of the initial weights, the batches and a noise.
        augment_data (bool): crop training images at random.
        eval_batch_size, eval_every (int): images in a batch of an evaluation; epochs from one to the next.
        log_train, save_step, save_last, save_best: as of `RunRecords`.
        record_norm (bool): measure gradient norms.
        num_workers (int): threads that read images; does not change the result.
        show_progress (bool): show progress bars even where the output is no terminal.
    """

    method: Settings = field(default_factory=resolve)
    dataset: str = "cifar10"
    corruption: str = "gaussian_noise"
    model: str = "wideresnet"
    seed: int = 0
    augment_data: bool = False
    eval_batch_size: int = 128
    eval_every: int = 1
    log_train: int = 100
    save_step: int = 50
    save_last: bool = False
    save_best: bool = False
    record_norm: bool = False
    num_workers: int = 1
    show_progress: bool = False

    @classmethod
    def of(cls, values):
        """The settings among the values of all options (dict)."""
        own = {field.name: values[field.name] for field in fields(cls) if field.name != "method"}
        return cls(method=Settings.of(values), **own)


def run(settings, data, folder):
    """Train a method on data that are treated as it asks for, and report.

    Args:
        settings (RunSettings): what is trained, and how.
        data (dataset.data.Data): on what.
        folder (RunFolder): where the records go; a run that was begun there goes on.

    Raises:
        UserError: the loss is no longer finite, or a checkpoint in the folder is of something else.
    """
    if is_finished(folder):
        folder.log(f"{folder.path}: all epochs are done, results.json is left as it is")
        return
    train(settings, data, folder, **treatment(settings.method, data, settings.corruption, settings.seed, folder,
                                              lambda: stage_one_logits(settings, data, folder)))


def is_finished(folder):
    """Whether a run has ended: its results are written last."""
    return os.path.exists(folder.file("results.json"))


def stage_one_logits(settings, data, folder):
    """Logits of the first model for the training images, each at its severity, float32 (n, K); the model is read from
    the option `stage_one`, or trained with ERM in the folder `stage_one` of the run.
    """
    checkpoint = settings.method.options["stage_one"]
    if checkpoint is None:
        epochs = settings.method.options["stage_one_epochs"]
        erm = replace(settings.method, method="erm", objective="mean", perturbation="none", num_sub_batches=1,
                      total_epoch=epochs, options={})
        first = replace(settings, method=erm, eval_every=epochs, save_last=True)
        with RunFolder(folder.file("stage_one")) as first_folder:
            checkpoint = first_folder.file("last_model.ckpt")
            if not (is_finished(first_folder) and os.path.exists(checkpoint)):
                folder.log(f"stage one: erm, {epochs} epochs")
                train(first, data, first_folder)
    network = create_model(settings.model, data.source.classes)
    load_checkpoint(network, checkpoint)
    step = EvaluationStep(network)
    logits = [predict(step, data.evaluation_batches("train", severity, settings.eval_batch_size,
                                                    settings.num_workers))[1]
              for severity, count in enumerate(data.split.counts) if count]
    return np.concatenate(logits)


def train(settings, data, folder, **treated):
    """Train a network, from the newest checkpoint in the folder if there is one, and report.

    Args:
        settings, data, folder: as of `run`.
        treated: further arguments of `dataset.pipeline.TrainBatches`.
    """
    method = settings.method
    set_seed(settings.seed)  # the initial weights do not depend on what was trained before
    network = create_model(settings.model, data.source.classes)
    environments = ENVIRONMENTS if DATA[method.data].sets_groups else 0
    step = build_step(network, method, environments or data.num_severity, settings.seed)
    records = RunRecords(folder, step, data.num_severity, environments, settings.log_train, settings.save_step,
                         settings.save_last, settings.save_best)
    evaluation = EvaluationStep(network)
    gradient_norm = GradientNorm(network) if settings.record_norm else None

    def evaluate_now():
        return {part: evaluate(evaluation, data, part, settings.eval_batch_size, settings.num_workers, gradient_norm)
                for part in ("val", "test")}
    batches = sum(data.split.counts) // method.batch_size
    loader = data.train_batches(method.batch_size, range(batches * records.start, batches * method.total_epoch),
                                settings.seed, settings.num_workers, crop=settings.augment_data,
                                sampling=method.sampling, **treated)
    results = fit(step, loader, batches, method.total_epoch,
                  lambda epoch: SCHEDULES[method.schedule](method.lr, epoch, method.total_epoch), records,
                  evaluate_now, settings.eval_every, weight_decay=method.weight_decay, gradient_norm=gradient_norm,
                  show_progress=settings.show_progress)
    report_results(folder, f"{method.title} on {settings.dataset}, {settings.corruption.replace('_', ' ')}",
                   method.total_epoch, data.split, results, records.cost)
