"""Makes the modules of a clone of the authors' code (zhuohuangai/SharpDRO) importable, in a Python that has torch.

The scripts that run the authors' code use it; it needs the standard library alone.
"""
import sys
import types

TORCHVISION = ("torchvision", "torchvision.models", "torchvision.models.resnet")


def make_importable(clone, torchvision=False):
    """Let `import train` and so on find the authors' modules, mended in memory where their imports stop.

    Their code imports three names of torchvision. Its WideResNet uses none of them, its ResNets two; the third, a
    table of addresses of weights, is gone from torchvision.

    Args:
        clone (str): folder of the clone.
        torchvision (bool): import torchvision, for the ResNets; otherwise it need not be installed.

    Raises:
        ImportError: torchvision is asked for and cannot be imported.
    """
    if torchvision:
        from torchvision.models import resnet
    else:
        sys.modules.update({name: types.ModuleType(name) for name in TORCHVISION})
        resnet = sys.modules["torchvision.models.resnet"]
        resnet.BasicBlock = resnet.Bottleneck = None
    resnet.model_urls = {}
    sys.path.insert(0, clone)
