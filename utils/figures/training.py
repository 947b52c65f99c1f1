"""Figures of a training over time."""
import numpy as np

from utils.figures.style import integer_ticks, legend_below, line_styles, subplots

FEW = 20  # with fewer points than this, each point has a marker
LEAST_IMAGES = 50  # images of a severity in a point of its loss and accuracy


def training(records):
    """Loss, accuracy and weight q of each severity over the training, a figure for each run. A point of loss and
    accuracy is a mean over 50 images or more, so rare severities have few points.
    """
    for record in records:
        table = record.table("train.csv")
        time = table["epoch"] + table["batch"] / batches_of(record, table)
        num_severity = record.config["num_severity"]
        weights = [name for name in table if name.startswith("adv_prob_") and not np.isnan(table[name]).all()]
        panels = {"training loss": [f"distribution_loss_{s}" for s in range(num_severity)],
                  "training accuracy": [f"distribution_acc_{s}" for s in range(num_severity)]}
        if weights:
            panels["weight q"] = weights
        figure, axes = subplots(len(panels), height=0.5 + 1.4 * len(panels), sharex=True, squeeze=False)
        styles = list(line_styles(range(num_severity + len(weights))).values())
        for panel, (label, columns) in zip(axes[:, 0], panels.items(), strict=True):
            for k, column in enumerate(columns):
                there = ~np.isnan(table[column])
                times, values = time[there], table[column][there]
                if label != "weight q":
                    times, values = binned(times, values, table[f"processed_distribution_counts_{k}"][there],
                                           LEAST_IMAGES)
                environment = column.partition("environment_")[2]
                look = styles[num_severity + k if environment else k]
                is_marked = len(times) < FEW
                panel.plot(times, values,
                           label=f"environment {environment}" if environment else f"severity {k}",
                           **{**look, "marker": look["marker"] if is_marked else ""})
            panel.set_ylabel(label)
            if label == "weight q" and any("environment" in column for column in columns):
                panel.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=2, frameon=False)
        axes[-1, 0].set_xlabel("epoch")
        integer_ticks(axes[-1, 0].xaxis)
        axes[0, 0].set_title(f"{record.name}, seed {record.config['seed']}")
        legend_below(figure, axes[0, 0])
        yield f"training_{record.name}_seed{record.config['seed']}", figure


def binned(times, values, counts, least):
    """Average values over consecutive rows, with the numbers of images as weights.

    Args:
        times, values, counts (numpy.ndarray): (n,) time, value and number of images of each row.
        least (int): least number of images in a mean; the last rows join the last mean.

    Returns:
        tuple of numpy.ndarray: mean time and mean value of each group of rows; empty if there are no images.
    """
    group, number, images = np.zeros(len(counts), int), 0, 0
    for row, count in enumerate(counts):
        group[row], images = number, images + count
        if images >= least:
            number, images = number + 1, 0
    _, index = np.unique(np.minimum(group, max(number - 1, 0))[counts > 0], return_inverse=True)
    images = np.bincount(index, counts[counts > 0])
    return tuple(np.bincount(index, (numbers * counts)[counts > 0]) / images for numbers in (times, values))


def batches_of(record, table):
    """Return the number of batches in an epoch of a run.

    The evaluations record it, because `train.csv` of an old run may lack the last batch.
    """
    counts = record.table("test_clean.csv").get("batch", [])
    return max([*counts, table["batch"].max(initial=0) + 1])
