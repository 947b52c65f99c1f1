"""Perturbation sequences on disk: an array of the sequences of many images, or the frames of one image as pictures."""
import contextlib
import os
import shutil

import numpy as np
from tqdm import tqdm

from corruptions.images import read_image, write_image
from corruptions.jobs.arrays import CHUNK_PIXELS, chunk_of, map_array, read_chunk, stored_digest, write_part
from corruptions.jobs.parallel import parallel_map
from corruptions.jobs.provenance import read_made, record_path, write_record
from corruptions.registry import DEFAULTS
from corruptions.sequences.constants import LAST, frame_count
from corruptions.sequences.perturb import check_sequence, perturb_range
from corruptions.utils.checksums import array_digest
from corruptions.utils.errors import UserError
from corruptions.utils.files import TMP_MARK, atomic_write, remove_temporary
from corruptions.utils.locks import file_lock


def write_sequences(images, path, made, name, seed, difficulty=1, crop=None, options=DEFAULTS, workers=1,
                    show_progress=None):
    """Write the sequences of all images to a .npy file, uint8 (N, F, H, W, C), as CIFAR-10-P has them.

    The file gets its name when it is complete, and a record beside it. A file that exists stays as it is, if its record
    says that it was made in the same way.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C); may be memory-mapped.
        path (str): the file.
        made (dict): description of how the sequences are made, as plain values.
        workers (int): number of processes; without effect on the result.
        show_progress (bool or None): whether to show a progress bar; None shows it on a terminal.
        Others as in `perturb`.

    Returns:
        bool: whether the file was not there before.

    Raises:
        UserError: an argument is not as in `perturb`, the file is damaged or was made otherwise, or another process is
            writing it.
    """
    (height, width), constants = check_sequence(name, *images.shape[1:3], difficulty, crop, options)
    shape = (len(images), frame_count(name, constants), height, width, *images.shape[3:])
    with _unless_made(path, made, map_array) as is_missing:
        if not is_missing:
            return False
        remove_temporary(path)
        with atomic_write(path) as temporary:
            with open(temporary, "wb") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                begin = file.tell()
            chunk = max(1, CHUNK_PIXELS // (images.shape[1] * images.shape[2] * (LAST + 1)))
            tasks = ((*chunk_of(images, first, chunk), name, seed, first, difficulty, crop, options,
                      os.path.abspath(temporary), begin) for first in range(0, len(images), chunk))
            with contextlib.closing(parallel_map(workers, _perturb_into, tasks)) as counts, \
                    tqdm(total=len(images), desc=os.path.basename(path), unit=" images",
                         disable=None if show_progress is None else not show_progress) as bar:
                for count in counts:
                    bar.update(count)
            write_record(path, made, array_digest(map_array(temporary)))  # first, so that no array lacks one
    return True


def _perturb_into(images, part, name, seed, first, difficulty, crop, options, path, begin):
    """Write the frames of a part of an array to their place in a .npy file; return the number of images.

    `images` and `part` are as `chunk_of` returns them. The frames of image 0 are at byte `begin` of the file.
    """
    pixels = read_chunk(images, part)
    frames = perturb_range(pixels, name, seed, range(first, first + len(pixels)), difficulty, crop, options)
    write_part(path, begin + first * frames[:1].nbytes, frames)
    return len(frames)


def write_frames(image, folder, made, name, seed, key, difficulty=1, crop=None, options=DEFAULTS):
    """Write the frames of one image, uint8 (H, W) or (H, W, C), as 00.png, 01.png, ... in a folder.

    The folder gets its name when it is complete, and a record beside it. A folder that exists stays as it is, if its
    record says that it was made in the same way. Arguments are as in `write_sequences` and `perturb`.

    Returns:
        bool: whether the folder was not there before.

    Raises:
        UserError: an argument is not as in `perturb`, the folder is damaged or was made otherwise, or another process
            is writing it.
    """
    with _unless_made(folder, made, _read_frames) as is_missing:
        if not is_missing:
            return False
        above, last = os.path.split(folder)
        temporary = os.path.join(above, f".{last}{TMP_MARK}")
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        try:
            frames = perturb_range(image[None], name, seed, [key], difficulty, crop, options)[0]
            for number, frame in enumerate(frames):
                write_image(os.path.join(temporary, _frame_name(number)), frame, "png")
            write_record(folder, made, array_digest(frames))
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return True


@contextlib.contextmanager
def _unless_made(path, made, read):
    """Yield whether an array or a folder of frames is missing; while it is, the body holds its lock.

    Args:
        path (str): the array or the folder.
        made (dict): description of how it is made.
        read (callable): function that maps the path to the pixels; raises an error if they are damaged.

    Raises:
        UserError: what is there is damaged or was made otherwise, or another process is writing it.
    """
    above, last = os.path.split(path)
    with contextlib.ExitStack() as stack:
        if not os.path.lexists(path):
            stack.enter_context(file_lock(os.path.join(above, f".{last}.lock"), path))
        is_missing = not os.path.lexists(path)  # another process may have written it meanwhile
        if not is_missing and read_made(path, stored_digest(path, read)) != made:
            raise UserError(f"{path}: has no record {record_path(path)} that says that this command has made it; "
                            f"move {last} away, and the same command makes it again")
        yield is_missing


def _frame_name(number):
    return f"{number:02}.png"


def _read_frames(folder):
    """Return the frames in a folder, uint8 (F, ...), and raise a `UserError` if the folder has anything else."""
    names = sorted(os.listdir(folder))
    if not names or names != [_frame_name(number) for number in range(len(names))]:
        raise UserError("other names")
    return np.stack([read_image(os.path.join(folder, name)) for name in names])
