"""Tables of evaluations under many corruptions: of a comparison, and of a run for its page."""
import glob
import os
import re

import numpy as np

from corruptions.evaluation.metrics import CalibrationScores
from corruptions.evaluation.record import CLEAN, averaged_over, file_tag, severities_of
from corruptions.utils.files import atomic_write, write_csv
from utils.records.evaluation import common_evaluations, network_title
from utils.reports.page import Cell, Section, Table, replace_evaluations
from utils.reports.tables import aligned, csv_columns, markdown, statistics, texts


def write_evaluation_table(folder, records, evaluations):
    """Write `evaluation_SET.csv` and `.md` of a comparison: mean and standard deviation (n - 1) over seeds of the error
    in percent, averaged over corruptions.

    The columns are every severity, groups of severities, and the mean corruption error where all runs have one.

    Args:
        folder (str): of the comparison.
        records (list of FinishedRun): its runs that were evaluated, at least one.
        evaluations (list of dict): for each of them the evaluation of the table.

    Returns:
        str: the table as text for a terminal. It has the groups of severities alone, if there are groups.
    """
    if common_evaluations([[evaluation] for evaluation in evaluations]) is None:
        return "the runs were evaluated on different corruptions or images, so there is no table of all"
    runs = {}
    for record, evaluation in zip(records, evaluations, strict=True):
        runs.setdefault((*record.setting[:3], record.name), []).append(_errors(evaluation))
    names = list(_errors(evaluations[0]))
    if not all("mCE" in errors for row in runs.values() for errors in row):
        names = [name for name in names if name != "mCE"]
    table = statistics([[[errors[name] for name in names] for errors in row] for row in runs.values()], names)

    tag = evaluations[0].get("file_tag") or file_tag(evaluations[0]["set"])  # earlier versions have none
    path = os.path.join(folder, f"evaluation_{tag}")
    columns = {key: [row[k] for row in runs] for k, key in enumerate(("dataset", "corruption", "model", "method"))}
    write_csv(path + ".csv", {**columns, "runs": list(map(len, runs.values())), **csv_columns(table)})
    description = f"error in percent, {averaged_over(evaluations[0])}"
    if "mCE" in names:
        baselines = dict.fromkeys(evaluation["corruption_error"]["baseline"]["name"] for evaluation in evaluations)
        description += f"; mCE relative to {', '.join(baselines)}"
    header = ["method", *(name.replace("_", " ") for name in names)]
    lines = [[row[-1], *cells] for row, cells in zip(runs, texts(table).values.tolist(), strict=True)]
    with atomic_write(path + ".md") as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("\n".join([description, "", *markdown(header, lines)]) + "\n")
    show_evaluations(folder)
    shown = [k for k, name in enumerate(names, 1) if not name.startswith("severity_")] or range(1, len(header))
    compact = [[line[0], *(line[k] for k in shown)] for line in (header, *lines)]
    return "\n".join([description, "", *aligned(compact[0], compact[1:]), f"all severities: {path}.md"])


def show_evaluations(folder):
    """Put the evaluations of a comparison into its page."""
    replace_evaluations(folder, evaluation_sections(folder))


def evaluation_sections(folder):
    """Return the evaluations of a comparison, `evaluation_SET.md` in its folder, as a list of Section."""
    sections = []
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "evaluation_*.md"))):
        with open(path, encoding="utf-8") as file:
            description, _, *table = file.read().splitlines()
        header, _, *rows = ([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                            for line in table)
        name = os.path.basename(path).removeprefix("evaluation_").removesuffix(".md")
        sections.append(Section(f"Evaluation: {name}", description, Table(header, rows)))
    return sections


def _errors(evaluation):
    """Name of a column to its number in one evaluation."""
    severities = (0, *severities_of(evaluation))
    errors = {f"severity_{s}": 100 * error
              for s, error in zip(severities, evaluation["by_severity"]["error"], strict=True)}
    errors.update({level: 100 * means["error"] for level, means in evaluation["by_level"].items()})
    if "corruption_error" in evaluation:
        errors["mCE"] = evaluation["corruption_error"]["mean"]
    return errors


def evaluation_table(record):
    """An evaluation for a page: a line of text, and a `Table`."""
    errors = record.get("corruption_error", {})
    names, severities = {CLEAN: record["clean"], **record["corrupted"]}, severities_of(record)
    header = ["corruption", *(f"severity {s}" for s in severities), "mean accuracy (%)", "NLL", "ECE",
              *(["CE"] if errors else [])]
    rows = []
    for name, metrics in names.items():
        accuracy, nll, ece = (np.atleast_1d(metrics[metric]) for metric in CalibrationScores._fields)
        cells = [f"{100 * value:.2f}" for value in accuracy] if name != CLEAN else [""] * len(severities)
        rows.append([name, *cells, f"{100 * accuracy.mean():.2f}", f"{nll.mean():.3f}", f"{ece.mean():.3f}",
                     *([f"{errors['by_corruption'][name]:.3f}" if name != CLEAN else ""] if errors else [])])
    description = f"{network_title(record)}; test accuracy (%) at each severity"
    if errors:
        description += f"; mean corruption error {errors['mean']:.3f}, relative to {errors['baseline']['name']}"
    published = record.get("published")
    if published:
        columns = zip(published["error"], published["std"], published["difference"], strict=True)
        numbers = ", ".join(f"{error}{deviation and f' ± {deviation}'} ({difference:+.2f})"
                            for error, deviation, difference in columns)
        description += (f"; published mean errors (%) at severity 0 to 5, and how much higher the measured ones are, "
                        f"{published['source']}: {numbers}")
    cells = [[name, *(Cell(text, float(text) if text else None) for text in numbers)] for name, *numbers in rows]
    return description, Table(header, cells, "sortable")
