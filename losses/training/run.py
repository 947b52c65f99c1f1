"""One run, from settings and data to a trained network, its records and its report; with a stage one where the method
has one.
"""
import contextlib
import os
from dataclasses import replace

import mindspore.ops as ops
import numpy as np

from utils.runtime.device import (
    MINDSPORE_VERSION,
    all_gather_bytes,
    barrier,
    broadcast_text,
    collect_graphs,
    device,
    set_seed,
)
from dataset.data import IMAGE_OPTIONS, load_data, load_images
from dataset.pipeline import load_batches
from losses.components import DATA_STRATEGIES, OBJECTIVES
from losses.config.checks import check_fits_data
from losses.config.recipes import to_argv
from losses.config.table import GRAPH_OPTIONS
from losses.create import build_step
from losses.evaluation.cells import EvaluationStep, GradientNorm
from losses.evaluation.predict import evaluate, predict
from losses.evaluation.probes import IMAGES, RHO, sharpness
from losses.optimizers import weight_decay_mask
from losses.schedules import create_schedule
from losses.training.data_strategy import apply_data_strategy
from losses.training.loop import fit
from losses.training.stage_one import ENVIRONMENTS
from losses.training.validation_weights import create_reweighter
from models import create_model
from models.initial_weights import check_sha256, load_initial_weights
from models.stacked import model_has_batch_norm
from models.weights import load_network
from utils.errors import NotFiniteError, ResourceGoneError, RunInterruptedError, UserError
from utils.files import read_json, write_json
from utils.records.checkpoint import LAST, Progress, newest_checkpoint
from utils.records.logs import open_run_folder
from utils.records.reading import is_finished
from utils.records.run import NullRecorder, RunRecorder
from utils.records.settings import FAILED, write_settings
from utils.reports.run import report_results, run_title
from utils.runtime import distributed
from utils.runtime.compile_cache import compile_cached
from utils.runtime.signals import Interrupted, defer_signals, interruptible


class StepCache:
    """A network and the cells that train and look at it. Those of the last run are used again, and need not be compiled
    anew, where the next one differs only in what is not part of the graph: the values of parameters, the learning rate.
    """

    def __init__(self):
        self._key = self._kept = None

    def get(self, settings, classes, group_sizes):
        """Network, step, `EvaluationStep` and `GradientNorm` as they are at the start of a run.

        Args:
            settings (RunConfig): of the run.
            classes (int): logits of the network.
            group_sizes (list of int): training images of each distribution that the objective distinguishes.
        """
        method, num_groups = settings.method, len(group_sizes)
        set_seed(settings.seed)  # the initial weights do not depend on what was trained before
        network = create_model(settings.model, classes)
        step = build_step(network, method, num_groups, settings.seed, group_sizes)
        is_noisy = not (step.perturbation is None or step.perturbation.needs_gradient)
        key = (settings.model, classes, num_groups, *(getattr(method, option) for option in GRAPH_OPTIONS),
               method.step_options, settings.seed if is_noisy else None)
        if key != self._key:
            self._key, self._kept = key, None
            collect_graphs()
            self._kept = network, step, EvaluationStep(network), GradientNorm(network)
            return self._kept
        for kept, fresh in zip(self._kept[1].get_parameters(), step.get_parameters(), strict=True):
            ops.assign(kept, fresh)
        return self._kept

    def compile(self, settings, shape, log):
        """Compile the step, or take it from the folder of compiled ones that the settings of the run name, if they do;
        `shape` is that of an image, (C, H, W), and `log` as in `compile_cached`.
        """
        if settings.compile_cache is not None:
            step = self._kept[1]
            inputs = step.example_inputs(settings.method.batch_size, shape)
            compile_cached(step.graph, inputs, settings.compile_cache,
                           (self._key, step.accumulation_steps, bool(settings.fast_math)), log)


def load_experiment(config, load_images=load_images):
    """The data of a run.

    Args:
        config (RunConfig): of the run.
        load_images (callable): loads the images, in place of `dataset.data.load_images`.

    Returns:
        dataset.data.ExperimentData

    Raises:
        UserError: something is missing or damaged, or the options do not go with the data.
    """
    if config.split is not None and not config.has_begun:  # a run that has begun has a copy of its own
        check_sha256("--split", config.split, config.split_sha256)
    data = load_data(config.dataset, config.data_dir, config.corruption, config.num_severity, config.seed,
                     config.num_per_class, config.num_val, config.split, config.num_workers,
                     config.show_progress and distributed.is_main_process(), load_images, config.method.train_on,
                     config.val_share, **{option: getattr(config, option) for option in IMAGE_OPTIONS})
    check_fits_data(config, data)
    return data


def run(settings, data, folder, cells=None):
    """Train a method on data that are treated as it asks for, and report.

    Args:
        settings (RunConfig): what is trained, and how.
        data (dataset.data.ExperimentData): on what.
        folder (RunFolder): where the records go; a run that was begun there goes on.
        cells (StepCache or None): of runs before this one.

    Raises:
        NotFiniteError: a loss or a weight is no longer finite; the folder says so, until the run is resumed.
        UserError: a checkpoint in the folder is of something else.
        RunInterruptedError: the disk is full, or something has gone that was there when the run began.
        Interrupted: a signal has stopped the run, which can go on.
    """
    if is_finished(folder.path, settings.method.total_epoch):
        folder.log(f"{folder.path}: all epochs are done, results.json is left as it is")
        return
    with defer_signals(), with_resume_hint(folder.path), marking_failure(folder):
        treated = apply_data_strategy(settings.method, data, settings.corruption, settings.seed, folder,
                                      lambda: stage_one_logits(settings, data, folder))
        train(settings, data, folder, cells or StepCache(), **treated)


@contextlib.contextmanager
def with_resume_hint(path):
    """Have what stops the body, which is the run in the folder `path`, say how it goes on."""
    try:
        yield
    except Interrupted as stop:
        stop.way_on = f"--resume {path} goes on"
        raise
    except (OSError, ResourceGoneError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = f"{error.filename or path}: {error.strerror or error}"
        raise RunInterruptedError(f"{reason}; the run has stopped, its checkpoints are intact: when this is mended, "
                                  f"--resume {path} goes on") from error


@contextlib.contextmanager
def marking_failure(folder):
    """Have the folder of a run (`RunFolder`) say why the body, which is the run, has failed; only until it runs again.
    """
    path = folder.file(FAILED)
    if folder.writes and os.path.exists(path):
        os.remove(path)
    try:
        yield
    except NotFiniteError as error:
        if folder.writes:
            folder.note(f"failed: {error}")
            write_json(path, {"reason": str(error)})
        raise


def write_config(folder, data, config, given, device):
    """Write down what a run is; of a run that has begun, whether it has more epochs now.

    Args:
        folder (RunFolder): of the run.
        data (dataset.data.ExperimentData): it has the split.
        config (RunConfig): the settings.
        given (dict): the options that were asked for.
        device (str): on which the run begins or resumes.
    """
    stored, method = read_json(folder.file("config.json")), config.method
    workers, before = distributed.world_size(), distributed.world_size() if stored is None else stored.get("workers", 1)
    if before != workers and not method.sync_bn and model_has_batch_norm(config.model):
        folder.log(f"warning: the number of workers was {before} and is {workers} now: BatchNorm takes the statistics "
                   "of each one's part of a batch, so that from here on the run is another than it would have been")
    if stored is None:
        data.write_split(folder.file("split.csv"))
        values = {**config.to_dict(), "classes": list(data.source.class_names),
                  "fingerprints": {name: identity.to_dict() for name, identity in data.fingerprints.items()},
                  "train_on": "clean" if data.split.is_clean else "poisson"}  # a table has its own
        write_settings(folder.file("config.json"), values, method.title, given, device=device,
                       mindspore=MINDSPORE_VERSION)
        return
    first, now = (f"{name}{' with --fast_math' if fast else ''}" for name, fast in (
        (stored.get("device", device), stored.get("fast_math")), (device, config.fast_math)))
    if first != now:
        folder.log(f"warning: the run began on {first} and goes on on {now}, which rounds otherwise, so that from "
                   "here on the run is another than it would have been")
    if stored["total_epoch"] < method.total_epoch:
        folder.log(f"{method.total_epoch} epochs in place of {stored['total_epoch']}, with the learning rates "
                   "of so many from here on")
        longer = {"total_epoch": method.total_epoch}
        write_json(folder.file("config.json"), {**stored, **longer, "given": {**stored.get("given", {}), **longer}})


def stage_one_logits(settings, data, folder):
    """Logits of the first model for the training images, each at its severity, float32 (n, K); the model is read from
    the option `stage_one`, or trained with ERM in the folder `stage_one` of the run.
    """
    checkpoint = settings.method.options["stage_one"]
    if checkpoint is not None:
        check_sha256("--stage_one", checkpoint, settings.stage_one_sha256)
    else:
        epochs = settings.method.options["stage_one_epochs"]
        erm = replace(settings.method, method="erm", objective="mean", perturbation="none", num_sub_batches=1,
                      total_epoch=epochs, options={})
        first = replace(settings, method=erm, eval_every=epochs, save_last=True, keep_epochs=(), log_sharpness=None,
                        tensorboard=False)
        with open_run_folder(folder.file("stage_one")) as first_folder:
            checkpoint = first_folder.file(LAST)
            is_done = is_finished(first_folder.path) and newest_checkpoint(first_folder.path) == checkpoint
            if broadcast_text(str(is_done)) == str(False):  # who alone writes there, and may be at it
                folder.log(f"stage one: erm, {epochs} epochs")
                train(first, data, first_folder, StepCache())
    network, _ = load_network(settings.model, data.source.classes, checkpoint)
    step = EvaluationStep(network)
    logits = [predict(step, data.evaluation_batches("train", severity, settings.eval_batch_size,
                                                    settings.num_workers))[1]
              for severity, count in enumerate(data.split.counts) if count]
    logits = np.concatenate(logits)
    if not np.isfinite(logits).all():
        raise NotFiniteError(f"{checkpoint}: gives logits that are not finite for the training images; name another "
                             "first model with --stage_one, or train one with a lower --lr")
    return logits


def train(settings, data, folder, cells, **treated):
    """Train a network, from the newest checkpoint in the folder if there is one, and report.

    Args:
        settings, data, folder, cells: as in `run`.
        treated: further arguments of `dataset.batches.TrainBatches`.
    """
    method = settings.method
    environments = ENVIRONMENTS if DATA_STRATEGIES[method.data].sets_groups else 0
    group_sizes = np.bincount(treated["groups"], minlength=environments) if environments else data.split.counts
    network, step, evaluation, gradient_norm = cells.get(settings, data.source.classes, group_sizes)
    guide = None
    if method.options.get("group_loss") == "validation":
        guide, data = create_reweighter(step, evaluation, data, method.options["group_every"], settings.seed)
    recorded_norm = gradient_norm if settings.record_norm else None
    images, weights = sum(data.split.counts), sum(weight.size for weight in network.trainable_params())
    batches = images // method.batch_size
    together = f", {distributed.world_size()} workers" if distributed.world_size() > 1 else ""

    def evaluate_now():
        return {part: evaluate(evaluation, data, part, settings.eval_batch_size, settings.num_workers, recorded_norm)
                for part in ("val", "test")}

    def measure_sharpness():
        number = min(IMAGES, len(data.source.labels["test"]))
        return number, RHO, [sharpness(evaluation, gradient_norm,
                                       load_batches(array, data.source, IMAGES, settings.eval_batch_size), RHO)
                             for array in interruptible(data.images["test"])]

    def open_records():
        if not folder.writes:
            return NullRecorder(folder, step, batches, settings.log_train, settings.save_every_steps)
        return RunRecorder(
            folder, step, data.num_severity, batches, environments, settings.log_train, settings.save_every_steps,
            settings.save_best, settings.log_sharpness is not None, settings.tensorboard, keep=settings.keep,
            save_step=settings.save_step, keep_epochs=settings.keep_epochs, save_last=settings.save_last)
    with contextlib.closing(open_records()) as records:
        check_same_progress(records.start, folder.path)
        folder.log(f"{method.title}: {method.objective} x {method.perturbation}, recipe {method.recipe}, "
                   f"{method.total_epoch} epochs of {batches} batches of {method.batch_size}\n"
                   f"{' '.join(to_argv(method.training))}\n"
                   f"{settings.model} with {weights:,} weights on {settings.dataset}, "
                   f"{settings.corruption.replace('_', ' ')}, {images:,} training images, device {device()}{together}\n"
                   f"records go to {folder.path}")
        if settings.init_checkpoint is not None and records.start == Progress():
            folder.log(load_initial_weights(network, settings.init_checkpoint, settings.model, settings.init_sha256))
        if len(data.split.present) == 1 and OBJECTIVES[method.objective].reads_groups and not environments:
            folder.log(f"only severity {data.split.present[0]} has training images: {method.objective} has no "
                       "distributions to tell apart, and its averages over them reduce to the mean over the batch")
        if settings.save_every_steps is not None and settings.save_every_steps >= batches:
            folder.log(f"an epoch has {batches} batches, so that --save_every_steps {settings.save_every_steps} adds "
                       "no checkpoint to that at its end")
        if data.split.empty and not data.split.is_clean:
            folder.log(f"no training image has severity {', '.join(map(str, data.split.empty))}; more training "
                       "images give some")
        steps = range(batches * records.start.epochs + records.start.batches, batches * method.total_epoch)
        loader = data.train_batches(method.batch_size, steps, settings.seed, settings.num_workers,
                                    crop=method.crop, sampling=method.sampling, draw=method.draw, **treated)
        if steps:
            cells.compile(settings, (3, *data.source.image_size), folder.log)
        schedule = create_schedule(method.schedule, method.lr, method.total_epoch, batches, **method.schedule_options)
        results = fit(step, loader, batches, method.total_epoch, schedule, records,
                      (evaluate_now, settings.eval_every), (measure_sharpness, settings.log_sharpness),
                      weight_decay=method.weight_decay, decayed=weight_decay_mask(step.weights, method.decay),
                      gradient_norm=recorded_norm, guide=guide,
                      show_progress=settings.show_progress and folder.writes)
    if folder.writes:
        report_results(folder, run_title(method.title, settings.dataset, settings.corruption), method.total_epoch,
                       data.split, results, records.cost)
    barrier()  # others may read what this one has written


def check_same_progress(start, path):
    """Make sure that all workers begin where the first does.

    Args:
        start: what is done before.
        path (str): folder of the run.

    Raises:
        UserError: they do not.
    """
    starts = all_gather_bytes(str(start).encode())
    different = [number for number, other in enumerate(starts) if other != starts[0]]
    if different:
        raise UserError(f"{path}: worker {different[0]} does not find the checkpoint there that the first one does; "
                        "--log_dir has to be a folder that all machines share")
