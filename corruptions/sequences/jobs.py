"""Perturbation sequences on disk: an array of the sequences of many images, or the frames of one image as pictures."""
import contextlib
import os
import shutil

import numpy as np
from tqdm import tqdm

from corruptions.images import write_image
from corruptions.jobs.arrays import CHUNK_PIXELS, chunk_of, read_chunk
from corruptions.jobs.parallel import parallel_map
from corruptions.jobs.provenance import read_made, record_path, write_record
from corruptions.registry import DEFAULTS
from corruptions.sequences.constants import LAST, frame_counts
from corruptions.sequences.perturb import perturb_range
from corruptions.utils.checksums import array_digest
from corruptions.utils.errors import UserError
from corruptions.utils.files import TMP_MARK, atomic_write, file_lock, load_array, remove_temporary

AGAIN = "remove it, and the same command makes it again"


def write_sequences(images, path, made, name, seed, difficulty=1, crop=None, options=DEFAULTS, workers=1,
                    show_progress=None):
    """Write the sequences of all images to a .npy file, uint8 (N, F, H, W, C), as CIFAR-10-P has them.

    The file gets its name when it is complete, and a record beside it. A file that exists stays as it is, if its record
    says that it was made in the same way.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C); may be memory-mapped.
        path (str): the file.
        made (dict): description of how the sequences are made, as plain values.
        workers (int or Cluster): processes, or a cluster; without effect on the result.
        show_progress (bool or None): whether to show a progress bar; None shows it on a terminal.
        Others as in `perturb`.

    Returns:
        bool: whether the file was not there before.

    Raises:
        UserError: an argument is not as in `perturb`, the file is damaged or was made otherwise, or another process is
            writing it.
    """
    folder, filename = os.path.split(path)
    if os.path.lexists(path):
        _check_made(path, made)
        return False
    with file_lock(os.path.join(folder, f".{filename}.lock"), path):
        if os.path.lexists(path):  # another process has written it since
            _check_made(path, made)
            return False
        remove_temporary(path)
        chunk = max(1, CHUNK_PIXELS // (images.shape[1] * images.shape[2] * (LAST + 1)))
        tasks = ((*chunk_of(images, first, chunk), name, seed, first, difficulty, crop, options)
                 for first in range(0, len(images), chunk))
        with atomic_write(path) as temporary:
            with open(temporary, "wb") as file, \
                    contextlib.closing(parallel_map(workers, _perturb_chunk, tasks)) as parts, \
                    tqdm(total=len(images), desc=filename, unit=" images",
                         disable=None if show_progress is None else not show_progress) as bar:
                for frames in parts:
                    if file.tell() == 0:
                        header = {"descr": "|u1", "fortran_order": False, "shape": (len(images), *frames.shape[1:])}
                        np.lib.format.write_array_header_1_0(file, header)
                    file.write(frames.data)
                    bar.update(len(frames))
            write_record(path, made, array_digest(load_array(temporary, "r")))  # first, so that no array lacks one
    return True


def _check_made(path, made):
    """Raise a `UserError` unless an array is complete and was made as `made` says."""
    try:
        pixels = array_digest(load_array(path, "r"))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: truncated or not a numpy array; {AGAIN}") from error
    if read_made(path, pixels) != made:
        raise UserError(f"{path}: is not what this command makes, by its record {record_path(path)}; {AGAIN}")


def _perturb_chunk(images, part, name, seed, first, difficulty, crop, options):
    """Return the frames of a part of an array; `images` and `part` are as `chunk_of` returns them."""
    pixels = read_chunk(images, part)
    return perturb_range(pixels, name, seed, range(first, first + len(pixels)), difficulty, crop, options)


def write_frames(image, folder, name, seed, key, difficulty=1, crop=None, options=DEFAULTS):
    """Write the frames of one image, uint8 (H, W) or (H, W, C), as 00.png, 01.png, ... in a new folder.

    The folder gets its name when it is complete. A complete folder stays as it is. Arguments are as in `perturb`.

    Returns:
        bool: whether the folder was not there before.

    Raises:
        UserError: an argument is not as in `perturb`, something else has the name of the folder, or another process is
            writing it.
    """
    above, last = os.path.split(folder)
    temporary = os.path.join(above, f".{last}{TMP_MARK}")
    with file_lock(os.path.join(above, f".{last}.lock"), folder):
        if os.path.lexists(folder):
            if not _is_complete(folder, name):
                raise UserError(f"{folder}: is not a folder with all frames and nothing else; {AGAIN}")
            return False
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        try:
            frames = perturb_range(image[None], name, seed, [key], difficulty, crop, options)[0]
            for number, frame in enumerate(frames):
                write_image(os.path.join(temporary, _frame_name(number)), frame, "png")
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return True


def _frame_name(number):
    return f"{number:02}.png"


def _is_complete(folder, name):
    """Whether a folder has the frames of a sequence and nothing else."""
    there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return len(there) in frame_counts(name) and there == [_frame_name(number) for number in range(len(there))]
