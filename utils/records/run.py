"""The records of a run that is under way, written in an order that lets a run that is killed go on."""
import numpy as np

from utils.records.checkpoint import Checkpoints, Progress, load_checkpoint, newest_checkpoint
from utils.records.cost import ResourceUsage, duration, percentages
from utils.records.logs import EvaluationLog, SharpnessLog, TrainLog
from utils.records.tensorboard import TensorBoard


class RunRecorder:
    """CSV files, checkpoints and the text log of one training, whose newest checkpoint, if there is one, is loaded.

    Args:
        folder (RunFolder): where all of it goes.
        step (TrainStep): what is trained.
        num_severity (int): number of distributions, the clean one included.
        batches (int): batches in an epoch.
        environments (int): as in `TrainLog`.
        log_train (int): a row of `train.csv` at every so many batches of an epoch, and at its last.
        save_every_steps (int or None): a checkpoint at every so many batches of an epoch, besides that at its end.
        save_best (bool): renew `best_model.ckpt` when the mean validation accuracy over the severities rises.
        measures_sharpness (bool): there will be a `sharpness.csv`.
        tensorboard (bool): write TensorBoard's format, too.
        kept: what else `Checkpoints` takes.

    Attributes:
        start (Progress): what was done when these records were opened.
    """

    def __init__(self, folder, step, num_severity, batches, environments=0, log_train=100, save_every_steps=None,
                 save_best=False, measures_sharpness=False, tensorboard=False, **kept):
        self.folder, self.step, self.batches, self.log_train = folder, step, batches, log_train
        self.save_every_steps, self.save_best = save_every_steps, save_best
        checkpoint = newest_checkpoint(folder.path)
        self.start = start = load_checkpoint(step, checkpoint) if checkpoint else Progress()
        self.cost = ResourceUsage(folder.file("cost.json"), checkpoint is not None)
        self.tensorboard = tensorboard and TensorBoard(folder.file("tensorboard"), batches, start)
        self.train_log = TrainLog(folder.file("train.csv"), num_severity, start, environments,
                                  self.tensorboard and self.tensorboard.write_batch)
        self.evaluation_logs = {part: EvaluationLog(folder, part, num_severity, start) for part in ("val", "test")}
        self.sharpness_log = measures_sharpness and SharpnessLog(folder.file("sharpness.csv"), num_severity, start)
        self.logs = [log for log in (self.train_log, *self.evaluation_logs.values(), self.sharpness_log) if log]
        self.checkpoints = Checkpoints(folder.path, **kept)
        self.best, best_epoch = self.evaluation_logs["val"].best()
        if checkpoint:
            is_best = save_best and not start.batches and best_epoch == start.epochs - 1
            self.checkpoints.complete(checkpoint, start, is_best)
            folder.log(f"resumed after {start}, from {checkpoint}")

    def close(self):
        """Nothing follows."""
        for log in (*self.logs, self.tensorboard):
            if log:
                log.close()

    def is_logged(self, batch):
        """Whether batch number `batch` of an epoch has a row in `train.csv`."""
        return batch % self.log_train == 0 or batch == self.batches - 1

    def is_saved(self, done):
        """Whether there is a checkpoint once so many batches of an epoch are done, all its batches aside."""
        return self.save_every_steps is not None and done % self.save_every_steps == 0 and done < self.batches

    def save(self, progress, is_best=False):
        """Write a checkpoint at a point of the training, and those that are copies of it; returns its path."""
        for log in self.logs:  # first, so that a checkpoint never knows more than they
            log.sync()
        path = self.checkpoints.save(self.step, progress, is_best)
        self.cost.save()
        return path

    def end_epoch(self, epoch, total_epoch, rate, loss, results, sharpness=None):
        """Write down an epoch.

        Args:
            epoch (int): its number, from 0.
            total_epoch (int): how many there are.
            rate, loss (float): its learning rate and mean loss.
            results (dict): 'val' and 'test' to a list of `SeverityResult`; empty where the epoch was not evaluated.
            sharpness (tuple or None): of after this epoch, as `SharpnessLog.write_epoch` takes it.
        """
        message = f"epoch {epoch}  lr {rate:.4g}  loss {loss:.4f}"
        for part, log in self.evaluation_logs.items():
            if part in results:
                log.write(epoch, self.batches, results[part])
                message += f"  {part} {percentages(results[part])}"
        if sharpness:
            self.sharpness_log.write_epoch(epoch, *sharpness)
        is_best = False
        if results:
            mean = np.mean([result.accuracy for result in results["val"]])
            is_best = self.save_best and mean > self.best
            self.best = max(self.best, mean)
        if self.tensorboard:
            for part, rows in results.items():
                for what in ("accuracy", "loss", "gradient_norm"):
                    self.tensorboard.write_epoch(part, epoch, {f"{what}_{s}": getattr(row, what)
                                                               for s, row in enumerate(rows)})
            self.tensorboard.write_epoch("sharpness", epoch, dict(enumerate(sharpness[-1])) if sharpness else {})
        done = epoch + 1 - self.start.epochs - self.start.batches / self.batches
        left = self.cost.session_seconds / max(done, 1 / self.batches) * (total_epoch - epoch - 1)
        message += f"  {self.cost.so_far()['seconds']:.0f} s"
        self.folder.log(f"{message}, {duration(left)} left" if left else message)
        self.save(Progress(epoch + 1), is_best)


class NullRecorder(RunRecorder):
    """A `RunRecorder` of processes other than the first: it begins where the first does, and writes nothing.

    Args:
        folder (ReadOnlyRunFolder): where the first worker writes.
        step, batches, log_train, save_every_steps: as in `RunRecorder`.
    """

    cost = None

    def __init__(self, folder, step, batches, log_train, save_every_steps):
        self.folder, self.train_log = folder, self
        self.batches, self.log_train, self.save_every_steps = batches, log_train, save_every_steps
        checkpoint = newest_checkpoint(folder.path)
        self.start = load_checkpoint(step, checkpoint) if checkpoint else Progress()

    def save(self, *_):
        """The first worker does."""

    def write_batch(self, *_):
        """The first worker does."""

    def end_epoch(self, *_):
        """The first worker does."""

    def close(self):
        """Nothing was open."""
