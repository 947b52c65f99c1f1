"""Perturbation sequences of images: `perturb(images, name)`."""
import numbers

import numpy as np

from corruptions.generate import SEED, check_seed, image_keys, warn_if_repeated
from corruptions.registry import DEFAULTS, SMALLEST_SIDE, as_array, check_images, check_options
from corruptions.rng import image_stream
from corruptions.sequences.constants import check_difficulty, sequence_constants
from corruptions.sequences.perturbations import PERTURBATIONS
from corruptions.utils.errors import UserError


def check_sequence(name, height, width, difficulty, crop, options):
    """Return the size of the frames and the constants of a sequence.

    Args:
        height, width (int): size of the images.
        Others as in `perturb`.

    Raises:
        UserError: an argument is not as in `perturb`.
    """
    if not isinstance(name, str) or name not in PERTURBATIONS:
        raise UserError(f"perturbation {name}: unknown; choose from {', '.join(PERTURBATIONS)}")
    check_difficulty(difficulty)
    longest_side = PERTURBATIONS[name].longest_side
    if longest_side is not None and max(height, width) > longest_side:
        raise UserError(f"{name}: an image has at most {longest_side} pixels a side here, not {max(height, width)}; "
                        "leave it out, or cut the image")
    if crop is not None:
        most = min(height, width)
        if isinstance(crop, bool) or not isinstance(crop, numbers.Integral) or not SMALLEST_SIDE <= crop <= most:
            raise UserError(f"crop {crop!r}: must be a whole number from {SMALLEST_SIDE} to {most}, the shorter side "
                            "of the images")
        height = width = int(crop)
    check_options(options)
    if options.frost_dir is not None:
        raise UserError("frost_dir: no perturbation uses it; leave it out")
    constants = sequence_constants(name, height, width, options.preset)
    return (height, width), constants[difficulty - 1] if PERTURBATIONS[name].is_noise else constants


def perturb_range(images, name, seed, keys, difficulty=1, crop=None, options=DEFAULTS):
    """Return the frames of several images. `keys` is a sequence with the number or name of each image.

    Other arguments and the result are as in `perturb`.
    """
    (height, width), constants = check_sequence(name, *images.shape[1:3], difficulty, crop, options)
    perturbation = PERTURBATIONS[name]
    # The round of Python is that of torchvision's CenterCrop: halves go to the even number.
    top, left = round((images.shape[1] - height) / 2), round((images.shape[2] - width) / 2)
    rows, columns = slice(top, top + height), slice(left, left + width)
    frames = []
    for image, key in zip(images if images.ndim == 4 else images[..., None], keys, strict=True):
        rng = image_stream(seed, f"sequence {name}", difficulty if perturbation.is_noise else 1, key)
        if perturbation.moves:
            whole = perturbation(np.ascontiguousarray(image), constants, rng, options.backend)
            frames.append(whole[:, rows, columns])
        else:
            frames.append(perturbation(np.ascontiguousarray(image[rows, columns]), constants, rng, options.backend))
    # Contiguous, because the frames of a crop are a part of larger ones. Other frames of one image are not copied.
    sequences = np.stack(frames) if len(frames) > 1 else np.ascontiguousarray(frames[0])[None]
    return sequences.reshape(len(images), -1, height, width, *images.shape[3:])


def perturb(images, name, seed=SEED, difficulty=1, crop=None, options=DEFAULTS, key=None, first=0):
    """Return the frames of a perturbation sequence, for a batch of images or for one.

    The perturbations are those of ImageNet-P and CIFAR-10-P (Hendrycks and Dietterich, 2019). A sequence has 31 frames
    or another published number, such as 16 frames of `translate` for small images.

    Args:
        images (numpy.ndarray or PIL.Image.Image): as in `corrupt`.
        name (str): a key of `PERTURBATIONS`.
        seed (int): at least 0. An image draws from the random stream of (seed, name, difficulty, key).
        difficulty (int): 1, 2 or 3: how strong the noise is. The frames of a perturbation without noise are the same
            for every difficulty, which is then the distance of the frames that `flip_rate` compares.
        crop (int or None): side of the centre crop that the frames have. It is cut out after pixels have moved, so that
            real pixels move into the frame; ImageNet-P has crops of 224 out of images whose shorter side is 256. None
            keeps whole images, and what moves in is black.
        options (Options): preset, the size whose published constants are taken, None for the nearest of 32, 64 and 224
            to the frames' shorter side; backend, for motion_blur and snow.
        key, first: as in `corrupt`, the number or name of the image in a loop.

    Returns:
        numpy.ndarray: uint8 (N, F, H, W, C) for a batch and (F, H, W, C) for one image; grey images (H, W) have no C.

    Raises:
        UserError: an argument is not as above.

    Warns:
        UserWarning: as in `corrupt`.
    """
    check_seed(seed)
    images = as_array(images)
    is_batch = images.ndim == 4
    batch = images if is_batch else images[None]
    check_images(batch)
    if len(batch) == 0:
        raise UserError("images: there is none; give one or more")
    keys = image_keys(len(batch), is_batch, key, first)
    frames = perturb_range(batch, name, seed, keys, difficulty, crop, options)
    if key is None and not first:
        warn_if_repeated(batch, PERTURBATIONS[name], (seed, difficulty, crop), "perturb",
                         "key=, the number or path of each image, or first=")
    return frames if is_batch else frames[0]
