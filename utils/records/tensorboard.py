"""The tables of a run in TensorBoard's format, which shows them in a browser while the run goes on.

tensorboardX writes it: it is kept up and needs neither PyTorch nor TensorFlow. MindInsight, MindSpore's own viewer, had
its last release with MindSpore 2.3.
"""
import math

from tensorboardX import SummaryWriter


class TensorBoard:
    """Event files, next to each other where a run was resumed: what an earlier one has of later epochs is not shown.

    Args:
        folder (str): for the files.
        batches (int): batches in an epoch; the axis counts them over the whole run.
        progress (Progress): what is done.
    """

    def __init__(self, folder, batches, progress):
        self.batches = batches
        self.writer = SummaryWriter(folder, purge_step=progress.epochs * batches + progress.batches or None)

    def write_batch(self, row):
        """Write the numbers in a row of `train.csv` (dict), but for those of distributions that the batch lacks."""
        lacking = [s for s in range(len(row)) if row.get(f"processed_distribution_counts_{s}") == 0]
        without = {"epoch", "batch", *(f"distribution_{what}_{s}" for what in ("acc", "loss") for s in lacking)}
        self._write("train", row["epoch"] * self.batches + row["batch"],
                    {column: value for column, value in row.items() if column not in without})

    def write_epoch(self, title, epoch, values):
        """Write numbers (dict, by name) that were measured after an epoch; `title` stands before their names."""
        self._write(title, (epoch + 1) * self.batches - 1, values)

    def _write(self, title, step, values):
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                self.writer.add_scalar(f"{title}/{name}", float(value), step)
        self.writer.flush()

    def close(self):
        """No row follows."""
        self.writer.close()
