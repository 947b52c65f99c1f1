"""The command `dataset` of `python -m corruptions`: the corrupted images of a data set, where training finds them."""
import os

from corruptions.commands import workers_of, written
from corruptions.jobs.shards import SINGLE_SHARD
from corruptions.utils import cli
from corruptions.weather import frost_textures
from dataset import SOURCE_OPTIONS, SOURCES, load_source
from dataset.corrupted import generate, needs_generation, open_corrupted
from dataset.sampling import INTERPOLATIONS

PARTS = ("train", "test")


def add_command(commands):
    """Add the command to the commands of a parser (`argparse`'s sub-parsers), and return its parser."""
    parser = commands.add_parser("dataset", help="a data set, stored where training looks for it",
                                 description="Store corrupted versions of the training and test images of a data set "
                                 "at five severities. main.py and evaluations then read them instead of making them.")
    parser.add_argument("name", choices=sorted(SOURCES), help="data set")
    parser.add_argument("--data_dir", default="./data",
                        metavar="DIR",
                        help="folder with the data sets; with folder, the folder of images itself")
    parser.add_argument("--image_size", type=cli.image_side, default=None, metavar="PIXELS",
                        help="with folder: side of the images (default: 64)")
    parser.add_argument("--interpolation", choices=list(INTERPOLATIONS), default=None,
                        help="with folder, imagenet: how images are scaled (default: bilinear)")
    parser.add_argument("--part", choices=PARTS, help="only the training or only the test images (default: both)")
    parser.set_defaults(run=store_corrupted)
    return parser


def store_corrupted(args):
    """Write the corrupted versions of a data set to the place where training looks for them."""
    if "frost" in args.corruption:
        frost_textures(None, 1)
    options = {option: getattr(args, option) for option in SOURCE_OPTIONS if hasattr(args, option)}
    source = load_source(args.name, args.data_dir, **options)
    versions = [(name, part) for name in args.corruption for part in PARTS if args.part in (None, part)]
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
