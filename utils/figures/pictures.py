"""Pictures of images."""
from utils.figures.style import plt
from utils.files import replacing


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
