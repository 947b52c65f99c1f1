"""Figures with the severity as the horizontal axis."""
import numpy as np

from corruptions.utils.errors import UserError
from utils.figures.style import legend_below, line_styles, subplots, widen_percentages

MOST_BANDS = 3  # more bands of standard deviations would cover each other


def mean_and_std_by_name(records, values):
    """Return the mean and the standard deviation (n - 1; 0 for one run) over the runs of each name.

    Args:
        records (list of FinishedRun): the runs.
        values (callable): record to its numbers.

    Returns:
        dict: name to a pair of float64 arrays.
    """
    runs_by_name = {}
    for record in records:
        runs_by_name.setdefault(record.name, []).append(values(record))
    return {name: (np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) if len(runs) > 1 else 0 * np.array(runs[0]))
            for name, runs in runs_by_name.items()}


def lines_over_severity(records, values, label, title=None, severities=None):
    """Draw a line for each name, with one standard deviation if a name has several runs.

    The deviation is a band, or with many lines an error bar, because many bands would cover each other.

    Args:
        records (list of FinishedRun): the runs.
        values (callable): record to its numbers.
        label (str): label of the vertical axis.
        title (str or None): title of the figure; None takes the data set and the corruption of the runs.
        severities (list of int or None): severity of each number; None stands for 0, 1, 2, ...

    Returns:
        matplotlib.figure.Figure
    """
    statistics = mean_and_std_by_name(records, values)
    figure, axes = subplots(height=2.2)
    for k, (name, look) in enumerate(line_styles(statistics).items()):
        mean, deviation = statistics[name]
        severities = range(len(mean)) if severities is None else severities
        if deviation.any() and len(statistics) > MOST_BANDS:
            shifted = np.array(severities) + 0.05 * (k - (len(statistics) - 1) / 2)
            axes.errorbar(shifted, mean, deviation, label=name, elinewidth=0.7, capsize=1.5, **look)
            continue
        axes.plot(severities, mean, label=name, **look)
        if deviation.any():
            axes.fill_between(severities, mean - deviation, mean + deviation, color=look["color"], linewidth=0,
                              alpha=0.15)
    dataset, corruption, _, _ = records[0].setting
    axes.set(xlabel="severity (0 = clean)", ylabel=label, xticks=severities,
             title=title or f"{dataset}, {corruption.replace('_', ' ')}")
    if "(%)" in label:
        widen_percentages(axes)
    legend_below(figure, axes)
    return figure


def accuracy(records):
    """Test accuracy at every severity."""
    yield "accuracy", lines_over_severity(records, lambda record: 100 * np.array(record.results["test"]["accuracy"]),
                                          "test accuracy (%)")


def gradnorm(records):
    """Norm of the gradient of the mean validation loss at every severity, after the last epoch (SharpDRO, Fig. 4)."""
    def last(record):
        parts = ["val_clean.csv"] + [f"val_robust_{s}.csv" for s in range(1, record.config["num_severity"])]
        columns = [record.table(part)["gradnorm_0"] for part in parts]
        norms = [column[-1] if len(column) else np.nan for column in columns]
        if np.isnan(norms).any():
            raise UserError(f"{record.path}: has no gradient norms; run it with --record_norm, and a -n that leaves "
                            "validation images")
        return norms
    yield "gradnorm", lines_over_severity(records, last, "gradient norm (validation)")


def accuracy_and_images(accuracy, train_images, title):
    """Draw the test accuracy of one run over severity, above the number of training images of each severity.

    Args:
        accuracy (list of float): test accuracy in 0..1 at severity 0, 1, ...
        train_images (list of int): number of training images of each severity.
        title (str): title of the figure.

    Returns:
        matplotlib.figure.Figure
    """
    severities = range(len(accuracy))
    figure, (top, bottom) = subplots(2, height=3, sharex=True, height_ratios=(2, 1))
    top.plot(severities, [100 * a for a in accuracy], **line_styles([title])[title])
    top.set(ylabel="test accuracy (%)", title=title)
    widen_percentages(top)
    bars = bottom.bar(severities, train_images, color="0.6")
    bottom.bar_label(bars, padding=1, fontsize=7)
    bottom.set(xlabel="severity (0 = clean)", ylabel="training\nimages", xticks=list(severities))
    bottom.margins(y=0.25)
    return figure
