"""The short help of main.py: what `-h` and a command without options print. `--help-all` prints every option."""
import argparse
import difflib
import functools

from corruptions.utils import cli
from losses.config.table import OPTIONS

QUICK = "python main.py -d photos -m wideresnet10 --total_epoch 8 --eval_every 4"
EXAMPLES = f"""\
a first run, in a few minutes:
  {QUICK}
the setting of the paper, a comparison, an evaluation, a run that was stopped:
  python main.py --num_severity 6 -c gaussian_noise -d cifar10
  python main.py -d photos -m wideresnet10 --total_epoch 9 --method erm sharpdro
  python main.py --evaluate logs/RUN -c common
  python main.py --resume logs/RUN"""
END = """\
The word list after --method, -d, -c, -m or --recipe shows all names.
--help-all has all {} options."""
NO_OPTIONS = f"""\
Without options, main.py would train sharpdro on cifar10 for 200 epochs.
To start that, give any option:
  python main.py -d cifar10
A first run in a few minutes:
  {QUICK}
More:
  python main.py --help"""

# The options that nine of ten commands need, by heading, with a text of one line.
COMMON = {
    "method, data, network": {
        "method": "erm, sam, asam, sharpdro, group_dro, damp, ...",
        "dataset": "cifar10, photos, folder (your images), ...",
        "data_dir": "folder of the data sets, or of your images",
        "corruption": "gaussian_noise, fog, ...; or common, all, bar",
        "num_severity": "6 means clean images and severities 1 to 5",
        "model": "wideresnet, wideresnet10, resnet50, vit_s16, ...",
        "seed": "of the data, the weights and the batches",
    },
    "training": {
        "total_epoch": "epochs; by default those of the recipe, 200",
        "batch_size": "images in a batch, of all workers together",
        "lr": "learning rate",
        "rho": "radius of the ascent of sam, asam, sharpdro",
        "recipe": "settings of a published experiment",
        "amp": "mixed precision",
    },
    "evaluation and comparison": {
        "evaluate": "evaluate a run, a comparison, weights or zoo:NAME",
        "baseline": "--evaluate: run or file for the corruption errors",
        "variant": "a row of a comparison with options of its own",
        "jobs": "runs of a comparison at the same time",
    },
    "records and device": {
        "log_dir": "folder for the folders of runs",
        "resume": "continue a run, or the newest of these settings",
        "eval_every": "evaluate after every N-th epoch",
        "device_target": "auto, CPU, GPU or Ascend",
    },
}

# What other programs call an option, without dashes.
SYNONYMS = {"epochs": "total_epoch", "num_epochs": "total_epoch", "max_epochs": "total_epoch", "learning_rate": "lr",
            "wd": "weight_decay", "bs": "batch_size", "workers": "num_workers", "arch": "model", "network": "model",
            "output_dir": "log_dir", "output_folder": "log_dir", "gpu": "device_target", "severities": "severity",
            "checkpoint": "init_checkpoint", "pretrained": "init_checkpoint", "fp16": "amp", "mixed_precision": "amp"}


class ShortHelp(argparse.Action):
    """`-h`: print the short help and end the program."""

    def __init__(self, option_strings, dest):
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help="show the most used options and exit")

    def __call__(self, parser, namespace, values, option_string=None):
        cli.print_text(short_help(parser.description))
        parser.exit()


def short_help(description):
    """Return the short help as text; `description` is the first paragraph."""
    parser = cli.Parser(prog="main.py", usage="main.py [options]", description=f"{description}\n\n{EXAMPLES}",
                        epilog=END.format(len(OPTIONS)), add_help=False)
    parser.formatter_class = functools.partial(cli.RawHelpFormatter, max_help_position=29)
    for heading, texts in COMMON.items():
        group = parser.add_argument_group(heading)
        for name, text in texts.items():
            option = OPTIONS[name]
            arguments = {"nargs": "+" if option.is_grid else None, "metavar": option.metavar or name.upper()}
            arguments = {"action": "store_true"} if option.kind is bool else arguments
            group.add_argument(*option.flags, help=text, default=None, **arguments)
    return parser.format_help().rstrip()


def similar_option(name, cutoff):
    """Return the option that an unknown name most likely means, or None. `cutoff` is as in `get_close_matches`."""
    name = name.lstrip("-").replace("-", "_")
    similar = [name] if name in OPTIONS else difflib.get_close_matches(name, OPTIONS, 1, cutoff)
    return SYNONYMS.get(name) or (similar[0] if similar else None)


def advice(flag):
    """Return what to try in place of an option that does not exist, as text. `flag` has its dashes."""
    similar = similar_option(flag, 0.75)
    return f"did you mean --{similar}?" if similar else "--help-all lists the options"
