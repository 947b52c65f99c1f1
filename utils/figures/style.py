"""The code that all figures share: size, colours, files."""
import importlib.metadata
import itertools
import math
import shlex
import sys
import textwrap

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from corruptions.pictures import save_picture  # noqa: E402

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart. Black is the last one.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 3.5  # inches, the width of a column of text
plt.rcParams.update({
    "font.size": 8, "axes.titlesize": 8, "legend.fontsize": 7, "legend.handlelength": 3, "axes.grid": True,
    "grid.alpha": 0.3, "lines.linewidth": 1.2, "lines.markersize": 3.5, "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # names of variants may have dollar signs
})


def line_styles(names):
    """Return a different style for each name: colour, marker and, from the eighth name on, a broken line."""
    kinds = itertools.product(("-", "--", ":", "-."), zip(COLOURS, MARKERS, strict=True))
    return {name: {"linestyle": line, "color": colour, "marker": marker}
            for name, (line, (colour, marker)) in zip(names, itertools.cycle(kinds))}


def subplots(rows=1, columns=1, height=2.4, width=WIDTH, **options):
    """Return a figure with axes. `height` and `width` are in inches; further options are as in `plt.subplots`."""
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **options)


LEAST_SPAN = 10  # percentage points of an axis


def widen_percentages(axes):
    """Widen a vertical axis of percentages to at least `LEAST_SPAN`, so that small differences look small."""
    low, high = axes.get_ylim()
    if high - low < LEAST_SPAN:
        low = min(max(0, (low + high - LEAST_SPAN) / 2), 100 - LEAST_SPAN)
        axes.set_ylim(low, low + LEAST_SPAN)


def integer_ticks(axis):
    """Put the ticks of a matplotlib axis at whole numbers, such as epochs."""
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def legend_below(figure, axes):
    """Add one legend below the figure, in as many columns as fit. The figure grows, so the legend covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [wrapped(label, 46) for label in labels]
    longest = max((len(line) for label in labels for line in label.splitlines()), default=1)
    columns = max(1, min(len(labels), int(60 * figure.get_figwidth() / WIDTH // (longest + 9))))
    lines = sum(1 + label.count("\n") for label in labels)
    figure.set_figheight(figure.get_figheight() + 0.15 * math.ceil(lines / columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def wrapped(text, width):
    """Return `text` wrapped into lines of at most `width` letters."""
    return "\n".join(textwrap.wrap(text, width)) or text


def command():
    """Return the command line of this process as it was typed.

    For `python -m NAME`, `sys.argv` has the path of the file instead.
    """
    spec = sys.modules["__main__"].__spec__
    program = ["python", *sys.argv[:1]] if spec is None else ["python", "-m", spec.parent or spec.name]
    return shlex.join([*program, *sys.argv[1:]])


def save(figure, path):
    """Write a figure as PNG and SVG, with the command and the versions in their metadata.

    Args:
        figure (matplotlib.figure.Figure): the figure; closed afterwards.
        path (str): path without a suffix.
    """
    versions = f"matplotlib {matplotlib.__version__}, mindspore {importlib.metadata.version('mindspore')}"
    for suffix, metadata in (("png", {"Description": command(), "Software": versions}),
                             ("svg", {"Description": command(), "Creator": versions, "Date": None})):
        save_picture(figure, f"{path}.{suffix}", dpi=300, metadata=metadata)
    plt.close(figure)
