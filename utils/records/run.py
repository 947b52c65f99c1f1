"""The records of a run that is under way, written in an order that lets a run that is killed go on."""
import numpy as np

from utils.records.checkpoint import Checkpoints, load_checkpoint, newest_checkpoint
from utils.records.logs import EvaluationLog, SharpnessLog, TrainLog
from utils.records.report import Cost, duration, percentages
from utils.records.tensorboard import TensorBoard


class RunRecords:
    """CSV files, checkpoints and the text log of one training, whose newest checkpoint, if there is one, is loaded.

    Args:
        folder (RunFolder): where all of it goes.
        step (TrainStep): what is trained.
        num_severity (int): number of distributions, the clean one included.
        environments (int): as of `TrainLog`.
        log_train (int): a row of `train.csv` at every so many batches of an epoch.
        save_step, save_last: as of `Checkpoints`.
        save_best (bool): renew `best_model.ckpt` when the mean validation accuracy over the severities rises.
        keep_epochs (list of int): as of `Checkpoints`.
        measures_sharpness (bool): there will be a `sharpness.csv`.
        tensorboard (int or None): write TensorBoard's format, too, for epochs of so many batches.

    Attributes:
        start (int): number of epochs that are done.
    """

    def __init__(self, folder, step, num_severity, environments=0, log_train=100, save_step=50, save_last=False,
                 save_best=False, keep_epochs=(), measures_sharpness=False, tensorboard=None):
        self.folder, self.step, self.log_train, self.save_best = folder, step, log_train, save_best
        checkpoint = newest_checkpoint(folder.path)
        self.start = load_checkpoint(step, checkpoint) if checkpoint else 0
        self.cost = Cost(folder.file("cost.json"), self.start > 0)
        self.tensorboard = tensorboard and TensorBoard(folder.file("tensorboard"), tensorboard, self.start)
        self.train_log = TrainLog(folder.file("train.csv"), num_severity, self.start, environments,
                                  self.tensorboard and self.tensorboard.write_batch)
        self.evaluation_logs = {part: EvaluationLog(folder, part, num_severity, self.start) for part in ("val", "test")}
        self.sharpness_log = measures_sharpness and SharpnessLog(folder.file("sharpness.csv"), num_severity, self.start)
        self.logs = [log for log in (self.train_log, *self.evaluation_logs.values(), self.sharpness_log) if log]
        self.checkpoints = Checkpoints(folder.path, save_step, save_last, keep_epochs)
        self.best, best_epoch = self.evaluation_logs["val"].best()
        if checkpoint:
            self.checkpoints.complete(checkpoint, self.start - 1, save_best and best_epoch == self.start - 1)
            folder.log(f"resumed after epoch {self.start - 1}, from {checkpoint}")

    def close(self):
        """Nothing follows."""
        for log in (*self.logs, self.tensorboard):
            if log:
                log.close()

    def is_logged(self, batch):
        """Whether batch number `batch` of an epoch has a row in `train.csv`."""
        return batch % self.log_train == 0

    def end_epoch(self, epoch, total_epoch, batches, rate, loss, results, sharpness=None):
        """Write down an epoch.

        Args:
            epoch (int): its number, from 0.
            total_epoch (int): how many there are.
            batches (int): batches that it had.
            rate, loss (float): its learning rate and mean loss.
            results (dict): 'val' and 'test' to a list of `Result`; empty where the epoch was not evaluated.
            sharpness (tuple or None): of after this epoch, as `SharpnessLog.write_epoch` takes it.
        """
        message = f"epoch {epoch}  lr {rate:.4g}  loss {loss:.4f}"
        for part, log in self.evaluation_logs.items():
            if part in results:
                log.write(epoch, batches, results[part])
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
        left = self.cost.session_seconds / (epoch + 1 - self.start) * (total_epoch - epoch - 1)
        message += f"  {self.cost.so_far()['seconds']:.0f} s"
        self.folder.log(f"{message}, {duration(left)} left" if left else message)
        if self.checkpoints.due(epoch, is_best):
            for log in self.logs:
                log.sync()
            self.checkpoints.save(self.step, epoch, is_best)
            self.cost.save()
