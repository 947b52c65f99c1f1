"""Names of weights in PyTorch and here, for networks whose attributes are named as in the PyTorch original. Only
normalisations (BatchNorm, LayerNorm, GroupNorm) name their own parameters otherwise.
"""
NORMALISATION_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
COUNTER = "num_batches_tracked"  # PyTorch's BatchNorm counts its batches; nothing here reads that


def torch_name(name):
    """PyTorch's name of a MindSpore parameter: 'unit4.0.gamma' is 'unit4.0.weight' there."""
    prefix, dot, last = name.rpartition(".")
    return prefix + dot + NORMALISATION_NAMES.get(last, last)


def mindspore_names(shapes):
    """Names here of PyTorch's parameters, told from names and shapes alone.

    The weight of a normalisation has one axis, that of a linear layer or a convolution at least two; running averages
    have names of their own.

    Args:
        shapes (dict): PyTorch's names of a whole network to shapes (tuple of int).

    Returns:
        dict: each of these names to that here; `torch_name` leads back, but from names that only normalisations here
            have, such as the `gamma` of a LayerScale.
    """
    names = {theirs: ours for ours, theirs in NORMALISATION_NAMES.items()}

    def ours(name):
        prefix, dot, last = name.rpartition(".")
        if last in ("weight", "bias") and len(shapes.get(f"{prefix}{dot}weight", ())) != 1:
            return name
        return prefix + dot + names.get(last, last)
    return {name: ours(name) for name in shapes}
