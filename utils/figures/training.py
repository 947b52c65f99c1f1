"""Figures of a training over time."""
import numpy as np

from utils.figures.style import legend_below, line_styles, subplots

FEW = 20  # with fewer rows than this, each row has a marker


def training(records):
    """Loss and accuracy of each distribution and its weight q in the logged batches, a figure for each run."""
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
                if label != "weight q":  # a batch without the distribution has no value for it
                    there &= table[f"processed_distribution_counts_{k}"] > 0
                environment = column.partition("environment_")[2]
                look = styles[num_severity + k if environment else k]
                is_marked = len(time) < FEW or there.sum() == 1  # a single point has no line
                panel.plot(time[there], table[column][there],
                           label=f"environment {environment}" if environment else f"severity {k}",
                           **{**look, "marker": look["marker"] if is_marked else ""})
            panel.set_ylabel(label)
            if label == "weight q" and any("environment" in column for column in columns):
                panel.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=2, frameon=False)
        axes[-1, 0].set_xlabel("epoch")
        axes[0, 0].set_title(f"{record.name}, seed {record.config['seed']}")
        legend_below(figure, axes[0, 0])
        yield f"training_{record.name}_seed{record.config['seed']}", figure


def batches_of(record, table):
    """Return the number of batches in an epoch of a run.

    The evaluations record it, because `train.csv` of an old run may lack the last batch.
    """
    counts = record.table("test_clean.csv").get("batch", [])
    return max([*counts, table["batch"].max(initial=0) + 1])
