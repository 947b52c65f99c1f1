"""The methods, one row each: an objective x a perturbation of the weights, for some methods on treated data.

The command line's help, the defaults and the README's tables are made from these rows.
"""
from dataclasses import dataclass, field

from corruptions.utils.cli import two_columns
from losses.components import DATA_STRATEGIES, OBJECTIVES, PERTURBATIONS, num_passes


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        objective (str): a key of `OBJECTIVES`.
        perturbation (str): a key of `PERTURBATIONS`.
        summary (str): what the method trains for, in a few words.
        source (str): where the method comes from.
        defaults (dict): defaults that differ from the defaults of the method's parts, as in `Component`. Defaults
            of the perturbation's options hold only with this perturbation.
        data (str): a key of `DATA_STRATEGIES`.
        recipe (str): a key of `losses.config.recipes.RECIPES`.
    """

    objective: str
    perturbation: str
    summary: str
    source: str
    defaults: dict = field(default_factory=dict)
    data: str = "plain"
    recipe: str = "sharpdro"

    @property
    def passes(self):
        """The number of forward and backward passes of a step."""
        return num_passes(self.objective, self.perturbation)

    @property
    def cost(self):
        """The passes per step, and whether a stage one comes first, as text."""
        return f"{self.passes} + stage one" if DATA_STRATEGIES[self.data].stage_one else str(self.passes)


METHODS = {
    "erm": Method("mean", "none", "the mean loss of a batch", "empirical risk minimisation"),
    "irm": Method("irm", "none", "a classifier that is best at every severity", "Arjovsky 2019"),
    "rex": Method("rex", "none", "equal losses at all severities", "Krueger 2021"),
    "group_dro": Method("group_dro", "none", "the loss at the worst severity", "Sagawa 2020"),
    "sam": Method("mean", "l2", "a flat loss", "Foret 2021", {"rho": {"cifar10": 0.045, "cifar100": 0.06}},
                  recipe="damp"),
    "asam": Method("mean", "asam", "a flat loss on the scale of the weights", "Kwon 2021, as in Trinh 2024",
                   recipe="damp"),
    "sharpdro": Method("sharpdro", "l2", "a flat loss at the worst severity", "Huang 2023"),
    "sharpdro_agnostic": Method("sharpdro_agnostic", "l2", "like sharpdro, without known severities",
                                "Huang 2023, Eq. 11 and 12"),
    "jtt": Method("mean", "none", "misclassified images more often", "Liu 2021", data="error_set"),
    "eiil": Method("irm", "none", "like irm, with inferred groups", "Creager 2021", data="environments"),
    "damp": Method("mean", "multiplicative", "multiplicative noise on the weights", "Trinh 2024", recipe="damp"),
    "daap": Method("mean", "additive", "additive noise on the weights", "Trinh 2024, Algorithm 3", recipe="damp"),
    "corrupt_aug": Method("mean", "none", "half of each batch corrupted anew", "Trinh 2024, Algorithm 2",
                          data="half_corrupted", recipe="damp"),
    "rare_aug": Method("mean", "none", "like corrupt_aug, rare severities more often", "this project",
                       {"aug_severity": "rare"}, data="half_corrupted"),
}


# Options that some methods read and others do not.
METHOD_OPTIONS = tuple(dict.fromkeys(option for table in (OBJECTIVES, PERTURBATIONS, DATA_STRATEGIES)
                                     for part in table.values() for option in part.defaults))


def default_options(method, objective=None, perturbation=None):
    """Return the options that a method's parts read, to their defaults as in `Component`.

    `objective` and `perturbation` (keys of the tables) replace the method's own parts.
    """
    row = METHODS[method]
    objective, perturbation = objective or row.objective, perturbation or row.perturbation
    data = DATA_STRATEGIES[row.data].defaults
    overrides = {option: value for option, value in row.defaults.items()
                 if perturbation == row.perturbation or option in data}
    return {**OBJECTIVES[objective].defaults, **PERTURBATIONS[perturbation].defaults, **data, **overrides}


def default_for_dataset(value, dataset):
    """Return a default as it is for one data set."""
    return value.get(dataset, value["cifar10"]) if isinstance(value, dict) else value


def methods_list():
    """Return the methods and their parts as text, for a terminal."""
    rows = {name: "; ".join(filter(None, [
        row.summary, f"{row.objective} x {row.perturbation}{'' if row.data == 'plain' else ' on ' + row.data}",
        f"passes: {row.cost}", _defaults(row), row.source])) for name, row in METHODS.items()}
    tables = {"methods (--method): aim; parts; passes; defaults (cifar10 / cifar100); source": rows,
              "objectives (--objective)": OBJECTIVES, "perturbations (--perturbation)": PERTURBATIONS,
              "data": DATA_STRATEGIES}
    return "\n\n".join(f"{title}\n{two_columns(table)}" for title, table in tables.items())


def _defaults(method, quote=""):
    """Return the options of a method's perturbation and row with their defaults, as text."""
    defaults = {**PERTURBATIONS[method.perturbation].defaults, **method.defaults}
    return ", ".join(f"{quote}--{option}{quote} " + (" / ".join(map(str, value.values())) if isinstance(value, dict)
                                                     else str(value)) for option, value in defaults.items())


def methods_table():
    """Return the methods as a Markdown table, for the README."""
    lines = ["| `--method` | objective | perturbation | data | passes | defaults on CIFAR-10 and others / CIFAR-100 "
             "| `--recipe` | source |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    lines += [f"| `{name}` | {method.objective} | {method.perturbation} | {method.data} | {method.cost} "
              f"| {_defaults(method, '`')} | {method.recipe} | {method.source} |" for name, method in METHODS.items()]
    return "\n".join(lines) + "\n"
