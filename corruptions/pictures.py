"""Pictures that show images."""
import os
import textwrap

import matplotlib
import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from PIL import Image

from corruptions.utils.errors import UserError
from corruptions.utils.files import atomic_write

# The suffixes of pictures, without the dot; pgf needs LaTeX.
PICTURE_TYPES = sorted(set(FigureCanvasBase.get_supported_filetypes()) - {"pgf"})
SHEET = 7  # images in a row of a sheet
# The largest side of an image in a picture, in pixels. More would not be visible, but would be kept for each of many
# images.
PANEL = 180


def check_picture_name(path):
    """Raise a `UserError` unless a path has the suffix of a picture."""
    if os.path.splitext(path)[1].lower().removeprefix(".") not in PICTURE_TYPES:
        raise UserError(f"{os.fspath(path)!r} has no suffix of a picture; there are {', '.join(PICTURE_TYPES)}")


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
    columns = min(len(images), SHEET)
    figure = Figure(figsize=(1.5 * columns, 1.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes.flat, images.items(), strict=False):
        show(axis, image)
        axis.set_title("\n".join(textwrap.wrap(title.replace("_", " "), 18)), fontsize=9)
    save_picture(figure, path)


def show(axis, image):
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def save_picture(figure, path, dpi=120):
    """Write a figure, in the format of the suffix. The same figure has the same bytes, and text in SVG stays text."""
    with matplotlib.rc_context({"svg.hashsalt": "figures", "svg.fonttype": "none"}), atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def plot_image_grid(path, rows, columns):
    """Draw images in a grid.

    Args:
        path (str): PNG file to write.
        rows (dict): title of a row to the images of the row, uint8 (H, W) or (H, W, 3).
        columns (list of str): titles of the columns.
    """
    figure = Figure(figsize=(1.4 * len(columns) + 1, 1.4 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            show(axis, image)
            axis.set(xticks=[], yticks=[])
            axis.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(title.replace("_", "\n"), rotation=0, ha="right", va="center", fontsize=8)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=10)
    save_picture(figure, path)
