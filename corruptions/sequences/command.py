"""The command `python -m corruptions sequence`."""
import os

from corruptions.blur import check_backend
from corruptions.images import read_image
from corruptions.jobs.layouts import check_labels, check_stored_labels, read_images, store_labels
from corruptions.jobs.settings import use_settings
from corruptions.registry import Options
from corruptions.sequences.jobs import sequence_name, write_frames, write_sequences
from corruptions.sequences.perturb import check_sequence
from corruptions.utils import cli
from corruptions.utils.checksums import array_digest
from corruptions.utils.errors import UserError
from corruptions.utils.signals import sigterm_interrupts


def sequence_command(args):
    """Make perturbation sequences of an array or of one image."""
    names, options = args.perturbation, Options(args.preset, backend=args.backend)
    check_backend(args.backend, names)
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
