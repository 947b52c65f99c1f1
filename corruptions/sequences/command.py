"""The command `python -m corruptions sequence`."""
import os

from corruptions.blur import check_backend
from corruptions.images import read_image
from corruptions.jobs.layouts import check_stored_labels, read_images, store_labels, stored_labels
from corruptions.jobs.settings import options_settings, use_settings
from corruptions.registry import Options
from corruptions.sequences.jobs import write_frames, write_sequences
from corruptions.sequences.perturb import check_sequence
from corruptions.sequences.perturbations import PERTURBATIONS, sequence_name
from corruptions.utils import cli
from corruptions.utils.checksums import array_digest
from corruptions.utils.errors import UserError
from corruptions.utils.signals import sigterm_interrupts


def sequence_command(args):
    """Make perturbation sequences of an array or of one image."""
    names, options = args.perturbation, Options(args.preset, backend=args.backend)
    check_backend(args.backend, names)
    if args.difficulty > 1 and not any(PERTURBATIONS[name].is_noise for name in names):
        raise UserError(f"--difficulty {args.difficulty}: has no effect on the frames of {', '.join(names)}; leave it "
                        f"out here, and give difficulty={args.difficulty} to flip_rate and top5_distance")
    is_array = os.path.splitext(args.source)[1].lower() in (".npy", ".npz")
    if is_array:
        images, labels = read_images(args.source, args.part)
    else:
        if args.part is not None or args.workers is not None or args.show_progress:
            raise UserError("--part, --workers and --show_progress: only arrays use them; leave them out for an image")
        images, labels = read_image(args.source)[None], None
    for name in names:
        check_sequence(name, *images.shape[1:3], args.difficulty, args.crop, options)
    if labels is not None:
        labels = stored_labels(labels, len(images), args.source)
    if labels is not None:
        check_stored_labels(labels, args.target, args.source)
    clean = array_digest(images)
    settings = {"sequences": "arrays" if is_array else "frames", "images": clean, "shape": list(images.shape),
                "seed": args.seed, "crop": args.crop, **options_settings(options, names)}
    key = os.path.basename(args.source)
    if not is_array:
        settings["file_name"] = key
    made = 0
    with sigterm_interrupts("the same command makes the sequences that are missing"):
        use_settings(args.target, settings)
        if labels is not None:
            made += store_labels(labels, {None: os.path.join(args.target, "labels.npy")})
        for name in names:
            stored = sequence_name(name, args.difficulty)
            path, arguments = os.path.join(args.target, stored), (args.difficulty, args.crop, options)
            record = {"clean_images": clean, "sequence": stored, "seed": args.seed, "crop": args.crop,
                      **options_settings(options, [name])}
            if is_array:
                made += write_sequences(images, f"{path}.npy", record, name, args.seed, *arguments,
                                        args.workers or cli.cpu_count(), args.show_progress or None)
            else:
                made += write_frames(images[0], path, {**record, "file_name": key}, name, args.seed, key, *arguments)
    print(f"{'written to' if made else 'was all made before in'} {args.target}")
