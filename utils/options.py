"""Options of the command line, one row each; `argparse` and the check of saved settings use the same rows."""
import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from corruptions.utils.cli import MultipleValues, StoreOneOrMany
from corruptions.utils.errors import UserError

# Earlier names of options, to the present ones. Command lines, files of options and stored settings may have them.
RENAMED = {"save_every_steps": "checkpoint_every", "group_every": "group_update_every", "val_share": "val_fraction",
           "draw": "sampler", "decay": "weight_decay_on", "keep": "keep_last", "corrupted": "corrupted_from"}

# Earlier names of values, to the present ones, by the present name of the option.
RENAMED_VALUES = {"crop": {"mirror": "reflect_pad", "zeros": "zero_pad", "resized": "random_resized"}}


def with_new_names(options):
    """Return options (dict) under their present names, with the present names of their values."""
    present = {RENAMED.get(name, name): value for name, value in options.items()}
    for name in RENAMED_VALUES.keys() & present.keys():
        present[name] = new_value(name, present[name])
    return present


def new_value(name, value):
    """Return the present name of a value of the option `name`; values that were never renamed stay as they are."""
    return RENAMED_VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value


def option_words(name, value):
    """Return an option as the words of a command line: a flag for a bool, else the flag and one or several values."""
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{name}"]
    return [f"--{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])]


def command_line(given):
    """Return the command line of main.py with the given options (dict), to paste into a shell."""
    words = ["python", "main.py"]
    for name, value in given.items():
        if value is not None:
            for one in value if name == "variant" else [value]:
                words += option_words(name, one)
    return shlex.join(words)


@dataclass(frozen=True)
class Option:
    """An option of a command line.

    Attributes:
        name (str): the long flag without its dashes, the attribute of the parsed arguments, the key in `config.json`.
        help (str): text for `--help`, without the default that argparse adds.
        kind (callable): function from text to value; `bool` for a flag that takes no value.
        default (object): the value if the option is not given. A `bool` option with the default None has --no-NAME,
            too.
        choices (sequence of str or None): the accepted values.
        metavar (str or None): placeholder of the value in the help.
        short (str or None): one-letter flag.
        is_grid (bool): whether several values make a comparison with a run for each value.
        is_repeatable (bool): whether each occurrence adds a value to a list.
        nargs, const: as in `argparse.ArgumentParser.add_argument`.
        requires (tuple or None): another option, its only value beside which this option has an effect, and the text of
            the error.
        in_graph (bool): whether the value is part of a compiled step; steps with other values are compiled anew.
    """

    name: str
    help: str
    kind: Callable = str
    default: object = None
    choices: Sequence[str] | None = None
    metavar: str | None = None
    short: str | None = None
    is_grid: bool = False
    is_repeatable: bool = False
    nargs: str | None = None
    const: object = None
    requires: tuple | None = None
    in_graph: bool = False

    @property
    def flags(self):
        return (*([self.short] if self.short else []), f"--{self.name}")

    def add_to(self, group):
        """Add the option to a parser or an argument group."""
        named = {"metavar": self.metavar, "choices": self.choices and list(self.choices)}
        named = {name: value for name, value in named.items() if value is not None}
        if self.kind is bool and self.default is None:
            arguments = {"action": argparse.BooleanOptionalAction}
        elif self.kind is bool:
            arguments = {"action": "store_true"}
        elif self.is_repeatable:
            arguments = {"action": "append", **named}
        elif self.is_grid:
            arguments = {"action": StoreOneOrMany, "type": self.kind, **named}
        else:
            arguments = {"type": self.kind, "nargs": self.nargs, "const": self.const, **named}
        group.add_argument(*self.flags, default=self.default, help=self.help, **arguments)
        for earlier, name in RENAMED.items():
            if name == self.name:
                group.add_argument(f"--{earlier}", dest=name, default=argparse.SUPPRESS, help=argparse.SUPPRESS,
                                   **arguments)
        if self.kind is bool and self.default is False:  # switches off what a file of options switches on
            group.add_argument(f"--no-{self.name}", dest=self.name, action="store_false", default=argparse.SUPPRESS,
                               help=argparse.SUPPRESS)

    def accepts(self, value):
        """Whether the command line could have given this value, read from a file, to the option."""
        if value is None:
            return self.default is None
        if self.kind is bool:
            return isinstance(value, bool)
        if isinstance(self.default, list) or self.nargs not in (None, "?"):
            return isinstance(value, list) and all(map(self._is_parsable, value))
        return self._is_parsable(value)

    def _is_parsable(self, value):
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            return False
        if self.kind is str and self.choices is None:  # any text
            return isinstance(value, str)
        if value == "list" and getattr(self.kind, "prints_list", False):
            return False
        if hasattr(self.kind, "stored_type"):  # the machine may have changed since
            return isinstance(value, self.kind.stored_type) and value != 0
        if not str(value).strip():
            return False
        try:
            read = self.kind(str(value))
        except (argparse.ArgumentTypeError, TypeError, ValueError, UserError):
            return False
        if self.choices is not None and read not in self.choices:
            return False
        is_text = isinstance(value, str)
        return is_text == isinstance(read, (str, MultipleValues)) and (is_text or read == value)


def choice(name, table, description, **more):
    """Return an `Option` that takes names from a table (dict or sequence); `description` is for the help.

    The help has a few short names in place of the value, and more of them after the description.
    """
    names = f"{{{','.join(table)}}}"
    if len(names) <= 30:
        return Option(name, description, choices=table, metavar=names, **more)
    return Option(name, f"{description}: {', '.join(table)}", choices=table, metavar="NAME", **more)


@dataclass(frozen=True)
class OptionGroup:
    """A group of options under one heading of the help."""

    title: str
    options: list = field(default_factory=list)
    description: str | None = None

    def add_to(self, parser):
        group = parser.add_argument_group(self.title, self.description)
        for option in self.options:
            option.add_to(group)


def validate_values(options, values, place):
    """Check the values of options that were read from a file, as the command line checks them.

    Args:
        options (list of Option): the options.
        values (dict): names of options to values. Other names are ignored.
        place (str): the file, for the error.

    Raises:
        UserError: an option does not take its value.
    """
    for option in options:
        if option.name in values and not option.accepts(values[option.name]):
            raise UserError(f"{place}: has {option.name} {values[option.name]!r}, which --{option.name} does not take; "
                            "put the old file back, or begin another run")
