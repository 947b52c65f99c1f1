"""Figures with the values of an option as the horizontal axis."""
import itertools

import numpy as np

from corruptions.evaluation.metrics import SEVERITY_LEVELS
from corruptions.utils.errors import UserError
from utils.figures.style import WIDTH, legend_below, line_styles, subplots, widen_percentages, wrapped
from utils.records.evaluation import common_evaluations, run_evaluations


def sweep(records, option, values, labels, ylabel, has_references=False):
    """Draw a line for each of `labels` over the values of an option, in a panel for each row that has several values.

    Args:
        records (list of FinishedRun): runs; the runs of one row and one value are averaged.
        option (str): name of the option, which `read_records` was given in `shown`.
        values (callable): record to its numbers, one for each of `labels`.
        labels (list of str): labels of the lines.
        ylabel (str): label of the vertical axes.
        has_references (bool): whether runs without the option are drawn as levels, broken lines in each panel.

    Returns:
        matplotlib.figure.Figure

    Raises:
        UserError: no row has two values of the option.
    """
    rows = {}
    for record in records:
        rows.setdefault(record.name, {}).setdefault(record.config.get(option), []).append(values(record))
    levels = {name: np.mean(by_value[None], axis=0) for name, by_value in rows.items()
              if has_references and None in by_value}
    rows = {name: {value: by_value[value] for value in sorted(set(by_value) - {None})}
            for name, by_value in rows.items()}
    rows = {name: by_value for name, by_value in rows.items() if len(by_value) > 1}
    if not rows:
        raise UserError(f"{option}: needs runs of one method, or variant, with two values of --{option} at least")
    broken = dict(zip(levels, itertools.cycle(("--", ":", "-.")), strict=False))
    figure, axes = subplots(1, len(rows), height=2.3, width=WIDTH * min(len(rows), 3), sharey=True, squeeze=False)
    for panel, (name, by_value) in zip(axes[0], rows.items(), strict=True):
        places = list(by_value)
        means = np.array([np.mean(runs, axis=0) for runs in by_value.values()])
        deviations = np.array([np.std(runs, axis=0, ddof=1) if len(runs) > 1 else np.zeros(len(labels))
                               for runs in by_value.values()])
        for k, (label, look) in enumerate(line_styles(labels).items()):
            panel.plot(places, means[:, k], label=label, **look)
            if deviations.any():
                panel.errorbar(places, means[:, k], deviations[:, k], fmt="none", ecolor=look["color"], capsize=2)
            for reference, level in levels.items():
                panel.axhline(level[k], color=look["color"], linestyle=broken[reference], linewidth=0.9)
        for reference in levels:
            panel.plot([], [], color="0.4", linestyle=broken[reference], linewidth=0.9, label=reference)
        if places[0] > 0:
            panel.set_xscale("log")
            panel.set_xticks(places, [f"{value:g}" for value in places])
            panel.minorticks_off()
        panel.set(xlabel=option, title=wrapped(name, 40))
        widen_percentages(panel)
    axes[0, 0].set_ylabel(ylabel)
    legend_below(figure, axes[0, 0])
    return figure


def rho(records):
    """Test accuracy at every severity over the radius of the ascent (SharpDRO, Fig. 5), a panel for each method."""
    labels = [f"severity {s}" for s in range(records[0].config["num_severity"])]
    yield "rho", sweep(records, "rho", lambda record: 100 * np.array(record.results["test"]["accuracy"]), labels,
                       "test accuracy (%)")


def sigma(records):
    """Test error over the noise of DAMP or DAAP, without corruption, with mild (1 to 3) and with severe corruption
    (4, 5), a panel for each method (Trinh 2024, Fig. 2). Broken lines are runs without noise, such as ERM's. Errors
    are averaged over the corruptions that all runs were evaluated on, or are of the training corruption.
    """
    evaluations = common_evaluations([run_evaluations(record.path) for record in records])
    if evaluations and set(evaluations[0]["by_level"]) != set(SEVERITY_LEVELS):
        evaluations = None  # these images do not have all severities
    if records[0].config["num_severity"] < 6 and not evaluations:
        raise UserError("sigma: needs runs with all severities, --num_severity 6, or an evaluation of each")
    errors_by_run = {}
    for record, evaluation in zip(records, evaluations or [None] * len(records), strict=True):
        error = 1 - np.array(record.results["test"]["accuracy"])
        errors_by_run[record.path] = 100 * np.array(
            [level["error"] for level in evaluation["by_level"].values()] if evaluation
            else [error[0], error[1:4].mean(), error[4:6].mean()])
    title = evaluations[0]["set"] if evaluations else records[0].config["corruption"].replace("_", " ")
    figure = sweep(records, "sigma", lambda record: errors_by_run[record.path], ["none", "mild (1-3)", "severe (4-5)"],
                   "test error (%)", has_references=True)
    figure.suptitle(wrapped(title, round(17 * figure.get_figwidth())), fontsize="medium")
    yield "sigma", figure
