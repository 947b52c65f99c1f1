"""Device set-up: graph mode, and the environment that MindSpore reads when it is imported. Import this module first."""
import contextlib
import gc
import importlib.metadata
import os

os.environ.setdefault("GLOG_v", "3")  # errors only; MindSpore's warnings would drown a run's own output

MINDSPORE_VERSION = importlib.metadata.version("mindspore")

if tuple(int(part) for part in MINDSPORE_VERSION.split(".")[:2]) >= (2, 9):
    # From 2.9 on the bundled oneDNN has no fast convolution for plain layouts on AVX-512 CPUs, 100 times slower.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

from utils.errors import UserError  # noqa: E402
from utils.stopping import uninterrupted  # noqa: E402

with uninterrupted():  # the threads that start now leave Ctrl-C to the main one
    import mindspore as ms
    from mindspore.communication import GlobalComm, get_rank

ms.set_context(mode=ms.GRAPH_MODE)  # MindSpore's default is to run a step operator by operator

TARGETS = ("Ascend", "GPU", "CPU")


def available_targets():
    """The devices of this machine that the installed MindSpore can use, best first."""
    return [target for target in TARGETS if ms.hal.is_available(target)]


def device():
    """The device that is used, 'CPU', 'GPU' or 'Ascend'."""
    return ms.get_context("device_target")


def rank():
    """Number of this device among those that train together (`msrun`), 0 where it is the only one."""
    return get_rank() if GlobalComm.INITED else 0


def free_graphs():
    """Let go of the compiled graphs of cells that are no longer used, before others are built.

    Left to itself, MindSpore 2.8 does so in the midst of the next compilation, because cells refer to each other in
    circles and Python has not removed them. It then knows the shapes of the inputs by another key at the second call
    of the new cell, and compiles it once more.
    """
    gc.collect()


def set_up_device(target):
    """Choose the device.

    Args:
        target (str): 'auto' (the best that is there), 'CPU', 'GPU' or 'Ascend'.

    Returns:
        str: the device that is used.

    Raises:
        UserError: `target` is not on this machine.
    """
    targets = available_targets()
    if target == "auto":
        target = targets[0]
    if target not in targets:
        raise UserError(f"--device_target {target}: MindSpore finds no such device here, only {', '.join(targets)}; "
                        "choose one of these or auto")
    ms.set_context(deterministic="ON")
    if device() != target:  # once a graph has run, even the same device is refused
        ms.set_device(target)
    return target


@contextlib.contextmanager
def uncompiled():
    """Within this, cells run operator by operator: what runs once is done before it would be compiled."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        yield
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


def set_seed(seed):
    """Seed what draws initial weights, `seed` at least 0."""
    ms.set_seed(seed)
