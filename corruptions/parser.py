"""The options of `python -m corruptions`."""
import argparse
import importlib
import os
import re
from functools import partial

from matplotlib.backend_bases import FigureCanvasBase

from corruptions.bar_levels import ALIASES
from corruptions.commands import array_command, folder_command, preview_command
from corruptions.jobs.cluster import INSTALL
from corruptions.jobs.layouts import LAYOUTS
from corruptions.jobs.shards import SINGLE_SHARD, Shard
from corruptions.registry import BACKENDS
from corruptions.severities import SEVERITY_CONSTANTS
from corruptions.table import CORRUPTIONS, SETS
from corruptions.utils import cli

PICTURE_TYPES = sorted(set(FigureCanvasBase.get_supported_filetypes()) - {"pgf"})  # pgf needs LaTeX


def address(text):
    """Check the address of a Dask scheduler, as an argparse type."""
    parts = re.fullmatch(r"((tcp|tls)://)?(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})", text)
    if parts is None or not 0 < int(parts[4]) < 2 ** 16:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 10.0.0.5:8786")
    return text


def shard(text):
    """Return the `Shard` of a text I/N, as an argparse type."""
    numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N, I from 1 to N, such as 1/4")
    return Shard(int(numbers[1]), int(numbers[2]))


def picture_name(text):
    suffix = os.path.splitext(text)[1].lower().removeprefix(".")
    if suffix not in PICTURE_TYPES:
        raise argparse.ArgumentTypeError(f"{text!r} has no suffix of a picture; there are {', '.join(PICTURE_TYPES)}")
    return text


def repository_module():
    """Return the module with the command `dataset`, which is part of SharpDRO-MindSpore; None if it is not there."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.isfile(os.path.join(folder, "dataset", "store_corrupted.py")):
        return None
    return importlib.import_module("dataset.store_corrupted")


def create_parser(program="python -m corruptions"):
    """Return the parser of all commands. `program` is the name of the program."""
    parser = cli.Parser(prog=program, description="Corrupt images as the published benchmarks do: "
                        f"{len(CORRUPTIONS)} corruptions, severities 1 to 5, any image size.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=cli.Parser)

    folder = commands.add_parser("folder", help="a folder of images, stored as TARGET/CORRUPTION/SEVERITY/...",
                                 description="Corrupt a folder of images. The random numbers of an image depend on the "
                                 "seed, the corruption, the severity and the image's name in the folder.")
    folder.add_argument("source", help="folder of images, with sub-folders or not; links are followed, hidden files "
                        "and folders left out")
    folder.add_argument("target", help="folder for the corrupted images")
    folder.add_argument("--format", choices=("jpeg", "png"), default="jpeg",
                        help="jpeg of quality 85, as the published data sets have it, or png, without loss")
    folder.add_argument("--skip-bad", action="store_true", help="leave out files and folders that cannot be read")
    folder.set_defaults(run=folder_command)

    array = commands.add_parser("array", help="a .npy file of images, stored as TARGET/SEVERITY/CORRUPTION.npy, or the "
                                "severities in one file",
                                description="Corrupt a .npy file. The random numbers of an image depend on the seed, "
                                "the corruption, the severity and the image's place in the array.")
    array.add_argument("source", help=".npy file of uint8, shape (N, H, W, 3), (N, H, W, 1) or (N, H, W)")
    array.add_argument("target", help="folder for the corrupted arrays")
    array.add_argument("--labels", default=None, metavar="FILE",
                       help=".npy file of an integer for each image; stored as labels.npy beside the arrays, so that "
                       "--test_corrupted of main.py reads them")
    array.add_argument("--layout", choices=LAYOUTS, default="folders",
                       help="; ".join(f"{name}: {form}" for name, form in LAYOUTS.items()) + ", which needs --labels")
    array.set_defaults(run=array_command)

    picture = commands.add_parser("preview", help="one picture of an image, corruptions x severities, to look at",
                                  description="Draw an image, a row for each corruption, a column for each severity; "
                                  "with one severity a sheet of all corruptions.")
    picture.add_argument("image", help="image file")
    picture.add_argument("-o", "--output", type=picture_name, default="preview.png",
                         help="picture to write, its type by the suffix: " + ", ".join(PICTURE_TYPES))
    picture.set_defaults(run=preview_command)

    corruption = cli.or_list(partial(cli.two_columns, CORRUPTIONS), cli.names(CORRUPTIONS, SETS, aliases=ALIASES))
    repository = repository_module()
    dataset = None if repository is None else repository.add_command(commands)
    for command in filter(None, (dataset, folder, array, picture)):
        command.add_argument("-c", "--corruption", type=corruption,
                             action=cli.StoreOneOrMany, metavar="NAME",
                             default=list(SETS["all"]) if command is picture else argparse.SUPPRESS,
                             required=command is not picture,
                             help="names, list says which; or all (19), common (the 15 of them that the benchmarks "
                             "have), bar (the 15 of C-bar), all+bar")
        if command is not dataset:
            command.add_argument("--severity", nargs="+", type=int, choices=range(1, 6), default=[1, 2, 3, 4, 5],
                                 metavar="S", help="severities, 1 to 5")
            command.add_argument("--seed", type=cli.seed, default=0, help="seed of the random numbers")
            command.add_argument("--preset", type=int, choices=sorted(SEVERITY_CONSTANTS), default=None,
                                 help="constants published for this image size; without it those of the nearest size")
            command.add_argument("--frost_dir", default=None,
                                 help="folder of frost1.png ... frost5.jpg; without it those of imagecorruptions")
            command.add_argument("--backend", choices=BACKENDS, default="numpy",
                                 help="who does the motion blur of motion_blur and snow; wand is ImageMagick")
        if command is not picture:
            crew = command.add_mutually_exclusive_group()
            crew.add_argument("--workers", type=cli.workers, default=None,
                              help="processes, at most one a processor; does not change the result (default: "
                              f"{cli.cpu_count()})")
            crew.add_argument("--scheduler", type=address, default=None, metavar="HOST:PORT",
                              help="let the workers of a Dask cluster that see the same files do the work, with the "
                              f"same result; needs {INSTALL}")
            command.add_argument("--shard", type=shard, default=SINGLE_SHARD, metavar="I/N",
                                 help="make the I-th of N shares of the job, in any order or at the same time: every "
                                 "N-th image of a folder, every N-th array")
            command.add_argument("--show_progress", action="store_true",
                                 help="show the progress bar even where the output is not a terminal")
    return parser


def run(program, argv=None):
    """Carry out a command line. `program` is the name of the program, `argv` is as in `argparse`."""
    args = create_parser(program).parse_args(argv)
    if not isinstance(args.corruption, list):
        args.corruption = [args.corruption]
    with cli.exit_on_error(program):
        args.run(args)
