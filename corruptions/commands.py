"""The commands of `python -m corruptions`, without their options (`parser.py`)."""
import contextlib
import os

import numpy as np

from corruptions.blur import check_backend
from corruptions.generate import corrupt
from corruptions.images import BadImages, read_image, write_image_file
from corruptions.jobs.arrays import check_finished, write_arrays
from corruptions.jobs.cluster import connect
from corruptions.jobs.folders import corrupt_folder
from corruptions.jobs.layouts import (
    array_paths,
    check_labels,
    check_stored_labels,
    read_images,
    read_labels,
    store_labels,
    stored_labels,
)
from corruptions.jobs.parallel import RESUME_HINT
from corruptions.jobs.settings import options_settings, use_settings
from corruptions.jobs.shards import SINGLE_SHARD
from corruptions.pictures import panel, plot_image_grid, plot_image_sheet
from corruptions.registry import Options
from corruptions.severities import MEANINGS, SEVERITY_CONSTANTS, WHOLE
from corruptions.table import CORRUPTIONS, check_usable
from corruptions.utils import cli
from corruptions.utils.checksums import array_digest
from corruptions.utils.errors import UserError
from corruptions.utils.files import require_writable_file
from corruptions.utils.signals import sigterm_interrupts


def list_command(args):
    """Print what each corruption does, and the constants of every severity."""
    lines = []
    for name in args.names or CORRUPTIONS:
        marks = {position: " (whole)" for position in WHOLE.get(name, ())}
        lines += [f"{name}: {CORRUPTIONS[name].summary}",
                  "  " + "; ".join(meaning + marks.get(k, "") for k, meaning in enumerate(MEANINGS[name]))]
        for size in (size for size in SEVERITY_CONSTANTS if name in SEVERITY_CONSTANTS[size]):
            rows = [" ".join(f"{value:g}" for value in np.atleast_1d(constants))
                    for constants in SEVERITY_CONSTANTS[size][name]]
            lines.append(f"  {size:5d}  " + "  |  ".join(rows))
    cli.print_text("\n".join(lines))


def image_command(args):
    """Corrupt one image file."""
    image = read_image(args.source)
    options = options_of(args)
    require_another_file("TARGET", args.target, args.source)
    [name] = args.corruption
    if args.constants and args.preset:
        raise UserError("--preset: has no effect beside --constants; leave one of them out")
    severity = None if args.constants else args.severity[0]
    made = corrupt(image, name, severity, args.seed, options, os.path.basename(args.source), constants=args.constants)
    require_writable_file("TARGET", args.target)
    write_image_file(args.target, made)
    print(f"written to {args.target}")


def require_another_file(flag, path, source):
    """Raise a `UserError` that names `flag` if a file to write is the image that is read."""
    if os.path.exists(path) and os.path.samefile(source, path):
        raise UserError(f"{flag} {path}: is the image itself, which would be lost; name another file")


def folder_command(args):
    """Corrupt a folder of images."""
    options = options_of(args)
    try:
        with workers_of(args, args.target, args.source) as workers:
            made, awaited, unfinished_parts = corrupt_folder(args.source, args.target, args.corruption, args.severity,
                                                             args.seed, options, workers, args.format, args.skip_bad,
                                                             args.show_progress, shard=args.shard)
    except BadImages as error:
        raise UserError(f"{error}; or pass --skip_bad") from error
    print(f"{written(args, made)} {args.target}" + (
        f"; shards that have not ended: {', '.join(map(str, awaited))}" if awaited else "") + (
        f"; begun by other commands and not ended: {', '.join(unfinished_parts)}" if unfinished_parts else ""))


def array_command(args):
    """Corrupt a .npy or .npz file."""
    images, labels = read_images(args.source, args.part)
    if labels is not None and args.labels is not None:
        raise UserError(f"--labels {args.labels}: {args.source} has labels; leave one of them out")
    if args.labels is not None:
        labels = read_labels(args.labels, len(images))
    elif labels is not None:
        read = stored_labels if args.layout == "folders" else check_labels
        labels = read(labels, len(images), args.source)
    options = options_of(args)
    paths = array_paths(args.target, args.corruption, args.severity, args.layout)
    settings = {"shape": list(images.shape), "seed": args.seed, **options_settings(options, args.corruption)}
    if args.layout == "stacked":
        if labels is None:
            raise UserError("--layout stacked: has labels.npy beside the arrays; give --labels FILE, too, or leave the "
                            "option out")
        settings |= {"layout": "stacked"}
    if labels is not None:
        check_stored_labels(labels, args.target, "--labels" if args.labels else args.source)
    arrays = list(dict.fromkeys(path for files in paths.values() for path in files.values()))
    mine, made = args.shard.of(arrays), 0
    with workers_of(args, args.target, args.source) as workers:
        images_digest = array_digest(images)
        use_settings(args.target, {"images": images_digest, **settings})
        if labels is not None:
            made += store_labels(labels, paths[args.corruption[0]])
        for path in filter(os.path.exists, mine):
            check_finished(path)
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
    require_another_file("--output", args.output, args.image)
    clean = panel(image)
    key = os.path.basename(args.image)  # the pixels are those of the command image
    rows = {name: [panel(corrupt(image, name, severity, args.seed, options, key)) for severity in args.severity]
            for name in args.corruption}
    if len(args.severity) == 1:
        plot_image_sheet(args.output, {"clean": clean, **{name: images[0] for name, images in rows.items()}})
    else:
        plot_image_grid(args.output, rows, [f"severity {severity}" for severity in args.severity], clean)
    print(f"written to {args.output}")


def options_of(args):
    """Return the `Options`, after a check that what they need exists and that one of the corruptions uses it.

    Raises:
        UserError: something that an option needs is missing, or no corruption uses it.
    """
    lacking = [name for name in args.corruption if args.preset and name not in SEVERITY_CONSTANTS[args.preset]]
    if lacking:
        raise UserError(f"--preset {args.preset}: has no constants of {', '.join(lacking)}; give 32 or 224, or none")
    options = Options(args.preset, args.frost_dir, args.backend)
    check_usable(args.corruption, args.severity, options)
    if "frost" not in args.corruption and args.frost_dir is not None:
        raise UserError("--frost_dir: only frost uses it; leave it out")
    check_backend(args.backend, args.corruption)
    return options
