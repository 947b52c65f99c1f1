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
    common = {"recipe": "sharpdro", **given}
    rows = [(name, {**common, **named}, named) for name, named in variants.items()]
    if not variants or any(option in COMPONENT_OPTIONS for option in given):
        rows.insert(0, (None, common, given))
    runs, read, rows_of = {}, set(), {}
    for name, options, named in rows:
        if name is not None and "recipe" in named:
            _require_benchmark(name, named, given)
        if name is not None and isinstance(options.get("method"), MultipleValues):
            raise UserError(f"--variant {name}: must have one method, and the comparison has several; give it "
                            "--method NAME")
        for structure in _product(options, OUTER_OPTIONS):
            fixed = {**options, **structure}
            method = fixed.setdefault("method", "sharpdro")
            mine = {option: value for option, value in fixed.items()
                    if uses_option(option, method, fixed) or name is not None and option in named}
            read.update(mine)
            titled = [option for option in mine if isinstance(options.get(option), MultipleValues)
                      and option not in ("method", "seed", *BENCHMARK_KEYS)]
            for values in _product(mine, sorted(mine, key=lambda option: option == "seed")):  # seeds change fastest
                single = {**mine, **values}
                values_shown = [f"{option}={single[option]}" for option in titled]
                pair = _pair(single)
                is_pair_shown = name is None and not any(option in titled for option in PARTS)
                title = " ".join([name or (pair if is_pair_shown else method), *values_shown])
                if name is None and (is_pair_shown or pair in METHODS):
                    _require_new(rows_of, " ".join([method, *values_shown]), pair, single)
                namesakes = runs.setdefault((title, *(single.get(option) for option in (*BENCHMARK_KEYS, "seed"))), [])
                if single not in namesakes:
                    namesakes.append(single)
    unread = [option for option in given if option not in read]
    if unread == ["sync_bn"]:
        raise UserError("--sync_bn: no run of the comparison has several sub-batches; leave it out, or give "
                        "--num_sub_batches or --recipe damp")
    if unread:
        raise UserError(f"--{unread[0]}: no method of the comparison uses it; leave it out")
    twice = [key[0] for key, namesakes in runs.items() if len(namesakes) > 1]
    if twice:
        raise UserError(f"--variant {twice[0]}: has the name of another row; give it another")
    planned = [RunSpec(key[0], namesakes[0]) for key, namesakes in runs.items()]
    order = {key: k for k, key in enumerate(dict.fromkeys(run.setting for run in planned))}
    return sorted(planned, key=lambda run: order[run.setting])


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


def _require_new(rows, words, pair, given):
    """Check that a row is not an earlier row of another method under a second name.

    Args:
        rows (dict): pairs and options of the earlier rows, to their words; the row is added.
        words (str): method of the row, and its options that have several values.
        pair (str): as `_pair` returns it.
        given (dict): options of a run in the row.
    """
    options = sorted((option, str(value)) for option, value in given.items() if option not in (*PARTS, "method"))
    first = rows.setdefault((pair, *options), words)
    if first != words:
        raise UserError(f"--method: {first} and {words} are both {pair} with the same options; leave one of them out")


def _product(options, names):
    """Yield every combination of one value for each of the options `names` that have several values, as a dict."""
    varied = [option for option in names if isinstance(options.get(option), MultipleValues)]
    for values in itertools.product(*(options[option] for option in varied)):
        yield dict(zip(varied, values, strict=True))
