"""Figures over the values of an option."""
import numpy as np

from utils.errors import UserError
from utils.figures.severity import by_name
from utils.figures.style import create, legend_below, looks


def sweep(records, option, values, labels, ylabel):
    """A line for each of `labels` over the values of an option; `values` gives a record's numbers, one for each."""
    with_option = [record for record in records if record.config.get(option) is not None]
    found = sorted({record.config[option] for record in with_option})
    methods = {record.config.get("title", record.config["method"]) for record in with_option}
    if len(found) < 2 or len(methods) > 1:
        raise UserError(f"{option}: needs runs of one method with two values of --{option} at least; there are "
                        f"{', '.join(map(str, found)) or 'none'} of {', '.join(sorted(methods)) or 'no method'}")
    points = [by_name([record for record in with_option if record.config[option] == value], values)
              for value in found]
    means, deviations = (np.array([np.mean([pair[k] for pair in point.values()], axis=0) for point in points])
                         for k in (0, 1))
    figure, axes = create(height=2.7)
    for k, (label, look) in enumerate(looks(labels).items()):
        axes.plot(found, means[:, k], label=label, **look)
        if deviations.any():
            axes.errorbar(found, means[:, k], deviations[:, k], fmt="none", ecolor=look["color"], capsize=2)
    if min(found) > 0:
        axes.set_xscale("log")
        axes.set_xticks(found, [f"{value:g}" for value in found])
        axes.minorticks_off()
    dataset, corruption, _ = records[0].setting
    axes.set(xlabel=option, ylabel=ylabel, title=f"{methods.pop()} on {dataset}, {corruption.replace('_', ' ')}")
    legend_below(figure, axes)
    return figure


def rho(records):
    """Test accuracy at every severity over the radius of the ascent (SharpDRO, Fig. 5)."""
    labels = [f"severity {s}" for s in range(records[0].config["num_severity"])]
    yield "rho", sweep(records, "rho", lambda record: 100 * np.array(record.results["test"]["accuracy"]), labels,
                       "test accuracy (%)")


def sigma(records):
    """Test error without, with mild (1 to 3) and with severe corruption (4, 5) over the noise of DAMP or DAAP (Trinh
    2024, Fig. 2).
    """
    def errors(record):
        error = 100 * (1 - np.array(record.results["test"]["accuracy"]))
        return [error[0], error[1:4].mean(), error[4:6].mean()]
    if records[0].config["num_severity"] < 6:
        raise UserError("sigma: needs runs with all severities, --num_severity 6")
    yield "sigma", sweep(records, "sigma", errors, ["none", "mild (1-3)", "severe (4-5)"], "test error (%)")
