"""One run, from settings and data to a trained network, its records and its report; with a stage one where the method
has one.
"""
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

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
from dataset.pipeline import load_batches
from losses.config.recipes import to_argv
from losses.config.settings import MethodConfig, resolve
from losses.create import build_step
from losses.evaluation.cells import EvaluationStep, GradientNorm
from losses.evaluation.predict import evaluate, predict
from losses.evaluation.probes import IMAGES, RHO, sharpness
from losses.methods import DATA_STRATEGIES, OBJECTIVES
from losses.optimizers import weight_decay_mask
from losses.schedules import create_schedule
from losses.training.data_strategy import apply_data_strategy
from losses.training.loop import fit
from losses.training.stage_one import ENVIRONMENTS
from losses.training.validation_weights import create_reweighter
from models import create_model
from models.stacked import model_has_batch_norm
from models.weights import load_network, load_weights
from utils.errors import NotFiniteError, ResourceGoneError, RunInterruptedError, UserError
from utils.files import file_hash, read_json, safe_filename, write_json
from utils.records.checkpoint import LAST, Progress, newest_checkpoint
from utils.records.logs import open_run_folder
from utils.records.reading import is_finished
from utils.records.run import NullRecorder, RunRecorder
from utils.records.settings import FAILED, write_settings
from utils.reports.run import report_results, run_title
from utils.runtime import distributed
from utils.runtime.compile_cache import compile_cached
from utils.runtime.signals import Interrupted, defer_signals, interruptible


@dataclass(frozen=True)
class RunConfig:
    """One run, but for its data and its folder. Fields are named as the options of `main.py`.

    Attributes:
        method (MethodConfig): the method and how it is trained.
        dataset, corruption (str): names, for the report; `corruption` is also what `corrupt_aug` and
            `rare_aug` take by default.
        model (str): name of the network, as in `models.find_model`.
        seed (int): of the initial weights, the batches and a noise.
        init_checkpoint (str or None): file with weights to start from in place of random ones, as in
            `models.weight_files.read_weights`; a first model (jtt, eiil) starts from it, too, as in JTT's paper.
        init_sha256, stage_one_sha256 (str or None): hashes of this file and of `method`'s `stage_one`, if they are to
            be checked.
        eval_batch_size, eval_every (int): images in a batch of an evaluation; epochs from one to the next.
        log_train, save_every_steps, keep, save_step, save_last, save_best, keep_epochs: as in `RunRecorder` and
            `Checkpoints`.
        log_sharpness (int or None): measure sharpness after every so many epochs.
        tensorboard (bool): write TensorBoard's format, too.
        record_norm (bool): measure gradient norms.
        num_workers (int): threads or processes that read images; does not change the result.
        show_progress (bool): show progress bars even where the output is no terminal.
        compile_cache (str or None): folder of compiled steps.
        fast_math (bool or None): how the device was set up, by which compiled steps are told apart.
    """

    method: MethodConfig = field(default_factory=resolve)
    dataset: str = "cifar10"
    corruption: str = "gaussian_noise"
    model: str = "wideresnet"
    seed: int = 0
    init_checkpoint: str | None = None
    init_sha256: str | None = None
    stage_one_sha256: str | None = None
    eval_batch_size: int = 128
    eval_every: int = 1
    log_train: int = 100
    save_every_steps: int | None = None
    keep: int = 2
    save_step: int = 50
    save_last: bool = False
    save_best: bool = False
    keep_epochs: Sequence[int] = ()
    log_sharpness: int | None = None
    tensorboard: bool = False
    record_norm: bool = False
    num_workers: int = 1
    show_progress: bool = False
    compile_cache: str | None = None
    fast_math: bool | None = None

    @classmethod
    def of(cls, values):
        """The settings among the values of all options (dict)."""
        own = {field.name: values[field.name] for field in fields(cls) if field.name != "method"}
        return cls(method=MethodConfig.of(values), **own)

    def folder_name(self, description, num_severity):
        """Name of the run's folder, which begins as the release's files do."""
        method = self.method.title.replace(" x ", "-").replace(" ", "-")
        return (f"{description}_dset{self.dataset}_sever{num_severity}_corr{self.corruption}_{method}_"
                f"{safe_filename(self.model)}_seed{self.seed}")


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
        key = (settings.model, classes, num_groups, method.objective, method.perturbation, method.step_options,
               method.optimizer, method.momentum, method.nesterov, method.clip_norm, method.weight_decay, method.decay,
               method.num_sub_batches, method.sync_bn, method.batch_size, settings.seed if is_noisy else None)
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


def write_config(folder, data, values, given, device):
    """Write down what a run is; if that was done before, whether it has more epochs now.

    Args:
        folder (RunFolder): of the run.
        data (dataset.data.ExperimentData): it has the split.
        values (dict): all options to their values.
        given (dict): those that were asked for.
        device (str): on which it begins or goes on.
    """
    config = read_json(folder.file("config.json"))
    before = distributed.world_size() if config is None else config.get("workers", 1)
    if before != distributed.world_size() and not values["sync_bn"] and model_has_batch_norm(values["model"]):
        folder.log(f"warning: the number of workers was {before} and is {distributed.world_size()} now: BatchNorm "
                   "takes the statistics of each one's part of a batch, so that from here on the run is another than "
                   "it would have been")
    if config is not None:
        first, now = (f"{name}{' with --fast_math' if fast else ''}" for name, fast in (
            (config.get("device", device), config.get("fast_math")), (device, values["fast_math"])))
        if first != now:
            folder.log(f"warning: the run began on {first} and goes on on {now}, which rounds otherwise, so that from "
                       "here on the run is another than it would have been")
        if config["total_epoch"] < values["total_epoch"]:
            folder.log(f"{values['total_epoch']} epochs in place of {config['total_epoch']}, with the learning rates "
                       "of so many from here on")
            longer = {"total_epoch": values["total_epoch"]}
            write_json(folder.file("config.json"), {**config, **longer, "given": {**config.get("given", {}), **longer}})
    else:
        data.write_split(folder.file("split.csv"))
        source = data.source
        values = {**values, "classes": list(source.class_names),
                  "fingerprints": {name: found.to_dict() for name, found in data.fingerprints.items()},
                  "train_on": "clean" if data.split.is_clean else "poisson"}  # a table has its own
        write_settings(folder.file("config.json"), values, MethodConfig.of(values).title, given,
                       device=device, mindspore=MINDSPORE_VERSION)


def load_initial_weights(network, path, what, sha256=None):
    """Give a network the weights in a file, but for a classifier of another number of classes.

    Args:
        network (nn.Cell): as it is initialised.
        path (str): the file, as in `models.weight_files.read_weights`.
        what (str): the network's name, for errors.
        sha256 (str or None): the hash that it must have.

    Returns:
        str: a line about it.

    Raises:
        UserError: it is missing, damaged, of another network, or has changed.
    """
    check_sha256("--init_checkpoint", path, sha256)
    weights, fresh = load_weights(network, path, what, fresh_classifier=True)
    line = f"starts from the weights in {path}"
    if weights.elsewhere:
        line += f"; {weights.about_prefix}"
    elif weights.prefix:
        line += f", without the {weights.prefix} before every name"
    if fresh:
        shapes = {parameter.name: parameter.shape for parameter in network.get_parameters()}
        line += (f"; its classifier has {len(weights.tensors[fresh[0]].array)} classes and here are "
                 f"{shapes[fresh[0]][0]}: {', '.join(fresh)} start afresh")
    return line


def check_sha256(flag, path, sha256):
    """Make sure that a file is there, with this hash unless that is None.

    Raises:
        UserError: it is not; the text names `flag`.
    """
    if not os.path.isfile(path):
        raise UserError(f"{flag} {path}: no such file; put it back")
    if sha256 not in (None, file_hash(path)):
        raise UserError(f"{flag} {path}: has changed since this run was begun; put the file back that it was, or begin "
                        "another run")


def check_weights(model, classes, init_checkpoint=None, stage_one=None):
    """Make sure that the files from which a run takes weights are of its network, before it begins.

    Args:
        model (str): as in `models.find_model`.
        classes (int): logits.
        init_checkpoint, stage_one (str or None): the files.

    Raises:
        UserError: one is missing, damaged, or of another network.
    """
    if init_checkpoint is not None:
        load_initial_weights(create_model(model, classes), init_checkpoint, f"{model} with {classes} classes")
    if stage_one is not None:
        load_network(model, classes, stage_one)


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
