"""The common parts of the command lines: errors in one line, argument types with ranges, groups of options."""
import argparse
import os
import sys
import textwrap

from corruptions.utils.errors import UserError, one_line, print_error


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """A help formatter that shows the default of every option that has one."""

    def _get_help_string(self, action):
        default = action.default
        if isinstance(default, list) and default:
            return f"{action.help} (default: {' '.join(map(str, default)) if len(default) < 7 else 'all'})"
        has_default = default is not None and default is not False and default != []
        return super()._get_help_string(action) if has_default else action.help

    def _format_action_invocation(self, action):
        """Print `-d, --dataset NAME ...`, with the value once and not after every name of the option."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._metavar_formatter(action, action.dest.upper())(1)[0]
        if not isinstance(action, StoreOneOrMany):
            value = self._format_args(action, action.dest.upper()) if action.nargs == "+" else value
            return f"{', '.join(action.option_strings)} {value}"
        return f"{', '.join(action.option_strings)} {value} ..."


class RawHelpFormatter(argparse.RawDescriptionHelpFormatter, HelpFormatter):
    """A `HelpFormatter` that leaves line ends in the description and the epilog as they are."""


class Parser(argparse.ArgumentParser):
    """An argument parser that shows defaults in its help and reports a mistake in one line."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=HelpFormatter, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        for word in sys.argv[1:] if args is None else args:
            try:
                word.encode()
            except UnicodeEncodeError:  # JSON files could not hold it
                self.error(f"{word!a}: is not in UTF-8; give another name")
        return super().parse_known_args(args, namespace)

    def _get_values(self, action, arg_strings):
        if action.option_strings and "--" in arg_strings:  # argparse would drop '--' and leave no value
            raise argparse.ArgumentError(action, "'--' is not a value; give another")
        return super()._get_values(action, arg_strings)

    def _get_value(self, action, arg_string):
        # An empty value is mostly an unset shell variable. The words of a subcommand have a parser of their own.
        if not arg_string.strip() and action.nargs != argparse.PARSER:
            raise argparse.ArgumentError(action, f"{arg_string!r} is empty; give a value")
        return super()._get_value(action, arg_string)

    def error(self, message):
        print_error(f"{self.prog}: error: {one_line(message)}")
        self.exit(2)


class MultipleValues(list):
    """Several values that were given to one option."""


class StoreOneOrMany(argparse.Action):
    """Store one value, or `MultipleValues`. The type of the option may turn one word into `MultipleValues`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, nargs="+", **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        flat = [item for value in values for item in (value if isinstance(value, MultipleValues) else [value])]
        flat = MultipleValues(dict.fromkeys(flat))
        setattr(namespace, self.dest, flat if len(flat) > 1 else flat[0])


LONGEST_PART = 100  # bytes of the first part of a folder's name, of which the rest is as long


def parse(parser, argv):
    """Parse a command line, and separate the given options from the options with their default.

    Args:
        parser (argparse.ArgumentParser): has no required arguments.
        argv (list of str or None): the words; None takes those of `sys.argv`.

    Returns:
        tuple: an argparse.Namespace of all options, and a dict of the given ones.
    """
    unset = object()
    defaults = vars(parser.parse_args([]))
    start = {name: value if value == [] else unset for name, value in defaults.items()}  # [] can be repeated
    parsed = vars(parser.parse_args(argv, argparse.Namespace(**start)))
    given = {name: value for name, value in parsed.items() if value is not unset and value != []}
    return argparse.Namespace(**{**defaults, **given}), given


def _number(kind, accepts, requirement):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {requirement}")
        return value
    return parse


def cpu_count():
    """Return the number of CPU cores that this process may use, also in a container with a quota of cores."""
    import joblib  # here, so that what is missing can be reported first
    return joblib.cpu_count()


def workers(text):
    """An argument type: a number of workers from 1 to `cpu_count()`. A warning says that a larger number is cut."""
    number, maximum = positive_int(text), cpu_count()
    if number > maximum:
        print(f"warning: {number} workers are more than the processors here; {maximum} are used", file=sys.stderr)
    return min(number, maximum)


def existing_file(path):
    """An argument type: the absolute path of an existing file."""
    if not os.path.isfile(path):
        raise argparse.ArgumentTypeError(f"{path}: no such file")
    return os.path.abspath(path)


def folder_name(text):
    """An argument type: the first part of the name of a folder."""
    if "/" in text or "\0" in text or len(os.fsencode(text)) > LONGEST_PART:
        raise argparse.ArgumentTypeError(f"{text!r} cannot begin the name of a folder; give at most {LONGEST_PART} "
                                         "bytes, without /")
    return text


# Types whose values depend on the machine. A stored value only has to be of this Python type.
workers.stored_type, existing_file.stored_type = int, str


def validated_by(find):
    """An argument type: names for which `find` raises no `UserError`."""
    def parse(text):
        try:
            find(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return text
    return parse


def names(known, sets, allow_unknown=False, aliases=None):
    """An argument type: a name in `known`, or a word that stands for several names.

    Args:
        known (collection of str): the names.
        sets (dict): a word to the names that it stands for, which become `MultipleValues`.
        allow_unknown (bool): let unknown names pass; `require_known` checks them later.
        aliases (dict or None): other names of known ones.
    """
    def parse(text):
        text = (aliases or {}).get(text, text)
        if text not in known and text not in sets and not allow_unknown:
            raise argparse.ArgumentTypeError(_unknown(text, known, sets))
        return MultipleValues(sets[text]) if text in sets else text
    return parse


def or_list(table, kind=str):
    """An argument type: the word 'list' prints the text `table()` and ends the program; `kind` parses other words."""
    def parse(text):
        if text == "list":
            print_text(table())
            sys.exit(0)
        return kind(text)
    parse.prints_list = True
    return parse


def print_text(text):
    """Print a text to standard output, which may end before the text does, such as by `| head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def listing(table):
    """Return names and summaries of a table for a help text. The values of `table` are texts or have a `summary`."""
    return "; ".join(f"{name}: {getattr(row, 'summary', row)}" for name, row in table.items()).replace("%", "%%")


def two_columns(table):
    """Return names and summaries of a table, one a line, for a terminal. `table` is as in `listing`."""
    width = max(18, *(len(name) + 1 for name in table))
    return "\n".join(line for name, row in table.items() for line in textwrap.wrap(
        getattr(row, "summary", row), 80, initial_indent=f"  {name:{width}s}", subsequent_indent=" " * (width + 2)))


def require_known(flag, value, known, sets):
    """Check names that the type `names` let pass.

    Args:
        flag (str): the option, for the error.
        value (str or MultipleValues): the names.
        known, sets: as in `names`.

    Raises:
        UserError: a name is unknown.
    """
    for name in value if isinstance(value, list) else [value]:
        if name not in known:
            raise UserError(f"{flag}: {_unknown(name, known, sets)}")


def _unknown(text, known, sets):
    return f"unknown name {text!r}; choose from {', '.join([*sets, *known])}"


FLOAT32_MAX = 3.4e38  # networks are trained in float32

positive_int = _number(int, lambda v: 0 < v < 2 ** 31, "a whole number from 1 to 2147483647")
non_negative_int = _number(int, lambda v: 0 <= v < 2 ** 31, "a whole number from 0 to 2147483647")
positive_float = _number(float, lambda v: 0 < v <= FLOAT32_MAX, "a finite number above 0, of float32")
non_negative_float = _number(float, lambda v: 0 <= v <= FLOAT32_MAX, "a finite number of 0 or more, of float32")
fraction = _number(float, lambda v: 0 <= v < 1, "a number from 0 to below 1")
share = _number(float, lambda v: 0 <= v <= 1, "a number from 0 to 1")
std_share = _number(float, lambda v: 0.001 <= v <= 1, "a number from 0.001 to 1")
positive_share = _number(float, lambda v: 0 < v <= 1, "a number above 0, and at most 1")
image_side = _number(int, lambda v: 8 <= v <= 4096, "a whole number of 8 to 4096 pixels")
num_severity = _number(int, lambda v: 2 <= v <= 6, "a number from 2 to 6 (clean images and one to five severities)")
odd = _number(int, lambda v: v > 1 and v % 2 == 1, "an odd number above 1")
seed = _number(int, lambda v: 0 <= v < 2 ** 32, "a whole number from 0 to 4294967295")


def reject_unused(flag, given, effective, grid=()):
    """Check that every given option has an effect together with `flag`.

    Args:
        flag (str): the option that makes others useless.
        given (dict): names of the given options to their values.
        effective (tuple of str): options that have an effect with `flag`.
        grid (tuple of str): options that take several values.

    Raises:
        UserError: an option has no effect, or has several values and takes one.
    """
    for option, value in given.items():
        if option not in effective:
            raise UserError(f"--{option}: has no effect with {flag}; leave it out")
        if isinstance(value, MultipleValues) and option not in grid:
            raise UserError(f"--{option}: takes one value with {flag}, not {', '.join(map(str, value))}")


