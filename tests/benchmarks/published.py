"""Load the corruption functions out of a published script, such as the release's `corruptions/make_cifar_c.py`.

The scripts no longer run: they start on a data set as soon as they are imported, and call libraries in forms that are
gone. Only the part with the functions is executed here, with stand-ins for what is missing.
"""
import contextlib
import importlib
import sys
import types
import warnings
from unittest import mock

import scipy.ndimage
import skimage.filters

from utils.errors import UserError

END = "# /////////////// End Distortions ///////////////"
NEED_WAND = ("motion_blur", "snow")


def _gaussian(image, *args, multichannel=False, **options):
    return skimage.filters.gaussian(image, *args, channel_axis=-1 if multichannel else None, **options)


def load_published(path, frost_dir):
    """Load the functions of a script.

    Args:
        path (str): a script that defines `f(image, severity)` for PIL images, up to the comment line `END`.
        frost_dir (str): folder of the frost textures, which the script looks for in the working folder.

    Returns:
        types.SimpleNamespace: the script's names; without `motion_blur` and `snow` where Wand is not installed.

    Raises:
        UserError: there is no such file, or it is no such script.
    """
    try:
        with open(path, encoding="utf-8") as file:
            source, found, _ = file.read().partition(END)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a script such as make_cifar_c.py") from error
    if not found:
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
        with contextlib.chdir(frost_dir):
            return frost(*args)
    names["frost"] = frost_in_its_folder
    return types.SimpleNamespace(**{name: value for name, value in names.items() if name not in missing})
