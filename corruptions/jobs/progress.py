"""The progress of a folder job: what its shards have begun and finished."""
import os

from corruptions.jobs.settings import has_settings, write_job_settings
from corruptions.jobs.shards import (
    SINGLE_SHARD,
    UNFINISHED_FILE,
    corruption_of,
    is_part_finished,
    read_finished,
    write_ended,
)
from corruptions.jobs.sources import (
    SOURCES_FILE,
    read_sources,
    shards_lists,
    sources_lists,
    sources_path,
    write_sources,
)
from corruptions.utils.errors import UserError
from corruptions.utils.files import TMP_MARK


def nothing_readable(source, files):
    """Return the `UserError` for a folder without any readable image."""
    return UserError(f"{source}: none of its {len(files)} images can be read; name a folder of images")


def require_made(target, settings, parts, stored, shard):
    """Raise a `UserError` unless a folder that cannot be written has all images of a shard.

    The arguments are as in `made_shares` and `mark_started`.
    """
    if not has_settings(target, settings, besides=SOURCES_FILE) or not all(
            is_part_finished(target, part) and shard.number in made_shares(target, part, stored, shard)
            for part in parts):
        raise UserError(f"{target}: cannot be written, and lacks some of the images; let it be written, or name "
                        "another folder")


def made_shares(target, part, stored, shard):
    """Return the numbers of the shards that have all their images of a part of a job, a set.

    If the part is finished and lacks images of this shard, all shards are checked. Otherwise only this one is checked.

    Args:
        target, part (str): the folder, and 'CORRUPTION/SEVERITY'.
        stored (callable): map from the number of a shard to the names of its corrupted images.
        shard (Shard): this shard.
    """
    folder = os.path.join(target, part)

    def is_made(number):
        return os.path.isdir(folder) and all(os.path.isfile(os.path.join(folder, name)) for name in stored(number))
    if is_made(shard.number):
        return {shard.number}
    return set(filter(is_made, range(1, shard.count + 1))) if is_part_finished(target, part) else set()


def mark_started(target, parts, settings, files, checksums, shard, made_before):
    """Record what will be made in a folder. No image is examined here, because other shards wait meanwhile.

    Returns:
        list of str: the parts that have to be made. A finished part stays finished if `made_before` says that it has
        all images of the shard. `made_before` is a dict from parts to results of `made_shares`, empty for a whole job.
    """
    if not has_settings(target, settings, besides=SOURCES_FILE):
        for path in sources_lists(target):  # from a command that stopped before it wrote the settings
            os.remove(path)
    finished = {part: made_before[part] for part in made_before if is_part_finished(target, part)}
    parts = [part for part in parts if shard.number not in finished.get(part, ())]
    ended = read_finished(target, parts, shard, files)
    for part in parts:
        ended[part]["ended"] = sorted({*ended[part]["ended"], *finished.get(part, ())} - {shard.number})
    write_ended(target, ended)
    # The settings are written after the list, so that a folder with settings has the list, too.
    write_sources(sources_path(target, shard), checksums)
    write_job_settings(target, settings)
    for name in set(map(corruption_of, parts)):
        os.makedirs(os.path.join(target, name), exist_ok=True)
        with open(os.path.join(target, name, UNFINISHED_FILE), "wb"):
            pass
    return parts


def mark_finished(source, target, parts, files, shard):
    """Record that a shard has made its images. The last shard leaves the folder as a whole job does.

    Returns:
        tuple: sorted numbers of the shards that have not made their images; sorted names of other parts that have not
        ended.

    Raises:
        UserError: this is the last shard, and no shard could read an image; all shards have to run again.
    """
    ended = read_finished(target, parts, shard, files)
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
    """Remove the temporary files of killed processes and the lists of shards from a folder.

    No other process may be filling the folder. `sources.csv` contains the lists of shards.
    """
    leftovers = [os.path.join(folder, file) for folder, _, files in os.walk(target) for file in files
                 if file.startswith(".") and f"{TMP_MARK}." in file]
    for path in (*leftovers, *shards_lists(target)):
        os.remove(path)
