"""The command `python -m corruptions sequence`."""
import os
from functools import partial

from corruptions.blur import require_wand
from corruptions.images import read_image
from corruptions.jobs.layouts import PARTS, check_labels, check_stored_labels, read_images, store_labels
from corruptions.jobs.settings import use_settings
from corruptions.registry import BACKENDS, Options
from corruptions.sequences.constants import DIFFICULTIES, SEQUENCE_CONSTANTS
from corruptions.sequences.jobs import sequence_name, write_frames, write_sequences
from corruptions.sequences.perturb import check_sequence
from corruptions.sequences.perturbations import PERTURBATION_SETS, PERTURBATIONS
from corruptions.utils import cli
from corruptions.utils.checksums import array_digest
from corruptions.utils.errors import UserError
from corruptions.utils.signals import sigterm_interrupts


def add_sequence(commands):
    """Add the command `sequence` to the commands of a parser."""
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
                         help="names, list says which; or common (the ten that are benchmarked), all (these and four "
                         "for validation)")
    command.add_argument("-d", "--difficulty", type=int, choices=DIFFICULTIES, default=1,
                         help="strength of the noise; files of 2 and 3 are called gaussian_noise_2.npy and so on")
    command.add_argument("--crop", type=int, default=None, metavar="PIXELS",
                         help="side of the centre crop that the frames have; ImageNet-P has 224, out of images whose "
                         "shorter side is 256 (default: whole images)")
    command.add_argument("--part", choices=PARTS, default=None,
                         help="part of an .npz file that has several (default: test)")
    command.add_argument("--seed", type=cli.seed, default=0, help="seed of the random numbers")
    command.add_argument("--preset", type=int, choices=sorted(SEQUENCE_CONSTANTS), default=None,
                         help="constants published for this image size; without it those of the nearest size, of 32, "
                         "64 and 224")
    command.add_argument("--backend", choices=BACKENDS, default="numpy",
                         help="program that computes the motion blur of motion_blur and snow; wand is ImageMagick")
    command.add_argument("--workers", type=cli.workers, default=None,
                         help="processes, at most one a processor; does not change the result (default: "
                         f"{cli.cpu_count()})")
    command.add_argument("--show_progress", action="store_true",
                         help="show the progress bar even where the output is not a terminal")
    command.set_defaults(run=sequence_command)


def sequence_command(args):
    """Make perturbation sequences of an array or of one image."""
    names = args.perturbation if isinstance(args.perturbation, list) else [args.perturbation]
    names = list(dict.fromkeys(names))
    options = Options(args.preset, backend=args.backend)
    if args.backend == "wand":
        if not {"motion_blur", "snow"} & set(names):
            raise UserError("--backend wand: only motion_blur and snow use it; leave it out")
        require_wand()
    is_array = os.path.splitext(args.source)[1].lower() in (".npy", ".npz")
    if is_array:
        images, labels = read_images(args.source, args.part)
    else:
        if args.part is not None or args.workers is not None or args.show_progress:
            raise UserError("--part, --workers and --show_progress: only arrays use them; leave them out for an image")
        images, labels = read_image(args.source)[None], None
    for name in names:
        check_sequence(name, *images.shape[1:3], args.difficulty, args.crop, options)
    if not is_array:
        folders = {name: os.path.join(args.target, sequence_name(name, args.difficulty)) for name in names}
        for folder in folders.values():
            if os.path.lexists(folder):
                raise UserError(f"{folder}: exists; remove it, or name a new folder")
        with sigterm_interrupts("remove the folders that are there, and give the same command again"):
            for name, folder in folders.items():
                write_frames(images[0], folder, name, args.seed, os.path.basename(args.source), args.difficulty,
                             args.crop, options)
        print(f"written to {args.target}")
        return
    if labels is not None:
        labels = check_labels(labels, len(images), args.source)
        check_stored_labels(labels, args.target, args.source)
    settings = {"sequences": True, "images": array_digest(images), "shape": list(images.shape), "seed": args.seed,
                "crop": args.crop, "preset": args.preset, "backend": args.backend}
    made = 0
    with sigterm_interrupts("the same command makes the arrays that are missing"):
        use_settings(args.target, settings)
        if labels is not None:
            made += store_labels(labels, {None: os.path.join(args.target, "labels.npy")})
        for name in names:
            path = os.path.join(args.target, f"{sequence_name(name, args.difficulty)}.npy")
            made += write_sequences(images, path, name, args.seed, args.difficulty, args.crop, options,
                                    args.workers or cli.cpu_count(), args.show_progress or None)
    print(f"{'written to' if made else 'was all made before in'} {args.target}")
