"""Figures of evaluations under many corruptions, from the records that main.py --evaluate writes."""
from dataclasses import replace

import numpy as np

from corruptions.evaluation.record import CLEAN, severities_of
from corruptions.utils.errors import UserError
from utils.figures.severity import lines_over_severity
from utils.figures.style import WIDTH, subplots, wrapped
from utils.records.evaluation import common_evaluations, run_evaluations

FEW = 6  # columns with horizontal titles
BEST = 5  # training corruptions shown of a method that was trained with more


def ce(records):
    """Corruption error relative to the first row, as a heat map (DAMP, Fig. 1). Rows are methods with their training
    corruptions, columns are test corruptions, with none for clean images and Avg for the mean of the columns. A method
    with several training corruptions has its five best rows, at the end. The row that others are relative to is always
    there.
    """
    evaluations = evaluations_of(records)
    tests = list(evaluations[0]["corrupted"])
    rows = {}
    for record, evaluation in zip(records, evaluations, strict=True):
        errors = [1 - evaluation["clean"]["accuracy"]]
        columns = [evaluation["corrupted"][name]["accuracy"] for name in tests]
        errors += [len(column) - sum(column) for column in columns]
        rows.setdefault((name_of(record, records), trained_with(record)), []).append(errors)
    errors = {row: np.mean(runs, axis=0) for row, runs in rows.items()}
    baseline = next(iter(errors.values()))
    if not baseline.all():
        raise UserError(f"{records[0].path}: makes no error on some corruption, so nothing is relative to it; name "
                        "another run first")
    ratios = {row: row_errors / baseline for row, row_errors in errors.items()}
    first, runs = next(iter(rows.items()))
    reference = title(first) + (f", mean over {len(runs)} runs" if len(runs) > 1 else "")
    yield "ce", heat_map({title(row): np.append(ratios[row], ratios[row].mean()) for row in best_last(ratios)},
                         [CLEAN, *tests, "Avg"], reference)


def error(records):
    """Test error at every severity, averaged over the corruptions of an evaluation that all runs have, with one
    standard deviation over seeds (DAMP, Fig. 3). Runs with different training corruptions have a line each.
    """
    evaluations = evaluations_of(records)
    if len(set(map(trained_with, records))) > 1:
        records = [replace(record, name=f"{record.name}, {trained_with(record).replace('_', ' ')}")
                   for record in records]
    errors = {record.path: 100 * np.array(evaluation["by_severity"]["error"])
              for record, evaluation in zip(records, evaluations, strict=True)}
    yield "error", lines_over_severity(
        records, lambda record: errors[record.path], "test error (%)",
        wrapped(f"{records[0].config['dataset']}, averaged over {evaluations[0]['set']}", 44),
        [0, *severities_of(evaluations[0])])


def evaluations_of(records):
    """Return the evaluation of each run on the largest set of corruptions that all runs were evaluated on.

    Raises:
        UserError: a run has no evaluation, or the runs have none on the same corruptions and images.
    """
    candidates = [run_evaluations(record.path) for record in records]
    for record, run_candidates in zip(records, candidates, strict=True):
        if not run_candidates:
            raise UserError(f"{record.path}: has no evaluation of its newest checkpoint; make one with main.py "
                            f"--evaluate {record.path}")
    evaluations = common_evaluations(candidates)
    if evaluations is None:
        raise UserError(f"{records[0].path} and the others were not evaluated on one set of corruptions and the same "
                        "test images; evaluate all with the same -c")
    return evaluations


def title(row):
    """Return a method and its training corruption as text."""
    return ", ".join(row).replace("_", " ")


def name_of(record, records):
    """Return the name of a record, followed by its network if the records have several networks."""
    models = {run.config["model"] for run in records}
    return record.name if len(models) == 1 else f"{record.name} {record.config['model']}"


def trained_with(record):
    """Return the training corruptions of a run, from its data and its augmentation, or `CLEAN` if there are none."""
    config = record.config
    corruptions = [] if config.get("train_on") == "clean" else [config["corruption"]]
    if config.get("aug_corruption") or config.get("aug_severity"):
        corruptions.append(config.get("aug_corruption") or config["corruption"])
    return " and ".join(dict.fromkeys(corruptions)) or CLEAN


def best_last(ratios):
    """Return the rows to show, in order: methods with one training corruption, then the best rows of each other method.

    The best are the `BEST` rows with the smallest means, in ascending order. The first row of all is always shown.

    Args:
        ratios (dict): (name, training corruption) to an array of ratios.

    Returns:
        list: keys of `ratios`.
    """
    reference, rows_of = next(iter(ratios)), {}
    for row in ratios:
        rows_of.setdefault(row[0], []).append(row)
    shown = [rows[0] for rows in rows_of.values() if len(rows) == 1]
    for rows in rows_of.values():
        if len(rows) > 1:
            ranked = sorted(rows, key=lambda row: np.mean(ratios[row]))
            shown += ranked[:BEST] + [row for row in ranked[BEST:] if row == reference]
    return shown


def heat_map(rows, columns, reference):
    """Draw numbers around 1 as a heat map, with each number written into its cell.

    Args:
        rows (dict): title of a row to its numbers.
        columns (list of str): titles of the columns.
        reference (str): name of the baseline of the numbers.

    Returns:
        matplotlib.figure.Figure
    """
    values = np.array(list(rows.values()))
    shades = np.log(np.clip(values, 0.05, 20))  # clipped, because an extreme ratio would make all other colours pale
    spread = max(np.abs(shades).max(), 0.05)
    titles = [wrapped(title, 34) for title in rows]
    figure, axes = subplots(height=1.1 + 0.19 * sum(1 + title.count("\n") for title in titles), width=2 * WIDTH)
    axes.imshow(shades, cmap="PuOr_r", vmin=-spread, vmax=spread, aspect="auto")
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            dark = abs(shades[y, x]) > 0.6 * spread
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=5.5, color="white" if dark else "black")
    axes.set_xticks(range(len(columns)), [column.replace("_", " ") for column in columns], fontsize=6.5,
                    rotation=0 if len(columns) <= FEW else 90)
    axes.set_yticks(range(len(rows)), titles, fontsize=6.5)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.axvline(len(columns) - 1.5, color="black", linewidth=0.8)
    axes.set_title(wrapped(f"corruption error relative to {reference} (lower is better)", 80))
    return figure
