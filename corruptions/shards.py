"""A job cut into shards, each a command of its own, such as the tasks of a Slurm job array.

What belongs to a shard, and how those that fill one folder at the same time keep out of each other's way.
"""
import contextlib
import glob
import os
from typing import NamedTuple

from utils.files import locked, read_json, write_json

LOCK_FILE = ".lock"
ENDED_FILE = ".shards.json"  # which shards of a corruption have ended, while there are others
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


WHOLE = Shard()


@contextlib.contextmanager
def reserved(target, shard):
    """Keep others from filling a folder while the body does: of a whole job all others, of a shard those that are not
    another shard of the same count.

    Raises:
        UserError: such a process is at work.
    """
    with contextlib.ExitStack() as stack:
        main = locked(os.path.join(target, LOCK_FILE), target, 0 if shard == WHOLE else LOCK_SECONDS)
        if shard == WHOLE:
            stack.enter_context(main)
            refuse_others(target, shard)
        else:
            with main:
                refuse_others(target, shard)
                stack.enter_context(locked(shard_lock(target, shard), target))
        yield


def exclusive(target, shard):
    """For a moment in a folder that is `reserved`, keep all others from changing what shards share."""
    if shard == WHOLE:
        return contextlib.nullcontext()
    return locked(os.path.join(target, LOCK_FILE), target, LOCK_SECONDS)


def shard_lock(target, shard):
    return os.path.join(target, f".shard-{shard.number}-of-{shard.count}.lock")


def refuse_others(target, shard):
    """Raise a `UserError` if a shard of another count is at work."""
    for path in glob.glob(os.path.join(glob.escape(target), ".shard-*.lock")):
        if shard == WHOLE or not path.endswith(f"-of-{shard.count}.lock"):
            with locked(path, target):
                pass


def read_ended(target, names, shard, size):
    """Which shards have ended in a folder, for every corruption that is not at its end.

    Args:
        target (str): the folder.
        names (list of str): corruptions that are made now.
        shard (Shard): of which they are made.
        size (int): number of images of all shards; what was written of another number of them or of shards is void.

    Returns:
        dict: corruption to dict of `shards`, `images` and `ended`, a sorted list of numbers; it has all of `names`.
    """
    ended = read_json(os.path.join(target, ENDED_FILE)) or {}
    for name in names:
        job = ended.get(name, {})
        if (job.get("shards"), job.get("images")) != (shard.count, size):
            ended[name] = {"shards": shard.count, "images": size, "ended": []}
    return ended


def write_ended(target, ended):
    """Write what `read_ended` gave down again; if nothing is left of it, there is no file."""
    path = os.path.join(target, ENDED_FILE)
    if ended:
        write_json(path, ended)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
