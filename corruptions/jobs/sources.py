"""`sources.csv`: which file each corrupted image of a folder job was made from."""
import csv
import glob
import os

from corruptions.images import is_shown_otherwise
from corruptions.jobs.settings import SETTINGS_FILE
from corruptions.jobs.shards import SINGLE_SHARD
from utils.checksums import file_checksums
from utils.errors import UserError
from utils.files import read_json, write_csv

SOURCES_FILE = "sources.csv"


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
