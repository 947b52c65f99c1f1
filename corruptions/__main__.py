"""The corruption generators from the command line: python -m corruptions --help"""
import argparse
import contextlib
import os
import re
import sys
from functools import partial

if not __package__:  # python corruptions puts this file's folder first on the module search path
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    from utils.runtime.startup import begin_imports
    begin_imports("python -m corruptions")
    import utils.runtime.requirements  # noqa: F401, it reports missing packages

from matplotlib.backend_bases import FigureCanvasBase

from corruptions import ALIASES, SETS
from corruptions.blur import require_wand
from corruptions.generate import corrupt
from corruptions.images import BadImages, read_image
from corruptions.jobs.arrays import write_arrays
from corruptions.jobs.cluster import INSTALL, connect
from corruptions.jobs.folders import corrupt_folder
from corruptions.jobs.layouts import LAYOUTS, check_stored_labels, places, read_images, read_labels, store_labels
from corruptions.jobs.parallel import RESUME_HINT
from corruptions.jobs.provenance import options_identity
from corruptions.jobs.settings import use_settings
from corruptions.jobs.shards import SINGLE_SHARD, Shard
from corruptions.registry import BACKENDS, CORRUPTIONS, Options
from corruptions.severities import SEVERITY_CONSTANTS
from corruptions.weather import frost_textures
from dataset import SOURCE_OPTIONS, SOURCES, load_source
from dataset.corrupted import generate, needs_generation, open_corrupted
from utils import cli
from utils.checksums import array_digest
from utils.errors import UserError
from utils.figures.pictures import panel, plot_image_grid, plot_image_sheet
from utils.files import require_writable_file
from utils.runtime.signals import sigterm_interrupts

PICTURE_TYPES = sorted(set(FigureCanvasBase.get_supported_filetypes()) - {"pgf"})  # pgf needs LaTeX


def dataset_command(args):
    """Write the corrupted versions of a data set to the place where training looks for them."""
    if "frost" in args.corruption:
        frost_textures(None, 1)
    options = {option: getattr(args, option) for option in SOURCE_OPTIONS if hasattr(args, option)}
    source = load_source(args.name, args.data_dir, **options)
    versions = [(name, part) for name in args.corruption for part in ("train", "test")]
    made = 0
    with workers_of(args, args.data_dir) as workers:
        if source.is_file_backed and args.shard != SINGLE_SHARD:
            for name, part in versions:
                made += generate(args.data_dir, source, part, name, workers, args.show_progress, args.shard)
        else:
            for name, part in args.shard.of(versions):
                if needs_generation(args.data_dir, source, part, name):
                    made += generate(args.data_dir, source, part, name, workers, args.show_progress)
                open_corrupted(args.data_dir, source, part, name, "disk")  # checks that all images exist
    print(f"{written(args, made)} {os.path.join(args.data_dir, source.corrupted_folder)}")


def folder_command(args):
    """Corrupt a folder of images."""
    options = options_of(args)
    try:
        with workers_of(args, args.target, args.source) as workers:
            made, awaited, other_parts = corrupt_folder(args.source, args.target, args.corruption, args.severity,
                                                        args.seed, options, workers, args.format, args.skip_bad,
                                                        args.show_progress, shard=args.shard)
    except BadImages as error:
        raise UserError(f"{error}; or pass --skip-bad") from error
    print(f"{written(args, made)} {args.target}" + (
        f"; shards that have not ended: {', '.join(map(str, awaited))}" if awaited else "") + (
        f"; begun by other commands and not ended: {', '.join(other_parts)}" if other_parts else ""))


def array_command(args):
    """Corrupt a .npy file."""
    images = read_images(args.source)
    options = options_of(args)
    paths = places(args.target, args.corruption, args.severity, args.layout)
    settings = {"shape": list(images.shape), "seed": args.seed, **options_identity(options, args.corruption)}
    if args.layout == "stacked":
        if args.labels is None:
            raise UserError("--layout stacked: has labels.npy beside the arrays; give --labels FILE, too, or leave the "
                            "option out")
        settings |= {"layout": "stacked"}
    labels = None if args.labels is None else read_labels(args.labels, len(images))
    if labels is not None:
        check_stored_labels(labels, args.target)
    arrays = list(dict.fromkeys(path for files in paths.values() for path in files.values()))
    mine, made = args.shard.of(arrays), 0
    with workers_of(args, args.target, args.source) as workers:
        images_digest = array_digest(images)
        use_settings(args.target, {"images": images_digest, **settings})
        if labels is not None:
            made += store_labels(labels, paths[args.corruption[0]])
        for name, files in paths.items():
            made += write_arrays(images, {severity: path for severity, path in files.items() if path in mine}, name,
                                 args.seed, options, workers, args.show_progress, name, images_digest)
    missing = sum(not os.path.exists(path) for path in arrays)
    print(f"{written(args, made)} {args.target}" + (
        f"; arrays of other shards that are not there yet: {missing} of {len(arrays)}" if missing else ""))


def written(args, made):
    """Return the beginning of a command's last message; `made` is the number of results that were not there before."""
    if args.shard == SINGLE_SHARD:
        return "written to" if made else "was all made before in"
    # A shard that made nothing was made before, or its share is empty because there are fewer images or arrays.
    return f"shard {args.shard} {'written to' if made else 'had nothing to make in'}"


@contextlib.contextmanager
def workers_of(args, target, *sources):
    """Yield the workers for the body: a number of processes, or a `Cluster` that sees these paths."""
    with sigterm_interrupts(RESUME_HINT):
        if args.scheduler is None:
            yield args.workers or cli.cpu_count()
        else:
            with connect(args.scheduler, target, sources) as cluster:
                yield cluster


def preview_command(args):
    """Draw one image under every corruption and severity: a row for each corruption, or a sheet for one severity."""
    image = read_image(args.image)
    options = options_of(args)
    require_writable_file("--output", args.output)
    if os.path.exists(args.output) and os.path.samefile(args.image, args.output):
        raise UserError(f"--output {args.output}: is the image itself, which would be lost; name another file")
    clean = panel(image)
    rows = {name: [clean] + [panel(corrupt(image, name, severity, args.seed, options)) for severity in args.severity]
            for name in args.corruption}
    if len(args.severity) == 1:
        plot_image_sheet(args.output, {"clean": clean, **{name: images[1] for name, images in rows.items()}})
    else:
        plot_image_grid(args.output, rows, ["clean"] + [f"severity {severity}" for severity in args.severity])
    print(f"written to {args.output}")


def options_of(args):
    """Return the `Options`, after a check that what they need exists and that one of the corruptions uses it.

    Raises:
        UserError: something that an option needs is missing, or no corruption uses it.
    """
    lacking = [name for name in args.corruption if args.preset and name not in SEVERITY_CONSTANTS[args.preset]]
    if lacking:
        raise UserError(f"--preset {args.preset}: has no constants of {', '.join(lacking)}; give 32 or 224, or none")
    if "frost" in args.corruption:
        frost_textures(args.frost_dir, 1)
    elif args.frost_dir is not None:
        raise UserError("--frost_dir: only frost uses it; leave it out")
    if args.backend == "wand":
        if not {"motion_blur", "snow"} & set(args.corruption):
            raise UserError("--backend wand: only motion_blur and snow use it; leave it out")
        require_wand()
    return Options(args.preset, args.frost_dir, args.backend)


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


def create_parser():
    parser = cli.Parser(prog="python -m corruptions", description="Corrupt images as the published benchmarks do: "
                        f"{len(CORRUPTIONS)} corruptions, severities 1 to 5, any image size.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=cli.Parser)

    dataset = commands.add_parser("dataset", help="a data set, stored where training looks for it")
    dataset.add_argument("name", choices=sorted(SOURCES), help="data set")
    dataset.add_argument("--data_dir", default="./data",
                         help="folder that holds the data sets; of folder, the folder of images itself")
    dataset.add_argument("--image_size", type=cli.image_side, default=None, metavar="PIXELS",
                         help="of folder: side of the images (default: 64)")
    dataset.set_defaults(run=dataset_command)

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
    for command in (dataset, folder, array, picture):
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


def main(argv=None):
    args = create_parser().parse_args(argv)
    if not isinstance(args.corruption, list):
        args.corruption = [args.corruption]
    with cli.exit_on_error("python -m corruptions"):
        args.run(args)


if __name__ == "__main__":
    main()
