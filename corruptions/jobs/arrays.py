"""Corrupted arrays on disk, made by several processes and resumed after a stop; and the settings beside the arrays.

No half-written file has a final name. An array is filled under a temporary name, and a journal records the progress. A
later run resumes from the journal.
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
from corruptions.jobs.provenance import options_identity, recipe, recorded_pixels, write_record
from corruptions.utils.checksums import array_digest, is_read_only_memmap
from corruptions.utils.errors import UserError
from corruptions.utils.files import TMP_MARK, load_array, read_json, remove_temporary, with_filename, write_json
from corruptions.utils.locks import file_lock

CHUNK_PIXELS = 512 * 32 * 32  # a worker takes images of about this many pixels from an array at a time
AGAIN = "remove it, and the same command makes it again"
JOURNAL_SECONDS = 2  # a journal entry waits for the disk; a kill loses the work since the last one


def partial_path(path):
    """Return the temporary name of an array that is being made."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}{TMP_MARK}")


def journal_path(path):
    """Return the path of the journal of an array that is being made."""
    return partial_path(path) + ".json"


def is_partial(path):
    """Whether an earlier run has begun the array `path` and not finished it."""
    return os.path.exists(partial_path(path)) and not os.path.exists(path)


def damaged(path):
    """Return the `UserError` for a finished array or folder that is not what its command has made."""
    return UserError(f"{path}: is damaged or something else; {AGAIN}")


def map_array(path):
    """Return the array in a .npy file, memory-mapped; errors are as in `load_array`."""
    return load_array(path, "r")


def stored_digest(path, read=map_array):
    """Return the hash of the pixels that `read` finds at a path, as in `array_digest`.

    Raises:
        UserError: they are damaged, so that `read` raises an error.
    """
    try:
        return array_digest(read(path))
    except (UserError, OSError, ValueError, EOFError) as error:
        raise damaged(path) from error


def check_finished(path):
    """Check that an array which an earlier run has finished is still the array that its record describes.

    Raises:
        UserError: the array is damaged or another one.
    """
    if recorded_pixels(path) not in (None, stored_digest(path)):  # earlier versions wrote no records
        raise damaged(path)


def write_arrays(images, paths, name, seed, options, workers, show_progress, title, images_digest=None):
    """Corrupt an array and write it at each severity; the files get their final names when all are complete.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C); may be memory-mapped.
        paths (dict): severity to the .npy file to write; existing files are skipped. A file of several severities has
            them one after the other, in the order of `paths`.
        name (str): name of the corruption.
        seed (int): seed of the images' random streams.
        options (Options): the other options.
        workers (int or Cluster): number of processes, or a cluster.
        show_progress (bool): show the progress bar even where the output is not a terminal.
        title (str): text before the bar.
        images_digest (str): `corruptions.utils.checksums.array_digest(images)`, if it is known already.

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

    The next array is begun before the previous one is complete, so that no process waits for the others at the end of
    each array.
    """
    size = max(1, CHUNK_PIXELS // (images.shape[1] * images.shape[2]))
    # Bytes in the cache of another machine are not on disk when the bytes of this machine are.
    sync = isinstance(workers, Cluster)
    tasks = ((*chunk_of(images, first, size), first, settings["name"], severity, settings["seed"],
              options.with_absolute_paths(), os.path.abspath(partial_path(array.path)), begin, sync)
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
        for array in unfinished[:1]:  # later arrays have nothing that is known to be done
            array.save()


def lock_unfinished(paths, stack):
    """Lock the arrays in `paths`, severity to path, that do not exist yet, until `stack` is closed; return them.

    The process that held a lock before may have finished the array since. Its leftovers beside the array are removed.
    """
    for path in sorted(set(paths.values())):  # in a fixed order, so that one of two commands gets all locks
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
        elif os.path.exists(lock):  # from a process that was killed, or that is about to remove it
            with contextlib.suppress(UserError, OSError), file_lock(lock, path):
                pass
    return {severity: path for severity, path in paths.items() if not os.path.exists(path)}


class PartialArray:
    """An array that is being made, under its temporary name.

    The array is resumed from the place in its journal, which an earlier run with the same settings has written. The
    images that the journal counts as done are on disk. An array with another header begins anew.

    Args:
        file (file): file under the temporary name, open for appending.
        images (numpy.ndarray): images to corrupt.
        path (str): final name of the array.
        settings (dict): settings for the journal.
        severities (list of float): severities in the array, one after the other.
        made (dict): description of how the images are made, as in `recipe`.

    Attributes:
        length (int): number of corrupted images in the complete array.
        parts (list): for each severity, a tuple: the severity, the offset of its first byte in the file, and the
            number of its images that are done at the beginning.
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
        with open(partial_path(path), "rb") as begun:
            is_continued = begun.read(len(header)) == header and is_resumable(
                self.record, settings, bytes_there, self.length, images[:1].nbytes)
        # A journal with nothing done does not show whether the steps that follow here were completed.
        if not is_continued or self.record["done"] == 0:
            self.record = {**settings, "done": 0}
            write_json(journal_path(path), self.record)  # before the bytes that an older journal counts on vanish
            file.truncate(0)
            file.write(header)
            file.flush()
        self.parts = [(severity, len(header) + before * images[:1].nbytes, max(0, self.record["done"] - before))
                      for severity, before in zip(severities, range(0, self.length, len(images)), strict=True)]
        self.saved = time.monotonic()

    def add(self, count):
        """Count `count` more images as done; the journal is saved from time to time."""
        self.record["done"] += count
        if time.monotonic() > self.saved + JOURNAL_SECONDS:
            self.save()

    def save(self):
        """Write the journal to disk, after the images that it counts as done."""
        with with_filename(self.path):
            os.fsync(self.file.fileno())
        write_json(journal_path(self.path), self.record)
        self.saved = time.monotonic()

    def finish(self):
        """Give the complete array its final name. Its record is written first, so that no array of ours lacks one."""
        write_record(self.path, self.made, array_digest(map_array(partial_path(self.path))))
        os.replace(partial_path(self.path), self.path)
        os.remove(journal_path(self.path))


def is_resumable(record, settings, size, length, image_bytes):
    """Whether a journal belongs to the same work, and the bytes that it counts as done exist."""
    return (isinstance(record, dict) and record == {**settings, "done": record.get("done")}
            and type(record["done"]) is int and 0 <= record["done"] <= length
            and size >= record["done"] * image_bytes)


def chunk_of(images, first, size):
    """Return a part of an array in a form for another process: its place in a file, or else its pixels.

    Returns:
        tuple: the arguments of `numpy.memmap` for the array in a file, or uint8 (n, H, W) or (n, H, W, C); the slice
        that selects the part.
    """
    part = slice(first, first + size)
    if is_read_only_memmap(images) and isinstance(images.base, mmap.mmap):  # the base of a view is another array
        order = "C" if images.flags.c_contiguous else "F"
        return (images.filename, images.dtype, "r", images.offset, images.shape, order), part
    return images[part], slice(None)


def reopen_memmap(filename, *arguments):
    """Return the `numpy.memmap` with these arguments, for an array in a file that has been opened before.

    Raises:
        UserError: the file is shorter than it was. A file that is truncated later, while its pixels are read, ends the
            process.
    """
    try:
        return np.memmap(filename, *arguments)
    except ValueError as error:
        raise UserError(f"{filename}: has become shorter while it was read; put the whole file back, and give the same "
                        "command again") from error


def read_chunk(images, part):
    """Return the pixels of a part of an array, given as `chunk_of` returns them."""
    return (reopen_memmap(*images) if isinstance(images, tuple) else images)[part]


def corrupt_chunk(images, part, name, severity, seed, start, options):
    """Return a part of an array, corrupted.

    Args:
        images, part: as `chunk_of` returns them.
        Others as in `corrupt_range`.
    """
    return corrupt_range(read_chunk(images, part), name, severity, seed, start, options)


def _corrupt_into(images, part, start, name, severity, seed, options, path, begin, sync):
    """Corrupt a part of an array and write it to its place in a .npy file; return the number of images.

    Image 0 is at byte `begin` of the file. With `sync`, the part is on disk afterwards.
    """
    corrupted = corrupt_chunk(images, part, name, severity, seed, start, options)
    write_part(path, begin + start * corrupted[:1].nbytes, corrupted, sync)
    return len(corrupted)


def write_part(path, offset, values, sync=False):
    """Write the bytes of an array to a place in an existing file. With `sync`, they are on disk afterwards."""
    # Open for writing only: if it were open for reading, too, NFS would write whole pages over the data of others.
    with with_filename(path), open(os.open(path, os.O_WRONLY), "wb") as file:
        file.seek(offset)
        file.write(values.data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
