"""The expansion of a command line with several values, and variants, into the runs of a comparison."""
import itertools
from dataclasses import dataclass

from corruptions.utils.cli import MultipleValues
from corruptions.utils.errors import UserError
from losses.components import AGNOSTIC_OBJECTIVES, DATA_STRATEGIES
from losses.config.recipes import RECIPES, option_texts
from losses.config.resolve import WHOLLY_WEIGHTED, resolve
from losses.config.table import (
    AUTHORS_ALIASES,
    DEPENDENT_OPTIONS,
    TRAINING_PARTS,
    chosen_name,
    takes_effect,
    used_by,
)
from losses.methods import METHOD_OPTIONS, METHODS

BENCHMARK_KEYS = ("dataset", "corruption", "model")  # methods are compared within these
COMPONENT_OPTIONS = ("method", "objective", "perturbation", "risk")  # they decide which other options are read
PARTS = ("objective", "perturbation", *AUTHORS_ALIASES)  # the options that replace parts of a method
# These options decide it, too, but make no row of their own beside variants.
OUTER_OPTIONS = (*COMPONENT_OPTIONS, *TRAINING_PARTS, "num_sub_batches", "sampling",
                 *(required for required, *_ in DEPENDENT_OPTIONS.values()))


@dataclass(frozen=True)
class RunSpec:
    """A run of a comparison.

    Attributes:
        name (str): name of the run's row in the table: the variant, or the method, or the pair of objective and
            perturbation that replaces it; with the options that have several values.
        given (dict): options of the run, one value each.
    """

    name: str
    given: dict

    @property
    def setting(self):
        """The values of the given options of `BENCHMARK_KEYS`, which are the same for all rows of a table."""
        return tuple(self.given[option] for option in BENCHMARK_KEYS if option in self.given)


def uses_option(option, method, given):
    """Whether a method reads an option.

    The objective, the perturbation, the optimizer, the schedule and the sampling are the given ones, or else the
    method's own.
    """
    row = METHODS[method]
    if option == "sampler":  # weighted data or sampling allow only replacement
        is_weighted = DATA_STRATEGIES[row.data].oversamples or given.get("sampling") == "balanced"
        return given[option] == "replacement" or not is_weighted
    if option == "is_adaptive":
        return given.get("perturbation", row.perturbation) in ("l2", "adaptive")
    if option == "risk":
        return given.get("objective", row.objective) in WHOLLY_WEIGHTED
    if option in AUTHORS_ALIASES:
        return given.get("objective", row.objective) == "sharpdro"
    if option in ("mixup", "label_smoothing"):
        return given.get("objective", row.objective) != "irm"
    for part, table in TRAINING_PARTS.items():
        users = used_by(table, option)
        if users:
            return chosen_name(part, given, given.get("recipe", row.recipe)) in users
    if option == "sync_bn":
        parts = {name: given[name] for name in ("perturbation", "recipe", "num_sub_batches") if name in given}
        return resolve(method, **parts).num_sub_batches > 1
    if option not in ("sampling", *METHOD_OPTIONS):
        return True
    # Only these options change the objective and the perturbation.
    parts = {name: given[name] for name in PARTS if name in given
             and (name not in AUTHORS_ALIASES or uses_option(name, method, given))}
    settings = resolve(method, **parts)
    if option == "sampling":
        return settings.objective not in AGNOSTIC_OBJECTIVES  # these do not use the severities
    return option in settings.options and takes_effect(option, {**settings.options, **given})


def expand_grid(given, variants):
    """Return the runs that a command line describes; the runs of one data set and corruption follow one another.

    Each row is a method of `--method`, or a variant. A variant adds its own options to the options for all rows. If
    there are variants and no method, objective or perturbation is named for all, the variants are the only rows. There
    is a run for each value of an option with several values. An option that only some of the methods read goes to those
    methods. If no recipe is named, all rows take the recipe of SharpDRO.

    Args:
        given (dict): the options that the command line names, to a value or `MultipleValues`.
        variants (dict): name of a variant to such options.

    Returns:
        list of RunSpec

    Raises:
        UserError: no row reads an option, two rows are the same, a stage one does not fit all runs, or a variant's
            recipe does not fit them.
    """
    varied = [option for option in (*BENCHMARK_KEYS, "seed") if isinstance(given.get(option), MultipleValues)]
    if varied and any("stage_one" in options for options in (given, *variants.values())):
        raise UserError("--stage_one: its first model has one seed, data set, corruption and network; give one of each")
    runs, used, words_of_rows = {}, set(), {}
    for variant, options, own in _rows(given, variants):
        for parts in _combinations(options, OUTER_OPTIONS):
            parts = {"method": "sharpdro", **parts}
            mine = {option: value for option, value in parts.items()
                    if option in own or uses_option(option, parts["method"], parts)}
            used.update(mine)
            shown = [option for option in mine if isinstance(options.get(option), MultipleValues)
                     and option not in ("method", "seed", *BENCHMARK_KEYS)]
            for run in _combinations(mine, sorted(mine, key=lambda option: option == "seed")):  # seeds change fastest
                if variant is None:
                    _require_new(words_of_rows, run, shown)
                name = _row_name(variant, run, shown)
                key = (name, *(run.get(option) for option in (*BENCHMARK_KEYS, "seed")))
                if runs.setdefault(key, run) != run:
                    raise UserError(f"--variant {name}: has the name of another row; give it another")
    _require_used(given, used)
    planned = [RunSpec(key[0], run) for key, run in runs.items()]
    order = {key: k for k, key in enumerate(dict.fromkeys(run.setting for run in planned))}
    return sorted(planned, key=lambda run: order[run.setting])


def _rows(given, variants):
    """Yield all rows of `--method` together, and each variant.

    Yields:
        tuple: name of the variant, or None; all options; the options that a variant's runs have even if their method
        does not use them.

    Raises:
        UserError: a variant has another benchmark than the other rows, or several methods.
    """
    common = {"recipe": "sharpdro", **given}
    if not variants or any(option in COMPONENT_OPTIONS for option in given):
        yield None, common, {}
    for name, own in variants.items():
        options = {**common, **own}
        if "recipe" in own:
            _require_benchmark(name, own, given)
        if isinstance(options.get("method"), MultipleValues):
            raise UserError(f"--variant {name}: must have one method, and the comparison has several; give it "
                            "--method NAME")
        yield name, options, own


def _combinations(options, names):
    """Yield `options` with one value for each option in `names`, for every combination of their values."""
    varied = [option for option in names if isinstance(options.get(option), MultipleValues)]
    for values in itertools.product(*(options[option] for option in varied)):
        yield {**options, **dict(zip(varied, values, strict=True))}


def _row_name(variant, run, shown):
    """Return the name of a run's row in the table.

    Args:
        variant (str or None): name of the variant, which is used unless it is None.
        run (dict): options of the run.
        shown (list of str): options that have several values in the comparison; the name has the run's values.
    """
    if variant is None:
        variant = run["method"] if any(option in PARTS for option in shown) else _pair(run)
    return " ".join([variant, *_texts(run, shown)])


def _texts(run, shown):
    return [f"{option}={run[option]}" for option in shown]


def _require_benchmark(name, named, given):
    """Check that all runs have the data set, the network and the options of the data of a variant's recipe.

    A variant cannot set them. Options that are given for all runs take precedence over a recipe, as in a single run.

    Args:
        name (str): name of the variant.
        named (dict): options of the variant, among them the recipe.
        given (dict): options of all runs.

    Raises:
        UserError: an option of the recipe is not given for all runs.
    """
    options = RECIPES[named["recipe"]].options_beside({**given, **named})
    lacking = {option: value for option, value in options.items() if option not in given}
    if lacking:
        raise UserError(f"--variant {name}: --recipe {named['recipe']} needs {' '.join(option_texts(lacking))}; give "
                        "that for all runs")


def _pair(given):
    """Return the title of the method and of the options that replace its parts, as in `MethodConfig.title`."""
    return resolve(given["method"], **{option: given[option] for option in PARTS if option in given}).title


def _require_new(words_of_rows, run, shown):
    """Check that a row is not an earlier row of another method under a second name.

    Args:
        words_of_rows (dict): pairs and options of the earlier rows, to their words; the row is added.
        run (dict): options of a run in the row.
        shown (list of str): options that have several values in the comparison.
    """
    pair = _pair(run)
    if any(option in PARTS for option in shown) and pair not in METHODS:
        return
    words = " ".join([run["method"], *_texts(run, shown)])
    others = sorted((option, str(value)) for option, value in run.items() if option not in (*PARTS, "method"))
    first = words_of_rows.setdefault((pair, *others), words)
    if first != words:
        raise UserError(f"--method: {first} and {words} are both {pair} with the same options; leave one of them out")


def _require_used(given, used):
    """Raise a `UserError` unless a row uses each of the options that are given for all rows."""
    unused = [option for option in given if option not in used]
    if unused == ["sync_bn"]:
        raise UserError("--sync_bn: no run of the comparison has several sub-batches; leave it out, or give "
                        "--num_sub_batches or --recipe damp")
    if unused:
        raise UserError(f"--{unused[0]}: no method of the comparison uses it; leave it out")
