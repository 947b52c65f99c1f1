"""The table that a training prints: a row for each epoch, 80 columns wide, with its header after every screenful."""
import numpy as np

from utils.records.cost import percentages

SCREENFUL = 20  # rows under one header
HEADER = f"""\
{'':26}|   validation, %   |      test, %      |
    epoch      lr    loss |clean worst  mean  |clean worst  mean  | img/s  left"""
LEGEND = "worst, mean: over severities; *: best so far on validation images"
NOT_EVALUATED = " " * 17


class ProgressTable:
    """The rows of one training.

    Args:
        total_epoch (int): number of epochs of the run.
        batch_size (int): images in a batch.
        is_verbose (bool): whether to print the accuracy at every severity below each row.
    """

    def __init__(self, total_epoch, batch_size, is_verbose=False):
        self.total_epoch, self.batch_size, self.is_verbose, self.rows = total_epoch, batch_size, is_verbose, 0

    def row(self, epoch, rate, loss, results, is_best, steps_per_second, seconds_left):
        """Return the text of the next row, below a header if one is due.

        Args:
            epoch (int): number of the epoch, from 0.
            rate, loss (float): learning rate and mean loss of the epoch.
            results (dict): 'val' and 'test' to a list of `SeverityResult`; empty if the epoch was not evaluated.
            is_best (bool): whether the validation accuracy is the best so far.
            steps_per_second (float or None): speed of the training; None if it is not known.
            seconds_left (float): estimated time until the end of the run; 0 if the run has ended.
        """
        header = [HEADER] if self.rows % SCREENFUL == 0 else []
        if self.rows == 0:
            header.insert(0, LEGEND)
        self.rows += 1
        parts = [f"{self._summary(results.get(part))}{'*' if is_best and part == 'val' else ' '}"
                 for part in ("val", "test")]
        speed = "" if steps_per_second is None else f"{steps_per_second * self.batch_size:.0f}"
        left = short_duration(seconds_left) if seconds_left else ""
        loss = f"{loss:.4f}" if loss < 100 else f"{loss:.2f}"
        line = (f"{f'{epoch + 1}/{self.total_epoch}':>9} {rate:>7.2g} {loss:>7} |{parts[0]} |{parts[1]} |"
                f"{speed:>6}  {left:>4}")
        lines = [f"{part:>9} {percentages(rows)}" for part, rows in results.items()] if self.is_verbose else []
        return "\n".join([*header, line.rstrip(), *lines])

    @staticmethod
    def _summary(rows):
        accuracies = [100 * row.accuracy for row in rows or [] if row.images]
        if not accuracies:
            return NOT_EVALUATED
        clean = 100 * rows[0].accuracy if rows[0].images else float("nan")
        return f"{clean:5.1f} {np.min(accuracies):5.1f} {np.mean(accuracies):5.1f}"


def short_duration(seconds):
    """Return a time in its largest unit with at most two digits, such as '95m' or '3h'."""
    for unit, length in (("s", 1), ("m", 60), ("h", 3600)):
        if seconds < 99.5 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"
