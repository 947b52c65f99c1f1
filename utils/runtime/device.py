"""Device set-up: graph mode, the environment that MindSpore reads when it is imported, and the workers that train
together under `msrun`. Import this module first.
"""
import contextlib
import gc
import importlib.metadata
import math
import operator
import os
import socket
import sys

from utils.runtime.requirements import require

os.environ.setdefault("GLOG_v", "3")  # errors only; MindSpore's warnings would drown a run's own output

require("mindspore", "safetensors", "tensorboardX")
MINDSPORE_VERSION = importlib.metadata.version("mindspore")

if tuple(int(part) for part in MINDSPORE_VERSION.split(".")[:2]) >= (2, 9):
    # From 2.9 on the bundled oneDNN has no fast convolution for plain layouts on AVX-512 CPUs, 100 times slower.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

from utils.errors import UserError  # noqa: E402
from utils.runtime import distributed, plugins  # noqa: E402
from utils.runtime.signals import block_signals  # noqa: E402
from utils.shared_options import TARGETS  # noqa: E402

if distributed.world_size() > 1 and os.environ.get("MS_SCHED_HOST") in ("127.0.0.1", "::1"):  # all are on this machine
    # Each would start as many threads as there are processors, which then wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // distributed.world_size())))

with block_signals(), plugins.cuda_on_path():  # the threads that start now leave Ctrl-C to the main one
    import mindspore as ms
    import mindspore.nn as nn
    import mindspore.ops as ops
    from mindspore.communication import get_rank, init

import numpy as np  # noqa: E402

ms.set_context(mode=ms.GRAPH_MODE)  # MindSpore's default is to run a step operator by operator

# What else than the switch for all devices makes the same run give the same bytes: of cuDNN's gradients of convolutions
# the algorithms that are documented as deterministic; its own choice may be one that is not.
DETERMINISTIC = {"GPU": {"op_tuning.conv_dgrad_algo": "algo_1", "op_tuning.conv_wgrad_algo": "algo_1"}}
# What keeps convolutions and products of matrices from less than float32. Left alone, Ascend takes HF32 for
# convolutions, its older products half precision for whatever can be had in that, and GPUs TF32 for convolutions.
FULL_PRECISION = {"Ascend": {"op_precision.conv_allow_hf32": False, "op_precision.matmul_allow_hf32": False,
                             "op_precision.precision_mode": "must_keep_origin_dtype"},
                  "GPU": {"op_precision.conv_allow_tf32": False, "op_precision.matmul_allow_tf32": False}}

# Where a hash needs longer integers than the 32 bits that it is of: CANN's products and bitwise operations (aclnnMul,
# aclnnBitwiseXorTensor) are documented for int64 and not for uint32. MindSpore's library for GPUs has them for both.
NO_UINT32 = ("Ascend",)


def available_targets():
    """The devices of this machine that the installed MindSpore can use, best first."""
    return [target for target in TARGETS if ms.hal.is_available(target)]


def unavailable_reason(target):
    """Why the installed MindSpore cannot use such a device, and the way out, in one line."""
    from mindspore._c_expression import MSContext  # not public, so asked for where there is need of them alone
    from mindspore.run_check._check_version import AscendEnvChecker
    reason = plugins.why_no_gpu() if target == "GPU" else plugins.why_no_ascend(AscendEnvChecker(None).version)
    said = MSContext.get_instance().load_plugin_error().splitlines()  # of all plugins
    return reason or next((line for line in said if f"libmindspore_{target.lower()}.so" in line),
                          "MindSpore has not loaded its plugin, and does not say why; GLOG_v=1 shows more")


def device():
    """The device that is used, 'CPU', 'GPU' or 'Ascend'."""
    return ms.get_context("device_target")


def arithmetic():
    """Device and `fast_math` as given to `set_up_device`, on which the last bits of a result depend; a dict."""
    return {"device": device(), "fast_math": is_fast}


def hash_dtype():
    """The type of integers, ms.uint32 or ms.int64, of which the device can make a hash of 32 bits."""
    return ms.int64 if device() in NO_UINT32 else ms.uint32


def is_synchronous():
    """Whether the device has computed when a step returns; others are still at it."""
    return device() == "CPU"


def synchronize():
    """Wait until the device has computed all that it was told to."""
    if not is_synchronous():  # or else MindSpore would call it an error
        ms.runtime.synchronize()


def max_steps_in_flight():
    """After how many steps at the latest their losses are looked at, so that a device that computes meanwhile need not
    wait; 1 or more.
    """
    return 1 if is_synchronous() else 50


class AllGatherInts(nn.Cell):
    """All-gather int32 (N,) to (world size x N,)."""

    def __init__(self):
        super().__init__()
        self.gather = ops.AllGather()

    def construct(self, numbers):
        return self.gather(numbers)


CHUNK = 1 << 14  # numbers at a time, so that one graph does for all sizes
all_gather_cell = None  # of a world size above 1
is_fast = False  # whether `set_up_device` was given `fast_math`


def all_gather_bytes(data):
    """All-gather bytes of any length; a list over ranks. Collective."""
    if distributed.world_size() == 1:
        return [data]
    head = np.frombuffer(np.int64(len(data)).tobytes(), np.int32)
    own = np.concatenate([head, np.frombuffer(data + bytes(-len(data) % 4), np.int32)])
    parts, at, longest = [], 0, 1
    while at < longest:
        part = np.zeros(CHUNK, np.int32)
        some = own[at:at + CHUNK]
        part[:len(some)] = some
        parts.append(all_gather_cell(ms.Tensor(part)).asnumpy().reshape(distributed.world_size(), -1))
        at += CHUNK
        longest = 2 + -(-int(parts[0][:, :2].copy().view(np.int64).max()) // 4)
    whole = np.concatenate(parts, axis=1)
    lengths = whole[:, :2].copy().view(np.int64).ravel()
    return [row[2:].tobytes()[:length] for row, length in zip(whole, lengths, strict=True)]


def broadcast_text(text):
    """Broadcast a text from rank 0. Collective."""
    return all_gather_bytes(text.encode())[0].decode()


def all_gather_arrays(array):
    """All-gather arrays and concatenate them in the order of the ranks. Collective.

    Args:
        array (numpy.ndarray): (n, ...), of the same shape and type on all ranks but for n.

    Returns:
        numpy.ndarray: (N, ...).
    """
    if distributed.world_size() == 1:
        return array
    values = np.frombuffer(b"".join(all_gather_bytes(array.tobytes())), array.dtype)
    return values.reshape(len(values) // max(1, math.prod(array.shape[1:])), *array.shape[1:])


def barrier():
    """Block until all ranks have come here. A collective on CPU would give up after 30 seconds."""
    if distributed.monitor is not None:
        distributed.monitor.barrier()


def shutdown():
    """Let other ranks end before this one does: nothing is left to do together. Collective."""
    if distributed.monitor is not None:
        distributed.monitor.shutdown()


def main_process_first(make):
    """Call `make` on rank 0 first, then on one rank of each other machine, then on the rest, and return its result.

    The ranks that come later find the files that the first have written. Collective.
    """
    machines = all_gather_bytes(socket.gethostname().encode())
    turn = min(2, distributed.rank() and 1 + machines[:distributed.rank()].count(machines[distributed.rank()]))
    for now in range(3):
        if now == turn:
            made = make()
        barrier()
    return made


def per_process(number):
    """Share of a number of threads or processes on this machine for this rank, at least 1. Collective."""
    machines = all_gather_bytes(socket.gethostname().encode())
    return max(1, number // machines.count(machines[distributed.rank()]))


def collect_graphs():
    """Let go of the compiled graphs of cells that are no longer used, before others are built.

    Left to itself, MindSpore 2.8 does so in the midst of the next compilation, because cells refer to each other in
    circles and Python has not removed them. It then knows the shapes of the inputs by another key at the second call
    of the new cell, and compiles it once more.
    """
    gc.collect()


def set_up_device(device_target="auto", device_id=None, fast_math=False):
    """Choose the device, and have it compute in full float32 and the same bytes every time.

    Args:
        device_target (str): 'auto' (the best that is there), 'CPU', 'GPU' or 'Ascend'.
        device_id (int or None): which of several; None takes the first, or, of the workers of `msrun`, one each.
        fast_math (bool): leave it to the device how exactly it computes with float32.

    Returns:
        str: the device that is used.

    Raises:
        UserError: it is not on this machine, or the options are none of it.
    """
    global is_fast
    if distributed.is_scheduler() and distributed.world_size() == 1:
        sys.exit(0)  # one worker has nobody to meet
    target, targets = device_target, available_targets()
    if target == "auto":  # a plugin may be loaded where there is no device
        target = next(kind for kind in targets if kind == "CPU" or ms.hal.device_count(kind))
    if target not in targets:
        raise UserError(f"--device_target {target}: {unavailable_reason(target)}; or else choose "
                        f"{' or '.join(targets)}")
    check_device_options(target, device_id, fast_math)
    is_fast = bool(fast_math)
    ms.set_context(deterministic="ON")
    if distributed.world_size() > 1 and target != "CPU" and not distributed.is_scheduler():
        ms.set_device(target, int(os.environ["DEVICE_ID"]))  # of the workers on this machine each has its own
    elif device_id is not None:
        ms.set_device(target, device_id)
    elif device() != target:  # once a graph has run, even the same device is refused
        ms.set_device(target)
    for name, value in {**DETERMINISTIC.get(target, {}),
                        **({} if fast_math else FULL_PRECISION.get(target, {}))}.items():
        operator.attrgetter(f"{target.lower()}.{name}")(ms.device_context)(value)
    if distributed.world_size() > 1 and distributed.monitor is None:
        init_process_group()
    return target


def check_device_options(target, device_id, fast_math):
    """Raise a `UserError` unless a device has that number, and another precision where `fast_math` asks for it."""
    if fast_math and target not in FULL_PRECISION:
        raise UserError(f"--fast_math: {target} computes in full float32 anyway; leave it out, or name the folder of a "
                        "run that began with it, and give --no-fast_math")
    if device_id is None:
        return
    if distributed.world_size() > 1:
        raise UserError("--device_id: under msrun each worker has a device of its own; leave it out")
    if target == "CPU":
        raise UserError("--device_id: CPU has no numbers; leave it out")
    if device_id >= ms.hal.device_count(target):
        raise UserError(f"--device_id {device_id}: {target} has {ms.hal.device_count(target)} here; the first is 0")


def init_process_group():
    """Join the other processes of `msrun`. Its scheduler stays here until they have ended, and then ends, too."""
    global all_gather_cell
    try:
        init()
    except RuntimeError:
        if not distributed.is_scheduler():
            raise
        sys.exit(1)  # a worker has died; those that are left say so
    if distributed.is_scheduler():
        sys.exit(0)
    os.environ["RANK_ID"] = str(get_rank())  # which msrun leaves open where it is not told the number of the node
    if not distributed.is_main_process():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, until this process ends
    all_gather_cell = AllGatherInts()
    distributed.monitor = distributed.PeerMonitor(all_gather_bytes, os.environ["MS_SCHED_HOST"])


@contextlib.contextmanager
def pynative_mode():
    """Within this, cells run operator by operator: what runs once is done before it would be compiled."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        yield
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


def set_seed(seed):
    """Seed what draws initial weights, `seed` at least 0."""
    ms.set_seed(seed)
