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

from utils.installed import require

os.environ.setdefault("GLOG_v", "3")  # errors only; MindSpore's warnings would drown a run's own output

require("mindspore", "safetensors", "tensorboardX")
MINDSPORE_VERSION = importlib.metadata.version("mindspore")

if tuple(int(part) for part in MINDSPORE_VERSION.split(".")[:2]) >= (2, 9):
    # From 2.9 on the bundled oneDNN has no fast convolution for plain layouts on AVX-512 CPUs, 100 times slower.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

from utils import plugins, workers  # noqa: E402
from utils.cli import TARGETS  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.stopping import uninterrupted  # noqa: E402

if workers.count() > 1 and os.environ.get("MS_SCHED_HOST") in ("127.0.0.1", "::1"):  # all are on this machine
    # Each would start as many threads as there are processors, which then wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // workers.count())))

with uninterrupted(), plugins.cuda_offered():  # the threads that start now leave Ctrl-C to the main one
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
LACKS_UINT32 = ("Ascend",)


def available_targets():
    """The devices of this machine that the installed MindSpore can use, best first."""
    return [target for target in TARGETS if ms.hal.is_available(target)]


def why_not(target):
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
    """What the last bits of a result depend on: the device, and whether `set_up_device` was given `fast_math`; dict."""
    return {"device": device(), "fast_math": is_fast}


def hash_type():
    """The type of integers, ms.uint32 or ms.int64, of which the device can make a hash of 32 bits."""
    return ms.int64 if device() in LACKS_UINT32 else ms.uint32


def computes_at_once():
    """Whether the device has computed when a step returns; others are still at it."""
    return device() == "CPU"


def wait_for_device():
    """Wait until the device has computed all that it was told to."""
    if not computes_at_once():  # or else MindSpore would call it an error
        ms.runtime.synchronize()


def steps_ahead():
    """After how many steps at the latest their losses are looked at, so that a device that computes meanwhile need not
    wait; 1 or more.
    """
    return 1 if computes_at_once() else 50


class Exchange(nn.Cell):
    """The same number of int32 of every worker, one after the other."""

    def __init__(self):
        super().__init__()
        self.gather = ops.AllGather()

    def construct(self, numbers):
        return self.gather(numbers)


EXCHANGED = 1 << 14  # numbers at a time, so that one graph does for all sizes
exchange_cell = None  # where several train together
is_fast = False  # whether `set_up_device` was given `fast_math`


def exchange(data):
    """The bytes that each worker gives, a list; all have to call this."""
    if workers.count() == 1:
        return [data]
    head = np.frombuffer(np.int64(len(data)).tobytes(), np.int32)
    own = np.concatenate([head, np.frombuffer(data + bytes(-len(data) % 4), np.int32)])
    parts, at, longest = [], 0, 1
    while at < longest:
        part = np.zeros(EXCHANGED, np.int32)
        some = own[at:at + EXCHANGED]
        part[:len(some)] = some
        parts.append(exchange_cell(ms.Tensor(part)).asnumpy().reshape(workers.count(), -1))
        at += EXCHANGED
        longest = 2 + -(-int(parts[0][:, :2].copy().view(np.int64).max()) // 4)
    whole = np.concatenate(parts, axis=1)
    lengths = whole[:, :2].copy().view(np.int64).ravel()
    return [row[2:].tobytes()[:length] for row, length in zip(whole, lengths, strict=True)]


def of_the_first(text):
    """The text (str) that the first worker gives; all have to call this."""
    return exchange(text.encode())[0].decode()


def rows_of_all(array):
    """The rows of all workers' arrays, one worker's after the other's; all have to call this.

    Args:
        array (numpy.ndarray): (n, ...), of the same shape and type for all but for n.

    Returns:
        numpy.ndarray: (N, ...).
    """
    if workers.count() == 1:
        return array
    values = np.frombuffer(b"".join(exchange(array.tobytes())), array.dtype)
    return values.reshape(len(values) // max(1, math.prod(array.shape[1:])), *array.shape[1:])


def wait_for_all():
    """Wait until all workers have come here, however long that takes: a collective on CPU gives up after 30 seconds."""
    if workers.watch is not None:
        workers.watch.wait()


def leave():
    """All is done: other workers may end before this one does."""
    if workers.watch is not None:
        workers.watch.leave()


def in_turns(make):
    """What a function gives, which is called by the first worker, then by one on each other machine, and then by all
    others, so that they find the files that it has made; all workers have to call this.
    """
    machines = exchange(socket.gethostname().encode())
    turn = min(2, workers.rank() and 1 + machines[:workers.rank()].count(machines[workers.rank()]))
    for now in range(3):
        if now == turn:
            made = make()
        wait_for_all()
    return made


def own_share(number):
    """How many of a number of threads or processes on this machine are for this worker, at least 1; all workers have to
    call this.
    """
    machines = exchange(socket.gethostname().encode())
    return max(1, number // machines.count(machines[workers.rank()]))


def free_graphs():
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
    if workers.is_scheduler() and workers.count() == 1:
        sys.exit(0)  # one worker has nobody to meet
    target, targets = device_target, available_targets()
    if target == "auto":  # a plugin may be loaded where there is no device
        target = next(kind for kind in targets if kind == "CPU" or ms.hal.device_count(kind))
    if target not in targets:
        raise UserError(f"--device_target {target}: {why_not(target)}; or else choose {' or '.join(targets)}")
    check_device_options(target, device_id, fast_math)
    is_fast = bool(fast_math)
    ms.set_context(deterministic="ON")
    if workers.count() > 1 and target != "CPU" and not workers.is_scheduler():
        ms.set_device(target, int(os.environ["DEVICE_ID"]))  # of the workers on this machine each has its own
    elif device_id is not None:
        ms.set_device(target, device_id)
    elif device() != target:  # once a graph has run, even the same device is refused
        ms.set_device(target)
    for name, value in {**DETERMINISTIC.get(target, {}),
                        **({} if fast_math else FULL_PRECISION.get(target, {}))}.items():
        operator.attrgetter(f"{target.lower()}.{name}")(ms.device_context)(value)
    if workers.count() > 1 and workers.watch is None:
        join_workers()
    return target


def check_device_options(target, device_id, fast_math):
    """Raise a `UserError` unless a device has that number, and another precision where `fast_math` asks for it."""
    if fast_math and target not in FULL_PRECISION:
        raise UserError(f"--fast_math: {target} computes in full float32 anyway; leave it out, or name the folder of a "
                        "run that began with it, and give --no-fast_math")
    if device_id is None:
        return
    if workers.count() > 1:
        raise UserError("--device_id: under msrun each worker has a device of its own; leave it out")
    if target == "CPU":
        raise UserError("--device_id: CPU has no numbers; leave it out")
    if device_id >= ms.hal.device_count(target):
        raise UserError(f"--device_id {device_id}: {target} has {ms.hal.device_count(target)} here; the first is 0")


def join_workers():
    """Meet the other workers of `msrun`; its scheduler does so until they have ended, and then ends, too."""
    global exchange_cell
    try:
        init()
    except RuntimeError:
        if not workers.is_scheduler():
            raise
        sys.exit(1)  # a worker has died; those that are left say so
    if workers.is_scheduler():
        sys.exit(0)
    os.environ["RANK_ID"] = str(get_rank())  # which msrun leaves open where it is not told the number of the node
    if not workers.is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, until this process ends
    exchange_cell = Exchange()
    workers.watch = workers.Watch(exchange, os.environ["MS_SCHED_HOST"])


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
