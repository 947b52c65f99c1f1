"""Means and standard deviations over seeds, and tables as text."""
from utils.runtime.requirements import require

require("pandas")
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402


def statistics(rows, columns):
    """Mean and standard deviation (n - 1) over the runs of each row of a table.

    Args:
        rows (list of list): for each row of the table its runs, sequences of numbers.
        columns (list of str): names of these numbers.

    Returns:
        pandas.DataFrame: a line for each row, columns (name, 'mean') and (name, 'std'). Both are nan for a row without
        runs, the deviation is nan for one run.
    """
    # numpy, because the sums of pandas' groupby differ in the last digits, which the files of a comparison keep.
    lines = np.full((len(rows), len(columns), 2), np.nan)
    for line, runs in zip(lines, rows, strict=True):
        if len(runs):
            line[:, 0] = np.mean(runs, axis=0)
        if len(runs) > 1:
            line[:, 1] = np.std(runs, axis=0, ddof=1)
    return pd.DataFrame(lines.reshape(len(rows), -1), columns=pd.MultiIndex.from_product([columns, ["mean", "std"]]))


def texts(table, digits=2, plus_minus=" ± ", signed=False):
    """The cells of `statistics` as text, such as '80.00 ± 1.41', or '80.00' for one run, or '+0.50' if `signed`.

    Returns:
        pandas.DataFrame: of str, a column for each name.
    """
    def cell(mean, deviation):
        if pd.isna(mean):
            return "failed"
        text = f"{mean:{'+' if signed else ''}.{digits}f}"
        return text if pd.isna(deviation) else f"{text}{plus_minus}{deviation:.{digits}f}"
    names = table.columns.unique(0)
    return pd.DataFrame({name: list(map(cell, table[name, "mean"], table[name, "std"])) for name in names},
                        index=table.index, dtype=object)


def best(table, runs):
    """Return which cells of `statistics` are the best of their column, or not clearly worse.

    A cell is marked if its mean is at most one standard error of the difference below the largest mean. The standard
    error of two means is sqrt(std_1^2 / runs_1 + std_2^2 / runs_2). With one run it is 0. Means count to two digits.

    Args:
        table (pandas.DataFrame): as returned by `statistics`.
        runs (list of int): number of runs of each row.

    Returns:
        pandas.DataFrame: of bool, a column for each name.
    """
    means = table.xs("mean", axis=1, level=1).round(2)
    squares = table.xs("std", axis=1, level=1).fillna(0) ** 2
    squares = squares.div(np.maximum(runs, 1), axis=0)
    highest = means.fillna(-np.inf).to_numpy().argmax(0)
    of_highest = squares.to_numpy()[highest, range(len(means.columns))]
    return means >= means.max() - np.sqrt(squares + of_highest)


def markdown(header, lines):
    """A table (list of str; list of list of str) as lines of Markdown."""
    yield f"| {' | '.join(header)} |"
    yield "|" + " --- |" * len(header)
    for first, *rest in lines:
        yield f"| {' | '.join([first.replace('|', chr(92) + '|'), *rest])} |"


def aligned(header, lines):
    """A table as lines for a terminal: the first column flush left, the others flush right."""
    table = [header, *lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *rest in table:
        cells = [first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]
        yield "  ".join(cells).rstrip()


def csv_columns(table):
    """The columns of `statistics` for a CSV file: NAME_mean, NAME_std to lists of numbers, '' where there is none."""
    flat = table.set_axis([f"{name}_{kind}" for name, kind in table.columns], axis=1).astype(object)
    return flat.where(flat.notna(), "").to_dict("list")
