"""Networks of the package mindcv (mindspore-lab/mindcv), an optional extra.

The networks and their initial weights come from the package's authors. The package is not a requirement, because its
last release is from January 2024. Its resnet18 and resnet50 have torchvision's parameters but not its outputs: their
pooling pads an even side by 0 before it and 1 after it.
"""
from corruptions.utils.errors import UserError


def mindcv_network(name, place=""):
    """Return a function from the number of classes to the network `name` of mindcv, with fresh weights.

    Args:
        name (str): one of `mindcv.list_models()`.
        place (str): beginning of the error's text.

    Raises:
        UserError: the package or the network is not there.
    """
    import utils.runtime.device  # noqa: F401, before mindcv, which imports MindSpore
    try:
        import mindcv
    except ImportError as error:
        raise UserError(f"{place}mindcv:{name}: needs the package mindcv ({error}); pip install mindcv==0.3.0, or "
                        "choose another network") from error
    if not mindcv.is_model(name):
        raise UserError(f"{place}mindcv:{name}: mindcv {mindcv.__version__} has no such network; python -c "
                        "'import mindcv; print(mindcv.list_models())' lists what it has")
    return lambda num_classes: mindcv.create_model(name, num_classes=num_classes)
