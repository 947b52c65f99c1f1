"""Record a file as PyTorch saves it, with what makes such files hard to read.

PYTHON tests/golden/record_state_dict.py tests/golden/state_dict.pth

PYTHON has torch (2.13 was used). The network is a made-up one, in DataParallel, in a checkpoint among other things; all
numbers follow from `numbers` and can be told without the file.
"""
import sys
from collections import OrderedDict

import numpy as np

SHAPES = {"conv.weight": (4, 3, 1, 2), "norm.weight": (4,), "norm.bias": (4,), "norm.running_mean": (4,),
          "norm.running_var": (4,), "half.weight": (2, 3), "brain.weight": (2, 3), "double.weight": (2, 3),
          "fc.weight": (5, 4), "fc.bias": (5,)}
COUNTED = 12345678901  # more than 32 bits


def numbers(name):
    """The numbers called `name`, float64 of the shape in `SHAPES`: quarters, which 16 bits hold exactly."""
    shape = SHAPES[name]
    return (np.arange(np.prod(shape)) / 4 - list(SHAPES).index(name)).reshape(shape)


def main(path):
    import torch
    state = OrderedDict((name, torch.tensor(numbers(name), dtype=torch.float32)) for name in SHAPES)
    state["conv.weight"] = torch.nn.Parameter(state["conv.weight"].to(memory_format=torch.channels_last))
    for name, dtype in (("half", torch.float16), ("brain", torch.bfloat16), ("double", torch.float64)):
        state[f"{name}.weight"] = state[f"{name}.weight"].to(dtype)
    shared = torch.cat([torch.zeros(3), state["fc.weight"].T.flatten(), state["fc.bias"]])
    state["fc.weight"] = shared[3:23].view(4, 5).T  # turned, and both from the middle of one storage
    state["fc.bias"] = shared[23:]
    state["norm.num_batches_tracked"] = torch.tensor(COUNTED)
    state = OrderedDict((f"module.{name}", value) for name, value in state.items())
    state._metadata = OrderedDict({"": {"version": 1}, "module.norm": {"version": 2}})
    torch.save({"epoch": 7, "state_dict": state, "best": 0.5, "optimizer": {"state": {}, "param_groups": [
        {"lr": 0.1, "betas": (0.9, 0.999), "nesterov": False, "params": [0, 1]}]}}, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
