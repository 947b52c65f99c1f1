"""The command line of main.py, made from the table of options, and option files (`--config`)."""
import argparse
import json
import os
import shlex
import sys

from corruptions.utils import cli
from corruptions.utils.errors import UserError, one_line
from losses.config.recipes import RECIPES, option_texts
from losses.config.short_help import ShortHelp, advice, similar_option
from losses.config.table import EVALUATIONS, METHOD_ARGUMENTS, OPTION_GROUPS, OPTIONS, SHARED_EVALUATION_OPTIONS
from utils.options import RENAMED, option_words
from utils.records.settings import NEWEST
from utils.runtime.requirements import require

DESCRIPTION = """\
Train an image classifier on images that are rarely severely corrupted, and
measure its accuracy at every severity. Several values of an option marked
with ... make a comparison: one run for each combination."""
_UNUSED = "the authors' code reads it and does nothing with it; "
# Options of the authors' main.py that are missing here, to their meaning there and their replacement here.
AUTHORS_OPTIONS = {
    "-s": "in the authors' code it is a part of file names; leave it out, or name the run with --desc. --num_severity "
          "is the number of severities",
    "--proportion": _UNUSED + "leave it out. --split FILE gives every training image its severity",
    "--shift": _UNUSED + "leave it out. --train_on says whether training images are corrupted",
    "--num_test": _UNUSED + "leave it out. All test images are evaluated",
    "--is_worst": _UNUSED + "leave it out. --worst_case says how the worst severity is found",
    "--is_pretrain": _UNUSED + "leave it out. --init_checkpoint FILE starts from weights",
    "--warmup_epoch": _UNUSED + "leave it out. --schedule cosine --warmup LENGTH is a warm-up",
    "--scheduler": _UNUSED + "leave it out. --schedule NAME chooses the learning rate",
    "--num_classes": "the number comes from the data set, as in the authors' code; leave it out",
    "--log_eval": "the authors' code logs every N-th batch of an evaluation; leave it out. Here all images count, and "
                  "--eval_every N chooses the epochs",
}
AUTHORS_OPTIONS["-p"] = AUTHORS_OPTIONS["--proportion"]


class RunParser(cli.Parser):
    """The parser of `main.py`. If it meets an option that is not here, the error says what to do instead."""

    def parse_known_args(self, args=None, namespace=None):
        known, unknown = super().parse_known_args(args, namespace)
        flags = [word.partition("=")[0] if word.startswith("--") else word[:2] for word in unknown]
        for flag in flags:
            if flag in AUTHORS_OPTIONS:
                self.error(f"{flag}: {AUTHORS_OPTIONS[flag]}")
        for flag in flags:
            if flag.startswith("--"):
                self.error(f"{flag}: unknown; {advice(flag)}")
        return known, unknown


def create_parser():
    parser = RunParser(prog="main.py", usage="main.py [options]", description=DESCRIPTION, add_help=False)
    group = parser.add_argument_group("help")
    group.add_argument("-h", "--help", action=ShortHelp)
    group.add_argument("--help-all", action="help", help="show all options and exit")
    for group in OPTION_GROUPS:
        group.add_to(parser)
    return parser


def parse_command_line(argv=None):
    """Parse a command line of main.py. The options of a `--config` file come before the words of the command line.

    Args:
        argv (list of str or None): the words; None takes those of the program.

    Returns:
        tuple: an argparse.Namespace of all options, and a dict of the options that the command line or the file names.

    Raises:
        UserError: the file is missing or damaged, or has something that no option takes.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    finder = cli.Parser(prog="main.py", add_help=False, allow_abbrev=False)
    finder.add_argument("--config", action="append", default=[])
    paths, words = finder.parse_known_args(argv)
    parser = create_parser()
    args, given = cli.parse(parser, words)
    if "config" in given:
        raise UserError("--config: write the name of this option in full")
    if len(paths.config) > 1:
        raise UserError(f"--config {paths.config[1]}: one file sets options, and --config {paths.config[0]} does; "
                        "leave one of them out")
    for path in paths.config:
        options, is_run = read_option_file(path)
        if is_run and args.evaluate is not None:  # the run was trained with the others
            kind = next((option for option in EVALUATIONS if option in given), None)
            effective = (*SHARED_EVALUATION_OPTIONS, *EVALUATIONS[kind])
            options = {name: value for name, value in options.items() if name in effective}
        parser.prog += f": --config {one_line(path)}"
        _, from_file = cli.parse(parser, words_from_file(path, options))
        given = {**from_file, **given}
    # A flag that is switched off is at its default.
    given = {name: value for name, value in given.items() if value is not False or OPTIONS[name].default is not False}
    return argparse.Namespace(**{**vars(args), **given}), given


def read_option_file(path):
    """Read the options in a file.

    Args:
        path (str): a JSON or YAML file (.json, .yaml, .yml) with a mapping. From the `config.json` of a run, the
            options that its command line named are taken, except `resume`.

    Returns:
        tuple: a dict of names to values, and whether the file is the `config.json` of a run.

    Raises:
        UserError: the file is missing, damaged, or holds no mapping.
    """
    require("yaml")
    import yaml

    class Loader(yaml.SafeLoader):
        """A loader to which a repeated name is an error."""

        def construct_mapping(self, node, deep=False):
            _unique([(self.construct_object(key, deep=True), value) for key, value in node.value])
            return super().construct_mapping(node, deep)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise UserError(f"--config {path}: is not a .json, .yaml or .yml file; name one, such as the config.json "
                        "of a run")
    if not os.path.isfile(path):
        raise UserError(f"--config {path}: no such file")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_pairs_hook=_unique) if suffix == ".json" else yaml.load(file, Loader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--config {path}: cannot be read: {reason}") from error
    if isinstance(content, dict) and isinstance(content.get("given"), dict):
        return {name: value for name, value in _present_names(path, content["given"]).items() if name != "resume"}, True
    if not isinstance(content, dict) or not content:
        raise UserError(f"--config {path}: holds no options; write them as NAME: VALUE, named as on the command line")
    return _present_names(path, content), False


def _unique(pairs):
    """Return pairs of a name and a value as a dict. Raise a `ValueError` if a name comes twice."""
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"it has {twice[0]} twice; leave one of them out")
    return dict(pairs)


def _present_names(path, options):
    """Return options (dict) under their present names without dashes.

    Raises:
        UserError: the file `path` has an option twice, under two names.
    """
    renamed = {}
    for key, value in options.items():
        name = str(key).removeprefix("--")
        name = RENAMED.get(name, name)
        if name in renamed:
            raise UserError(f"--config {path}: has {name} twice, the second time as {key}; leave one of them out")
        renamed[name] = value
    return renamed


def words_from_file(path, options):
    """Return the options of a file as the words of a command line.

    Args:
        path (str): file of the options, for errors.
        options (dict): names to a value, or to a list if the option takes several values. None leaves an option at its
            default.

    Raises:
        UserError: an option is unknown, or a command line could not have the value.
    """
    words = []
    for name, value in options.items():
        if name == "config":
            raise UserError(f"--config {path}: names another file with config; write its options here")
        if name not in OPTIONS:
            similar = similar_option(name, 0.6)
            hint = f"did you mean {similar}?" if similar else "main.py --help-all lists the options"
            raise UserError(f"--config {path}: unknown option {name}; {hint}")
        option = OPTIONS[name]
        if option.metavar in ("DIR", "FILE", "FOLDER") and isinstance(value, str):
            value = os.path.expanduser(value)  # as a shell does
        values = value if isinstance(value, list) else [value]
        if option.kind is bool and isinstance(value, bool):
            words += option_words(name, value)
            continue
        if any(isinstance(item, (bool, dict, list)) or item is None and value is not None for item in values):
            raise UserError(f"--config {path}: {name} has {value!r}; give it as on the command line")
        if any("\0" in str(item) for item in values):
            raise UserError(f"--config {path}: {name} has {value!r}, with a zero byte; leave it out")
        if isinstance(value, list) and any(str(item).startswith("-") for item in value):
            raise UserError(f"--config {path}: {name} has {value!r}; no value begins with a dash")
        if option.kind is bool and value is not None:
            raise UserError(f"--config {path}: {name} has {value!r}; give true or false")
        if isinstance(value, list) and not (option.is_grid or option.is_repeatable or option.nargs not in (None, "?")):
            raise UserError(f"--config {path}: {name} takes one value, not {len(value)}")
        if option.is_repeatable:
            words += [f"--{name}={item}" for item in values]
        elif isinstance(value, list):
            words += option_words(name, value) if value else []
        elif value is not None:
            words.append(f"--{name}={value}")
    return words


def parse_variants(texts):
    """Return the variants of a command line.

    Args:
        texts (list of str): the variants, each 'NAME: OPTIONS'.

    Returns:
        dict: name of a variant to its options.

    Raises:
        UserError: a text has another form, or a name comes twice.
    """
    variants = {}
    for text in texts:
        name, colon, options = text.partition(":")
        name = name.strip()
        if not colon or not name or name in variants:
            raise UserError(f"--variant {text!r}: not of the form 'NAME: OPTIONS' with a name of its own")
        if name.startswith("_"):
            raise UserError(f"--variant {text!r}: a name that begins with _ has no place in a legend; give another")
        parser = create_parser()
        parser.prog += f": --variant {name}"
        try:
            variants[name] = cli.parse(parser, shlex.split(options))[1]
        except ValueError as error:
            raise UserError(f"--variant {text!r}: {str(error).lower()}; close it") from error
        foreign = [option for option in variants[name] if option not in ("method", *METHOD_ARGUMENTS)]
        if foreign:
            raise UserError(f"--variant {name}: --{foreign[0]} is not an option of a method; give it for all runs")
    return variants


def apply_recipe(args, given):
    """Set the data set, the network and the options of the data by the recipe that the command line names.

    Options that the command line names itself stay. The options of the data are for the recipe's data set, and its
    `val_fraction` is not used beside other options that choose the training images.

    Args:
        args (argparse.Namespace): all options; changed in place.
        given (dict): the options that the command line names, to their values; gets the options that the recipe names.
    """
    if args.recipe is not None and args.resume in (None, NEWEST):  # a run that --resume names has its own
        recipe = RECIPES[args.recipe]
        options = recipe.options_beside(given)
        if isinstance(given.get("dataset"), cli.MultipleValues) and recipe.data:
            print(f"warning: --recipe {args.recipe}: its options of the data ({' '.join(option_texts(recipe.data))}) "
                  f"are for -d {recipe.benchmark['dataset']} alone, and are left out", file=sys.stderr)
        if any(named.get("train_on", "clean") != "clean" for named in parse_variants(args.variant).values()):
            options.pop("val_fraction", None)
        for option, value in options.items():
            vars(args)[option] = given.setdefault(option, value)
