"""`Corrupt`, a transform of single images or batches for the data pipelines of other libraries."""
import collections
import itertools
import multiprocessing  # noqa: F401, `process_key` finds it among the loaded modules
import numbers
import os
import sys
import warnings

import numpy as np
from PIL import Image

from corruptions.generate import SEED, batch_keys, check_seed, corrupt_images
from corruptions.registry import DEFAULTS, as_array, check_images, check_options
from corruptions.rng import image_stream
from corruptions.severities import (
    SEVERITIES,
    as_sequence,
    check_constants,
    check_severity,
    nearest_preset,
    turns_at,
)
from corruptions.table import CORRUPTIONS, check_usable, known_names
from corruptions.utils.errors import UserError

_copied_calls = collections.defaultdict(itertools.count)  # for each seed, the calls of all copies in this process
_forks = 0  # number of processes that this process has forked
_lineage = ()  # for this process and each of its parents but the first, the number of the fork that made it


def _count_fork():
    global _forks
    _forks += 1


def _extend_lineage():
    global _forks, _lineage
    _lineage, _forks = (*_lineage, _forks), 0


os.register_at_fork(before=_count_fork, after_in_child=_extend_lineage)

# Names in the environment of the rank of a program: torchrun, msrun, Slurm, Open MPI, MPICH, MVAPICH, Cray, Horovod.
RANKS = ("RANK", "RANK_ID", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PALS_RANKID",
         "HOROVOD_RANK")

_drawing = set()  # settings of the transforms that have drawn random numbers without a key in this process
_has_warned = False


def process_key():
    """Return a text that tells apart the processes of a program, the same in every run of the program.

    Forked processes are counted. Processes that `multiprocessing` or `multiprocess` starts have a number. Programs that
    train together have a rank in their environment. The main process has the empty text.
    """
    parts = [f"{name} {rank}" for name in RANKS if (rank := os.environ.get(name, "0")) != "0"]
    for module in map(sys.modules.get, ("multiprocessing", "multiprocess")):
        process = module and module.current_process()
        if process and process.name != "MainProcess":
            parts.append("-".join(map(str, (process.name, *getattr(process, "_identity", ())))))
    return "/".join([*parts, *map(str, _lineage)])


class Corrupt:
    """A transform that corrupts images, in any process or thread of a data pipeline.

    Each call draws new random numbers, also in worker processes and in later epochs. A program that is run again gets
    the same images, as long as its processes see the images in the same order. With a key, the random numbers of an
    image depend on the key, the seed, the corruption and the severity alone. Then the order, the number of workers and
    threads have no effect, and integers give the pixels of `corrupt(images, ...)[key]`.

    Processes are told apart as in `process_key`. Programs on several machines that have no rank, such as the workers of
    Dask or Ray, need keys, or a seed each.

    Args:
        names (str, sequence of str or callable): the corruption; or several, of which each image draws one; keys of
            `SETS` stand for all of a set; or a function of a random generator that returns the name for an image.
        severity (float, sequence of float or callable): 1 to 5, as in `corrupt`; or several, of which each image draws
            one; or a function of a random generator that returns the severity for an image. None stands for 1, 2, 3, 4
            and 5. A function's severity is rounded where the effect turns into another one, as between 2 and 3 of
            `saturate`.
        seed (int): at least 0. Transforms of one corruption with the same seed draw the same random numbers, so that
            transforms of different data sets, or one after the other, need different seeds. Likewise, a transform that
            is made anew in every epoch repeats its random numbers.
        p (float): probability with which an image is corrupted, 0 to 1. Other images keep their pixels. They are
            copied, and a PIL image gets the mode and the white ground that a corrupted image has.
        options (Options): the other options.
        constants (float or tuple of float): constants of one corruption instead of a severity, as in `corrupt`.

    Raises:
        UserError: an argument is not as above.

    Warns:
        UserWarning: a second transform draws the same random numbers, or images of two sizes take the constants of two
            sizes.
    """

    def __init__(self, names, severity=None, seed=SEED, p=1.0, options=DEFAULTS, constants=None):
        check_seed(seed)
        check_options(options, constants)
        if isinstance(p, bool) or not isinstance(p, numbers.Real) or not 0 <= p <= 1:
            raise UserError(f"p {p!r}: must be a probability from 0 to 1")
        self.names = names if callable(names) else _known_names(names)
        levels = SEVERITIES if severity is None else severity
        self.severity = levels if callable(levels) else _severities(levels)
        if constants is not None:
            if callable(names) or len(self.names) != 1 or severity is not None:
                raise UserError(f"constants {constants!r}: belong to one corruption, without a severity; give one name")
            constants = check_constants(self.names[0], constants)
        if not callable(self.names):
            has_strengths = constants is None and not callable(self.severity)
            check_usable(self.names, self.severity if has_strengths else (), options)
        self.seed, self.p, self.options, self.constants = seed, p, options, constants
        self._calls, self._is_copy, self._has_drawn = itertools.count(), False, False
        self._presets = {}  # corruption to the size whose constants its images take; None after a warning

    def __repr__(self):
        hidden = "severity" if self.constants is not None else "constants"
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()
                  if name != hidden and not name.startswith("_") and value is not DEFAULTS}
        return f"Corrupt({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def __getstate__(self):
        return {**vars(self), "_calls": None, "_is_copy": None}

    def __setstate__(self, state):
        # Some libraries send a copy to a process with each image. The copies in a process therefore count together.
        vars(self).update(state, _calls=_copied_calls[state["seed"]], _is_copy=True)

    def __call__(self, images, key=None):
        """Corrupt an image or a batch.

        Args:
            images (numpy.ndarray, PIL.Image.Image or list): one image or several, as in `corrupt`.
            key (int, str, os.PathLike or tuple of these): number, path or other name of the image. A batch takes a
                sequence with a key for each image. None draws new random numbers.

        Returns:
            numpy.ndarray or PIL.Image.Image: uint8, the shape of `images`. A PIL image has the mode of the given
            image; modes P, PA and 1, which have few colours, become RGB or L. Images are corrupted as they look on
            white, so that a corrupted image is opaque, with any mode. Modes that PIL converts to and from RGB with a
            loss, such as YCbCr, have rounded pixels. The `info`, such as EXIF, stays. A list gives a list of images.

        Raises:
            UserError: the images or the key are not as above.
        """
        if isinstance(images, (list, tuple)):
            return [self._one(image, image_key) for image, image_key in
                    zip(images, self._keys(key, len(images)), strict=True)]
        images = images if isinstance(images, Image.Image) else as_array(images)
        if isinstance(images, np.ndarray) and images.ndim == 4:
            return self._batch(images, self._keys(key, len(images)))
        [key] = self._keys(None if key is None else [key], 1)
        return self._one(images, key)

    def _one(self, image, key):
        """Corrupt one image, a PIL image or an array. An image that is not corrupted is copied."""
        pixels = as_array(image)
        check_images(pixels[None])
        choice = self._choose(key)
        pixels = np.array(pixels, order="C") if choice is None else self._apply(pixels[None], choice, [key])[0]
        return in_mode_of(image, pixels) if isinstance(image, Image.Image) else pixels

    def _keys(self, keys, number):
        """Return a key for each of `number` images."""
        if keys is None:
            self._warn_if_drawn_before()
            process, word = process_key(), "call of a copy" if self._is_copy else "call"
            return [f"{word} {next(self._calls)}{process and f' in {process}'}" for _ in range(number)]
        return batch_keys(keys, number)

    def _warn_if_drawn_before(self):
        """Warn once if another transform with these settings has drawn the same random numbers in this process."""
        global _has_warned
        if self._has_drawn or self._is_copy or callable(self.names) or callable(self.severity):
            return
        self._has_drawn = True
        choices = len(self.names) * (len(self.severity) if self.constants is None else 1)
        if choices == 1 and self.p in (0, 1) and not CORRUPTIONS[self.names[0]].is_random:
            return
        if repr(self) in _drawing and not _has_warned:
            _has_warned = True
            warnings.warn(f"{self}: another transform with these settings has drawn the same random numbers; keep one "
                          "transform for all epochs, give each a seed, or pass key=, the number or path of each image",
                          stacklevel=4)
        _drawing.add(repr(self))

    def _batch(self, images, keys):
        check_images(images)
        choices = {}
        for position, key in enumerate(keys):
            choices.setdefault(self._choose(key), []).append(position)
        out = np.array(images)  # a copy, in which images that are not corrupted stay as they are
        for choice, positions in choices.items():
            if choice is not None:
                out[positions] = self._apply(images[positions], choice, [keys[position] for position in positions])
        return out

    def _apply(self, images, choice, keys):
        """Corrupt a batch with one corruption and severity."""
        name, severity = choice
        check_images(images)
        preset = self.options.preset or nearest_preset(name, *images.shape[1:3])
        if self.constants is None:
            self._warn_of_presets(name, preset)
        if callable(self.severity) and turns_at(name, severity, preset):
            severity = round(severity)
        return corrupt_images(images, CORRUPTIONS[name], severity, self.seed, keys, self.options, self.constants)

    def _warn_of_presets(self, name, preset):
        """Warn once if images of two sizes take the constants that were published for two sizes."""
        presets = self._presets  # which another thread may change
        first = preset if presets is None else presets.setdefault(name, preset)
        if first == preset:
            return
        self._presets = None
        warnings.warn(f"Corrupt: by their size, images take different constants of {name}, for {first} and for "
                      f"{preset} pixels; corrupt after the resizing, or give Options(preset=...)", stacklevel=5)

    def _choose(self, key):
        """Return the corruption and the severity of an image, or None if the image stays as it is."""
        label = "" if callable(self.names) else ",".join(self.names)  # transforms of other names choose otherwise
        rng = image_stream(self.seed, "choice", label, key)
        if rng.random() >= self.p:
            return None
        names = _known_names(self.names(rng)) if callable(self.names) else [_draw(self.names, rng)]
        severities = _severities(self.severity(rng)) if callable(self.severity) else [_draw(self.severity, rng)]
        if len(names) != 1 or len(severities) != 1:
            raise UserError("a function of Corrupt gives several names or severities: it must give one for an image")
        return names[0], severities[0]


def _draw(values, rng):
    return values[int(rng.integers(len(values)))]


def _known_names(names):
    """Return names of corruptions as a tuple, after a check.

    Raises:
        UserError: a name is unknown, or there is none.
    """
    if not hasattr(names, "__iter__"):
        raise UserError(f"names {names!r}: must be the name of a corruption, or several")
    _check_order("names", names)
    names = (names,) if isinstance(names, str) else tuple(names)
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"names {names!r}: must be the name of a corruption, or several")
    known = known_names(names)
    if not known:
        raise UserError("names: there is none; give the name of a corruption, or several")
    return known


def _check_order(option, values):
    """Raise a `UserError` if values have no order, because then every program would choose others."""
    if isinstance(values, (set, frozenset)):
        raise UserError(f"{option} {values!r}: is a set, whose order differs between programs; give a list")


def _severities(severities):
    """Return severities as a tuple of int and float, after a check.

    Raises:
        UserError: a severity is not a number from 1 to 5, or there is none.
    """
    _check_order("severity", severities)
    severities = as_sequence(severities)
    if not severities:
        raise UserError("severity: there is none; give a number from 1 to 5, or several")
    return tuple(map(check_severity, severities))


def in_mode_of(image, pixels):
    """Return pixels uint8 (H, W) or (H, W, 3) as an opaque PIL image with the mode and the `info` of `image`.

    Modes P, PA and 1 have too few colours for corrupted pixels, which are RGB or L then.

    Raises:
        UserError: PIL cannot convert to this mode.
    """
    made, mode = Image.fromarray(pixels), image.mode
    if mode not in ("P", "PA", "1", made.mode):
        try:
            if mode in ("RGBa", "La"):  # PIL converts from the mode with plain alpha alone
                made = made.convert(mode.upper())
            made = made.convert(mode)
        except ValueError as error:
            raise UserError(f"a PIL image of mode {mode} cannot be made ({error}); convert it to RGB or L first"
                            ) from error
    made.info = {name: value for name, value in image.info.items() if name != "transparency"}  # EXIF and others
    return made
