"""The records of a run in progress, written in an order that allows a killed run to resume."""
import os

import numpy as np

from utils.records.checkpoint import Checkpoints, Progress, checkpoint_to_resume, load_checkpoint
from utils.records.cost import ResourceUsage, duration, percentages
from utils.records.logs import EvaluationLog, SharpnessLog, TrainLog
from utils.records.tensorboard import TensorBoard

STAGE_ONE_RESULTS = os.path.join("stage_one", "results.json")  # the first model of `jtt` and `eiil`
BEST = {"mean": np.mean, "worst": np.min}  # over the accuracies at all severities


class RunRecorder:
    """CSV files, checkpoints and the text log of one training. The newest checkpoint, if there is one, is loaded.

    Args:
        folder (RunFolder): folder of the run, for all of these files.
        step (TrainStep): the train step.
        num_severity (int): number of distributions, including the clean one.
        steps_per_epoch (int): number of batches in an epoch.
        environments (int): as in `TrainLog`.
        log_train (int): interval in batches of the rows of `train.csv`; the last batch of an epoch has a row, too.
        checkpoint_every (int or None): interval in batches of checkpoints within an epoch, besides the one at its end.
        best_by (str or None): what replaces `best_model.ckpt` when it rises on validation images: the 'mean' accuracy
            over the severities, or the accuracy at the 'worst' severity. None keeps no such file.
        measures_sharpness (bool): whether to write `sharpness.csv`.
        tensorboard (bool): whether to write TensorBoard's format, too.
        table (ProgressTable or None): the table on the terminal; None prints nothing after an epoch.
        weight_decay, decay_mask: as in `TrainLog`.
        checkpoint_options: further arguments of `Checkpoints`.

    Attributes:
        start (Progress): the progress when these records were opened.
    """

    def __init__(self, folder, step, num_severity, steps_per_epoch, environments=0, log_train=100,
                 checkpoint_every=None, best_by=None, measures_sharpness=False, tensorboard=False, table=None,
                 weight_decay=0.0, decay_mask=None, **checkpoint_options):
        self.folder, self.step, self.log_train = folder, step, log_train
        self.steps_per_epoch = steps_per_epoch
        self.checkpoint_every, self.best_by, self.table = checkpoint_every, best_by, table
        checkpoint = checkpoint_to_resume(folder.path)
        self.start = start = load_checkpoint(step, checkpoint) if checkpoint else Progress()
        self.skipped_steps = 0 if step.scaling is None else int(step.scaling.skipped_steps.asnumpy())
        self.cost = ResourceUsage(folder.file("cost.json"), checkpoint is not None, folder.file(STAGE_ONE_RESULTS))
        self.tensorboard = tensorboard and TensorBoard(folder.file("tensorboard"), steps_per_epoch, start)
        self.train_log = TrainLog(folder.file("train.csv"), num_severity, start, environments,
                                  self.tensorboard and self.tensorboard.write_batch, weight_decay, decay_mask)
        self.evaluation_logs = {part: EvaluationLog(folder, part, num_severity, start) for part in ("val", "test")}
        self.sharpness_log = measures_sharpness and SharpnessLog(folder.file("sharpness.csv"), num_severity, start)
        self.logs = [log for log in (self.train_log, *self.evaluation_logs.values(), self.sharpness_log) if log]
        self.checkpoints = Checkpoints(folder.path, **checkpoint_options)
        self.best, best_epoch = self.evaluation_logs["val"].best(BEST[best_by or "mean"])
        if checkpoint:
            is_best = best_by is not None and not start.batches and best_epoch == start.epochs - 1
            self.checkpoints.finish_and_prune(checkpoint, start, is_best)
            folder.log(f"resumed after {start}, from {checkpoint}")

    def close(self):
        """Close all logs."""
        for log in (*self.logs, self.tensorboard):
            if log:
                log.close()

    def logs_batch(self, batch):
        """Whether batch number `batch` of an epoch has a row in `train.csv`."""
        return batch % self.log_train == 0 or batch == self.steps_per_epoch - 1

    def saves_batch(self, done):
        """Whether to write a checkpoint after `done` batches of an epoch. The end of the epoch does not count here."""
        return self.checkpoint_every is not None and done % self.checkpoint_every == 0 and done < self.steps_per_epoch

    def save(self, progress, is_best=False):
        """Write a checkpoint and the copies of it that are due. Return its path."""
        for log in self.logs:  # synced first, so that a checkpoint is never ahead of the logs
            log.sync()
        path = self.checkpoints.save(self.step, progress, is_best)
        self.cost.save()
        return path

    def end_epoch(self, epoch, total_epoch, rate, loss, results, sharpness=None, steps_per_second=None):
        """Write the records of an epoch, and a checkpoint.

        Args:
            epoch (int): number of the epoch, from 0.
            total_epoch (int): number of epochs of the run.
            rate, loss (float): learning rate and mean loss of the epoch.
            results (dict): 'val' and 'test' to a list of `SeverityResult`; empty if the epoch was not evaluated.
            sharpness (tuple or None): sharpness after this epoch, as arguments of `SharpnessLog.write_epoch`.
            steps_per_second (float or None): speed of the training in this epoch; None if it is not known.
        """
        message = f"epoch {epoch}  lr {rate:.4g}  loss {loss:.4f}"
        for part, log in self.evaluation_logs.items():
            if part in results:
                log.write(epoch, self.steps_per_epoch, results[part])
                message += f"  {part} {percentages(results[part])}"
        scaling, skipped = self.step.scaling, 0
        if scaling is not None:
            skipped = int(scaling.skipped_steps.asnumpy()) - self.skipped_steps
            self.skipped_steps += skipped
            message += (f"  loss scale {scaling.loss_scale.asnumpy():g}, {skipped} of {self.steps_per_epoch} steps "
                        "skipped")
        if sharpness:
            self.sharpness_log.write_epoch(epoch, *sharpness)
        is_best = False
        if results:
            value = BEST[self.best_by or "mean"]([result.accuracy for result in results["val"]])
            is_best = bool(value > self.best)
            self.best = max(self.best, value)
        if self.tensorboard:
            for part, rows in results.items():
                for metric in ("accuracy", "loss", "gradient_norm"):
                    self.tensorboard.write_epoch(part, epoch, {f"{metric}_{s}": getattr(row, metric)
                                                               for s, row in enumerate(rows)})
            self.tensorboard.write_epoch("sharpness", epoch, dict(enumerate(sharpness[-1])) if sharpness else {})
        done = epoch + 1 - self.start.epochs - self.start.batches / self.steps_per_epoch
        seconds_left = self.cost.session_seconds / max(done, 1 / self.steps_per_epoch) * (total_epoch - epoch - 1)
        message += f"  {self.cost.totals()['seconds']:.0f} s"
        self.folder.note(f"{message}, {duration(seconds_left)} left" if seconds_left else message)
        if self.table is not None:
            self.folder.show(self.table.row(epoch, rate, loss, results, is_best, steps_per_second, seconds_left))
        if skipped:
            self.folder.show(f"{skipped} of {self.steps_per_epoch} steps overflowed float16 and were skipped (--amp); "
                             f"the loss scale is {scaling.loss_scale.asnumpy():g}")
        self.save(Progress(epoch + 1), is_best and self.best_by is not None)


class NullRecorder(RunRecorder):
    """A `RunRecorder` for ranks other than 0: it starts from the same progress as rank 0, and writes nothing.

    Args:
        folder (ReadOnlyRunFolder): folder into which rank 0 writes.
        step, steps_per_epoch, log_train, checkpoint_every: as in `RunRecorder`.
    """

    cost = None

    def __init__(self, folder, step, steps_per_epoch, log_train, checkpoint_every):
        self.folder, self.train_log = folder, self
        self.log_train, self.checkpoint_every = log_train, checkpoint_every
        self.steps_per_epoch = steps_per_epoch
        checkpoint = checkpoint_to_resume(folder.path)
        self.start = load_checkpoint(step, checkpoint) if checkpoint else Progress()

    def save(self, *_):
        """Do nothing, because rank 0 saves."""

    def write_batch(self, *_):
        """Do nothing, because rank 0 writes."""

    def end_epoch(self, *_):
        """Do nothing, because rank 0 writes."""

    def close(self):
        """Do nothing, because no file is open."""
