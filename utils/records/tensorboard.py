"""The tables of a run in TensorBoard's format. TensorBoard shows them in a browser during the run.

tensorboardX writes the format. It is maintained and needs neither PyTorch nor TensorFlow. MindInsight, MindSpore's own
viewer, had its last release with MindSpore 2.3.
"""
import math
import os

from tensorboardX import SummaryWriter


class TensorBoard:
    """The event files of a run.

    A resumed run has several files in one folder. TensorBoard does not show the rows of an earlier file that are beyond
    the progress at which the run resumed.

    Args:
        folder (str): folder for the files.
        steps_per_epoch (int): number of batches in an epoch; the horizontal axis counts batches over the whole run.
        progress (Progress): progress of the run.
    """

    def __init__(self, folder, steps_per_epoch, progress):
        self.steps_per_epoch = steps_per_epoch
        first_step = progress.epochs * steps_per_epoch + progress.batches
        has_begun = os.path.isdir(folder) and bool(os.listdir(folder))  # perhaps by a process that saved no checkpoint
        self.writer = SummaryWriter(folder, purge_step=first_step if has_begun else None)

    def write_batch(self, row):
        """Write the numbers in a row of `train.csv` (dict), except for distributions that the batch lacks."""
        lacking = [s for s in range(len(row)) if row.get(f"processed_distribution_counts_{s}") == 0]
        without = {"epoch", "batch", *(f"distribution_{metric}_{s}" for metric in ("acc", "loss") for s in lacking)}
        self._write("train", row["epoch"] * self.steps_per_epoch + row["batch"],
                    {column: value for column, value in row.items() if column not in without})

    def write_epoch(self, title, epoch, values):
        """Write numbers (dict of name to number) that were measured after an epoch. `title` is put before the names."""
        self._write(title, (epoch + 1) * self.steps_per_epoch - 1, values)

    def _write(self, title, step, values):
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                self.writer.add_scalar(f"{title}/{name}", float(value), step)
        self.writer.flush()

    def close(self):
        """Close the event file."""
        self.writer.close()
