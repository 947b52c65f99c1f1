"""Checkpoints: MindSpore's own format, parameters only."""
import os
import stat

import mindspore as ms

from utils.files import replacing


def save_checkpoint(step, path):
    """Write a train step's parameters: weights, running statistics, group weights, the optimiser's state.

    The network's weights have the names they have in the network, so `mindspore.load_param_into_net(network,
    mindspore.load_checkpoint(path))` reads them without this project.

    Args:
        step (nn.Cell): a train step (`losses/step.py`).
        path (str): file name that ends in .ckpt; replaced whole or left as it was.
    """
    parameters = [{"name": p.name, "data": p} for p in step.get_parameters() if not p.name.startswith("saved.")]
    with replacing(path) as temporary:
        ms.save_checkpoint(parameters, temporary)
        os.chmod(temporary, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
