"""The tables of a comparison: accuracy of each row at every severity, over seeds."""
import os

import numpy as np

from corruptions.utils.files import write_csv, write_text
from utils.reports.comparison_rows import (
    accuracy_statistics,
    beside_published,
    beside_published_lines,
    paired_caption,
    paired_differences,
    validation_statistics,
    weight_statistics,
)
from utils.reports.page import PAGE, Cell, Section, Table, write_page
from utils.reports.summary import evaluation_sections
from utils.reports.tables import aligned, best, csv_columns, markdown, texts

VALIDATION_CAPTION = "validation accuracy in percent, to choose methods and options"
BEST_CAPTION = "highest mean, and means within one standard error of the difference from it"
SEVERITY = "s is the severity, and 0 is clean."
PUBLISHED_CAPTION = "test accuracy in percent beside the published numbers"
LATEX = str.maketrans({**{sign: "\\" + sign for sign in "_%&#${}"}, "\\": r"\textbackslash{}", "^": r"\^{}",
                       "~": r"\~{}"})


def write_comparison(folder, rows, is_verbose=False):
    """Write `comparison.md`, `.csv` and `.tex`, and `comparison_runs.csv` with a line for each run that ended.

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
        paired = paired_differences(members)
        if paired:
            md += [paired_caption(members), "", *markdown(*paired), ""]
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
        for row in members:
            terminal += beside_published_lines(row)
    notes = [f"failed: {row.name}, seed {seed} ({row.setting_title}): {reason}" for row in rows
             for seed, reason in row.failures.items()]
    runs = max((len(row.accuracies) for row in rows), default=0)
    caption = "Test accuracy in percent" + (f", mean ± standard deviation over seeds. Bold: {BEST_CAPTION}. {SEVERITY}"
                                            if runs > 1 else f", one run each; best in bold. {SEVERITY}")
    _write(folder, "comparison.md", ["# Comparison", "", caption, "", *md, *(f"- {note}" for note in notes)])
    _write(folder, "comparison.tex", tex + [f"% {note}" for note in notes])
    write_csv(os.path.join(folder, "comparison.csv"), _columns(rows))
    write_csv(os.path.join(folder, "comparison_runs.csv"), _run_columns(rows))
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
        run_folders (sequence of str): names of the folders of the runs that have ended, for links to their pages.
        facts, command: as in `write_page`.
    """
    sections = []
    for setting, members in _by_setting(rows).items():
        counts = [len(row.accuracies) for row in members]
        caption = f"Mean ± standard deviation over seeds. Bold: {BEST_CAPTION}. " if max(counts) > 1 else ""
        sections.append(Section(f"Test accuracy in percent, {setting}", caption + SEVERITY,
                                table=_table(members, accuracy_statistics, counts)))
        weighted = [row for row in members if row.weights]
        if weighted:
            weights = texts(weight_statistics(weighted), 3)
            sections.append(Section(f"Weights q of the severities at the end of the training, {setting}",
                                    table=Table(["method", *weights],
                                                list(_lines([row.title for row in weighted], weights)))))
        paired = paired_differences(members)
        if paired:
            sections.append(Section(_heading(paired_caption(members), setting), table=Table(*paired)))
        published = beside_published(members)
        if published:
            sections.append(Section(_heading(PUBLISHED_CAPTION, setting),
                                    table=Table(*published)))
        validated = [row for row in members if row.is_validated]
        if validated:
            sections.append(Section(_heading(VALIDATION_CAPTION, setting),
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


def _heading(caption, setting):
    """The heading of a section of a page, from a caption that begins with a small letter."""
    return f"{caption[0].upper()}{caption[1:]}, {setting}"


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


def _write(folder, name, lines):
    write_text(os.path.join(folder, name), "\n".join(lines).rstrip() + "\n")


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


def _run_columns(rows):
    """The columns of `comparison_runs.csv`: a line for each run that ended, with its accuracies in percent."""
    number = max((len(accuracies) for row in rows for accuracies in row.accuracies.values()), default=0)
    names = ["dataset", "corruption", "model", "method", "seed", *(f"severity_{s}" for s in range(number)),
             *(f"val_severity_{s}" for s in range(number))]
    lines = [[*row.setting, row.name, seed, *_percent(accuracies, number),
              *_percent(row.validation.get(seed, []), number)]
             for row in rows for seed, accuracies in row.accuracies.items()]
    return {name: [line[k] for line in lines] for k, name in enumerate(names)}


def _percent(accuracies, number):
    """Accuracies in percent, as long as `number`; '' where there is none."""
    cells = ["" if accuracy is None else round(100 * accuracy, 4) for accuracy in accuracies]
    return cells + [""] * (number - len(cells))


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
