"""The records of a run: its folder, its text log and its CSV files."""
import contextlib
import csv
import glob
import math
import os
import sys

import numpy as np

from utils.runtime.device import broadcast_text
from corruptions.utils.files import TMP_MARK, with_filename, write_csv
from corruptions.utils.locks import file_lock
from utils.metrics import group_means
from utils.runtime.distributed import is_main_process


def new_folder(log_dir, name):
    """Make the folder `LOG_DIR/NAME`, or `LOG_DIR/NAME_2`, `_3`, ... if earlier runs have taken the name.

    Args:
        log_dir (str): an existing folder.
        name (str): name of the run.

    Returns:
        str: path of the folder.
    """
    number = 1
    while True:
        path = os.path.join(log_dir, name if number == 1 else f"{name}_{number}")
        try:
            os.mkdir(path)
            return path
        except FileExistsError:
            number += 1


def close(file):
    """Close a file. A failed write, for example to a full disk, has already been reported when it was tried."""
    with contextlib.suppress(OSError):
        file.close()


class RunFolder(contextlib.AbstractContextManager):
    """The folder of one run, or of a stage of a run, with its `log.txt`. A resumed run appends to `log.txt`.

    The folder is locked against other processes while it is open. Temporary files of interrupted writes are removed.

    Args:
        path (str): the folder; made if it is missing.

    Raises:
        UserError: another process has opened the folder.
    """

    is_writable = True

    def __init__(self, path):
        self.path = path
        os.makedirs(path, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(file_lock(self.file(".lock"), path))
            for leftover in glob.glob(os.path.join(glob.escape(path), f".*{TMP_MARK}.*")):
                os.remove(leftover)
            self._log = open(self.file("log.txt"), "a", encoding="utf-8")  # noqa: SIM115, closed with the folder
            stack.callback(close, self._log)
            self._closing = stack.pop_all()

    def __exit__(self, *error):
        self._closing.close()

    def file(self, name):
        """Return the path of a file in the folder."""
        return os.path.join(self.path, name)

    def log(self, message):
        """Print a message and append it to `log.txt`."""
        self.show(message)
        self.note(message)

    def show(self, message):
        """Print a message without appending it to `log.txt`."""
        print(message, flush=True)

    def note(self, message):
        """Append a message to `log.txt` without printing it."""
        with with_filename(self.file("log.txt")):
            print(message, file=self._log, flush=True)


class ReadOnlyRunFolder(RunFolder):
    """The folder of a run for ranks other than 0, which only read there."""

    is_writable = False

    def __init__(self, path):
        self.path = path

    def __exit__(self, *error):
        pass

    def log(self, message):
        """Do nothing, because rank 0 logs."""

    show = note = log


def open_run_folder(path):
    """Return the `RunFolder` on rank 0, and a `ReadOnlyRunFolder` on other ranks."""
    return RunFolder(path) if is_main_process() else ReadOnlyRunFolder(path)


def create_run_folder(log_dir, name):
    """Make a new folder with `new_folder`, and return it as `open_run_folder` does. Collective."""
    return open_run_folder(broadcast_text(new_folder(log_dir, name) if is_main_process() else ""))


class CSVLog:
    """A CSV file that is written row by row. Each row is flushed at once.

    Args:
        path (str): file name.
        columns (list of str): the header; one column is 'epoch', and one may be 'batch', with numbers from 0.
        progress (Progress): progress of the run; rows of an existing file up to it are kept, later rows are dropped.
        on_row (callable or None): a function that also takes every row.
    """

    def __init__(self, path, columns, progress, on_row=None):
        self.path, self.rows, self._on_row = path, [], on_row
        if progress.epochs or progress.batches:
            try:
                with open(path, newline="", encoding="utf-8") as file:
                    reader = csv.DictReader(file)
                    if reader.fieldnames != list(columns):
                        raise ValueError
                    # The last row may be truncated if the run was killed.
                    self.rows = [row for row in reader if None not in row.values() and
                                 (int(row["epoch"]), float(row.get("batch", math.inf))) <
                                 (progress.epochs, progress.batches)]
            except (OSError, ValueError, csv.Error):
                print(f"warning: {path}: missing or damaged; its rows of earlier epochs are lost", file=sys.stderr)
        write_csv(path, {column: [row[column] for row in self.rows] for column in columns})
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115, stays open during the run
        self._writer = csv.DictWriter(self._file, columns)

    def write(self, row):
        """Write one row, a dict of column to value. A missing column stays empty."""
        with with_filename(self.path):
            self._writer.writerow(row)
            self._file.flush()
        if self._on_row:
            self._on_row(row)

    def sync(self):
        """Wait until the rows are on disk. A checkpoint that is written after this is never ahead of the rows."""
        with with_filename(self.path):
            os.fsync(self._file.fileno())

    def close(self):
        """Close the file."""
        close(self._file)


class TrainLog(CSVLog):
    """`train.csv`: statistics of batches, overall and for each severity, with the authors' names of columns.

    Args:
        path (str): file name.
        num_severity (int): number of severities, including the clean one.
        progress (Progress): progress up to which rows are kept, as in `CSVLog`.
        environments (int): number of environments that the objective weights instead of the severities; 0 if it
            weights severities.
        on_row (callable or None): as in `CSVLog`.
        weight_decay (float): weight decay; the authors' `reg_loss` is half of it times the squared norm of the weights
            that it applies to.
        decay_mask (tuple of bool or None): for each weight of the step, whether weight decay applies to it; None stands
            for all.
    """

    def __init__(self, path, num_severity, progress, environments=0, on_row=None, weight_decay=0.0, decay_mask=None):
        self.num_severity, self.weight_decay, self.decay_mask = num_severity, weight_decay, decay_mask
        columns = ["epoch", "batch", "avg_acc", "avg_loss"]
        for s in range(num_severity):
            columns += [f"processed_distribution_counts_{s}", f"distribution_loss_{s}", f"adv_prob_{s}",
                        f"distribution_acc_{s}", f"gradnorm_{s}"]
        self.weight_columns = [f"adv_prob_{s}" for s in range(num_severity)]
        if environments:
            columns = [column for column in columns if column not in self.weight_columns]
            self.weight_columns = [f"adv_prob_environment_{e}" for e in range(environments)]
            columns += self.weight_columns
        super().__init__(path, [*columns, "grad_norm", "model_norm_sq", "reg_loss"], progress, on_row)

    def write_batch(self, epoch, batch, losses, hits, severities, norm, gradient_norms, step):
        """Write a row.

        Args:
            epoch, batch (int): number of the epoch, and number of the batch within the epoch, both from 0.
            losses, hits, severities (numpy.ndarray): (N,) loss, correctness and severity of each sample.
            norm (float): l2 norm of the gradient of the first pass.
            gradient_norms (dict): severity to the norm of the gradient of its mean loss; may be empty.
            step (TrainStep): the train step, for its weights and, if the objective has them, its group weights.
        """
        severity_loss, counts = group_means(losses, severities, self.num_severity)
        severity_hits, _ = group_means(hits, severities, self.num_severity)
        squares = [float(np.square(p.asnumpy(), dtype=np.float64).sum()) for p in step.weights]
        decay_mask = self.decay_mask or (True,) * len(squares)
        reg_loss = self.weight_decay / 2 * sum(square for square, is_decayed in zip(squares, decay_mask, strict=True)
                                               if is_decayed)
        row = {"epoch": epoch, "batch": batch, "avg_acc": hits.mean(), "avg_loss": losses.mean(), "grad_norm": norm,
               "model_norm_sq": sum(squares), "reg_loss": reg_loss}
        for s in range(self.num_severity):
            row[f"processed_distribution_counts_{s}"] = counts[s]
            row[f"distribution_loss_{s}"] = severity_loss[s]
            row[f"distribution_acc_{s}"] = severity_hits[s]
        row.update({f"gradnorm_{s}": value for s, value in gradient_norms.items()})
        if hasattr(step.objective, "group_weights"):
            row.update(zip(self.weight_columns, step.objective.group_weights.adv_probs.asnumpy(), strict=True))
        self.write(row)


class EvaluationLog:
    """`PART_clean.csv` and `PART_robust_1.csv`, ...: accuracy and loss over all images of one severity.

    Each evaluation is a row.

    Args:
        folder (RunFolder): folder of the files.
        part (str): 'val' or 'test'.
        num_severity (int): number of severities, including the clean one.
        progress (Progress): progress up to which rows are kept, as in `CSVLog`.
    """

    COLUMNS = ("epoch", "batch", "avg_acc", "avg_loss", "processed_distribution_counts_0", "distribution_loss_0",
               "distribution_acc_0", "gradnorm_0")

    def __init__(self, folder, part, num_severity, progress):
        names = [f"{part}_clean.csv"] + [f"{part}_robust_{s}.csv" for s in range(1, num_severity)]
        self._logs = [CSVLog(folder.file(name), self.COLUMNS, progress) for name in names]

    def write(self, epoch, batch, results):
        """Write a row to each file from `results`, a `SeverityResult` for each severity."""
        for log, result in zip(self._logs, results, strict=True):
            log.write({"epoch": epoch, "batch": batch, "avg_acc": result.accuracy, "avg_loss": result.loss,
                       "distribution_acc_0": result.accuracy, "distribution_loss_0": result.loss,
                       "processed_distribution_counts_0": result.images, "gradnorm_0": result.gradient_norm})

    def sync(self):
        """Wait until the rows are on disk, as in `CSVLog`."""
        for log in self._logs:
            log.sync()

    def close(self):
        """Close the files."""
        for log in self._logs:
            log.close()

    def best(self, combine):
        """Return the best accuracy among the rows that were kept, and its epoch.

        `combine` maps the accuracies at all severities to a number. Without such rows, return -1 and None.
        """
        accuracies_by_severity = [{int(row["epoch"]): float(row["avg_acc"]) for row in log.rows} for log in self._logs]
        values = [(combine([accuracies[epoch] for accuracies in accuracies_by_severity]), epoch)
                  for epoch in accuracies_by_severity[0]
                  if all(epoch in accuracies for accuracies in accuracies_by_severity)]
        return max(values, key=lambda value: value[0], default=(-1.0, None))


class SharpnessLog(CSVLog):
    """`sharpness.csv`: sharpness at every severity (`losses.evaluation.probes.sharpness`). Each measurement is a row.

    Args:
        path (str): file name.
        num_severity (int): number of severities, including the clean one.
        progress (Progress): progress up to which rows are kept, as in `CSVLog`.
    """

    def __init__(self, path, num_severity, progress):
        super().__init__(path, ["epoch", "images", "rho", *(f"sharpness_{s}" for s in range(num_severity))], progress)

    def write_epoch(self, epoch, images, rho, values):
        """Write a row: the sharpness `values` at each severity, each over `images` images and within distance `rho`."""
        self.write({"epoch": epoch, "images": images, "rho": rho,
                    **{f"sharpness_{s}": value for s, value in enumerate(values)}})
