"""The networks, found by name."""
import os
import re
import sys

if sys.argv[:1] == ["-m"] and f"{__name__}.zoo" in sys.orig_argv:  # -m imports this before zoo.py
    from corruptions.utils.startup import begin_imports
    begin_imports("python -m models.zoo")
elif sys.argv[:1] == ["-m"] and f"{__name__}.convert" in sys.orig_argv:
    from corruptions.utils.startup import begin_imports
    begin_imports("python -m models.convert")
    import utils.runtime.device  # noqa: F401, it reports missing packages by this name of the program

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from corruptions.utils import startup
from corruptions.utils.cli import two_columns
from corruptions.utils.errors import UserError, reason_of
from models.mindcv import mindcv_network
from utils.lazy import import_on_call

if not startup.has_begun():  # the programs of this project import MindSpore later, because their help needs none
    import utils.runtime.device  # noqa: F401, it sets the environment that MindSpore reads, and graph mode

resnet18, resnet50 = (import_on_call("models.resnet", name) for name in ("resnet18", "resnet50"))
wide_resnet = import_on_call("models.wideresnet", "WideResNet")
PATCH = 16  # side of the patches of vit_s16 and vit_b16


@dataclass(frozen=True)
class Network:
    """A network that is created by name.

    Attributes:
        create (callable): function from the number of classes to an nn.Cell.
        summary (str): description for the help.
        multiple (int): number that the sides of the images must be multiples of.
        any_size (bool): whether `multiple` is the only condition on the image size; otherwise the network has to be
            tried.
    """

    create: Callable
    summary: str
    multiple: int = 1
    any_size: bool = True


MODELS = {
    "wideresnet": Network(partial(wide_resnet, 28, 2), "WRN-28-2 of the SharpDRO authors' code"),
    "wideresnet10": Network(partial(wide_resnet, 10, 1), "WRN-10-1, for CPUs"),
    "resnet18": Network(resnet18, "of torchvision and the authors' code, for large images"),
    "resnet50": Network(resnet50, "of torchvision and the authors' code, for large images"),
    "resnet50_damp": Network(partial(resnet50, damp=True), "the DAMP authors', for large images"),
    "resnet18_cifar": Network(partial(resnet18, damp=True, small=True), "the DAMP authors', for 32x32"),
    "preactresnet18": Network(import_on_call("models.preactresnet", "preactresnet18"), "the DAMP authors', for 64x64"),
    "vit_s16": Network(import_on_call("models.vit", "vit_s16"),
                       "ViT-S/16 of the DAMP authors, sides a multiple of 16", PATCH),
    "vit_b16": Network(import_on_call("models.vit", "vit_b16"), "ViT-B/16, likewise", PATCH),
}
FAMILIES = "wideresnetD-W of any depth D and width W, mindcv:NAME"


def models_list():
    """Return the networks as text, for a terminal."""
    return two_columns({**MODELS, "wideresnetD-W": "WRN-D-W, as wideresnet28-10",
                        "mindcv:NAME": "a network of the package mindcv, if it is installed"})


def find_model(name, place=""):
    """Return the row of `MODELS` for a name, or a new row for a name that stands for a family.

    Args:
        name (str): a key of `MODELS`, 'wideresnetD-W' or 'mindcv:NAME'.
        place (str): beginning of the error's text.

    Returns:
        Network

    Raises:
        UserError: there is no such network.
    """
    if name in MODELS:
        return MODELS[name]
    numbers = re.fullmatch(r"wideresnet(\d{1,4})-(\d{1,3})", name)
    if numbers:
        depth, width = map(int, numbers.groups())
        if depth < 10 or (depth - 4) % 6 or not width:
            raise UserError(f"{place}{name}: the depth of a wide ResNet is 10, 16, 22, 28 and so on, its width 1 or "
                            "more")
        return Network(partial(wide_resnet, depth, width), f"WRN-{depth}-{width}")
    if name.startswith("mindcv:"):
        return Network(mindcv_network(name.removeprefix("mindcv:"), place), "of the package mindcv", any_size=False)
    raise UserError(f"{place}{name}: unknown network; choose from {', '.join(MODELS)}, {FAMILIES}")


def is_model(name):
    """Whether there is a network called `name`."""
    try:
        find_model(name)
    except UserError:
        return False
    return True


def create_model(name, num_classes, pretrained=None):
    """Build the network called `name`.

    Args:
        name (str): as in `find_model`.
        num_classes (int): size of the classifier's output.
        pretrained (str, path or None): file of weights, as in `models.weight_files.read_weights`, or 'zoo:NAME', a
            network of `models.zoo`. A classifier with another number of classes is not read. None takes new weights.

    Returns:
        nn.Cell: network from float32 images (N, 3, H, W) to float32 logits (N, num_classes).

    Raises:
        UserError: the name is unknown, or the weights are missing, damaged, or of another network.
    """
    from utils.runtime.device import collect_graphs
    collect_graphs()
    network = find_model(name).create(num_classes)
    if pretrained is not None and pretrained is not False:
        from models.loading import load_weights
        from models.zoo import PREFIX, weight_path
        path = f"{PREFIX}{pretrained}" if pretrained is True else os.fspath(pretrained)  # the error lists the names
        weights, _ = load_weights(network, weight_path(path, "pretrained"), f"{name} with {num_classes} classes",
                                  fresh_classifier=True)
        if weights.elsewhere or weights.others:  # such as another network in the same file
            for note in weights.notes:
                print(f"{path}: {note}")
    return network


def check_image_size(name, height, width):
    """Check that a network takes images of a size.

    Raises:
        UserError: the network does not take them, or the name is unknown.
    """
    network = find_model(name)
    reason = None
    if height % network.multiple or width % network.multiple:
        reason = f"it takes sides that are multiples of {network.multiple} pixels"
    elif not network.any_size:
        from utils.runtime.device import pynative_mode  # isort: skip, before MindSpore
        import mindspore as ms  # isort: skip
        try:
            with pynative_mode():
                network.create(2).set_train(False)(ms.ops.zeros((2, 3, height, width), ms.float32))
        except (RuntimeError, TypeError, ValueError) as error:  # MindSpore's operators raise any of these
            reason = reason_of(error)
    if reason:
        raise UserError(f"-m {name}: cannot take these images of {width}x{height} pixels ({reason}); choose another "
                        "network, or with -d folder another --image_size")
