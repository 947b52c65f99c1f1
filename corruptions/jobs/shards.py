"""A job cut into shards, each a command of its own, such as the tasks of a Slurm job array.

What belongs to a shard, and how those that fill one folder at the same time keep out of each other's way.
"""
import contextlib
import glob
import os
import re
from typing import NamedTuple

from utils.files import file_lock, read_json, write_json

LOCK_FILE = ".lock"
ENDED_FILE = ".shards.json"  # which shards of a corruption at a severity have ended, while there are others
UNFINISHED_FILE = ".unfinished"  # is in a corruption's folder while its images are being made, and after a stop
LOCK_SECONDS = 120  # shards that begin at the same time wait for each other


class Shard(NamedTuple):
    """Shard `number` of `count`, counted from 1, of a job."""

    number: int = 1
    count: int = 1

    def of(self, items):
        """Its share of a list that all shards have: every `count`-th item."""
        return items[self.number - 1::self.count]

    def __str__(self):
        return f"{self.number}/{self.count}"


SINGLE_SHARD = Shard()


@contextlib.contextmanager
def lock_target(target, shard):
    """Keep others from filling a folder while the body does: of a whole job all others, of a shard those that are not
    another shard of the same count.

    Raises:
        UserError: such a process is at work.
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
    """For a moment in a folder that is held by `lock_target`, keep all others from changing what shards share."""
    if shard == SINGLE_SHARD:
        return contextlib.nullcontext()
    return file_lock(os.path.join(target, LOCK_FILE), target, LOCK_SECONDS)


def shard_lock(target, shard):
    return os.path.join(target, f".shard-{shard.number}-of-{shard.count}.lock")


def refuse_others(target, shard):
    """Raise a `UserError` if a shard of another count is at work."""
    for path in glob.glob(os.path.join(glob.escape(target), ".shard-*.lock")):
        if shard == SINGLE_SHARD or not path.endswith(f"-of-{shard.count}.lock"):
            with file_lock(path, target):
                pass


def is_unfinished(target, name):
    """Whether the making of a corruption in a folder was begun and not ended."""
    return os.path.exists(os.path.join(target, name, UNFINISHED_FILE))


def is_finished(target, part):
    """Whether a part of a job, 'CORRUPTION/SEVERITY', was made to its end, from the images that there were then. While
    other severities of the corruption are made, the record has those alone.
    """
    if not os.path.isdir(os.path.join(target, part)):
        return False
    if not is_unfinished(target, corruption_of(part)):
        return True
    recorded = read_records(target)
    return part not in recorded and corruption_of(part) in map(corruption_of, recorded)


def corruption_of(part):
    """The corruption of a part of a job, which is 'CORRUPTION/SEVERITY'."""
    return part.partition("/")[0]


def read_finished(target, parts, shard, size):
    """Which shards have ended in a folder, for every part of a job, 'CORRUPTION/SEVERITY', that is not at its end. A
    damaged record counts as none: the shards that it was of are given again, and find their images made.

    Args:
        target (str): the folder.
        parts (list of str): what is made now.
        shard (Shard): of which it is made.
        size (int): number of images of all shards; what was written of another number of them or of shards is void.

    Returns:
        dict: part to dict of `shards`, `images` and `ended`, a sorted list of numbers; it has all of `parts`.
    """
    ended = read_records(target)
    for part in parts:
        if part not in ended or (ended[part]["shards"], ended[part]["images"]) != (shard.count, size):
            ended[part] = {"shards": shard.count, "images": size, "ended": []}
    return ended


def read_records(target):
    """Records of the parts that are not at their end, a dict as in `read_finished`."""
    stored = read_json(os.path.join(target, ENDED_FILE))
    return {part: job for part, job in (stored.items() if isinstance(stored, dict) else ())
            if re.fullmatch("[^/]+/[1-5]", part) and is_unfinished(target, corruption_of(part)) and is_record(job)}


def is_record(job):
    """Whether this is what `read_finished` gives for a part of a job."""
    return (isinstance(job, dict) and job.keys() == {"shards", "images", "ended"}
            and type(job["shards"]) is type(job["images"]) is int and isinstance(job["ended"], list)
            and all(type(number) is int and 1 <= number <= job["shards"] for number in job["ended"]))


def write_ended(target, ended):
    """Write what `read_finished` gave down again; if nothing is left of it, there is no file."""
    path = os.path.join(target, ENDED_FILE)
    if ended:
        write_json(path, ended)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
