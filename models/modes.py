"""The modes of a network's layers: training or evaluation. A caller may freeze a norm by its own `set_train(False)`."""
import contextlib


def training_modes(network):
    """Return whether each cell of a network is in training mode, a list of bool."""
    return [cell.training for _, cell in network.cells_and_names()]


def set_training_modes(network, modes):
    """Put each cell of a network into its mode, as `training_modes` returns them."""
    network.set_train(modes[0])
    for (_, cell), is_training in zip(network.cells_and_names(), modes, strict=True):
        cell.add_flags(training=is_training)  # `set_train` would change the cells within this cell, too


@contextlib.contextmanager
def evaluation_mode(network):
    """Put a network into evaluation mode while the body runs. Then each of its cells has its own mode again."""
    modes = training_modes(network)
    network.set_train(False)
    try:
        yield
    finally:
        set_training_modes(network, modes)
