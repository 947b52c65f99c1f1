"""Names of weights in PyTorch, for networks whose attributes are named as in the PyTorch original."""
BATCH_NORM_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def torch_name(name):
    """PyTorch's name of a MindSpore parameter: 'unit4.0.gamma' is 'unit4.0.weight' there."""
    prefix, _, last = name.rpartition(".")
    return f"{prefix}.{BATCH_NORM_NAMES.get(last, last)}"
