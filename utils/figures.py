"""Figures of a run."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from utils.files import replacing  # noqa: E402


def plot_accuracy_by_severity(path, accuracy, train_images, title):
    """Draw test accuracy over severity, above the number of training images of each severity.

    Args:
        path (str): PNG file to write.
        accuracy (list of float): test accuracy in 0..1 at severity 0, 1, ...
        train_images (list of int): training images of each severity.
        title (str): printed above.
    """
    severities = range(len(accuracy))
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(6, 5), height_ratios=(3, 1), layout="constrained")
    top.plot(severities, [100 * a for a in accuracy], marker="o")
    for s, a in zip(severities, accuracy, strict=True):
        top.annotate(f"{100 * a:.1f}", (s, 100 * a), xytext=(0, 7), textcoords="offset points", ha="center")
    top.set(ylabel="test accuracy (%)", title=title)
    top.margins(x=0.06, y=0.18)
    top.grid(alpha=0.3)
    bars = bottom.bar(severities, train_images, color="tab:gray")
    bottom.bar_label(bars, padding=1, fontsize=8)
    bottom.set(xlabel="severity (0 = clean)", ylabel="training\nimages", xticks=list(severities))
    bottom.margins(y=0.25)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def plot_image_grid(path, rows, columns):
    """Draw images in a grid.

    Args:
        path (str): PNG file to write.
        rows (dict): title of a row to its images, uint8 (H, W) or (H, W, 3).
        columns (list of str): titles of the columns.
    """
    figure, axes = plt.subplots(len(rows), len(columns), figsize=(1.4 * len(columns) + 1, 1.4 * len(rows) + 0.3),
                                squeeze=False, layout="constrained")
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title.replace("_", "\n"), rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
