"""Corrupted folders of images, made by several processes and resumed after a stop; existing images stay."""
import collections
import contextlib
import os
import socket
import sys
import tempfile
import unicodedata

from tqdm import tqdm

from corruptions.images import (
    JPEG_MOST_SIDE,
    BadImages,
    folders_below,
    is_system_error,
    list_images,
    read_image,
    said_of,
    write_image,
)
from corruptions.jobs.parallel import parallel_map
from corruptions.jobs.progress import made_shares, mark_finished, mark_started, nothing_readable, require_made
from corruptions.jobs.settings import has_settings, options_settings, require_folder_name
from corruptions.jobs.shards import (
    SINGLE_SHARD,
    Shard,
    corruption_of,
    is_unfinished,
    lock_briefly,
    lock_target,
)
from corruptions.jobs.sources import (
    SOURCES_FILE,
    check_decoding,
    check_sources,
)
from corruptions.rng import image_stream
from corruptions.severities import check_severity, nearest_preset
from corruptions.table import CORRUPTIONS
from corruptions.utils.checksums import file_checksum
from corruptions.utils.errors import UserError, one_line
from corruptions.utils.files import LONGEST_NAME, is_writable, make_folder

FILES_AT_A_TIME = 16


def corrupted_name(name, image_format):
    """Return the name of a corrupted image: the original name, with the suffix of the format if it has another."""
    stem, suffix = os.path.splitext(name)
    if image_format == "png":
        return stem + ".png"
    return name if suffix.lower() in (".jpg", ".jpeg") else stem + ".jpg"


def check_image_files(paths, read, image_format):
    """Call `check_image` for several files."""
    return [check_image(path, read, image_format) for path in paths]


def check_image(path, read, image_format):
    """Read an image file with `read`, and check that its pixels can be stored as 'jpeg' or 'png'.

    Returns:
        tuple: the problem with the file, or None; the CRC-32 and the number of its bytes, or None if not computed; the
        height and width of the image, or None.
    """
    problem = checksum = size = None
    try:
        path.encode()
        if len(os.fsencode(os.path.basename(corrupted_name(path, image_format)))) > LONGEST_NAME:
            raise UserError(f"{path}: the name of its corrupted image would have more than {LONGEST_NAME} bytes; give "
                            "the file a shorter one")
        checksum = file_checksum(path)
        height, width = size = read(path).shape[:2]
        if image_format == "jpeg" and max(height, width) > JPEG_MOST_SIDE:
            problem = (f"{path}: an image of {height}x{width} is too large for JPEG, which has at most "
                       f"{JPEG_MOST_SIDE} pixels a side; pass --format png")
    except OSError as error:
        if is_system_error(error):
            raise
        problem = f"{path}: not a readable image ({error.strerror}); repair or remove it"
    except UnicodeEncodeError:
        problem = f"{path!a}: the name is not in UTF-8; rename the file"
    except UserError as error:
        problem = str(error)
    return problem, checksum, size


def checksums_of(source, files, read, workers, image_format, skip_bad, hidden):
    """Read the images in a folder; `files` (dict), `read` and `image_format` are as in `corrupt_folder`.

    Returns:
        tuple: a dict of relative name to CRC-32 and size in bytes, for the files that can be read and stored; the
        heights and widths of their images, a list of pairs.

    Raises:
        BadImages: some files cannot be read or stored, and `skip_bad` is false. If it is true, a warning names them.
    """
    groups = batched([os.path.join(os.path.abspath(source), path) for path in files.values()])
    results = []
    with tqdm(desc="checking", total=len(files), unit=" images", disable=hidden) as bar, \
            contextlib.closing(parallel_map(workers, check_image_files, ((group, read, image_format)
                                                                         for group in groups))) as checked:
        for group in checked:
            results += group
            bar.update(len(group))
    problems = [problem for problem, *_ in results if problem]
    if problems and not skip_bad:
        raise BadImages(f"{problems[0]} ({len(problems)} of {len(files)} files)")
    for problem in problems:
        print(f"warning: skipped {one_line(problem)}", file=sys.stderr)
    checksums = {file: checksum for file, (problem, checksum, _) in zip(files, results, strict=True) if not problem}
    return checksums, [size for problem, _, size in results if not problem]


def warn_if_tables_differ(sizes, names, preset):
    """Warn if images of one job take constants that were published for different image sizes.

    Args:
        sizes (list): height and width of each image.
        names (list of str): the corruptions.
        preset (int or None): as in `Options`.
    """
    if preset is not None:
        return
    tables, numbers = {name: collections.Counter() for name in names}, collections.Counter(sizes)
    for name, table in tables.items():
        for size, number in numbers.items():
            table[nearest_preset(name, *size)] += number
    name, counts = max(tables.items(), key=lambda item: len(item[1]))
    if len(counts) > 1:
        parts = ", ".join(f"{number} those for {size}x{size}" for size, number in sorted(counts.items()))
        print(f"warning: by their size, images take different constants of {name}: {parts}; --preset takes one table "
              "for all", file=sys.stderr)


def batched(files):
    """Return parts of a list, each enough work for one call in a worker process."""
    return [files[k:k + FILES_AT_A_TIME] for k in range(0, len(files), FILES_AT_A_TIME)]


def require_outside(target, source):
    """Raise a `UserError` if the target lies in a folder that is read for images, also through links."""
    real_target = os.path.realpath(target)
    for folder, real in folders_below(source):
        if os.path.commonpath([real, real_target]) == real:
            raise UserError(f"{target}: lies inside the source {folder}; name a folder outside of it")


def ignores_case(folder):
    """Whether a folder, which can be written, takes names in upper and in lower case for the same, as on macOS."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".Case-") as file:
        return os.path.exists(os.path.join(folder, os.path.basename(file.name).swapcase()))


def fold_case(name):
    """Return a name without the differences that file systems on macOS ignore."""
    return unicodedata.normalize("NFC", name).casefold()


def reject_name_clashes(source, files, image_format, plain=lambda name: name):
    """Raise a `UserError` if the names of corrupted images clash.

    The names clash if the corrupted images of two files would have the same name. They also clash if the corrupted
    image of one file would have the name of a folder that another file needs. `plain` maps names that the target does
    not tell apart to the same name.
    """
    origins = {}
    for file in files:
        first_file = origins.setdefault(plain(corrupted_name(file, image_format)), file)
        if first_file != file:
            raise UserError(f"{os.path.join(source, file)}: its corrupted image would have the same name as that of "
                            f"{first_file}; rename one of them")
    for file in files:
        folder = file
        while folder := os.path.dirname(folder):
            if plain(folder) in origins:
                clashing = os.path.join(source, origins[plain(folder)])
                raise UserError(f"{clashing}: its corrupted image would have the name of the folder of {file}; rename "
                                "one of them")


def corrupt_folder(source, target, names, severities, seed, options, workers, image_format, skip_bad, show_progress,
                   files=None, read=read_image, made_from=None, shard=SINGLE_SHARD):
    """Corrupt the images of a folder: SOURCE/CLASS/FILE becomes TARGET/CORRUPTION/SEVERITY/CLASS/FILE.

    All images are read once before anything is written. An image draws from the random stream of (seed, corruption,
    severity, 'CLASS/FILE'), so other images do not change it. TARGET/sources.csv records the images. A shard does all
    this for every N-th image only. Shards may be made at the same time.

    Args:
        source, target (str): folders.
        names (list of str): names of the corruptions.
        severities (list): severities, int or float, each 1 to 5.
        seed (int): seed of the random streams.
        options (Options): the other options.
        workers (int or Cluster): number of processes, or a cluster.
        image_format (str): 'jpeg' or 'png'.
        skip_bad (bool): leave out files and folders that cannot be read, with a warning.
        show_progress (bool): show progress bars even where the output is not a terminal.
        files (dict or None): 'CLASS/FILE' of an image to its path below `source`; None takes all images under their own
            paths.
        read (callable): map from a path to the pixels that are corrupted, uint8; other processes call it, too.
        made_from (str or None): description of what `read` does besides reading, for the settings in the target.
        shard (Shard): share of the images.

    Returns:
        tuple: number of corrupted images that were not there before; sorted numbers of the shards that have not made
        the same corruptions at the same severities; sorted list of the other parts, 'CORRUPTION/SEVERITY', that were
        begun in the target and have not ended.

    Raises:
        BadImages: images cannot be read, or cannot be stored in this format.
        UserError: no image can be read, though `skip_bad` is true (of several shards, the last one raises this); the
            target was made with other settings or from other images, or another process is making it.
    """
    require_outside(target, source)
    require_folder_name(target)
    hidden = False if show_progress else None
    left_out = None
    if files is None:
        names_there, left_out = list_images(source, skip_bad)
        files = {name: name for name in names_there}
    checksums, sizes = checksums_of(source, dict(shard.of(list(files.items()))), read, workers, image_format, skip_bad,
                                    hidden)
    warn_if_tables_differ(sizes, names, options.preset)
    if files and not checksums and shard == SINGLE_SHARD:
        raise nothing_readable(source, files)
    if left_out is not None:
        share = f"{len(checksums)}" if shard == SINGLE_SHARD else f"{len(checksums)} of {len(files)}"
        print(f"images read: {share}{one_line(said_of(left_out))}", flush=True)
    stored_files = checksums if shard == SINGLE_SHARD else files
    reject_name_clashes(source, stored_files, image_format)
    with make_folder(target):
        can_write = is_writable(target)
        if can_write and ignores_case(target):
            reject_name_clashes(source, stored_files, image_format, fold_case)
    settings = {"seed": seed, **options_settings(options, names), "format": image_format, "transparency": "white",
                **({"images": made_from} if made_from else {})}
    parts = [f"{name}/{severity}" for name in names for severity in severities]

    def stored(number):
        mine = checksums if number == shard.number else Shard(number, shard.count).of(list(files))
        return [corrupted_name(file, image_format) for file in mine]
    if not can_write:
        require_made(target, settings, parts, stored, shard)
        check_decoding(source, files, target)
        check_sources(source, files, target, checksums, shard)
        return 0, [], []
    with lock_target(target, shard):
        if has_settings(target, settings, besides=SOURCES_FILE):
            check_decoding(source, files, target)
            check_sources(source, files, target, checksums, shard)
        made_before = {part: made_shares(target, part, stored, shard) for part in parts if shard != SINGLE_SHARD}
        with lock_briefly(target, shard):
            parts = mark_started(target, parts, settings, files, checksums, shard, made_before)
        made = 0
        todo = [(file, os.path.abspath(os.path.join(source, files[file]))) for file in (checksums if parts else ())]
        tasks = ((os.path.abspath(target), group, read, parts, seed, options.with_absolute_paths(), image_format)
                 for group in batched(todo))
        with tqdm(desc="corrupting", total=len(todo), unit=" images", disable=hidden) as bar, \
                contextlib.closing(parallel_map(workers, _corrupt_files, tasks)) as results:
            for count, written in results:
                made += written
                bar.update(count)
        with lock_briefly(target, shard):
            return made, *mark_finished(source, target, parts, files, shard)


def _corrupt_files(target, files, read, parts, seed, options, image_format):
    """Corrupt some images; return their number, and the number of corrupted images that were not there before."""
    if not is_unfinished(target, corruption_of(parts[0])):
        raise UserError(f"{target}: is another folder on {socket.gethostname()}; name one that all machines share")
    made = 0
    for file, path in files:
        stored = corrupted_name(file, image_format)
        missing_parts = [part for part in parts if not os.path.isfile(os.path.join(target, part, stored))]
        if missing_parts:
            image = read(path)
        for part in missing_parts:
            name, severity = corruption_of(part), check_severity(float(part.partition("/")[2]))
            corrupted = CORRUPTIONS[name](image, severity, image_stream(seed, name, severity, file), options)
            write_image(os.path.join(target, part, stored), corrupted, image_format)
        made += len(missing_parts)
    return len(files), made
