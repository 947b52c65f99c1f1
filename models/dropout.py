"""Dropout in a network, whose random numbers MindSpore keeps where no checkpoint reaches them."""


def find_dropout(network):
    """Return the first cell of a network that drops values in training, such as 'head is a Dropout'; None if none does.

    Args:
        network (nn.Cell): the network.
    """
    for name, cell in network.cells_and_names():
        is_off = getattr(cell, "p", None) == 0 or getattr(cell, "keep_prob", None) == 1
        if type(cell).__name__.startswith("Dropout") and not is_off:
            return f"{name} is a {type(cell).__name__}"
    return None
