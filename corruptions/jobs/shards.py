"""A job divided into shards, each a command of its own, such as the tasks of a Slurm job array.

This module says what belongs to a shard. It also keeps shards that fill one folder at the same time from interfering
with each other.
"""
import contextlib
import glob
import os
import re
from typing import NamedTuple

from corruptions.utils.checksums import new_hash
from corruptions.utils.files import read_json, write_json
from corruptions.utils.locks import file_lock

LOCK_FILE = ".lock"
ENDED_FILE = ".shards.json"  # the ended shards of a corruption at a severity, while others have not ended
UNFINISHED_FILE = ".unfinished"  # in a corruption's folder while its images are being made, and after a stop
LOCK_SECONDS = 120  # shards that begin at the same time wait for each other


class Shard(NamedTuple):
    """Shard `number` of `count`, counted from 1, of a job."""

    number: int = 1
    count: int = 1

    def of(self, items):
        """Return the share of the shard of a list that all shards have: every `count`-th item."""
        return items[self.number - 1::self.count]

    def __str__(self):
        return f"{self.number}/{self.count}"


SINGLE_SHARD = Shard()


@contextlib.contextmanager
def lock_target(target, shard):
    """Keep other processes from filling a folder while the body fills it.

    A whole job keeps out all other processes. A shard keeps out all but the other shards of the same count.

    Raises:
        UserError: one of these processes is running.
    """
    with contextlib.ExitStack() as stack:
        main = file_lock(os.path.join(target, LOCK_FILE), target, 0 if shard == SINGLE_SHARD else LOCK_SECONDS)
        if shard == SINGLE_SHARD:
            stack.enter_context(main)
            refuse_others(target, shard)
        else:
            with main:
                refuse_others(target, shard)
                stack.enter_context(file_lock(shard_lock(target, shard), target))
        yield


def lock_briefly(target, shard):
    """Lock what shards share for a short time, in a folder that `lock_target` holds."""
    if shard == SINGLE_SHARD:
        return contextlib.nullcontext()
    return file_lock(os.path.join(target, LOCK_FILE), target, LOCK_SECONDS)


def shard_lock(target, shard):
    return os.path.join(target, f".shard-{shard.number}-of-{shard.count}.lock")


def refuse_others(target, shard):
    """Raise a `UserError` if a shard of another count is running."""
    for path in glob.glob(os.path.join(glob.escape(target), ".shard-*.lock")):
        if shard == SINGLE_SHARD or not path.endswith(f"-of-{shard.count}.lock"):
            with file_lock(path, target):
                pass


def is_unfinished(target, name):
    """Whether a corruption in a folder was begun and not finished."""
    return os.path.exists(os.path.join(target, name, UNFINISHED_FILE))


def is_part_finished(target, part):
    """Whether a part of a job, 'CORRUPTION/SEVERITY', was finished, from the images that existed then.

    While other severities of the corruption are being made, the record has only these severities.
    """
    if not os.path.isdir(os.path.join(target, part)):
        return False
    if not is_unfinished(target, corruption_of(part)):
        return True
    recorded = read_unfinished(target)
    return part not in recorded and corruption_of(part) in map(corruption_of, recorded)


def corruption_of(part):
    """Return the corruption of a part of a job, which is 'CORRUPTION/SEVERITY'."""
    return part.partition("/")[0]


def read_finished(target, parts, shard, files):
    """Return the ended shards in a folder, for every part of a job, 'CORRUPTION/SEVERITY', that is not finished.

    A damaged record counts as none. Its shards are run again, and find their images made.

    Args:
        target (str): the folder.
        parts (list of str): parts that are made now.
        shard (Shard): shard that makes the parts.
        files (iterable of str): images of all shards, in their order, on which the shares depend; a record for other
            images or another number of shards is void.

    Returns:
        dict: part to dict of `shards`, `images` (hash of the names) and `ended`, a sorted list of numbers; the dict has
        all of `parts`.
    """
    ended, images = read_unfinished(target), new_hash(b"\0".join(map(os.fsencode, files))).hexdigest()
    for part in parts:
        if part not in ended or (ended[part]["shards"], ended[part]["images"]) != (shard.count, images):
            ended[part] = {"shards": shard.count, "images": images, "ended": []}
    return ended


def read_unfinished(target):
    """Return the records of the parts that are not finished, a dict as in `read_finished`."""
    stored = read_json(os.path.join(target, ENDED_FILE))
    jobs = stored.items() if isinstance(stored, dict) else ()
    return {part: job for part, job in jobs if re.fullmatch(r"[^/]+/[1-5](\.\d+)?", part)
            and is_unfinished(target, corruption_of(part)) and is_record(job)}


def is_record(job):
    """Whether `job` has the form that `read_finished` returns for a part of a job."""
    return (isinstance(job, dict) and job.keys() == {"shards", "images", "ended"}
            and type(job["shards"]) is int and isinstance(job["images"], str) and isinstance(job["ended"], list)
            and all(type(number) is int and 1 <= number <= job["shards"] for number in job["ended"]))


def write_ended(target, ended):
    """Write back the records of `read_finished`; if there are no records, remove the file."""
    path = os.path.join(target, ENDED_FILE)
    if ended:
        write_json(path, ended)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
