"""Perturbation sequences on disk: an array of the sequences of many images, or the frames of one image as pictures."""
import contextlib
import os
import shutil

import numpy as np
from tqdm import tqdm

from corruptions.images import write_image
from corruptions.jobs.arrays import CHUNK_PIXELS, chunk_of, read_chunk
from corruptions.jobs.parallel import parallel_map
from corruptions.registry import DEFAULTS
from corruptions.sequences.constants import LAST
from corruptions.sequences.perturb import perturb_range
from corruptions.utils.files import atomic_write, file_lock, remove_temporary


def sequence_name(name, difficulty):
    """Return the published name of a sequence: `gaussian_noise`, or `gaussian_noise_2` for difficulty 2."""
    return name if difficulty == 1 else f"{name}_{difficulty}"


def write_sequences(images, path, name, seed, difficulty=1, crop=None, options=DEFAULTS, workers=1, show_progress=None):
    """Write the sequences of all images to a .npy file, uint8 (N, F, H, W, C), as CIFAR-10-P has them.

    The file gets its name when it is complete. A file that exists stays as it is.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C); may be memory-mapped.
        path (str): the file.
        workers (int or Cluster): processes, or a cluster; without effect on the result.
        show_progress (bool or None): whether to show a progress bar; None shows it on a terminal.
        Others as in `perturb`.

    Returns:
        bool: whether the file was not there before.

    Raises:
        UserError: an argument is not as in `perturb`, or another process is writing the file.
    """
    chunk = max(1, CHUNK_PIXELS // (images.shape[1] * images.shape[2] * (LAST + 1)))
    folder, filename = os.path.split(path)
    if os.path.exists(path):
        return False
    with file_lock(os.path.join(folder, f".{filename}.lock"), path):
        if os.path.exists(path):  # another process has written it since
            return False
        remove_temporary(path)
        tasks = ((*chunk_of(images, first, chunk), name, seed, first, difficulty, crop, options)
                 for first in range(0, len(images), chunk))
        with atomic_write(path) as temporary, open(temporary, "wb") as file, \
                contextlib.closing(parallel_map(workers, _perturb_chunk, tasks)) as parts, \
                tqdm(total=len(images), desc=filename, unit=" images",
                     disable=None if show_progress is None else not show_progress) as bar:
            for frames in parts:
                if file.tell() == 0:
                    shape = (len(images), *frames.shape[1:])
                    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                file.write(frames.data)
                bar.update(len(frames))
    return True


def _perturb_chunk(images, part, name, seed, first, difficulty, crop, options):
    """Return the frames of a part of an array; `images` and `part` are as `chunk_of` returns them."""
    pixels = read_chunk(images, part)
    return perturb_range(pixels, name, seed, range(first, first + len(pixels)), difficulty, crop, options)


def write_frames(image, folder, name, seed, key, difficulty=1, crop=None, options=DEFAULTS):
    """Write the frames of one image, uint8 (H, W) or (H, W, C), as 00.png, 01.png, ... in a new folder.

    The folder gets its name when it is complete. Arguments are as in `perturb`.

    Raises:
        UserError: an argument is not as in `perturb`.
        OSError: the folder exists and is not empty.
    """
    frames = perturb_range(image[None], name, seed, [key], difficulty, crop, options)[0]
    above, last = os.path.split(os.path.abspath(folder))
    temporary = os.path.join(above, f".{last}.{os.getpid()}")
    try:
        for number, frame in enumerate(frames):
            write_image(os.path.join(temporary, f"{number:02}.png"), frame, "png")
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
