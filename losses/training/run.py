"""One run, from settings and data to a trained network, its records and its report.

The run includes a stage one if the method has one.
"""
import contextlib
import os
import traceback
from dataclasses import replace
from functools import partial

import numpy as np
from tqdm import tqdm

from utils.runtime.device import all_gather_bytes, barrier, broadcast_text, device
from corruptions.utils.errors import ResourceGoneError, UserError
from corruptions.utils.files import write_json
from corruptions.utils.signals import Interrupted, defer_signals, interruptible
from dataset.pipeline import load_batches
from losses.components import DATA_STRATEGIES, OBJECTIVES, OPTIMIZERS
from losses.config.recipes import option_texts
from losses.config.resolve import resolve
from losses.evaluation.cells import EvaluationStep
from losses.evaluation.predict import evaluate, predict
from losses.evaluation.probes import sharpness
from losses.optimizers import weight_decay_mask
from losses.schedules import SCHEDULES, create_schedule
from losses.training.data_strategy import apply_data_strategy
from losses.training.loop import fit
from losses.training.stage_one import ENVIRONMENTS
from losses.training.step_cache import StepCache
from losses.training.validation_weights import create_reweighter
from models.dropout import find_dropout
from models.initial_weights import check_sha256, load_initial_weights, normalisation_note
from models.loading import load_network
from utils.errors import NotFiniteError, RunInterruptedError
from utils.metrics import SHARPNESS_IMAGES, SHARPNESS_RHO
from utils.records.checkpoint import LAST, Progress, newest_checkpoint
from utils.records.logs import open_run_folder
from utils.records.progress_table import ProgressTable
from utils.records.reading import is_finished
from utils.records.run import NullRecorder, RunRecorder
from utils.records.settings import FAILED
from utils.reports.run import report_results, run_title
from utils.runtime import distributed


def run(config, data, folder, cells=None):
    """Train a method on data that its data strategy has treated, and report.

    Args:
        config (RunConfig): settings of the run.
        data (dataset.data.ExperimentData): data of the run.
        folder (RunFolder): folder of the records; a run that was begun there is resumed.
        cells (StepCache or None): cells of earlier runs.

    Raises:
        NotFiniteError: a loss or a weight is no longer finite; the folder says so, until the run is resumed.
        UserError: a checkpoint in the folder is of something else.
        RunInterruptedError: the disk is full, or something is missing that was there when the run began.
        Interrupted: a signal has stopped the run, which can be resumed.
    """
    # A --split table decides it.
    config = replace(config, method=replace(config.method, train_on=data.split.train_on))
    if is_finished(folder.path, config.method.total_epoch):
        folder.log(f"{folder.path}: all epochs are done, results.json is left as it is")
        return
    # Only the main process stops at a signal. It holds what must be saved, and then ends the other processes, which
    # cannot take another step alone.
    with defer_signals(raises=distributed.is_main_process()), with_resume_hint(folder.path), marking_failure(folder):
        batch_options = apply_data_strategy(config.method, data, config.corruption, config.seed, folder,
                                            lambda: stage_one_logits(config, data, folder))
        train(config, data, folder, cells or StepCache(), **batch_options)


@contextlib.contextmanager
def with_resume_hint(path):
    """Add a hint how to resume to an error that stops the body, which is the run in the folder `path`."""
    try:
        yield
    except Interrupted as stop:
        stop.resume_hint = f"--resume {path} resumes it"
        raise
    except (OSError, ResourceGoneError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = f"{error.filename or path}: {error.strerror or error}"
        raise RunInterruptedError(f"{reason}; the run has stopped, its checkpoints are intact: when this is mended, "
                                  f"--resume {path} resumes it") from error


@contextlib.contextmanager
def marking_failure(folder):
    """Record in the folder of a run (`RunFolder`) why the body, which is the run, has failed, until it runs again."""
    path = folder.file(FAILED)
    if folder.is_writable and os.path.exists(path):
        os.remove(path)
    try:
        yield
    except NotFiniteError as error:
        if folder.is_writable:
            folder.note(f"failed: {error}")
            write_json(path, {"reason": str(error)})
        raise
    except UserError as error:  # such as a damaged image
        if folder.is_writable:
            folder.note(f"stopped: {error}")
        raise
    except (RuntimeError, TypeError, ValueError):  # MindSpore's, of which a comparison prints one line
        if folder.is_writable:
            folder.note(f"failed:\n{traceback.format_exc()}")
        raise


def stage_one_logits(config, data, folder):
    """Return the first model's logits for the training images, each at its severity, float32 (n, K).

    The first model is read from the checkpoint in the option `stage_one`, or trained with ERM in the folder `stage_one`
    of the run.
    """
    checkpoint = config.method.options["stage_one"]
    if checkpoint is not None:
        check_sha256("--stage_one", checkpoint, config.stage_one_sha256)
    else:
        epochs = config.method.options["stage_one_epochs"]
        erm = replace(config.method, method="erm", objective="mean", perturbation="none", num_sub_batches=1,
                      total_epoch=epochs, options={})
        first = replace(config, method=erm, eval_every=epochs, save_last=True, keep_epochs=(), log_sharpness=None,
                        tensorboard=False)
        with open_run_folder(folder.file("stage_one")) as first_folder:
            checkpoint = first_folder.file(LAST)
            is_done = is_finished(first_folder.path) and newest_checkpoint(first_folder.path) == checkpoint
            if broadcast_text(str(is_done)) == str(False):  # rank 0 decides: it alone writes there, and may be at it
                folder.log(f"stage one: erm, {epochs} epochs")
                train(first, data, first_folder, StepCache())
    network, _ = load_network(config.model, data.source.classes, checkpoint)
    step = EvaluationStep(network)
    logits = [predict(step, data.evaluation_batches("train", severity, config.eval_batch_size,
                                                    config.num_workers))[1]
              for severity, count in enumerate(data.split.counts) if count]
    logits = np.concatenate(logits)
    if not np.isfinite(logits).all():
        raise NotFiniteError(f"{checkpoint}: gives logits that are not finite for the training images; name another "
                             "first model with --stage_one, or train one with a lower --lr")
    return logits


def train(config, data, folder, cells, **batch_options):
    """Train a network, from the newest checkpoint in the folder if there is one, and report.

    Args:
        config, data, folder, cells: as in `run`.
        batch_options: further arguments of `dataset.batches.TrainBatches`.
    """
    method = config.method
    environments = ENVIRONMENTS if DATA_STRATEGIES[method.data].replaces_groups else 0
    group_sizes = np.bincount(batch_options["groups"], minlength=environments) if environments else data.split.counts
    network, step, evaluation, gradient_norm = cells.get(config, data.source.classes, group_sizes)
    reweighter = None
    if method.options.get("group_loss") == "validation":
        reweighter, data = create_reweighter(step, evaluation, data, method.options["group_update_every"], config.seed)
    recorded_norm = gradient_norm if config.record_norm else None
    steps_per_epoch = sum(data.split.counts) // method.batch_size
    with contextlib.closing(open_records(config, data, folder, step, steps_per_epoch, environments)) as records:
        check_same_progress(records.start, folder.path)
        log_start(config, data, folder, network, steps_per_epoch, environments)
        if config.init_checkpoint is not None and records.start == Progress():
            folder.log(load_initial_weights(network, config.init_checkpoint, config.model, config.init_sha256))
            note = normalisation_note(config.init_checkpoint, data.source.mean, data.source.std)
            if note:
                folder.log(note)
        first_step = steps_per_epoch * records.start.epochs + records.start.batches
        steps = range(first_step, steps_per_epoch * method.total_epoch)
        loader = data.train_batches(method.batch_size, steps, config.seed, config.num_workers,
                                    crop=method.crop, crop_area=method.crop_area, rand_augment=method.rand_augment,
                                    mixup=method.mixup, sampling=method.sampling, sampler=method.sampler,
                                    **batch_options)
        if steps:
            if not step.is_compiled:
                folder.show("compiling the step (once) ...")
            cells.compile(config, (3, *data.source.image_size), folder.log)
        schedule = create_schedule(method.schedule, method.lr, method.total_epoch, steps_per_epoch,
                                   **method.schedule_options)
        results = fit(step, loader, steps_per_epoch, method.total_epoch, schedule, records,
                      partial(evaluate_parts, config, data, folder, evaluation, recorded_norm), config.eval_every,
                      partial(measure_sharpness, config, data, evaluation, gradient_norm), config.log_sharpness,
                      gradient_norm=recorded_norm, reweighter=reweighter,
                      show_progress=config.show_progress and folder.is_writable)
    if folder.is_writable:
        report_results(folder, run_title(method.title, config.dataset, config.corruption), method.total_epoch,
                       data.split, results, records.cost)
    barrier()  # other ranks may read the files that this rank has written


def open_records(config, data, folder, step, steps_per_epoch, environments):
    """Return the `RunRecorder` of a run; on ranks other than 0, a recorder that writes nothing."""
    if not folder.is_writable:
        return NullRecorder(folder, step, steps_per_epoch, config.log_train, config.checkpoint_every)
    return RunRecorder(
        folder, step, data.num_severity, steps_per_epoch, environments, config.log_train, config.checkpoint_every,
        config.best_by if config.save_best else None, config.log_sharpness is not None, config.tensorboard,
        ProgressTable(config.method.total_epoch, config.method.batch_size, config.verbose),
        weight_decay=config.method.weight_decay,
        decay_mask=weight_decay_mask(step.weights, config.method.weight_decay_on),
        keep_last=config.keep_last, save_step=config.save_step, keep_epochs=config.keep_epochs,
        save_last=config.save_last)


def log_start(config, data, folder, network, steps_per_epoch, environments):
    """Print what a run trains, and notes about options that have no effect on its data or network."""
    method, split = config.method, data.split
    weights = sum(weight.size for weight in network.trainable_params())
    together = f", {distributed.world_size()} workers" if distributed.world_size() > 1 else ""
    folder.log(f"{method.title} ({method.objective} x {method.perturbation}), "
               f"{describe_recipe(method, config.dataset)}\n"
               f"{method.total_epoch} epochs of {steps_per_epoch} batches of {method.batch_size} images\n"
               f"{config.model} ({weights:,} weights) on {config.dataset} with {config.corruption}\n"
               f"{sum(split.counts):,} training images, device {device()}{together}\n"
               f"folder: {folder.path}")
    folder.note(" ".join(option_texts(method.training)))
    dropout = find_dropout(network)
    if dropout is not None:
        folder.log(f"warning: {dropout}, and no checkpoint has the state of its random numbers: if this run is "
                   "resumed, it ends with other weights than a run without interruption")
    if len(split.nonempty_severities) == 1 and OBJECTIVES[method.objective].reads_groups and not environments:
        folder.log(f"only severity {split.nonempty_severities[0]} has training images: {method.objective} has "
                   "no distributions to tell apart, and its averages over them reduce to the mean over the batch")
    if config.checkpoint_every is not None and config.checkpoint_every >= steps_per_epoch:
        folder.log(f"an epoch has {steps_per_epoch} batches, so that --checkpoint_every {config.checkpoint_every} "
                   "adds no checkpoint to that at its end")
    if split.empty and not split.is_clean:
        folder.log(f"no training image has severity {', '.join(map(str, split.empty))}; more training "
                   "images give some")


def evaluate_parts(config, data, folder, evaluation, gradient_norm):
    """Return 'val' and 'test' to a list of `SeverityResult` of the present weights (dict).

    Args:
        config, data, folder: as in `run`.
        evaluation (EvaluationStep): the network in evaluation mode.
        gradient_norm (GradientNorm or None): measure of gradient norms.
    """
    is_hidden = not folder.is_writable or (False if config.show_progress else None)  # None: without a terminal
    with tqdm(total=2 * data.num_severity, desc="evaluating", unit=" sets", leave=False, disable=is_hidden) as bar:
        return {part: evaluate(evaluation, data, part, config.eval_batch_size, config.num_workers, gradient_norm,
                               bar.update) for part in ("val", "test")}


def measure_sharpness(config, data, evaluation, gradient_norm):
    """Return the sharpness of the present weights at every severity, as arguments of `SharpnessLog.write_epoch`."""
    number = min(SHARPNESS_IMAGES, len(data.source.labels["test"]))
    batches = (load_batches(images, data.source, SHARPNESS_IMAGES, config.eval_batch_size)
               for images in interruptible(data.images["test"]))
    return number, SHARPNESS_RHO, [sharpness(evaluation, gradient_norm, batch, SHARPNESS_RHO) for batch in batches]


def describe_recipe(method, dataset):
    """Return the recipe of a `MethodConfig`, and the options of the training that differ from it, as text.

    The numbers of epochs and of images in a batch are left out.
    """
    resolved = resolve(method.method, dataset, recipe=method.recipe, objective=method.objective,
                       perturbation=method.perturbation)
    recipe = {**OPTIMIZERS[method.optimizer].defaults, **SCHEDULES[method.schedule].defaults, **resolved.training}
    different = {option: value for option, value in method.training.items()
                 if recipe.get(option) != value and option not in ("total_epoch", "batch_size")}
    return f"recipe {method.recipe}{' with ' if different else ''}{' '.join(option_texts(different))}"


def check_same_progress(start, path):
    """Check that all ranks begin at the same progress as rank 0.

    Args:
        start (Progress): progress of this rank.
        path (str): folder of the run.

    Raises:
        UserError: the progress of a rank differs.
    """
    starts = all_gather_bytes(str(start).encode())
    different = [rank for rank, progress in enumerate(starts) if progress != starts[0]]
    if different:
        raise UserError(f"{path}: worker {different[0]} does not find the checkpoint there that the first one does; "
                        "--log_dir has to be a folder that all machines share")
