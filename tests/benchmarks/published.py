"""Load the corruption functions out of a published script, such as the authors' `corruptions/make_cifar_c.py`, or the
classes of C-bar out of its folder.

They no longer run: the scripts start on a data set as soon as they are imported, and all call libraries in forms that
are gone. Only the part with the functions is executed here, with stand-ins for what is missing.
"""
import csv
import importlib
import os
import sys
import types
import warnings
from functools import partial
from unittest import mock

import numpy as np
import scipy.ndimage
import skimage.filters
from PIL import Image

from corruptions.utils.errors import UserError

END = "# /////////////// End Distortions ///////////////"
NEED_WAND = ("motion_blur", "snow")
BAR_FILES = {32: "cifar10_c_bar.csv", 224: "imagenet_c_bar.csv"}  # by the side of the images


def _gaussian(image, *args, multichannel=False, **options):
    return skimage.filters.gaussian(image, *args, channel_axis=-1 if multichannel else None, **options)


def load_published(path, frost_dir, size):
    """Load the published functions.

    Args:
        path (str): a script that defines `f(image, severity)` for PIL images, up to the comment line `END`, or the
            folder `imagenet_c_bar` of facebookresearch/augmentation-corruption.
        frost_dir (str): folder of the frost textures, which the script looks for in the working folder.
        size (int): side of the images, for C-bar 32 or 224.

    Returns:
        dict: name to a function from an image uint8 (size, size, 3) and a severity, 1 to 5, to an image; without
        `motion_blur` and `snow` where Wand is not installed.

    Raises:
        UserError: there is no such file, or it is no such script or folder.
    """
    if os.path.isdir(path):
        return load_bar(path, size)
    functions = vars(load_script(path, frost_dir))

    def of_array(function, image, severity):
        return np.uint8(function(Image.fromarray(image), severity))
    return {name: partial(of_array, function) for name, function in functions.items() if callable(function)}


def published_bar(folder, size):
    """The levels of the data set that was published for the side `size`, 224 or else 32: name to list of float.

    Raises:
        UserError: the folder does not have them.
    """
    try:
        with open(os.path.join(folder, BAR_FILES[224 if size == 224 else 32]), encoding="utf-8", newline="") as file:
            return {row[0]: [float(level) for level in row[1:]] for row in csv.reader(file)}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; name the folder imagenet_c_bar of "
                        "facebookresearch/augmentation-corruption") from error


def load_bar(folder, size):
    """The classes of C-bar; arguments and results as in `load_published`."""
    levels = published_bar(folder, 32 if size == 224 else 224) | published_bar(folder, size)
    older_numpy = types.ModuleType("numpy")
    vars(older_numpy).update(vars(np), int=int)
    # Its `utils` is a folder without __init__.py, which Python takes only where no other `utils` is found.
    places = [folder, *(place for place in sys.path if not os.path.exists(os.path.join(place, "utils", "__init__.py")))]
    with mock.patch.dict(sys.modules), mock.patch.object(sys, "path", places):
        for name in [name for name in sys.modules if name.partition(".")[0] in ("utils", "base", "corrupt")]:
            del sys.modules[name]
        module = importlib.import_module("corrupt")
    module.np = older_numpy
    classes = {getattr(value, "name", None): value for value in vars(module).values()}

    def of_level(name, image, severity):
        return classes[name](levels[name][severity - 1], size)(image)
    return {name: partial(of_level, name) for name in levels}


def load_script(path, frost_dir):
    """The names of a script, a types.SimpleNamespace; arguments as in `load_published`."""
    try:
        with open(path, encoding="utf-8") as file:
            source, result, _ = file.read().partition(END)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a script such as make_cifar_c.py") from error
    if not result:
        raise UserError(f"{path}: not a script of corruptions; name one such as make_cifar_c.py")
    stand_ins = {name: mock.MagicMock() for name in (
        "torch", "torch.nn", "torch.nn.functional", "torch.autograd", "torch.utils", "torch.utils.data", "torchvision",
        "torchvision.datasets", "torchvision.transforms", "torchvision.models")}
    stand_ins["scipy.ndimage.interpolation"] = types.SimpleNamespace(map_coordinates=scipy.ndimage.map_coordinates)
    missing = ()
    try:
        importlib.import_module("wand.image")  # before sys.modules is patched, so that it stays the only one
    except ImportError:
        missing = NEED_WAND
        stand_ins |= {name: mock.MagicMock() for name in ("wand", "wand.image", "wand.api", "wand.color")}
        stand_ins["wand.image"].Image = object
    names = {}
    with mock.patch.dict(sys.modules, stand_ins), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(source, path, "exec"), names)
    names["gaussian"] = _gaussian
    frost = names["frost"]

    def frost_in_its_folder(*args):
        before = os.getcwd()
        os.chdir(frost_dir)
        try:
            return frost(*args)
        finally:
            os.chdir(before)
    names["frost"] = frost_in_its_folder
    return types.SimpleNamespace(**{name: value for name, value in names.items() if name not in missing})
