"""The tables of a comparison: accuracy of each row at every severity, over seeds."""
import os
from dataclasses import dataclass, field

import numpy as np

from corruptions.utils.files import atomic_write, write_csv
from utils.reports.page import PAGE, Cell, Section, Table, write_page
from utils.reports.summary import evaluation_sections
from utils.reports.tables import aligned, best, csv_columns, markdown, statistics, texts

VALIDATION_CAPTION = "validation accuracy in percent, to choose methods and options"
BEST_CAPTION = "highest mean, and means within one standard error of the difference from it"
PUBLISHED_CAPTION = "test accuracy in percent beside the published numbers"
LATEX = str.maketrans({**{sign: "\\" + sign for sign in "_%&#${}"}, "\\": r"\textbackslash{}", "^": r"\^{}",
                       "~": r"\~{}"})


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
                      [*_severities(number), "worst", "mean"])


def validation_statistics(rows):
    """`statistics` of validation accuracy in percent at every severity; nan for rows that lack some."""
    runs = [[100 * np.array(accuracies) for accuracies in row.validation.values()] if row.is_validated else []
            for row in rows]
    return statistics(runs, _severities(max((len(run) for row in runs for run in row), default=0)))


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


def write_comparison(folder, rows, is_verbose=False):
    """Write `comparison.md`, `.csv` and `.tex`.

    Args:
        folder (str): where they go.
        rows (list of ComparisonRow): in their order.
        is_verbose (bool): whether the text has all severities.

    Returns:
        str: the tables as text for a terminal. They have the clean accuracy, the worst severity and the mean, which fit
            into 80 columns.
    """
    md, tex, terminal = [], [], []
    for setting, members in _by_setting(rows).items():
        names, table = [row.title for row in members], accuracy_statistics(members)
        is_best, header = best(table, [len(row.accuracies) for row in members]), ["method", *table.columns.unique(0)]
        md += [f"## {setting}", "", *markdown(header, _lines(names, texts(table), is_best, "**", "**")), ""]
        weighted = [row for row in members if row.weights]
        if weighted:
            weights = texts(weight_statistics(weighted), 3)
            md += ["weights q of the severities in the last row of `train.csv`", "",
                   *markdown(["method", *weights], _lines([row.title for row in weighted], weights)), ""]
        published = beside_published(members)
        if published:
            md += [PUBLISHED_CAPTION, "", *markdown(*published), ""]
        validated = [row for row in members if row.is_validated]
        if validated:
            accuracy = validation_statistics(validated)
            cells = _lines([row.title for row in validated], texts(accuracy),
                           best(accuracy, [len(row.validation) for row in validated]), "**", "**")
            md += [VALIDATION_CAPTION, "", *markdown(["method", *accuracy.columns.unique(0)], cells), ""]
        tex += [f"% {setting}", *_latex(names, table, is_best), ""]
        shown = [name for name in header[1:] if is_verbose or name in ("s = 0", "worst", "mean")]
        over_seeds = ", mean ± std over seeds" if any(len(row.accuracies) > 1 for row in members) else ""
        terminal += [f"test accuracy in percent{over_seeds}, {setting}",
                     *aligned(["method", *("clean" if name == "s = 0" else name for name in shown)],
                              _lines(names, texts(table)[shown], is_best, "", "*", " ")),
                     f"* {BEST_CAPTION}" if any(len(row.accuracies) > 1 for row in members) else "* best", ""]
        if published:
            terminal += [f"{PUBLISHED_CAPTION}, {setting}", *aligned(*published), ""]
    notes = [f"failed: {row.name}, seed {seed} ({row.setting_title}): {reason}" for row in rows
             for seed, reason in row.failures.items()]
    runs = max((len(row.accuracies) for row in rows), default=0)
    caption = "Test accuracy in percent" + (f", mean ± standard deviation over seeds. Bold: {BEST_CAPTION}."
                                            if runs > 1 else ", one run each; best in bold.")
    _write(folder, "comparison.md", ["# Comparison", "", caption, "", *md, *(f"- {note}" for note in notes)])
    _write(folder, "comparison.tex", tex + [f"% {note}" for note in notes])
    write_csv(os.path.join(folder, "comparison.csv"), _columns(rows))
    if not is_verbose:
        terminal.append(f"all severities: {os.path.join(folder, 'comparison.md')}, or --verbose")
    return "\n".join(terminal + notes)


def write_comparison_page(folder, rows, drawn, options, run_folders=(), facts=(), command=None):
    """Write `report.html` of a comparison; its tables sort by a click.

    Args:
        folder (str): where it goes.
        rows (list of ComparisonRow): in their order.
        drawn (dict): caption to SVG file of its figures.
        options (dict): name of a row to the options of its runs, as on a command line.
        run_folders (sequence of str): names of the folders of the runs, for links to their pages.
        facts, command: as in `write_page`.
    """
    sections = []
    for setting, members in _by_setting(rows).items():
        counts = [len(row.accuracies) for row in members]
        caption = f"Mean ± standard deviation over seeds. Bold: {BEST_CAPTION}." if max(counts) > 1 else None
        sections.append(Section(f"Test accuracy in percent, {setting}", caption,
                                table=_table(members, accuracy_statistics, counts)))
        weighted = [row for row in members if row.weights]
        if weighted:
            weights = texts(weight_statistics(weighted), 3)
            sections.append(Section(f"Weights q of the severities at the end of the training, {setting}",
                                    table=Table(["method", *weights],
                                                list(_lines([row.title for row in weighted], weights)))))
        published = beside_published(members)
        if published:
            sections.append(Section(f"{PUBLISHED_CAPTION[0].upper()}{PUBLISHED_CAPTION[1:]}, {setting}",
                                    table=Table(*published)))
        validated = [row for row in members if row.is_validated]
        if validated:
            sections.append(Section(f"{VALIDATION_CAPTION[0].upper()}{VALIDATION_CAPTION[1:]}, {setting}",
                                    table=_table(validated, validation_statistics,
                                                 [len(row.validation) for row in validated])))
    failed = [[row.name, seed, row.setting_title, reason] for row in rows for seed, reason in row.failures.items()]
    if failed:
        sections.append(Section("Runs that failed", table=Table(["method", "seed", "data", "reason"], failed,
                                                                "settings")))
    sections += [Section("Figures", figures=drawn),
                 Section("Settings", table=Table(["method", "options of its runs"], list(options.items()), "settings"))]
    sections.append(Section("Runs", links={name: f"{name}/{PAGE}" for name in run_folders}))
    write_page(folder, "Comparison", sections, facts, command, evaluation_sections(folder))


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


def _differences(row, statistics_of_row):
    """Measured minus published accuracies of a row, in percentage points."""
    return row.published.differences(statistics_of_row.xs("mean", level=1))


def _table(rows, statistics_of, runs):
    """The table of a page; `runs` is the number of runs of each row."""
    table = statistics_of(rows)
    names, cells, is_best = table.columns.unique(0), texts(table), best(table, runs)
    lines = [[row.title, *(Cell(cells.at[k, name], _number(table.at[k, (name, "mean")]), is_best.at[k, name])
                           for name in names)] for k, row in enumerate(rows)]
    return Table(["method", *names], lines, "sortable")


def _number(value):
    """A number by which a cell is sorted, or None."""
    return None if np.isnan(value) else value


def _by_setting(rows):
    """The rows of each setting, by its title."""
    settings = {}
    for row in rows:
        settings.setdefault(row.setting_title, []).append(row)
    return settings


def _severities(number):
    return [f"s = {s}" for s in range(number)]


def _write(folder, name, lines):
    with atomic_write(os.path.join(folder, name)) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("\n".join(lines).rstrip() + "\n")


def _lines(names, cells, is_best=None, before="", after="", otherwise=""):
    """Lines of a table: the name of a row, then its cells, the best ones between two marks."""
    for k, name in enumerate(names):
        yield [name, *(f"{before}{cell}{after}" if is_best is not None and is_best.at[k, column] else cell + otherwise
                       for column, cell in cells.loc[k].items())]


def _latex(names, table, is_best):
    header = [f"${name}$" if "=" in name else name for name in table.columns.unique(0)]
    yield r"\begin{tabular}{l" + "c" * len(header) + "}"
    yield " & ".join(["method", *header]) + r" \\ \hline"
    cells = texts(table, plus_minus=r" \pm ")
    for k, name in enumerate(names):
        numbers = [cell if cell == "failed" else rf"$\mathbf{{{cell}}}$" if is_best.at[k, column] else f"${cell}$"
                   for column, cell in cells.loc[k].items()]
        yield " & ".join([name.translate(LATEX), *numbers]) + r" \\"
    yield r"\end{tabular}"


def _columns(rows):
    """The columns of `comparison.csv`, all rows in one table."""
    columns = {name: [row.setting[k] for row in rows] for k, name in enumerate(("dataset", "corruption", "model"))}
    columns |= {"method": [row.name for row in rows], "runs": [len(row.accuracies) for row in rows],
                "failed": [len(row.failures) for row in rows]}
    accuracy, weights, validation = accuracy_statistics(rows), weight_statistics(rows), validation_statistics(rows)
    means = {name: values for name, values in _named("q for s = ", "q_", weights).items() if name.endswith("_mean")}
    return (columns | _named("s = ", "severity_", accuracy) | means | _named("s = ", "val_severity_", validation)
            | _published_columns(rows, accuracy))


def _published_columns(rows, accuracy):
    """The published accuracies and the differences from them for a CSV file; none if no row has published ones."""
    columns = {}
    if any(row.published is not None for row in rows):
        for s, name in enumerate(name for name in accuracy.columns.unique(0) if name.startswith("s = ")):
            cells = [("", "", "") if row.published is None or np.isnan(value) else
                     (row.published.numbers[s], row.published.deviations[s],
                      round(value - row.published.numbers[s], 4))
                     for row, value in zip(rows, accuracy[name, "mean"], strict=True)]
            names = (f"published_{s}", f"published_std_{s}", f"difference_{s}")
            columns |= zip(names, map(list, zip(*cells, strict=True)), strict=True)
        columns["published"] = ["" if row.published is None else row.published.title for row in rows]
    return columns


def _named(title, name, table):
    """The columns of `statistics` for a CSV file, with `name` in place of `title` at the start of theirs."""
    return {column.replace(title, name): values for column, values in csv_columns(table).items()}
