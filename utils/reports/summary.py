"""Tables of evaluations under many corruptions: of a comparison, and of a run for its page."""
import csv
import glob
import os
import re
from collections import Counter

import numpy as np

from corruptions.evaluation.metrics import SEVERITY_LEVELS, CalibrationScores
from corruptions.evaluation.record import CLEAN, averaged_over, file_tag, severities_of
from corruptions.utils.files import write_csv, write_text
from utils.records.evaluation import common_evaluations, network_title
from utils.records.reading import SETTING_KEYS, failure, planned_runs, stored_plan
from utils.reports.page import Cell, Section, Table, replace_evaluations
from utils.reports.tables import aligned, csv_columns, markdown, statistics, texts


def write_evaluation_table(folder, records, evaluations):
    """Write `evaluation_SET.csv` and `.md` of a comparison: mean and standard deviation (n - 1) over seeds of the error
    in percent, averaged over corruptions.

    The columns are every severity, groups of severities, and the mean corruption error where all runs have one. If the
    runs have several training corruptions or networks, the names of the rows have them, too.

    Args:
        folder (str): of the comparison.
        records (list of FinishedRun): its runs that were evaluated, at least one.
        evaluations (list of dict): for each of them the evaluation of the table.

    Returns:
        str: the table as text for a terminal. If all severities were evaluated, it has the groups of severities alone.
    """
    if common_evaluations([[evaluation] for evaluation in evaluations]) is None:
        return "the runs were evaluated on different corruptions or images, so there is no table of all"
    runs = {}
    for record, evaluation in zip(records, evaluations, strict=True):
        runs.setdefault((*record.setting[:3], record.name), []).append(_errors(evaluation))
    plan = {entry["folder"]: (entry["name"], *map(entry["given"].get, SETTING_KEYS[:3]))
            for entry in stored_plan(folder)}
    planned = Counter(plan.values())
    totals = {(*record.setting[:3], record.name): planned[plan[os.path.basename(record.path)]] for record in records}
    names = list(_errors(evaluations[0]))
    baselines = [evaluation.get("corruption_error", {}).get("baseline") for evaluation in evaluations]
    has_one_baseline = all(baseline == baselines[0] for baseline in baselines) and baselines[0] is not None
    if not has_one_baseline:  # without --baseline, evaluations may have those of earlier commands
        names = [name for name in names if name != "mCE"]
    table = statistics([[[errors[name] for name in names] for errors in row] for row in runs.values()], names)

    tag = evaluations[0].get("file_tag") or file_tag(evaluations[0]["set"])  # earlier versions have none
    path = os.path.join(folder, f"evaluation_{tag}")
    columns = {key: [row[k] for row in runs] for k, key in enumerate(("dataset", "corruption", "model", "method"))}
    write_csv(path + ".csv", {**columns, "runs": list(map(len, runs.values())), **csv_columns(table)})
    description = f"error in percent, {averaged_over(evaluations[0])}"
    if "mCE" in names:
        description += f"; mCE as a ratio, relative to {baselines[0]['name']}"
    elif any(baselines):
        description += "; without mCE, because not all evaluations have the same --baseline"
    header = ["method", *(name.replace("_", " ") for name in names)]
    cells = texts(table)
    if "mCE" in names:
        cells["mCE"] = texts(table[["mCE"]], digits=3)["mCE"]
    lines = [[title, *numbers] for title, numbers in zip(_titles(runs, totals), cells.values.tolist(), strict=True)]
    write_text(path + ".md", "\n".join([description, "", *markdown(header, lines)]) + "\n")
    show_evaluations(folder)
    is_grouped = all(level in names for level in SEVERITY_LEVELS)
    shown = [k for k, name in enumerate(names, 1) if name.startswith("severity_") != is_grouped or name == "mCE"]
    compact = [[line[0], *(line[k] for k in shown)] for line in (header, *lines)]
    return "\n".join([description, "", *aligned(compact[0], compact[1:]), f"all severities: {path}.md"])


def _titles(runs, totals):
    """Return the titles of the rows of a table: what tells them apart, and the number of runs if some are missing.

    Args:
        runs (dict): data set, corruption, network and name of each row, to its runs.
        totals (dict): such keys to the number of runs that the comparison has of this row.
    """
    varying = [k for k in range(3) if len({row[k] for row in runs}) > 1]
    for row, evaluated in runs.items():
        title = ", ".join([row[-1], *(row[k].replace("_", " ") for k in varying)])
        is_whole = len(evaluated) == totals[row]
        yield title if is_whole else f"{title} ({len(evaluated)} of {totals[row]} runs)"


def show_evaluations(folder):
    """Put the evaluations of a comparison into its page."""
    replace_evaluations(folder, evaluation_sections(folder))


def evaluation_sections(folder):
    """Return the evaluations of a comparison, `evaluation_SET.md` in its folder, as a list of Section.

    A section says how many runs its table has, if more runs of the comparison have ended by now.
    """
    sections, ended = [], sum(os.path.exists(os.path.join(run, "results.json")) and failure(run) is None
                              for run in planned_runs(folder))
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "evaluation_*.md"))):
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        if len(lines) < 4 or not lines[2].startswith("| method |"):  # a note of the user
            continue
        description, _, *table = lines
        header, _, *rows = ([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                            for line in table)
        name = os.path.basename(path).removeprefix("evaluation_").removesuffix(".md")
        evaluated = _evaluated_runs(path.removesuffix(".md") + ".csv")
        if evaluated is not None and evaluated < ended:
            description += f"; of {evaluated} of the {ended} runs, so evaluate the comparison again"
        sections.append(Section(f"Evaluation: {name}", description, Table(header, rows)))
    return sections


def _evaluated_runs(path):
    """Return the number of runs behind `evaluation_SET.csv`, or None if it is missing or damaged."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return sum(int(row["runs"]) for row in csv.DictReader(file))
    except (OSError, LookupError, TypeError, ValueError, csv.Error):
        return None


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
