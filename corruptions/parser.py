"""The options of `python -m corruptions`."""
import argparse
import importlib
import os
import re
import sys
from functools import partial

from corruptions import __version__
from corruptions.bar_levels import ALIASES
from corruptions.commands import array_command, folder_command, image_command, list_command, preview_command
from corruptions.images import writable_suffixes
from corruptions.jobs.cluster import INSTALL
from corruptions.jobs.layouts import LAYOUTS, PARTS
from corruptions.jobs.shards import SINGLE_SHARD, Shard
from corruptions.pictures import PICTURE_TYPES, check_picture_name
from corruptions.registry import BACKENDS
from corruptions.sequences.command import sequence_command
from corruptions.sequences.constants import DIFFICULTIES
from corruptions.sequences.perturbations import PERTURBATION_SETS, PERTURBATIONS
from corruptions.severities import SEVERITIES, SEVERITY_CONSTANTS, check_severity
from corruptions.table import CORRUPTIONS, SETS
from corruptions.utils import cli
from corruptions.utils.errors import exit_on_error

SEVERITY_HELP = "1 to 5; between whole numbers, the constants are interpolated"


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


def severity(text):
    """Return a severity, int or float, as an argparse type."""
    try:
        return check_severity(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 5") from error


def image_name(text):
    if os.path.splitext(text)[1].lower() not in writable_suffixes():
        raise argparse.ArgumentTypeError(f"{text!r} has no suffix of an image file, such as .png or .jpg")
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
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=cli.Parser)
    add_list(commands)
    add_image(commands)
    add_folder(commands)
    add_array(commands)
    add_sequence(commands)
    add_preview(commands)
    repository = repository_module()
    if repository is not None:
        dataset = repository.add_command(commands)
        add_corruptions(dataset)
        add_workers(dataset)
    return parser


def add_list(commands):
    command = commands.add_parser("list", help="the corruptions, what each does, and the constants of every severity",
                                  description="Print what each corruption does and its constants: for each published "
                                  "image size a line with severities 1 to 5. An image takes the constants of the "
                                  "nearest of the sizes 32, 64 and 224. In other commands, --preset chooses another "
                                  "table.")
    command.add_argument("names", nargs="*", type=cli.names(CORRUPTIONS, {}, aliases=ALIASES), metavar="NAME",
                         help="corruptions; without any, all")
    command.set_defaults(run=list_command)


def add_image(commands):
    command = commands.add_parser("image", help="one image file; the word image may be left out",
                                  description="Corrupt an image file. The random numbers depend on the seed, the "
                                  "corruption, the severity and the file's name without its folder, as in the command "
                                  "folder.")
    command.add_argument("source", help="image file")
    command.add_argument("target", type=image_name, help="image file to write, its format by the suffix")
    name = cli.names(CORRUPTIONS, {}, aliases=ALIASES)
    command.add_argument("-c", "--corruption", type=cli.or_list(partial(cli.two_columns, CORRUPTIONS), name),
                         required=True, metavar="NAME", help="name of the corruption; list shows all")
    strength = command.add_mutually_exclusive_group()
    strength.add_argument("--severity", nargs=1, type=severity, default=[3], metavar="S", help=SEVERITY_HELP)
    strength.add_argument("--constants", nargs="+", type=float, metavar="X",
                          help="constants of the corruption instead of a severity, see the command list")
    add_generator(command)
    command.set_defaults(run=image_command)


def add_folder(commands):
    command = commands.add_parser("folder", help="a folder of images, stored as TARGET/CORRUPTION/SEVERITY/...",
                                  description="Corrupt a folder of images. The random numbers of an image depend on "
                                  "the seed, the corruption, the severity and the image's name in the folder.")
    command.add_argument("source", help="folder of images, with or without sub-folders; links are followed, hidden "
                         "files are skipped")
    command.add_argument("target", help="folder for the corrupted images")
    command.add_argument("--format", choices=("jpeg", "png"), default="jpeg",
                         help="jpeg of quality 85, as in the published data sets, or png, without loss")
    command.add_argument("--skip_bad", "--skip-bad", action="store_true",
                         help="leave out files and folders that cannot be read")
    add_corruptions(command)
    add_severities(command)
    add_generator(command)
    add_workers(command)
    command.set_defaults(run=folder_command)


def add_array(commands):
    command = commands.add_parser("array", help="a .npy or .npz file of images, stored as "
                                  "TARGET/SEVERITY/CORRUPTION.npy, or the severities in one file",
                                  description="Corrupt a .npy or .npz file. The random numbers of an image depend on "
                                  "the seed, the corruption, the severity and the image's place in the array.")
    command.add_argument("source", help=".npy file of uint8, shape (N, H, W, 3), (N, H, W, 1) or (N, H, W); or .npz "
                         "file with such images and their labels: images and labels, x_test and y_test (Keras), or "
                         "test_images and test_labels (MedMNIST)")
    command.add_argument("target", help="folder for the corrupted arrays")
    command.add_argument("--labels", default=None, metavar="FILE",
                         help=".npy file of an integer for each image; stored as labels.npy beside the arrays, so that "
                         "loaders of the published sets find them")
    add_part(command)
    command.add_argument("--layout", choices=LAYOUTS, default="folders",
                         help="; ".join(f"{name}: {form}" for name, form in LAYOUTS.items()) + ", which needs labels")
    add_corruptions(command)
    add_severities(command)
    add_generator(command)
    add_workers(command)
    command.set_defaults(run=array_command)


def add_preview(commands):
    command = commands.add_parser("preview", help="one picture of an image, corruptions x severities, to look at",
                                  description="Draw an image with a row for each corruption and a column for each "
                                  "severity, or with one severity as a sheet of all corruptions.")
    command.add_argument("image", help="image file")
    command.add_argument("-o", "--output", type=cli.validated_by(check_picture_name), default="preview.png",
                         help="picture to write, its type by the suffix: " + ", ".join(PICTURE_TYPES))
    add_corruptions(command, default=list(SETS["all"]))
    add_severities(command)
    add_generator(command)
    command.set_defaults(run=preview_command)


def add_sequence(commands):
    command = commands.add_parser(
        "sequence", help="the frames of ImageNet-P and CIFAR-10-P, of an array or of one image",
        description="Make perturbation sequences: frames of an image that change little by little. Of an array, they "
        "are stored as TARGET/PERTURBATION.npy, of shape (images, frames, H, W, C), as in CIFAR-10-P; of an image "
        "file, as TARGET/PERTURBATION/00.png, 01.png, ... The random numbers of an image depend on the seed, the "
        "perturbation, the difficulty and the image's place in the array, or its file's name.")
    command.add_argument("source", help=".npy or .npz file of images, as in the command array, or an image file")
    command.add_argument("target", help="folder for the sequences")
    kind = cli.or_list(partial(cli.two_columns, PERTURBATIONS), cli.names(PERTURBATIONS, PERTURBATION_SETS))
    command.add_argument("-p", "--perturbation", type=kind, action=cli.StoreOneOrMany, metavar="NAME", required=True,
                         help="names, which `-p list` shows; or common (the ten of the benchmark), all (also the four "
                         "for validation)")
    command.add_argument("-d", "--difficulty", type=int, choices=DIFFICULTIES, default=1,
                         help="strength of noise, without effect on other perturbations; 2 and 3 become part of the "
                         "name, as in gaussian_noise_2.npy")
    command.add_argument("--crop", type=int, default=None, metavar="PIXELS",
                         help="side of the center crop of the frames (default: whole images); ImageNet-P has 224, cut "
                         "from images with a shorter side of 256")
    add_part(command)
    add_generator(command, has_frost=False)
    add_processes(command)
    command.set_defaults(run=sequence_command)


def add_corruptions(command, default=None):
    """Add the option for several corruptions; without a default it is required."""
    kind = cli.or_list(partial(cli.two_columns, CORRUPTIONS), cli.names(CORRUPTIONS, SETS, aliases=ALIASES))
    command.add_argument("-c", "--corruption", type=kind, action=cli.StoreOneOrMany, metavar="NAME",
                         default=default or argparse.SUPPRESS, required=default is None,
                         help="names, which `-c list` shows; or common (the 15 that benchmarks average), all (19), bar "
                         "(the 15 of C-bar), all+bar")


def add_severities(command):
    command.add_argument("--severity", nargs="+", type=severity, default=list(SEVERITIES), metavar="S",
                         help=SEVERITY_HELP)


def add_generator(command, has_frost=True):
    """Add the options on which the pixels depend, besides corruption and severity."""
    command.add_argument("--seed", type=cli.seed, default=0, help="seed of the random numbers")
    command.add_argument("--preset", type=int, choices=sorted(SEVERITY_CONSTANTS), default=None,
                         help="constants published for this image size (default: the nearest of 32, 64 and 224)")
    if has_frost:
        command.add_argument("--frost_dir", default=None,
                             help="folder of frost1.png ... frost5.jpg (default: the textures of imagecorruptions)")
    command.add_argument("--backend", choices=BACKENDS, default="numpy",
                         help="program that computes the motion blur of motion_blur and snow; wand is ImageMagick")


def add_part(command):
    command.add_argument("--part", choices=PARTS, default=None,
                         help="part of an .npz file that has several (default: test)")


def add_processes(command):
    """Add the options of processes on this machine. Return the group of `--workers`, which excludes other workers."""
    crew = command.add_mutually_exclusive_group()
    crew.add_argument("--workers", type=cli.workers, default=None,
                      help="number of processes, at most one for each processor; does not change the result (default: "
                      f"{cli.cpu_count()})")
    command.add_argument("--show_progress", action="store_true",
                         help="show the progress bar even without a terminal")
    return crew


def add_workers(command):
    """Add the options of all kinds of workers."""
    crew = add_processes(command)
    crew.add_argument("--scheduler", type=address, default=None, metavar="HOST:PORT",
                      help="use the workers of a Dask cluster with the same files; does not change the "
                      f"result; needs {INSTALL}")
    command.add_argument("--shard", type=shard, default=SINGLE_SHARD, metavar="I/N",
                         help="make the I-th of N parts of the job, every N-th image of a folder or every "
                         "N-th array; parts may run in any order or together")


EXAMPLES = """\
{program} photo.jpg foggy.png -c fog --severity 3
{program} folder photos/ corrupted_photos/ -c common
{program} array images.npz corrupted_set/ -c all --layout stacked
{program} list

{program} --help lists the commands, {program} COMMAND --help their options."""


def run(program, argv=None):
    """Carry out a command line. `program` is the name of the program, `argv` is as in `argparse`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv:
        print(EXAMPLES.format(program=program))
        return
    parser = create_parser(program)
    own = ("-h", "--help", "--version")
    if argv[0].startswith("-") and argv[0] not in own:  # options before the image
        argv = ["image", *argv]
    if argv[0] not in (*own, *command_names(parser)):
        # A word without a suffix, such as `foldr`, is rather a mistyped command than an image.
        if not os.path.exists(argv[0]) and not os.path.splitext(argv[0])[1]:
            commands = ", ".join(command_names(parser))
            parser.error(f"unknown command {argv[0]!r}; choose from {commands}, or name an image file")
        argv = ["image", *argv]
    args = parser.parse_args(argv)
    for option in ("corruption", "perturbation"):
        if not isinstance(getattr(args, option, []), list):
            setattr(args, option, [getattr(args, option)])
    with exit_on_error(program):
        args.run(args)


def command_names(parser):
    """Return the names of the commands of a parser."""
    return list(next(action for action in parser._actions if action.dest == "command").choices)
