"""The table of a comparison whose runs were evaluated under many corruptions."""
import os

import numpy as np

from utils.files import atomic_write, write_csv
from utils.metrics import CalibrationScores
from utils.records.evaluation import CLEAN, _trained, averaged_over, common_evaluations, file_tag, severities_of
from utils.reports.comparison import aligned


def write_evaluation_table(folder, records, evaluations):
    """Write `evaluation_SET.csv` and `.md` of a comparison: the error at every severity and grouped, averaged over
    corruptions, and the mean corruption error where all runs have one; mean and standard deviation (n - 1) over seeds.

    Args:
        folder (str): of the comparison.
        records (list of FinishedRun): its runs that were evaluated, at least one.
        evaluations (list of dict): of each of them the evaluation that the table is of.

    Returns:
        str: the table as text.
    """
    if common_evaluations([[evaluation] for evaluation in evaluations]) is None:
        return "the runs were evaluated on different corruptions or images, so there is no table of all"
    rows = {}
    for record, evaluation in zip(records, evaluations, strict=True):
        rows.setdefault((*record.setting[:3], record.name), []).append(_numbers(evaluation))
    titles = list(_numbers(evaluations[0]))
    if not all("mCE" in run for runs in rows.values() for run in runs):
        titles = [title for title in titles if title != "mCE"]
    values = {row: np.array([[run[title] for title in titles] for run in runs]) for row, runs in rows.items()}
    means = np.array([runs.mean(axis=0) for runs in values.values()])
    deviations = [runs.std(axis=0, ddof=1) if len(runs) > 1 else [None] * len(titles) for runs in values.values()]

    path = os.path.join(folder, "evaluation_" + file_tag(evaluations[0]["set"]))
    columns = {name: [row[k] for row in rows] for k, name in enumerate(("dataset", "corruption", "model", "method"))}
    columns["runs"] = [len(runs) for runs in rows.values()]
    for k, title in enumerate(titles):
        columns[f"{title}_mean"], columns[f"{title}_std"] = means[:, k], [some[k] for some in deviations]
    write_csv(path + ".csv", columns)
    about = f"error in percent, {averaged_over(evaluations[0])}"
    if "mCE" in titles:
        names = dict.fromkeys(one["corruption_error"]["baseline"]["name"] for one in evaluations)
        about += f"; mCE relative to {', '.join(names)}"
    table = [["method", *(title.replace("_", " ") for title in titles)]]
    for row, mean, deviation in zip(rows, means, deviations, strict=True):
        table.append([row[-1], *(f"{m:.2f}" if d is None else f"{m:.2f} ± {d:.2f}"
                                 for m, d in zip(mean, deviation, strict=True))])
    head, *lines = (f"| {' | '.join(line)} |" for line in table)
    with atomic_write(path + ".md") as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("\n".join([about, "", head, "| --- " * len(table[0]) + "|", *lines]) + "\n")
    return "\n".join([about, "", *aligned(table)])


def _numbers(evaluation):
    """Title of a column to its number in one evaluation."""
    severities = (0, *severities_of(evaluation))
    errors = {f"severity_{s}": 100 * error
              for s, error in zip(severities, evaluation["by_severity"]["error"], strict=True)}
    errors.update({level: 100 * means["error"] for level, means in evaluation["by_level"].items()})
    if "corruption_error" in evaluation:
        errors["mCE"] = evaluation["corruption_error"]["mean"]
    return errors


def evaluation_table(record):
    """An evaluation for a page: a line of text; header, rows, kind and values of `page.table`."""
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
    about = f"{_trained(record)}; test accuracy (%) at each severity"
    if errors:
        about += f"; mean corruption error {errors['mean']:.3f}, relative to {errors['baseline']['name']}"
    values = {(i, j): text for i, row in enumerate(rows) for j, text in enumerate(row) if j and text}
    return about, (header, rows, "sortable", values)
