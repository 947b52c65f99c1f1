"""Pictures that show images."""
import io
import os
import textwrap

import matplotlib
import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from PIL import Image

from corruptions.utils.errors import UserError
from corruptions.utils.files import write_bytes

# The suffixes of pictures, without the dot; pgf needs LaTeX.
PICTURE_TYPES = sorted(set(FigureCanvasBase.get_supported_filetypes()) - {"pgf"})
SHEET = 7  # images in a row of a sheet
# The largest side of an image in a picture, in pixels. More would not be visible, but would be kept for each of many
# images.
PANEL = 180
TITLE_WIDTH = 20  # characters in a line of a title


def check_picture_name(path):
    """Raise a `UserError` unless a path has the suffix of a picture."""
    if os.path.splitext(path)[1].lower().removeprefix(".") not in PICTURE_TYPES:
        raise UserError(f"{os.fspath(path)!r} does not end like a picture; choose from {', '.join(PICTURE_TYPES)}")


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
        axis.set_title(broken(title), fontsize=8)
    save_picture(figure, path)


def show(axis, image):
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_axis_off()


def broken(name):
    """Return a name in lines of at most `TITLE_WIDTH` characters, broken after underscores."""
    return "\n".join(line.replace("_ ", "_") for line in textwrap.wrap(name.replace("_", "_ "), TITLE_WIDTH))


def save_picture(figure, path, dpi=120, metadata=None):
    """Write a figure, in the format of the suffix. The same figure has the same bytes, and text in SVG stays text.

    `metadata` is as in `Figure.savefig`.
    """
    file = io.BytesIO()  # as in `images.write_image`
    with matplotlib.rc_context({"svg.hashsalt": "figures", "svg.fonttype": "none"}):
        figure.savefig(file, dpi=dpi, format=os.path.splitext(path)[1].removeprefix("."), metadata=metadata)
    write_bytes(path, file.getbuffer())


def plot_image_grid(path, rows, columns, clean=None):
    """Draw images in a grid, in panels of the shape of the first image.

    Args:
        path (str): picture file to write.
        rows (dict): title of a row to the images of the row, uint8 (H, W) or (H, W, 3).
        columns (list of str): titles of the columns.
        clean (numpy.ndarray or None): an image for a row of its own, above the others.
    """
    height, width = next(iter(rows.values()))[0].shape[:2]
    panel_width, panel_height = 1.3 * min(1, width / height), 1.3 * min(1, height / width)
    lines = len(rows) + (clean is not None)
    figure = Figure(figsize=(panel_width * len(columns) + 1.5, panel_height * lines + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    axes = figure.subplots(lines, len(columns), squeeze=False)
    if clean is not None:
        rows = {"clean": [clean], **rows}
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, image in zip(line, images, strict=False):
            show(axis, image)
        line[0].text(-0.05, 0.5, broken(title), transform=line[0].transAxes, ha="right", va="center", fontsize=8)
    for axis, title in zip(axes[int(clean is not None)], columns, strict=True):
        axis.set_title(title, fontsize=9)
    save_picture(figure, path)
