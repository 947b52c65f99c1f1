"""The published numbers of the experiments that recipes stand for (`published.csv`).

Those of SharpDRO come from the text of the paper that was submitted anonymously to ICLR; the version of CVPR 2023 may
have others. Those of DAMP come from the first version on arXiv.
"""
import csv
import itertools
import os
import re
from dataclasses import dataclass

from losses.config.recipes import RECIPES, to_argv, wrapped

PUBLISHED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "published.csv")


@dataclass(frozen=True)
class Published:
    """A row of a published table.

    Attributes:
        recipe, method (str): keys of `RECIPES` and `METHODS`.
        source (str): paper and table, and the number of epochs if the table has several.
        corruption (str): a corruption, or 'ImageNet-C' or 'ImageNet-C-bar', over which the numbers are averaged.
        measure (str): 'accuracy' or 'error', in percent.
        numbers (tuple of float): mean over seeds at severity 0 (clean) to 5.
        deviations (tuple of str): their standard deviations as they are printed, such as '0.02' or '<0.1'; '' where the
            table has none.
    """

    recipe: str
    source: str
    method: str
    corruption: str
    measure: str
    numbers: tuple
    deviations: tuple

    def texts(self):
        """Return the numbers as text, '90.9 ± 0.02'."""
        return [f"{number} ± {deviation}" if deviation else str(number)
                for number, deviation in zip(self.numbers, self.deviations, strict=True)]

    def differences(self, measured):
        """Return measured minus published numbers, in percentage points, list of float.

        `measured` has a number in percent for each severity from 0; it may end before severity 5.
        """
        return [value - number for value, number in zip(measured, self.numbers, strict=False)]


def read_published():
    """Return all published rows, a list in the order of the file."""
    with open(PUBLISHED, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [Published(recipe, source, method, corruption, measure, tuple(map(float, cells[:6])), tuple(cells[6:]))
            for recipe, source, method, corruption, measure, *cells in rows]


def published_row(recipe, dataset, model, method, corruption, epochs):
    """Return the published numbers of a run, or None if there are none.

    Args:
        recipe, dataset, model, corruption (str): settings of the run. A recipe that the run used with another data set
            or network has no published numbers.
        method (str): title of its method.
        epochs (int): number of its epochs, which must be one in the source, if the source has any.
    """
    if recipe not in RECIPES or RECIPES[recipe].benchmark != {"dataset": dataset, "model": model}:
        return None
    for row in read_published():
        in_source = re.search(r"(\d+) epochs", row.source)
        if (row.recipe, row.method, row.corruption) == (recipe, method, corruption) and (
                in_source is None or int(in_source[1]) == epochs):
            return row
    return None


def recipes_list():
    """Return all recipes as text: the options that each sets, and the published numbers that it aims at."""
    published, lines = read_published(), []
    for name, recipe in RECIPES.items():
        lines += [f"{name}: {recipe.title}", *wrapped(to_argv(recipe.settings))]
        lines += [f"  {method}: {' '.join(to_argv(options))}" for method, options in recipe.methods.items()]
        rows = [row for row in published if row.recipe == name]
        for (source, measure), group in itertools.groupby(rows, key=lambda row: (row.source, row.measure)):
            lines.append(f"  published {measure} (%) at severity 0 to 5, {source}:")
            lines += [f"    {row.corruption:15s} {row.method:18s}" + "".join(f"{number:6.1f}" for number in row.numbers)
                      for row in group]
        lines.append("")
    return "\n".join(lines)
