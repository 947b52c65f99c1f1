"""Corrupted folders of images, made by several processes, resumed after a stop: images that are there stay."""
import contextlib
import csv
import glob
import os
import socket
import sys

from tqdm import tqdm

from corruptions.contract import CORRUPTIONS
from corruptions.files import SETTINGS_FILE, has_settings, write_settings
from corruptions.generate import image_stream
from corruptions.images import (
    JPEG_MOST_SIDE,
    BadImages,
    folders_below,
    is_shown_otherwise,
    list_images,
    read_image,
    said_of,
    write_image,
)
from corruptions.parallel import parallel_map
from corruptions.provenance import options_identity
from corruptions.shards import (
    SINGLE_SHARD,
    UNFINISHED_FILE,
    Shard,
    corruption_of,
    is_finished,
    is_unfinished,
    lock_briefly,
    lock_target,
    read_finished,
    write_ended,
)
from utils.checksums import file_checksum, file_checksums
from utils.cli import one_line
from utils.errors import UserError
from utils.files import LONGEST_NAME, TMP_MARK, is_writable, read_json, write_csv

SOURCES_FILE = "sources.csv"
FILES_AT_A_TIME = 16


def corrupted_name(name, image_format):
    """The name of a corrupted image: that of the original, with the suffix of the format where it has another."""
    stem, suffix = os.path.splitext(name)
    if image_format == "png":
        return stem + ".png"
    return name if suffix.lower() in (".jpg", ".jpeg") else stem + ".jpg"


def check_images(paths, read, image_format):
    """As `check_image`, of several files."""
    return [check_image(path, read, image_format) for path in paths]


def check_image(path, read, image_format):
    """Read an image file with `read`, and see whether its pixels can be stored as 'jpeg' or 'png'.

    Returns:
        tuple: what is wrong with it, or None; the CRC-32 and the number of its bytes, None where there are none.
    """
    problem = checksum = None
    try:
        path.encode()
        if len(os.fsencode(os.path.basename(corrupted_name(path, image_format)))) > LONGEST_NAME:
            raise UserError(f"{path}: the name of its corrupted image would have more than {LONGEST_NAME} bytes; give "
                            "the file a shorter one")
        checksum = file_checksum(path)
        height, width = read(path).shape[:2]
        if image_format == "jpeg" and max(height, width) > JPEG_MOST_SIDE:
            problem = (f"{path}: an image of {height}x{width} is too large for JPEG, which has at most "
                       f"{JPEG_MOST_SIDE} pixels a side; pass --format png")
    except OSError as error:
        problem = f"{path}: not a readable image ({error.strerror}); repair or remove it"
    except UnicodeEncodeError:
        problem = f"{path!a}: the name is not in UTF-8; rename the file"
    except UserError as error:
        problem = str(error)
    return problem, checksum


def checksums_of(source, files, read, workers, image_format, skip_bad, hidden):
    """Read images in a folder; `files` (dict), `read` and `image_format` are as in `corrupt_folder`.

    Returns:
        dict: relative name to CRC-32 and size in bytes of the files that can be read and stored.

    Raises:
        BadImages: there are others, and `skip_bad` is false; a warning tells of them if it is true.
    """
    groups = batched([os.path.join(os.path.abspath(source), path) for path in files.values()])
    results = []
    with tqdm(desc="checking", total=len(files), unit=" images", disable=hidden) as bar, \
            contextlib.closing(parallel_map(workers, check_images, ((group, read, image_format)
                                                                    for group in groups))) as checked:
        for group in checked:
            results += group
            bar.update(len(group))
    problems = [problem for problem, _ in results if problem]
    if problems and not skip_bad:
        raise BadImages(f"{problems[0]} ({len(problems)} of {len(files)} files)")
    for problem in problems:
        print(f"warning: skipped {problem}", file=sys.stderr)
    return {file: checksum for file, (problem, checksum) in zip(files, results, strict=True) if not problem}


def batched(files):
    """Parts of a list, each enough work for one call of another process."""
    return [files[k:k + FILES_AT_A_TIME] for k in range(0, len(files), FILES_AT_A_TIME)]


def sources_path(target, shard):
    """The list of the images that a shard has made a folder from; in the end one list has those of all shards."""
    name = SOURCES_FILE if shard == SINGLE_SHARD else f".sources-{shard.number}-of-{shard.count}.csv"
    return os.path.join(target, name)


def shards_lists(target):
    """The lists of shards that have not become one yet, a list of paths."""
    return glob.glob(os.path.join(glob.escape(target), ".sources-*-of-*.csv"))


def sources_lists(target):
    """All lists of images that are in a folder, a list of paths."""
    whole, others = sources_path(target, SINGLE_SHARD), shards_lists(target)  # others go only when that one is there
    return ([whole] if os.path.exists(whole) else []) + others


def read_sources(target):
    """The images that a folder was made from so far, relative name to CRC-32 and size in bytes, None where an earlier
    version has not recorded it.

    Raises:
        UserError: the list is not there, or damaged.
    """
    paths = sources_lists(target)
    if not paths:
        raise UserError(f"{target}: was made by an earlier version, whose random numbers were others; name a new "
                        "folder")
    sources = {}
    for path in paths:
        try:
            with open(path, newline="", encoding="utf-8") as file:
                sources.update({row["file"]: (int(row["crc32"]), int(row["bytes"]) if "bytes" in row else None)
                                for row in csv.DictReader(file)})
        except FileNotFoundError:  # the last shard of another job has put all lists into one meanwhile
            return read_sources(target)
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise UserError(f"{path}: damaged; name a new folder") from error
    return sources


def write_sources(path, sources):
    """Write a list that `read_sources` reads; `sources` (dict) is what that returns."""
    checksums, sizes = zip(*sources.values(), strict=True) if sources else ((), ())
    write_csv(path, {"file": list(sources), "crc32": checksums, "bytes": sizes})


def check_stored(target, source, files, about):
    """Make sure that corrupted images in a folder were made from certain images. For a folder that this program has not
    made, nothing is known.

    Args:
        target (str): the folder of corrupted images.
        source, files, about: as in `corrupt_folder`, of images that it may have been made from.

    Raises:
        UserError: it was made from others.
    """
    settings = read_json(os.path.join(target, SETTINGS_FILE))
    if not isinstance(settings, dict):
        return
    if settings.get("images") != about:
        raise UserError(f"{target}: was made of images that were fitted otherwise ({settings.get('images')}, and not "
                        f"{about}); remove it, or pass --corrupted memory to main.py")
    check_decoding(source, files, target)
    sources = read_sources(target)
    paths = [os.path.join(source, path) for path in files.values()]
    for name, path, checksum in zip(files, paths, file_checksums(paths), strict=True):
        if name not in sources:
            raise UserError(f"{path}: was not there when {target} was made; have python -m corruptions dataset add it, "
                            "or pass --corrupted memory to main.py")
        if sources[name] not in (checksum, (checksum[0], None)):
            raise UserError(f"{path}: was another when {target} was made; remove that folder, or pass --corrupted "
                            "memory to main.py")


def check_decoding(source, files, target):
    """Make sure that no earlier version made a folder of images that it showed otherwise: until settings named the
    colour behind transparency, transparent pixels kept their hidden colours, and grey palettes had three channels.

    Args:
        source, files: as in `corrupt_folder`, of the images that the folder may have been made from.
        target (str): the folder.

    Raises:
        UserError: one was made of such an image.
    """
    settings = read_json(os.path.join(target, SETTINGS_FILE))
    if not isinstance(settings, dict) or "transparency" in settings:
        return
    for name in read_sources(target):
        path = os.path.join(source, files.get(name, name))
        if not name.lower().endswith((".jpg", ".jpeg")) and os.path.exists(path) and is_shown_otherwise(path):
            raise UserError(f"{path}: has transparency or a grey palette, which the earlier version that made {target} "
                            "showed otherwise; remove that folder, or name a new one")


def check_sources(source, files, target, checksums, shard):
    """Make sure that a folder was made from no other images than those of `source`, as `checksums_of` gives them; of
    images of another shard, only that they are there.

    Raises:
        UserError: one has changed or is gone.
    """
    others = set(files).difference(shard.of(list(files)))
    for name, (checksum, _) in read_sources(target).items():
        if name not in others and checksums.get(name, (None,))[0] != checksum:
            path = os.path.join(source, files.get(name, name))
            if name not in files and os.path.exists(path):  # hidden, as earlier versions read it
                raise UserError(f"{path}: is not read, and {target} was made from it, too; name a new folder")
            change = "has changed" if os.path.exists(path) else "is gone"
            raise UserError(f"{path}: {change} since {target} was made from it; put the old file "
                            "back, or name a new folder")


def require_outside(target, source):
    """Raise a `UserError` if the target lies in a folder whose images are read, also by way of links."""
    real_target = os.path.realpath(target)
    for folder, real in folders_below(source):
        if os.path.commonpath([real, real_target]) == real:
            raise UserError(f"{target}: lies inside the source {folder}; name a folder outside of it")


def reject_name_clashes(source, files, image_format):
    """Raise a `UserError` if the corrupted images of two files would have one name, or the corrupted image of one would
    have the name of a folder that another needs."""
    origins = {}
    for file in files:
        other = origins.setdefault(corrupted_name(file, image_format), file)
        if other != file:
            raise UserError(f"{os.path.join(source, file)}: its corrupted image would have the same name as that of "
                            f"{other}; rename one of them")
    for file in files:
        folder = file
        while folder := os.path.dirname(folder):
            if folder in origins:
                raise UserError(f"{os.path.join(source, origins[folder])}: its corrupted image would have the name "
                                f"of the folder of {file}; rename one of them")


def corrupt_folder(source, target, names, severities, seed, options, workers, image_format, skip_bad, show_progress,
                   files=None, read=read_image, about=None, shard=SINGLE_SHARD):
    """Corrupt the images of a folder: SOURCE/CLASS/FILE becomes TARGET/CORRUPTION/SEVERITY/CLASS/FILE.

    All images are read once before anything is written. An image draws from the stream of (seed, corruption, severity,
    'CLASS/FILE'), so that other images do not change it; TARGET/sources.csv records the images. Of a shard, all this is
    about every N-th image; shards may be made at the same time.

    Args:
        source, target (str): folders.
        names (list of str): corruptions.
        severities (list of int): each 1 to 5.
        seed (int): seed of the random streams.
        options (Options): what else can be chosen.
        workers (int or Cluster): processes, or a cluster.
        image_format (str): 'jpeg' or 'png'.
        skip_bad (bool): leave out files and folders that cannot be read, with a warning.
        show_progress (bool): show progress bars even where the output is no terminal.
        files (dict or None): 'CLASS/FILE' of an image to its path below `source`; None takes all images as they lie.
        read (callable): path to the pixels that are corrupted, uint8; for other processes, too.
        about (str or None): what `read` does besides reading, for the settings in the target.
        shard (Shard): which share of the images.

    Returns:
        tuple: number of corrupted images that were not there before; sorted numbers of the shards that have not made
        the same corruptions at the same severities; what else was begun in the target and has not ended, a sorted list
        of 'CORRUPTION/SEVERITY'.

    Raises:
        BadImages: images cannot be read, or not be stored in this format.
        UserError: none can be read, though `skip_bad` is true, which of several shards the last one says; the target
            was made with other settings or from other images, or another process is making it.
    """
    require_outside(target, source)
    hidden = False if show_progress else None
    left_out = None
    if files is None:
        names_there, left_out = list_images(source, skip_bad)
        files = {name: name for name in names_there}
    checksums = checksums_of(source, dict(shard.of(list(files.items()))), read, workers, image_format, skip_bad, hidden)
    if files and not checksums and shard == SINGLE_SHARD:
        raise nothing_readable(source, files)
    if left_out is not None:
        share = f"{len(checksums)}" if shard == SINGLE_SHARD else f"{len(checksums)} of {len(files)}"
        print(f"images read: {share}{one_line(said_of(left_out))}", flush=True)
    reject_name_clashes(source, checksums if shard == SINGLE_SHARD else files, image_format)
    os.makedirs(target, exist_ok=True)
    settings = {"seed": seed, **options_identity(options, names), "format": image_format, "transparency": "white",
                **({"images": about} if about else {})}
    parts = [f"{name}/{severity}" for name in names for severity in severities]

    def stored(number):
        mine = checksums if number == shard.number else Shard(number, shard.count).of(list(files))
        return [corrupted_name(file, image_format) for file in mine]
    if not is_writable(target):
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
            parts = begin(target, parts, settings, len(files), checksums, shard, made_before)
        made = 0
        todo = [(file, os.path.abspath(os.path.join(source, files[file]))) for file in (checksums if parts else ())]
        tasks = ((os.path.abspath(target), group, read, parts, seed, options.for_others(), image_format)
                 for group in batched(todo))
        with tqdm(desc="corrupting", total=len(todo), unit=" images", disable=hidden) as bar, \
                contextlib.closing(parallel_map(workers, _corrupt_files, tasks)) as results:
            for count, written in results:
                made += written
                bar.update(count)
        with lock_briefly(target, shard):
            return made, *end(source, target, parts, files, shard)


def nothing_readable(source, files):
    """The `UserError` about a folder of which no image can be read."""
    return UserError(f"{source}: none of its {len(files)} images can be read; name a folder of images")


def require_made(target, settings, parts, stored, shard):
    """Raise a `UserError` unless all images of a shard are in a folder that cannot be written; arguments as in
    `made_shares` and `begin`."""
    if not has_settings(target, settings, besides=SOURCES_FILE) or not all(
            is_finished(target, part) and shard.number in made_shares(target, part, stored, shard) for part in parts):
        raise UserError(f"{target}: cannot be written, and lacks some of the images; let it be written, or name "
                        "another folder")


def made_shares(target, part, stored, shard):
    """The numbers of the shards whose images of a part of a job are all there, a set. All shards are looked at where
    the part is finished and lacks images of this one, and else this one alone.

    Args:
        target, part (str): the folder, and 'CORRUPTION/SEVERITY'.
        stored (callable): number of a shard to the names of its corrupted images.
        shard (Shard): this one.
    """
    folder = os.path.join(target, part)

    def is_made(number):
        return os.path.isdir(folder) and all(os.path.isfile(os.path.join(folder, name)) for name in stored(number))
    if is_made(shard.number):
        return {shard.number}
    return set(filter(is_made, range(1, shard.count + 1))) if is_finished(target, part) else set()


def begin(target, parts, settings, size, checksums, shard, made_before):
    """Write down what is made in a folder, before it is. Other shards wait meanwhile, so that no image is looked at.

    Returns:
        list of str: those of `parts` that have to be made. A finished one stays finished if all images of the shard
        are there, as `made_before` (dict from parts to what `made_shares` gives; empty for a whole job) says.
    """
    if not has_settings(target, settings, besides=SOURCES_FILE):
        for path in sources_lists(target):  # of a command that did not come as far as the settings
            os.remove(path)
    finished = {part: made_before[part] for part in made_before if is_finished(target, part)}
    parts = [part for part in parts if shard.number not in finished.get(part, ())]
    ended = read_finished(target, parts, shard, size)
    for part in parts:
        ended[part]["ended"] = sorted({*ended[part]["ended"], *finished.get(part, ())} - {shard.number})
    write_ended(target, ended)
    # The settings come after it: a folder that has them has the list, too.
    write_sources(sources_path(target, shard), checksums)
    write_settings(target, settings)
    for name in set(map(corruption_of, parts)):
        os.makedirs(os.path.join(target, name), exist_ok=True)
        with open(os.path.join(target, name, UNFINISHED_FILE), "wb"):
            pass
    return parts


def end(source, target, parts, files, shard):
    """Write down that a shard has made its images. The last one leaves the folder as a whole job does.

    Returns:
        tuple: sorted numbers of the shards that have not; sorted names of other parts that have not ended.

    Raises:
        UserError: it is the last one, and no shard could read an image; all of them have to come again.
    """
    ended = read_finished(target, parts, shard, len(files))
    awaited = set()
    for part in parts:
        ended[part]["ended"] = sorted({*ended[part]["ended"], shard.number})
        awaited.update(set(range(1, shard.count + 1)).difference(ended[part]["ended"]))
    is_last = shard != SINGLE_SHARD and any(len(ended[part]["ended"]) == shard.count for part in parts)
    if is_last and not read_sources(target).keys() & files.keys():
        write_ended(target, {part: {**job, "ended": []} if part in parts else job for part, job in ended.items()})
        raise nothing_readable(source, files)
    rest = {part: job for part, job in ended.items() if len(set(job["ended"])) < job["shards"]}
    if not rest:
        if shard != SINGLE_SHARD:
            sources = read_sources(target)
            sources = {file: sources[file] for file in files if file in sources}
            write_sources(sources_path(target, SINGLE_SHARD), sources)
        remove_leftovers(target)
    for name in set(map(corruption_of, parts)).difference(map(corruption_of, rest)):
        os.remove(os.path.join(target, name, UNFINISHED_FILE))
    write_ended(target, rest)
    return sorted(awaited), sorted(set(rest).difference(parts))


def remove_leftovers(target):
    """Remove from a folder that nobody else is filling what killed processes left, and the lists of shards, which
    sources.csv has in it."""
    leftovers = [os.path.join(folder, file) for folder, _, files in os.walk(target) for file in files
                 if file.startswith(".") and f"{TMP_MARK}." in file]
    for path in (*leftovers, *shards_lists(target)):
        os.remove(path)


def _corrupt_files(target, files, read, parts, seed, options, image_format):
    """Corrupt some images; return their number, and that of the corrupted ones that were not there before."""
    if not is_unfinished(target, corruption_of(parts[0])):
        raise UserError(f"{target}: is another folder on {socket.gethostname()}; name one that all machines share")
    made = 0
    for file, path in files:
        stored = corrupted_name(file, image_format)
        left = [part for part in parts if not os.path.isfile(os.path.join(target, part, stored))]
        if left:
            image = read(path)
        for part in left:
            name, severity = corruption_of(part), int(part.partition("/")[2])
            corrupted = CORRUPTIONS[name](image, severity, image_stream(seed, name, severity, file), options)
            write_image(os.path.join(target, part, stored), corrupted, image_format)
        made += len(left)
    return len(files), made
