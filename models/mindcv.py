"""Networks of the package mindcv (mindspore-lab/mindcv), an optional extra: they are its authors', and so are their
initial weights.

It is not a requirement, because its last release is of January 2024. Its resnet18 and resnet50 have torchvision's
parameters and not its outputs: their pooling pads an even side by 0 before it and 1 after it.
"""
from utils.errors import UserError


def mindcv_network(name, place=""):
    """A function from the number of classes to the network `name` of mindcv, with fresh weights.

    Args:
        name (str): one of `mindcv.list_models()`.
        place (str): what the error's text begins with.

    Raises:
        UserError: the package or the network is not there.
    """
    try:
        import mindcv
    except ImportError as error:
        raise UserError(f"{place}mindcv:{name}: needs the package mindcv ({error}); pip install mindcv==0.3.0, or "
                        "choose another network") from error
    if not mindcv.is_model(name):
        raise UserError(f"{place}mindcv:{name}: mindcv {mindcv.__version__} has no such network; python -c "
                        "'import mindcv; print(mindcv.list_models())' lists what it has")
    return lambda num_classes: mindcv.create_model(name, num_classes=num_classes)
