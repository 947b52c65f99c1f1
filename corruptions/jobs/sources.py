"""`sources.csv`: the file that each corrupted image of a folder job was made from."""
import csv
import glob
import os

from corruptions.images import is_shown_otherwise
from corruptions.jobs.settings import SETTINGS_FILE
from corruptions.jobs.shards import SINGLE_SHARD
from corruptions.utils.checksums import file_checksums
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, write_csv

SOURCES_FILE = "sources.csv"


def sources_path(target, shard):
    """Return the path of the list of a shard's source images; in the end one list has the images of all shards."""
    name = SOURCES_FILE if shard == SINGLE_SHARD else f".sources-{shard.number}-of-{shard.count}.csv"
    return os.path.join(target, name)


def shards_lists(target):
    """Return the paths of the lists of shards that have not been merged into one list yet."""
    return glob.glob(os.path.join(glob.escape(target), ".sources-*-of-*.csv"))


def sources_lists(target):
    """Return the paths of all lists of images in a folder."""
    whole, shard_paths = sources_path(target, SINGLE_SHARD), shards_lists(target)  # these go after the whole exists
    return ([whole] if os.path.exists(whole) else []) + shard_paths


def read_sources(target):
    """Return the images that a folder was made from so far, relative name to CRC-32 and size in bytes.

    The size is None where an earlier version has not recorded it.

    Raises:
        UserError: the list is missing or damaged.
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
        except FileNotFoundError:  # the last shard of another job has merged all lists meanwhile
            return read_sources(target)
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise UserError(f"{path}: damaged; name a new folder") from error
    return sources


def write_sources(path, sources):
    """Write a list for `read_sources`; `sources` is a dict as `read_sources` returns it."""
    checksums, sizes = zip(*sources.values(), strict=True) if sources else ((), ())
    write_csv(path, {"file": list(sources), "crc32": checksums, "bytes": sizes})


def check_stored(target, source, files, made_from):
    """Check that the corrupted images in a folder were made from certain images.

    A folder that this program has not made is not checked, because nothing is known about it.

    Args:
        target (str): the folder of corrupted images.
        source, files, made_from: as in `corrupt_folder`, for the images that the folder may have been made from.

    Raises:
        UserError: the folder was made from other images.
    """
    settings = read_json(os.path.join(target, SETTINGS_FILE))
    if not isinstance(settings, dict):
        return
    if settings.get("images") != made_from:
        raise UserError(f"{target}: was made of images that were fitted otherwise ({settings.get('images')}, and not "
                        f"{made_from}); remove it, or pass --corrupted_from memory to main.py")
    check_decoding(source, files, target)
    sources = read_sources(target)
    paths = [os.path.join(source, path) for path in files.values()]
    for name, path, checksum in zip(files, paths, file_checksums(paths), strict=True):
        if name not in sources:
            raise UserError(f"{path}: was not there when {target} was made; have python -m corruptions dataset add it, "
                            "or pass --corrupted_from memory to main.py")
        if sources[name] not in (checksum, (checksum[0], None)):
            raise UserError(f"{path}: was another when {target} was made; remove that folder, or pass --corrupted_from "
                            "memory to main.py")


def check_decoding(source, files, target):
    """Check that no earlier version made a folder from images that it decoded in another way.

    In versions before the settings named the colour behind transparency, transparent pixels kept their hidden colours,
    and grey palettes had three channels.

    Args:
        source, files: as in `corrupt_folder`, for the images that the folder may have been made from.
        target (str): the folder.

    Raises:
        UserError: the folder was made from such an image.
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
    """Check that a folder was made only from the images of `source`, with the checksums of `checksums_of`.

    For images of other shards, check only that they exist.

    Raises:
        UserError: an image has changed or is gone.
    """
    unassigned = set(files).difference(shard.of(list(files)))
    for name, (checksum, _) in read_sources(target).items():
        if name not in unassigned and checksums.get(name, (None,))[0] != checksum:
            path = os.path.join(source, files.get(name, name))
            if name not in files and os.path.exists(path):  # hidden, as earlier versions read it
                raise UserError(f"{path}: is not read, and {target} was made from it, too; name a new folder")
            change = "has changed" if os.path.exists(path) else "is gone"
            raise UserError(f"{path}: {change} since {target} was made from it; put the old file "
                            "back, or name a new folder")
