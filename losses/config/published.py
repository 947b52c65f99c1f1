"""The published numbers of the experiments that recipes stand for (`published.csv`).

Those of SharpDRO come from the text of the paper that was submitted anonymously to ICLR; the version of CVPR 2023 may
have others. Those of DAMP come from the first version on arXiv.
"""
import csv
import itertools
import os
from dataclasses import dataclass

from losses.config.recipes import RECIPES, option_texts, wrapped

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
        overridden (tuple of str): settings in which the run beside it differs from the recipe, as on a command line.
    """

    recipe: str
    source: str
    method: str
    corruption: str
    measure: str
    numbers: tuple
    deviations: tuple
    overridden: tuple = ()

    @property
    def title(self):
        """The source, and the settings in which the run differs from the published experiment."""
        return f"{self.source}; here with {', '.join(self.overridden)}" if self.overridden else self.source

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


def recipes_list():
    """Return all recipes as text: the options that each sets, and the published numbers that it aims at."""
    published, lines = read_published(), []
    for name, recipe in RECIPES.items():
        lines += [f"{name}: {recipe.title}", *wrapped(option_texts(recipe.settings))]
        lines += [f"  {method}: {' '.join(option_texts(options))}" for method, options in recipe.methods.items()]
        rows = [row for row in published if row.recipe == name]
        for (source, measure), group in itertools.groupby(rows, key=lambda row: (row.source, row.measure)):
            lines.append(f"  published {measure} (%) at severity 0 to 5, {source}:")
            lines += [f"    {row.corruption:15s} {row.method:18s}" + "".join(f"{number:6.1f}" for number in row.numbers)
                      for row in group]
        lines.append("")
    return "\n".join(lines)
