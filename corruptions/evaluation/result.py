"""The result of a benchmark: its numbers, a table, files and a figure."""
import os
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from corruptions.evaluation.baseline import Baseline
from corruptions.evaluation.metrics import CalibrationScores
from corruptions.evaluation.record import CLEAN, averages, heading, row, severities_of, write_evaluation
from corruptions.pictures import check_picture_name, save_picture
from corruptions.utils.errors import UserError


@dataclass(frozen=True)
class BenchmarkResult:
    """The result of a classifier on clean and on corrupted images. `print` shows it as a table.

    Attributes:
        record (dict): all numbers as plain values: `clean` and `corrupted` (accuracy, nll, ece), averages
            `by_severity` and `by_level`, and with a baseline `corruption_error`, whose `mean` is the mCE and whose
            `relative_mean` is the relative mCE.
        baseline (Baseline or None): the baseline of the corruption errors.
    """

    record: dict
    baseline: Baseline | None = None

    @property
    def clean(self):
        """The `CalibrationScores` on the clean images."""
        return CalibrationScores(**self.record["clean"])

    @property
    def corrupted(self):
        """Each corruption to a list of `CalibrationScores`, one for each severity."""
        return {name: [CalibrationScores(*values) for values in zip(*metrics.values(), strict=True)]
                for name, metrics in self.record["corrupted"].items()}

    @property
    def error_by_severity(self):
        """The error, 0..1, averaged over corruptions: a dict of severity to float, with the clean images as 0."""
        severities = (0, *severities_of(self.record))
        return dict(zip(severities, self.record["by_severity"]["error"], strict=True))

    @property
    def mean_corruption_error(self):
        """The mean over corruptions of the corruption error (mCE), relative to the baseline; None without one."""
        return self.record["corruption_error"]["mean"] if "corruption_error" in self.record else None

    @property
    def relative_mean_corruption_error(self):
        """The relative mCE, of what the corruptions add to the clean error.

        It is None without a baseline, or if a corruption adds nothing to the baseline's error.
        """
        return self.record["corruption_error"]["relative_mean"] if "corruption_error" in self.record else None

    def __str__(self):
        names = list(self.corrupted)
        title = f"{self.record['model']}: {self.record['set']}, {self.record['test_images']} images"
        title += ", corrupted ones after JPEG" if self.record.get("jpeg") else ""
        lines = [heading(title, self.record, names, self.baseline).lstrip("\n")]
        lines += [row(name, rows, self.record, names, self.baseline)
                  for name, rows in {CLEAN: [self.clean], **self.corrupted}.items()]
        return "\n".join([*lines, averages(self.record)])

    def write(self, path):
        """Write the numbers as `PATH.json` and as `PATH.csv`, one row for each corruption and severity.

        `path` may end with one of these suffixes.

        Raises:
            UserError: `path` ends in / and so names no file.
            OSError: its folder cannot be written.
        """
        stem, suffix = os.path.splitext(os.fspath(path))
        path = stem if suffix in (".json", ".csv") else os.fspath(path)
        if not os.path.basename(path):
            raise UserError(f"path {path}: is not a file name; give one without a suffix")
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        write_evaluation(path, self.record)

    def plot(self, path):
        """Draw the error of each corruption at each severity, as a heat map with its numbers.

        Args:
            path (str): picture file to write, its format by the suffix.

        Raises:
            UserError: there is no such format.
        """
        check_picture_name(path)
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        rows = {name: [100 * (1 - score.accuracy) for score in line] for name, line in self.corrupted.items()}
        rows = {**rows, "mean": np.mean(list(rows.values()), axis=0)}
        values = np.array([[*line, np.mean(line)] for line in rows.values()])
        figure = Figure(figsize=(1.6 + 0.5 * values.shape[1], 0.9 + 0.19 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.imshow(values, cmap="Oranges", vmin=0, vmax=100, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=6.5,
                      color="white" if value > 70 else "black")
        axes.set_xticks(range(values.shape[1]), [*map(str, severities_of(self.record)), "mean"], fontsize=7)
        axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows], fontsize=7)
        axes.tick_params(length=0)
        axes.set_xlabel("severity", fontsize=7)
        axes.set_title(f"{self.record['model']}: error (%)\nclean images {100 * (1 - self.clean.accuracy):.1f}",
                       fontsize=8)
        save_picture(figure, path, dpi=200)
