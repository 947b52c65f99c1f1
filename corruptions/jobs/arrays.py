"""Corrupted arrays on disk, made by several processes, resumed after a stop; and the settings beside what was made.

No half-written file has a final name. An array is filled under a temporary name, with a journal of how far it is, and a
later run goes on from there.
"""
import contextlib
import io
import mmap
import os
import time

import numpy as np
from tqdm import tqdm

from corruptions.generate import corrupt_range
from corruptions.jobs.cluster import Cluster
from corruptions.jobs.parallel import parallel_map
from corruptions.jobs.provenance import options_identity, recipe, write_record
from utils.checksums import array_digest
from utils.errors import UserError
from utils.files import (
    TMP_MARK,
    file_lock,
    load_array,
    read_json,
    remove_temporary,
    with_filename,
    write_json,
)

CHUNK_PIXELS = 512 * 32 * 32  # a worker takes images of about so many pixels out of an array at a time
JOURNAL_SECONDS = 2  # a journal entry waits for the disk; a kill loses the work since the last one


def partial_path(path):
    """Temporary name of an array that is being made."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}{TMP_MARK}")


def journal_path(path):
    """The journal of an array that is being made."""
    return partial_path(path) + ".json"


def is_partial(path):
    """Whether an earlier run has begun the array `path` and not ended it."""
    return os.path.exists(partial_path(path)) and not os.path.exists(path)


def write_arrays(images, paths, name, seed, options, workers, show_progress, title, images_digest=None):
    """Corrupt an array and store it at each severity; the files get their names when all are whole.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C); may be memory-mapped.
        paths (dict): severity to the .npy file to write; files that are there are skipped. In a file of several
            severities they stand one after the other, in the order of `paths`.
        name (str): corruption.
        seed (int): seed of the images' random streams.
        options (Options): what else can be chosen.
        workers (int or Cluster): processes, or a cluster.
        show_progress (bool): show the progress bar even where the output is no terminal.
        title (str): stands before the bar.
        images_digest (str): `utils.checksums.array_digest(images)`, where it is known already.

    Returns:
        int: number of arrays that were not there before.

    Raises:
        UserError: another process is making these files.
    """
    with contextlib.ExitStack() as stack:
        paths = lock_unfinished(paths, stack)
        if not paths:
            return 0
        settings = {"name": name, "seed": seed, **options_identity(options, [name]),
                    "images": images_digest or array_digest(images)}
        severities = {}
        for severity, path in paths.items():
            severities.setdefault(path, []).append(severity)
        bar = stack.enter_context(tqdm(total=len(images) * len(paths), desc=title, unit=" images",
                                       disable=False if show_progress else None))
        arrays = []
        for path, stacked in severities.items():
            file = stack.enter_context(open(partial_path(path), "ab"))
            made = recipe(settings["images"], name, stacked[0] if len(stacked) == 1 else stacked, seed, options)
            arrays.append(PartialArray(file, images, path, settings, stacked, made))
            bar.update(arrays[-1].record["done"])
        fill_arrays(arrays, images, settings, options, workers, bar)
        for array in arrays:
            array.finish()
        return len(arrays)


def fill_arrays(arrays, images, settings, options, workers, bar):
    """Fill arrays, a list of `PartialArray`, one after the other.

    The next is begun before the one before is whole, so that no process waits for the others at the end of each.
    """
    size = max(1, CHUNK_PIXELS // (images.shape[1] * images.shape[2]))
    # The bytes in the cache of another machine are not on disk when this one's are.
    sync = isinstance(workers, Cluster)
    tasks = ((*chunk_of(images, first, size), first, settings["name"], severity, settings["seed"],
              options.for_others(), os.path.abspath(partial_path(array.path)), begin, sync)
             for array in arrays for severity, begin, done in array.parts for first in range(done, len(images), size))
    unfinished = [array for array in arrays if array.record["done"] < array.length]
    try:
        with contextlib.closing(parallel_map(workers, _corrupt_into, tasks)) as counts:
            for count in counts:
                unfinished[0].add(count)
                bar.update(count)
                if unfinished[0].record["done"] == unfinished[0].length:
                    unfinished.pop(0).save()
    finally:
        for array in unfinished[:1]:  # of later ones nothing is known to be done
            array.save()


def lock_unfinished(paths, stack):
    """Lock those of the arrays `paths` that are not there yet, severity to path, until `stack` is closed; return them.

    Whoever held a lock before may have ended the array since; what it left beside the array is removed.
    """
    for path in sorted(set(paths.values())):  # in one order, so that of two commands one gets them all
        folder, name = os.path.split(path)
        lock = os.path.join(folder, f".{name}.lock")
        if not os.path.exists(path) or os.path.exists(journal_path(path)):
            os.makedirs(folder, exist_ok=True)
            stack.enter_context(file_lock(lock, path))
            remove_temporary(journal_path(path))
            if os.path.exists(path):
                for leftover in (partial_path(path), journal_path(path)):
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(leftover)
        elif os.path.exists(lock):  # of a process that was killed, or that is about to remove it
            with contextlib.suppress(UserError, OSError), file_lock(lock, path):
                pass
    return {severity: path for severity, path in paths.items() if not os.path.exists(path)}


class PartialArray:
    """An array that is being made, under its temporary name, from where its journal says that an earlier run came to
    with the same settings; what the journal calls done is on disk.

    Args:
        file (file): its file under that name, open for appending.
        images (numpy.ndarray): what is corrupted.
        path (str): name of the whole array.
        settings (dict): that of a journal.
        severities (list of int): those that stand in it one after the other.
        made (dict): how its images are made, as in `recipe`.

    Attributes:
        length (int): number of corrupted images in the whole array.
        parts (list): for each severity a tuple of it, the place of its first byte in the file, and how many of its
            images are done at the beginning.
    """

    def __init__(self, file, images, path, settings, severities, made):
        self.length = len(severities) * len(images)
        if len(severities) > 1:
            settings = {**settings, "severities": severities}
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False,
                                                      "shape": (self.length, *images.shape[1:])})
        header = header.getvalue()
        self.file, self.path, self.made = file, path, made
        self.record = read_json(journal_path(path))
        bytes_there = os.fstat(file.fileno()).st_size - len(header)
        is_continued = is_resumable(self.record, settings, bytes_there, self.length, images[:1].nbytes)
        # Of a journal that calls nothing done, nobody knows whether what follows here came to its end.
        if not is_continued or self.record["done"] == 0:
            self.record = {**settings, "done": 0}
            write_json(journal_path(path), self.record)  # before the bytes that an older journal counts on go
            file.truncate(0)
            file.write(header)
            file.flush()
        self.parts = [(severity, len(header) + before * images[:1].nbytes, max(0, self.record["done"] - before))
                      for severity, before in zip(severities, range(0, self.length, len(images)), strict=True)]
        self.saved = time.monotonic()

    def add(self, count):
        """Count so many more images as done; the journal learns it now and then."""
        self.record["done"] += count
        if time.monotonic() > self.saved + JOURNAL_SECONDS:
            self.save()

    def save(self):
        """Put the journal on disk, after what it calls done."""
        with with_filename(self.path):
            os.fsync(self.file.fileno())
        write_json(journal_path(self.path), self.record)
        self.saved = time.monotonic()

    def finish(self):
        """Give the array, which is whole, its name. Its record comes first, so that no array of ours is without one."""
        write_record(self.path, self.made, array_digest(load_array(partial_path(self.path), "r")))
        os.replace(partial_path(self.path), self.path)
        os.remove(journal_path(self.path))


def is_resumable(record, settings, size, length, image_bytes):
    """Whether a journal is of the same work, and the bytes that it calls done are there."""
    return (isinstance(record, dict) and record == {**settings, "done": record.get("done")}
            and type(record["done"]) is int and 0 <= record["done"] <= length
            and size >= record["done"] * image_bytes)


def chunk_of(images, first, size):
    """What another process is told of a part of an array: where it lies, or else its pixels.

    Returns:
        tuple: the arguments of `numpy.memmap` for the array in a file, or uint8 (n, H, W) or (n, H, W, C); the slice of
        that which is meant.
    """
    part = slice(first, first + size)
    if isinstance(images, np.memmap) and isinstance(images.base, mmap.mmap):  # that of a view is another array
        order = "C" if images.flags.c_contiguous else "F"
        return (images.filename, images.dtype, "r", images.offset, images.shape, order), part
    return images[part], slice(None)


def reopen_memmap(filename, *arguments):
    """The `numpy.memmap` of these arguments, of an array whose file has been opened before.

    Raises:
        UserError: the file is shorter than it was. One that is cut off later, while its pixels are read, ends the
            process.
    """
    try:
        return np.memmap(filename, *arguments)
    except ValueError as error:
        raise UserError(f"{filename}: has become shorter while it was read; put the whole file back, and the same "
                        "command goes on where it was") from error


def _corrupt_into(images, part, start, name, severity, seed, options, path, begin, sync):
    """Corrupt a part of an array and store it at its place in a .npy file that has image 0 at byte `begin`, with `sync`
    so that it is on disk; return the number of images."""
    pixels = (reopen_memmap(*images) if isinstance(images, tuple) else images)[part]
    corrupted = corrupt_range(pixels, name, severity, seed, start, options)
    # For writing alone: of a file that is open for reading, too, NFS writes whole pages, over what others wrote.
    with with_filename(path), open(os.open(path, os.O_WRONLY), "wb") as file:
        file.seek(begin + start * corrupted[:1].nbytes)
        file.write(corrupted.data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    return len(corrupted)
