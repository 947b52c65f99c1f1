"""Figures of a network under perturbed weights, and of its confidence. `losses/evaluation/measure.py` measures both."""
import numpy as np
from matplotlib.colors import LogNorm

from corruptions.evaluation.metrics import BINS
from corruptions.utils.errors import UserError
from utils.figures.severity import MOST_BANDS, mean_and_std_by_name
from utils.figures.style import WIDTH, integer_ticks, legend_below, line_styles, subplots, wrapped
from utils.records.reading import first_of_each_name

LEAST_IN_BIN = 10  # images in a point of `calibration`


def panels(num_severity, xlabel, ylabel):
    """Return a figure of page width with a panel for each severity, and the list of axes."""
    columns = min(3, num_severity)
    rows = -(-num_severity // columns)
    figure, axes = subplots(rows, columns, height=0.3 + 1.5 * rows, width=2 * WIDTH, sharex=True, sharey=True,
                            squeeze=False)
    for s, panel in enumerate(axes.flat):
        panel.set_title(f"severity {s}")
        panel.set_visible(s < num_severity)
    for panel in axes[-1]:
        panel.set_xlabel(xlabel)
    for panel in axes[:, 0]:
        panel.set_ylabel(ylabel)
    return figure, list(axes.flat[:num_severity])


def require_finite(records, measured, key, way_out="leave it out"):
    """Check that the measurements of all records under `key`, nested lists of numbers, are finite and can be drawn.

    Raises:
        UserError: some are not finite. The error names the run and the `way_out`.
    """
    for record, measurement in zip(records, measured, strict=True):
        if not np.isfinite(np.asarray(measurement[key], float)).all():
            raise UserError(f"{record.path}: its network gives numbers that are not finite ({key}); {way_out}")


def sharpness(records, measured):
    """How much the loss of test images rises within a small distance of the weights, at every severity over the epochs
    (SharpDRO, Fig. 3). The runs have --log_sharpness, or their checkpoints are measured.
    """
    require_finite(records, measured, "sharpness")
    num_severity = records[0].config["num_severity"]
    curves = {record.path: dict(zip(measurement["epochs"], measurement["sharpness"], strict=True))
              for record, measurement in zip(records, measured, strict=True)}
    figure, axes = panels(num_severity, "epoch", "sharpness (test)")
    names = dict.fromkeys(record.name for record in records)
    for name, look in line_styles(names).items():
        runs = [record for record in records if record.name == name]
        epochs = sorted(set.intersection(*(set(curves[run.path]) for run in runs)))  # only these can be averaged
        if not epochs:
            raise UserError(f"{name}: no epoch was measured in all of its runs; draw {runs[0].path} apart")
        by_name = mean_and_std_by_name(
            runs, lambda run, epochs=epochs: np.array([curves[run.path][e] for e in epochs]))
        [(mean, deviation)] = by_name.values()
        for s, panel in enumerate(axes):
            panel.plot(*with_gaps(epochs, mean[:, s]), label=name,
                       **{**look, "marker": look["marker"] if len(epochs) < 9 else ""})
            if deviation.any() and len(names) <= MOST_BANDS:
                places, low = with_gaps(epochs, (mean - deviation)[:, s])
                panel.fill_between(places, low, with_gaps(epochs, (mean + deviation)[:, s])[1], color=look["color"],
                                   linewidth=0, alpha=0.1)
    integer_ticks(axes[0].xaxis)
    legend_below(figure, axes[0])
    yield "sharpness", figure


def with_gaps(epochs, values):
    """Return epochs and values with NaN where epochs are missing, so that no line crosses them.

    An interval of more than three times the shortest one counts as a gap.
    """
    breaks = [k + 1 for k, step in enumerate(np.diff(epochs)) if step > 3 * np.diff(epochs).min()]
    return np.insert(np.array(epochs, float), breaks, np.nan), np.insert(values, breaks, np.nan)


def surface(records, measured):
    """Loss of test images on two random directions around the weights, at every severity (SharpDRO, Fig. 2). The
    directions are scaled filter by filter (Li 2018) and equal for all. Each name has its first run.
    """
    first = first_of_each_name(records)
    require_finite(first, measured, "loss", "give a smaller --span, or leave it out")
    num_severity = records[0].config["num_severity"]
    names = [record.name for record in first]
    loss = np.array([measurement["loss"] for measurement in measured])
    norm = LogNorm(max(loss.min(), 1e-3), max(loss.max(), 2e-3))
    levels = np.geomspace(norm.vmin, norm.vmax, 16)
    figure, axes = subplots(len(names), num_severity, height=0.6 + 0.98 * len(names), width=2 * WIDTH, sharex=True,
                            sharey=True, squeeze=False)
    for row, name in enumerate(names):
        axis = measured[row]["coefficients"]
        for s, panel in enumerate(axes[row]):
            shown = np.clip(loss[row, s], norm.vmin, norm.vmax)
            drawn = panel.contourf(axis, axis, shown, levels, norm=norm, cmap="viridis")
            panel.contour(axis, axis, shown, levels, colors="white", linewidths=0.3)
            panel.plot(0, 0, "+", color="white", markersize=4)
            panel.set(aspect="equal", xticks=[axis[0], 0, axis[-1]], yticks=[axis[0], 0, axis[-1]])
            panel.grid(visible=False)
            if row == 0:
                panel.set_title(f"severity {s}")
        axes[row, 0].set_ylabel(wrapped(name, 18))
    figure.supxlabel("first direction, in norms of the weights", fontsize="medium")
    figure.supylabel("second direction", fontsize="medium")
    bar = figure.colorbar(drawn, ax=axes, label="test loss, logarithmic", aspect=12 * len(names) + 8, pad=0.01)
    bar.ax.set_yticks(levels[::3], [f"{float(f'{level:.2g}'):g}" for level in levels[::3]])
    bar.ax.minorticks_off()
    yield "surface", figure


def ood(records, measured):
    """Distribution of the normalised OOD scores of test images of every severity (SharpDRO, Fig. 6), after --epoch or
    at the newest checkpoint. Each run has a figure.
    """
    require_finite(records, measured, "scores")
    for record, measurement in zip(records, measured, strict=True):
        scores = [np.array(severity_scores) for severity_scores in measurement["scores"]]
        edges = np.linspace(0, max(severity_scores.max() for severity_scores in scores), 21)
        figure, axes = subplots(height=2.3)
        for s, look in line_styles(range(len(scores))).items():
            density, _ = np.histogram(scores[s], edges, density=True)
            axes.plot((edges[1:] + edges[:-1]) / 2, density, label=f"severity {s}", **{**look, "marker": ""})
            axes.axvline(scores[s].mean(), ymax=0.04, color=look["color"])
        axes.set(xlabel="normalised OOD score (mean of each severity marked)", ylabel="density",
                 title=f"{record.name}, seed {record.config['seed']}, after epoch {measurement['epoch']}")
        legend_below(figure, axes)
        yield f"ood_{record.name}_seed{record.config['seed']}_epoch{measurement['epoch']}", figure


def calibration(records, measured):
    """Accuracy over confidence in 15 bins at every severity, on test images. Above the diagonal a network is less
    confident than accurate. Bins of fewer than 10 images are left out. Runs of one name are taken together. The bars,
    or with several names the steps, are the share of images in each bin.
    """
    require_finite(records, measured, "confidence")
    figure, axes = panels(records[0].config["num_severity"], f"confidence ({BINS} bins)", "accuracy (test)")
    names = list(dict.fromkeys(record.name for record in records))
    for name, look in line_styles(names).items():
        images, hits, confidence = (sum(np.array(measurement[key])
                                        for record, measurement in zip(records, measured, strict=True)
                                        if record.name == name) for key in ("images", "hits", "confidence"))
        for s, panel in enumerate(axes):
            there = images[s] >= LEAST_IN_BIN
            share, edges = images[s] / images[s].sum(), np.linspace(0, 1, BINS + 1)
            if len(names) == 1:
                panel.stairs(share, edges, fill=True, color="0.85", zorder=0)
            else:
                panel.stairs(share, edges, color=look["color"], linewidth=0.6, alpha=0.6, zorder=1)
            panel.plot(confidence[s][there] / images[s][there], hits[s][there] / images[s][there], label=name,
                       **{**look, "markersize": 2})
            if len(names) == 1:
                errors = [np.abs(np.subtract(measurement["hits"][s], measurement["confidence"][s])).sum()
                          / np.sum(measurement["images"][s]) for measurement in measured]
                panel.set_title(f"severity {s}, ECE {np.mean(errors):.3f}")
    for panel in axes:
        panel.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, zorder=0)
        panel.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    legend_below(figure, axes[0])
    yield "calibration", figure


def samples(records, measured):
    """A test image at every severity, as the network receives it."""
    figure, axes = subplots(1, len(measured), height=0.5 + 2 * WIDTH / len(measured), width=2 * WIDTH, squeeze=False)
    for s, (panel, image) in enumerate(zip(axes[0], measured, strict=True)):
        panel.imshow(image, interpolation="nearest")
        panel.set(xticks=[], yticks=[], title=f"severity {s}")
        panel.grid(visible=False)
        panel.spines[:].set_visible(False)
    dataset, corruption, _, _ = records[0].setting
    figure.supxlabel(f"{dataset}, {corruption.replace('_', ' ')}", fontsize="medium")
    yield "samples", figure


def xi(records, measured):
    """Loss of a small perceptron under each corruption at severity 3, trained on clean images of the first run's data
    set. There are the loss on corrupted images, the loss to first order (Trinh 2024, Lemma 1), and the loss with
    weights times xi (Eq. 14).
    """
    names = list(measured["corruptions"])
    values = np.array([measured["corruptions"][name] for name in names])
    figure, axes = subplots(height=4, width=2 * WIDTH)
    labels = ("on corrupted images", "to first order in the shifts (Lemma 1)", "with the weights times xi (Eq. 14)")
    for k, (label, look) in enumerate(line_styles(labels).items()):
        axes.plot(range(len(names)), values[:, k], label=label, **{**look, "linestyle": ""})
    axes.axhline(measured["clean"], color="0.4", linestyle="--", linewidth=0.9, label="on clean images")
    axes.set(ylabel="mean loss (test)", yscale="log",
             title=f"{records[0].config['dataset']}, a perceptron under corruptions at severity 3")
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], rotation=90, fontsize=6.5)
    legend_below(figure, axes)
    yield "xi", figure
