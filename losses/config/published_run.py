"""The published numbers that a run is compared with."""
import re
from dataclasses import replace

from losses.config.published import read_published
from losses.config.recipes import RECIPES, option_texts
from losses.config.resolve import resolve
from losses.config.table import OPTIONS

# Options besides those of the method in which a run may differ from its recipe.
DATA_OPTIONS = ("num_severity", "num_per_class", "num_val", "val_fraction", "mean", "std", "interpolation",
                "init_checkpoint", "test_corrupted")


def published_row(values, title, corruption):
    """Return the published numbers of a run, or None if there are none.

    Args:
        values (dict): settings of the run, as in its `config.json`; empty if there are none. A recipe that the run used
            with another data set or network has no published numbers.
        title (str): title of its method.
        corruption (str): corruption of the test images, or 'ImageNet-C' or 'ImageNet-C-bar'.
    """
    recipe, benchmark = values.get("recipe"), {option: values.get(option) for option in ("dataset", "model")}
    if recipe not in RECIPES or RECIPES[recipe].benchmark != benchmark:
        return None
    for row in read_published():
        in_source = re.search(r"(\d+) epochs", row.source)
        if (row.recipe, row.method, row.corruption) == (recipe, title, corruption) and (
                in_source is None or int(in_source[1]) == values.get("total_epoch")):
            known = {"total_epoch"} if in_source else set()
            return replace(row, overridden=tuple(overridden(values, known)))
    return None


def overridden(values, known=()):
    """Return the settings of a run in which it differs from its recipe, as on a command line, a list of str.

    Args:
        values (dict): settings of the run.
        known (collection of str): settings that are named elsewhere.
    """
    recipe = RECIPES[values["recipe"]]
    published = resolve(values["method"], values["dataset"], recipe=values["recipe"]).to_dict()
    changed = {option: values[option] for option, value in published.items()
               if option in values and values[option] != value and option not in known}
    defaults = {"num_severity": OPTIONS["num_severity"].default, **recipe.data}
    data = {option: values.get(option) for option in DATA_OPTIONS if values.get(option) != defaults.get(option)
            and (values.get(option) is not None or option in recipe.data)}
    if values.get("split_sha256") is not None:
        data["split"] = "FILE"  # a run has its own copy
    return [f"no --{option}" if value is None else text
            for (option, value), text in zip((changed | data).items(), option_texts(changed | data), strict=True)]
