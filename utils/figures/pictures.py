"""Pictures that show images."""
import textwrap

import numpy as np
from PIL import Image

from utils.figures.style import plt
from utils.files import atomic_write

SHEET = 7  # images in a row of a sheet
# The largest side of an image in a picture, in pixels. More would not be visible, but would be kept for each of many
# images.
PANEL = 180


def panel(image):
    """Return an image uint8 (H, W) or (H, W, 3) for a picture, with a longer side of at most `PANEL` pixels."""
    height, width = image.shape[:2]
    factor = PANEL / max(height, width, PANEL)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) if factor < 1 else image


def plot_image_sheet(path, images):
    """Draw images one after the other, each with its title.

    Args:
        path (str): picture file to write.
        images (dict): title to image, uint8 (H, W) or (H, W, 3).
    """
    lines = -(-len(images) // SHEET)
    figure, axes = plt.subplots(lines, min(len(images), SHEET), figsize=(1.5 * min(len(images), SHEET), 1.8 * lines),
                                squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes.flat, images.items(), strict=False):
        show(axis, image)
        axis.set_title("\n".join(textwrap.wrap(title.replace("_", " "), 18)), fontsize=9)
    save_picture(figure, path)


def show(axis, image):
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def save_picture(figure, path):
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def plot_image_grid(path, rows, columns):
    """Draw images in a grid.

    Args:
        path (str): PNG file to write.
        rows (dict): title of a row to the images of the row, uint8 (H, W) or (H, W, 3).
        columns (list of str): titles of the columns.
    """
    figure, axes = plt.subplots(len(rows), len(columns), figsize=(1.4 * len(columns) + 1, 1.4 * len(rows) + 0.3),
                                squeeze=False, layout="constrained")
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            show(axis, image)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title.replace("_", "\n"), rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=10)
    save_picture(figure, path)
