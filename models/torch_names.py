"""Names of weights in PyTorch and in MindSpore, for networks with the attribute names of the PyTorch original.

Only normalisations (BatchNorm, LayerNorm, GroupNorm) have other names for their own parameters.
"""
NORMALISATION_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
COUNTER = "num_batches_tracked"  # PyTorch's BatchNorm counts its batches; nothing here reads the count


def torch_name(name):
    """Return PyTorch's name of a MindSpore parameter: 'unit4.0.gamma' becomes 'unit4.0.weight'."""
    prefix, dot, last = name.rpartition(".")
    return prefix + dot + NORMALISATION_NAMES.get(last, last)


def mindspore_names(shapes):
    """Return MindSpore's names of PyTorch's parameters, derived from names and shapes alone.

    The weight of a normalisation has one axis; the weight of a linear layer or a convolution has at least two. Running
    averages have names of their own.

    Args:
        shapes (dict): PyTorch's names of a whole network to shapes (tuple of int).

    Returns:
        dict: each of these names to MindSpore's. `torch_name` leads back, except from names that in MindSpore only
            normalisations have, such as the `gamma` of a LayerScale.
    """
    names = {theirs: ours for ours, theirs in NORMALISATION_NAMES.items()}

    def ours(name):
        prefix, dot, last = name.rpartition(".")
        if last in ("weight", "bias") and len(shapes.get(f"{prefix}{dot}weight", ())) != 1:
            return name
        return prefix + dot + names.get(last, last)
    return {name: ours(name) for name in shapes}
