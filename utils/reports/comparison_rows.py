"""The rows of a comparison and their statistics: accuracy over seeds, paired differences, published accuracy."""
import textwrap
from dataclasses import dataclass, field, replace

import numpy as np

from utils.reports.tables import aligned, statistics, texts


@dataclass(frozen=True)
class ComparisonRow:
    """A row of the table.

    Attributes:
        setting (tuple of str): data set, corruption and network; rows of one setting are compared with each other.
        name (str): the method or variant.
        accuracies (dict): seed to test accuracies 0..1, one for each severity.
        failures (dict): seed to the reason why its run gave none.
        weights (dict): seed to the last weights q over distributions, of methods that have them.
        validation (dict): seed to validation accuracies 0..1 at the end, None at a severity without such images.
        published (losses.config.published.Published or None): published accuracies of this row.
    """

    setting: tuple[str, str, str]
    name: str
    accuracies: dict
    failures: dict
    weights: dict = field(default_factory=dict)
    validation: dict = field(default_factory=dict)
    published: object = None

    @property
    def setting_title(self):
        """The setting as text."""
        return ", ".join(self.setting).replace("_", " ")

    @property
    def title(self):
        """The name, and the number of runs behind the numbers if some runs have failed."""
        if not (self.failures and self.accuracies):
            return self.name
        return f"{self.name} ({len(self.accuracies)} of {len(self.accuracies) + len(self.failures)} runs)"

    @property
    def is_validated(self):
        """Whether every run has a validation accuracy at every severity."""
        return bool(self.validation) and all(None not in accuracies for accuracies in self.validation.values())


def accuracy_statistics(rows):
    """`statistics` of test accuracy in percent: every severity, the worst severity and the mean of a run."""
    runs = [[100 * np.array(accuracies) for accuracies in row.accuracies.values()] for row in rows]
    number = max((len(run) for row in runs for run in row), default=0)
    return statistics([[[*run, run.min(), run.mean()] for run in row] for row in runs],
                      [*severity_titles(number), "worst", "mean"])


def validation_statistics(rows):
    """`statistics` of validation accuracy in percent at every severity; nan for rows that lack some."""
    runs = [[100 * np.array(accuracies) for accuracies in row.validation.values()] if row.is_validated else []
            for row in rows]
    return statistics(runs, severity_titles(max((len(run) for row in runs for run in row), default=0)))


def weight_statistics(rows):
    """`statistics` of the last weights q over distributions; nan for rows without weights."""
    number = max((len(weights) for row in rows for weights in row.weights.values()), default=0)
    return statistics([list(row.weights.values()) for row in rows], [f"q for s = {s}" for s in range(number)])


def last_weights(record):
    """The weights over distributions in the last row of a run's `train.csv`, a list; None where it has none."""
    table = record.table("train.csv")
    columns = [table.get(f"adv_prob_{s}", []) for s in range(record.config["num_severity"])]
    if any(len(column) == 0 or np.isnan(column[-1]) for column in columns):
        return None
    return [column[-1] for column in columns]


def severity_titles(number):
    """Titles of the columns of severities."""
    return [f"s = {s}" for s in range(number)]


def paired_differences(rows, digits=2):
    """Return the header and the lines of a table of differences from the reference of `rows`, paired by seed.

    A line has the mean and the standard deviation over the seeds that both rows have, of the difference in test
    accuracy in percentage points. Runs of one seed share the split and the initial weights, unless their options
    change them. Rows with fewer than two common seeds have no line. If there is no line, return None.
    """
    first = reference_of(rows)
    names, lines = [], []
    for row in rows:
        seeds = [seed for seed in row.accuracies if row is not first and seed in first.accuracies]
        if len(seeds) > 1:
            table = accuracy_statistics([replace(row, accuracies={
                seed: np.subtract(row.accuracies[seed], first.accuracies[seed]) for seed in seeds})])
            table = table.drop(columns=["worst"], level=0)  # the worst severities of the two may differ
            names = list(table.columns.unique(0))
            lines.append([row.name, str(len(seeds)), *texts(table, digits, signed=True).loc[0]])
    return (["method", "seeds", *names], lines) if lines else None


def reference_of(rows):
    """Return the row that others are compared with: erm if it has runs, or else the first row that has."""
    done = [row for row in rows if row.accuracies]
    return next((row for row in done if row.name == "erm"), done[0] if done else rows[0])


def paired_caption(rows):
    """The caption of `paired_differences`, as text."""
    return f"test accuracy minus that of {reference_of(rows).name}, paired by seed, in percentage points"


def beside_published(rows):
    """Return the header and the lines of a table of measured accuracies, the published ones, and their differences.

    There are three lines for each of `rows` that has published numbers and a run that ended. If there is none, return
    None.
    """
    rows, lines = [row for row in rows if row.published is not None and row.accuracies], []
    if not rows:
        return None
    table = accuracy_statistics(rows).drop(columns=["worst", "mean"], level=0)
    names = table.columns.unique(0)
    for k, row in enumerate(rows):
        lines.append([row.title, *texts(table).loc[k]])
        lines.append([f"  {row.published.title}", *row.published.texts()[:len(names)]])
        lines.append(["  difference", *(f"{value:+.2f}" for value in _differences(row, table.loc[k]))])
    return ["method", *names], lines


def beside_published_lines(row):
    """Return the accuracy of a row beside its published accuracy as lines for a terminal.

    There is a line for each severity. The list is empty if the row has no published accuracy or no run that ended.
    """
    table = beside_published([row])
    if table is None:
        return []
    columns = zip(*(numbers for _, *numbers in table[1]), strict=False)  # the published numbers may end earlier
    return [*textwrap.wrap(f"{row.title} beside {row.published.title}", 80),
            *aligned(["severity", "test accuracy (%)", "published", "difference"],
                     [[str(s), *column] for s, column in enumerate(columns)]), ""]


def _differences(row, statistics_of_row):
    """Measured minus published accuracies of a row, in percentage points."""
    return row.published.differences(statistics_of_row.xs("mean", level=1))
