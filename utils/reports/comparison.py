"""The table of a comparison: test accuracy of each row at every severity, over seeds."""
import math
import os
from dataclasses import dataclass, field

import numpy as np

from utils.files import atomic_write, write_csv
from utils.reports import page

VALIDATION = "validation accuracy at the end, in percent, to choose methods and options by"


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
    """

    setting: tuple[str, str, str]
    name: str
    accuracies: dict
    failures: dict
    weights: dict = field(default_factory=dict)
    validation: dict = field(default_factory=dict)

    @property
    def setting_title(self):
        """The setting as text."""
        return ", ".join(self.setting).replace("_", " ")

    @property
    def title(self):
        """The name, and how many of its runs the numbers are of where some have failed."""
        if not (self.failures and self.accuracies):
            return self.name
        return f"{self.name} ({len(self.accuracies)} of {len(self.accuracies) + len(self.failures)} runs)"

    def statistics(self):
        """Mean and standard deviation over seeds (n - 1), in percent, of every severity, the worst severity and the
        mean over severities of a run; list of pairs, the deviation nan for one run; None without a run.
        """
        if not self.accuracies:
            return None
        runs = 100 * np.array(list(self.accuracies.values()))
        return _mean_and_std_over_seeds(np.column_stack([runs, runs.min(axis=1), runs.mean(axis=1)]))

    def mean_weights(self):
        """Mean and standard deviation over seeds of the last weights, as `statistics`; None where there are none."""
        return _mean_and_std_over_seeds(np.array(list(self.weights.values()))) if self.weights else None

    def mean_validation(self):
        """Mean and standard deviation over seeds of the validation accuracy at every severity, in percent, as
        `statistics`; None where there is none, or a severity has no validation images.
        """
        runs = 100 * np.array(list(self.validation.values()), float)
        return _mean_and_std_over_seeds(runs) if runs.size and not np.isnan(runs).any() else None


def _mean_and_std_over_seeds(columns):
    deviations = columns.std(axis=0, ddof=1) if len(columns) > 1 else np.full(columns.shape[1], math.nan)
    return list(zip(columns.mean(axis=0).tolist(), deviations.tolist(), strict=True))


def last_weights(record):
    """The weights over distributions in the last row of a run's `train.csv`, a list; None where it has none."""
    table = record.table("train.csv")
    columns = [table.get(f"adv_prob_{s}", []) for s in range(record.config["num_severity"])]
    if any(len(column) == 0 or np.isnan(column[-1]) for column in columns):
        return None
    return [column[-1] for column in columns]


def write_comparison(folder, rows):
    """Write `comparison.md`, `.csv` and `.tex`.

    Args:
        folder (str): where they go.
        rows (list of ComparisonRow): in their order.

    Returns:
        str: the tables as text.
    """
    titles = _titles(rows)
    markdown, tex, text = [], [], []
    for setting, some in _by_setting(rows).items():
        cells = _cells(some, len(titles))
        markdown += [f"## {setting}", "", *_markdown(some, titles, cells), "", *_weights(some), *_validation(some)]
        tex += [f"% {setting}", *_tex(some, titles, cells), ""]
        text += [f"test accuracy in percent, {setting}", *_text(some, titles, cells), ""]
    notes = [f"failed: {row.name}, seed {seed} ({row.setting_title}): {reason}" for row in rows
             for seed, reason in row.failures.items()]
    runs = max((len(row.accuracies) for row in rows), default=0)
    caption = "Test accuracy in percent" + (", mean ± standard deviation over seeds; best in bold." if runs > 1 else
                                            ", one run each; best in bold.")
    _write(folder, "comparison.md", ["# Comparison", "", caption, "", *markdown, *(f"- {note}" for note in notes)])
    _write(folder, "comparison.tex", tex + [f"% {note}" for note in notes])
    write_csv(os.path.join(folder, "comparison.csv"), _columns(rows, titles))
    return "\n".join(text + notes)


def write_comparison_page(folder, rows, drawn, options):
    """Write `report.html` of a comparison; its tables sort by a click.

    Args:
        folder (str): where it goes.
        rows (list of ComparisonRow): in their order.
        drawn (dict): caption to SVG file of its figures.
        options (dict): name of a row to those of its runs, as they stand on a command line.
    """
    titles, parts = _titles(rows), []
    for setting, some in _by_setting(rows).items():
        cells = _cells(some, len(titles))
        parts += [page.heading(f"Test accuracy in percent, {setting}"), _page_table(some, titles, cells)]
        validated, cells = _validation_cells(some)
        if validated:
            parts += [page.heading(f"{VALIDATION[0].upper()}{VALIDATION[1:]}, {setting}"),
                      _page_table(validated, _severities(len(cells[0])), cells)]
    failed = [[row.name, seed, row.setting_title, reason] for row in rows for seed, reason in row.failures.items()]
    if failed:
        header = ["method", "seed", "data", "reason"]
        parts += [page.heading("Runs that failed"), page.table(header, failed, "settings")]
    parts += [page.heading("Figures"), page.figures(drawn), page.heading("Settings"),
              page.table(["method", "options of its runs"], options.items(), "settings")]
    page.write_page(folder, "Comparison", parts)


def _page_table(rows, titles, cells):
    texts = [[row.title, *(_number(cell, " ± ") for cell in line)] for row, line in zip(rows, cells, strict=True)]
    places = {(i, j + 1): cell for i, line in enumerate(cells) for j, cell in enumerate(line) if cell}
    return page.table(["method", *titles], texts, "sortable", {at: cell[0] for at, cell in places.items()},
                      {at for at, cell in places.items() if cell[2]})


def _by_setting(rows):
    """The rows of each setting, by its title."""
    settings = {}
    for row in rows:
        settings.setdefault(row.setting_title, []).append(row)
    return settings


def _titles(rows):
    num_severity = max((len(row.statistics()) - 2 for row in rows if row.statistics()), default=0)
    return [*_severities(num_severity), "worst", "mean"]


def _severities(number):
    return [f"s = {s}" for s in range(number)]


def _write(folder, name, lines):
    with atomic_write(os.path.join(folder, name)) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("\n".join(lines).rstrip() + "\n")


def _cells(rows, count):
    """For each row its cells, (mean, deviation, whether it is the best of its column), or None."""
    return _best_marked([row.statistics() or [None] * count for row in rows])


def _validation_cells(rows):
    """The rows that have validation accuracies, and their cells as `_cells`."""
    found = [(row, pairs) for row in rows if (pairs := row.mean_validation())]
    return [row for row, _ in found], _best_marked([pairs for _, pairs in found])


def _best_marked(statistics):
    best = [max((pair[0] for pair in column if pair is not None), default=None)
            for column in zip(*statistics, strict=True)]
    return [[None if pair is None else (*pair, round(pair[0], 2) == round(top, 2))
             for pair, top in zip(pairs, best, strict=True)] for pairs in statistics]


def _number(cell, plus_minus, digits=2):
    if cell is None:
        return "failed"
    mean, deviation, _ = cell
    return f"{mean:.{digits}f}" if math.isnan(deviation) else f"{mean:.{digits}f}{plus_minus}{deviation:.{digits}f}"


def _markdown(rows, titles, cells, digits=2):
    yield f"| method | {' | '.join(titles)} |"
    yield "| --- |" + " --- |" * len(titles)
    for row, some in zip(rows, cells, strict=True):
        texts = [_number(cell, " ± ", digits) for cell in some]
        texts = [f"**{text}**" if cell and cell[2] else text for text, cell in zip(texts, some, strict=True)]
        yield f"| {row.title.replace('|', chr(92) + '|')} | {' | '.join(texts)} |"


def _weights(rows):
    """A table of the last weights over distributions, of the rows that have them."""
    rows = [row for row in rows if row.weights]
    if rows:
        titles = [f"q for s = {s}" for s in range(len(rows[0].mean_weights()))]
        cells = [[(*pair, False) for pair in row.mean_weights()] for row in rows]
        yield from ("weights over distributions in the last row of `train.csv`", "")
        yield from _markdown(rows, titles, cells, 3)
        yield ""


def _validation(rows):
    """A table of validation accuracy, of the rows that have it."""
    rows, cells = _validation_cells(rows)
    if rows:
        yield from (VALIDATION, "")
        yield from _markdown(rows, _severities(len(cells[0])), cells)
        yield ""


def _tex(rows, titles, cells):
    signs = {**{sign: "\\" + sign for sign in "_%&#${}"}, "\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}"}

    def escape(text):
        return "".join(signs.get(sign, sign) for sign in text)
    yield r"\begin{tabular}{l" + "c" * len(titles) + "}"
    yield " & ".join(["method", *(f"${title}$" if "=" in title else title for title in titles)]) + r" \\ \hline"
    for row, some in zip(rows, cells, strict=True):
        texts = [rf"$\mathbf{{{_number(cell, ' pm ')}}}$" if cell and cell[2] else f"${_number(cell, ' pm ')}$" if cell
                 else "failed" for cell in some]
        yield " & ".join([escape(row.title), *(text.replace(" pm ", r" \pm ") for text in texts)]) + r" \\"
    yield r"\end{tabular}"


def _text(rows, titles, cells):
    table = [["method", *titles]]
    for row, some in zip(rows, cells, strict=True):
        table.append([row.title, *(_number(cell, " ± ") + ("*" if cell and cell[2] else " ") for cell in some)])
    yield from aligned(table)
    yield "* best"


def aligned(table):
    """The lines of a table (list of lists of str) for a terminal, in columns: the first to the left, others to the
    right.
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        yield "  ".join([line[0].ljust(widths[0]), *(text.rjust(width) for text, width in
                                                     zip(line[1:], widths[1:], strict=True))]).rstrip()


def _columns(rows, titles):
    """The table as columns of numbers, an empty cell where there is none."""
    columns = {name: [row.setting[k] for row in rows] for k, name in enumerate(("dataset", "corruption", "model"))}
    columns |= {"method": [row.name for row in rows],
                "runs": [len(row.accuracies) for row in rows],
                "failed": [len(row.failures) for row in rows]}
    statistics = [row.statistics() or [("", "")] * len(titles) for row in rows]
    for k, title in enumerate(titles):
        columns |= _mean_and_std(title.replace("s = ", "severity_"), [pairs[k] for pairs in statistics])
    weights = [row.mean_weights() or [] for row in rows]
    for s in range(max(map(len, weights), default=0)):
        columns[f"q_{s}_mean"] = [pairs[s][0] if pairs else "" for pairs in weights]
    validation = [row.mean_validation() or [] for row in rows]
    for s in range(max(map(len, validation), default=0)):
        columns |= _mean_and_std(f"val_severity_{s}", [pairs[s] if pairs else ("", "") for pairs in validation])
    return columns


def _mean_and_std(name, pairs):
    """Two columns of a pair for each row; a deviation of one run, nan, is an empty cell."""
    return {f"{name}_mean": [mean for mean, _ in pairs],
            f"{name}_std": ["" if deviation != deviation else deviation for _, deviation in pairs]}
