"""Networks, found by name."""
from utils.device import free_graphs
from models.wideresnet import WideResNet

MODELS = {
    "wideresnet": lambda num_classes: WideResNet(depth=28, width=2, num_classes=num_classes),
    "wideresnet10": lambda num_classes: WideResNet(depth=10, width=1, num_classes=num_classes),
}


def create_model(name, num_classes):
    """Build the network called `name`.

    Args:
        name (str): a key of `MODELS`.
        num_classes (int): size of the classifier's output.

    Returns:
        nn.Cell: float32 images (N, 3, H, W) to float32 logits (N, num_classes).

    Raises:
        KeyError: the name is unknown.
    """
    free_graphs()
    return MODELS[name](num_classes)
