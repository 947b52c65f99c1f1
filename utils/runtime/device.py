"""Device set-up: graph mode, MindSpore's environment variables, and the worker processes of `msrun`.

MindSpore reads these variables when it is imported. Import this module first.
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

os.environ.setdefault("GLOG_v", "3")  # errors only, because MindSpore's warnings would drown the output of a run

require("mindspore", "safetensors", "tensorboardX")
MINDSPORE_VERSION = importlib.metadata.version("mindspore")

if tuple(int(part) for part in MINDSPORE_VERSION.split(".")[:2]) >= (2, 9):
    # From 2.9 on, the bundled oneDNN has no fast convolution for plain layouts on AVX-512 CPUs and is 100 times slower.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

from corruptions.utils.errors import UserError  # noqa: E402
from corruptions.utils.signals import block_signals  # noqa: E402
from utils.runtime import distributed, plugins  # noqa: E402

if distributed.world_size() > 1 and os.environ.get("MS_SCHED_HOST") in ("127.0.0.1", "::1"):  # all on this machine
    # Otherwise each process starts as many threads as there are processors, and the threads wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // distributed.world_size())))

with block_signals(), plugins.cuda_on_path():  # the threads that start now leave Ctrl-C to the main thread
    import mindspore as ms
    import mindspore.nn as nn
    import mindspore.ops as ops
    from mindspore.communication import get_rank, init

import numpy as np  # noqa: E402

ms.set_context(mode=ms.GRAPH_MODE)  # MindSpore's default runs a step operator by operator

# Settings that a repeated run needs to give the same bytes, besides the switch for all devices. cuDNN may choose a
# nondeterministic algorithm for the gradients of convolutions; these algorithms are documented as deterministic.
DETERMINISTIC = {"GPU": {"op_tuning.conv_dgrad_algo": "algo_1", "op_tuning.conv_wgrad_algo": "algo_1"}}
# Settings that keep convolutions and matrix products in full float32. By default Ascend computes convolutions in HF32,
# older Ascend devices compute everything that they can in half precision, and GPUs compute convolutions in TF32.
FULL_PRECISION = {"Ascend": {"op_precision.conv_allow_hf32": False, "op_precision.matmul_allow_hf32": False,
                             "op_precision.precision_mode": "must_keep_origin_dtype"},
                  "GPU": {"op_precision.conv_allow_tf32": False, "op_precision.matmul_allow_tf32": False}}

# Devices that need 64-bit integers to compute a 32-bit hash. CANN documents its multiplication and bitwise operations
# for int64, not for uint32. MindSpore's library for GPUs has them for both.
NO_UINT32 = ("Ascend",)


def available_targets():
    """Return the devices of this machine that the installed MindSpore can use, best first."""
    return [target for target in plugins.TARGETS if ms.hal.is_available(target)]


def unavailable_reason(target):
    """Return one line that says why the installed MindSpore cannot use a device, and the way out."""
    from mindspore._c_expression import MSContext  # not public, so imported only where they are needed
    from mindspore.run_check._check_version import AscendEnvChecker
    reason = plugins.why_no_gpu() if target == "GPU" else plugins.why_no_ascend(AscendEnvChecker(None).version)
    messages = MSContext.get_instance().load_plugin_error().splitlines()  # the errors of all plugins
    return reason or next((line for line in messages if f"libmindspore_{target.lower()}.so" in line),
                          "MindSpore has not loaded its plugin, and does not say why; GLOG_v=1 shows more")


def device():
    """Return the device in use: 'CPU', 'GPU' or 'Ascend'."""
    return ms.get_context("device_target")


def arithmetic():
    """Return a dict of the device and of `fast_math` as given to `set_up_device`. The last bits of a result depend on
    both.
    """
    return {"device": device(), "fast_math": is_fast}


def hash_dtype():
    """Return the integer dtype, ms.uint32 or ms.int64, with which the device can compute a 32-bit hash."""
    return ms.int64 if device() in NO_UINT32 else ms.uint32


def device_count():
    """Return the number of devices on this machine of the kind in use."""
    return ms.hal.device_count(device())


def hardware():
    """Return the device in use, its model, and the folder of CANN, as text."""
    if device() == "CPU":
        return "CPU"
    model = ms.hal.get_device_name(ms.get_context("device_id"), device())
    return f"{device()} {model} {os.path.realpath(os.environ.get('ASCEND_HOME_PATH', ''))}"


def saturates():
    """Whether float16 overflows to its largest number on this device, and not to infinity.

    The first generation of Ascend 910 does, and others do if the environment asks for it.
    """
    if device() != "Ascend":
        return False
    from mindspore._c_expression import MSContext  # not public

    return (MSContext.get_instance().get_ascend_soc_version() == "ascend910"
            or os.environ.get("MS_ASCEND_CHECK_OVERFLOW_MODE") == "SATURATION_MODE")


def is_synchronous():
    """Whether the device has finished computing when a step returns. Other devices compute asynchronously."""
    return device() == "CPU"


def synchronize():
    """Wait until the device has finished all its work."""
    if not is_synchronous():  # MindSpore raises an error on a synchronous device
        ms.runtime.synchronize()


def max_steps_in_flight():
    """Return after how many steps, 1 or more, the losses are read at the latest.

    A larger number keeps an asynchronous device from waiting for the host.
    """
    return 1 if is_synchronous() else 50


class AllGatherInts(nn.Cell):
    """All-gather int32 (N,) to (world size x N,)."""

    def __init__(self):
        super().__init__()
        self.gather = ops.AllGather()

    def construct(self, numbers):
        return self.gather(numbers)


CHUNK = 1 << 14  # numbers in one all-gather, so that one graph serves all sizes
all_gather_cell = None  # the `AllGatherInts` of this process if the world size is above 1
is_fast = False  # `fast_math` as given to `set_up_device`


def all_gather_bytes(data):
    """All-gather bytes of any length. Return a list over ranks. Collective."""
    if distributed.world_size() == 1:
        return [data]
    head = np.frombuffer(np.int64(len(data)).tobytes(), np.int32)
    numbers = np.concatenate([head, np.frombuffer(data + bytes(-len(data) % 4), np.int32)])
    parts, at, longest = [], 0, 1
    while at < longest:
        part = np.zeros(CHUNK, np.int32)
        chunk = numbers[at:at + CHUNK]
        part[:len(chunk)] = chunk
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
        array (numpy.ndarray): (n, ...); all ranks have the same dtype and the same shape except for n.

    Returns:
        numpy.ndarray: (N, ...).
    """
    if distributed.world_size() == 1:
        return array
    values = np.frombuffer(b"".join(all_gather_bytes(array.tobytes())), array.dtype)
    return values.reshape(len(values) // max(1, math.prod(array.shape[1:])), *array.shape[1:])


def barrier():
    """Block until all ranks have called this. A collective on CPU would give up after 30 seconds."""
    if distributed.monitor is not None:
        distributed.monitor.barrier()


def shutdown():
    """Let the other ranks end before this rank does. No collective may follow. Collective."""
    if distributed.monitor is not None:
        distributed.monitor.shutdown()


def main_process_first(make):
    """Call `make` on rank 0 first, then on one rank of each other machine, then on the rest. Return its result.

    Later ranks find the files that the first ranks have written. Collective.
    """
    machines = all_gather_bytes(socket.gethostname().encode())
    turn = min(2, distributed.rank() and 1 + machines[:distributed.rank()].count(machines[distributed.rank()]))
    for now in range(3):
        if now == turn:
            made = make()
        barrier()
    return made


def per_process(number):
    """Return this rank's share, at least 1, of a number of threads or processes on this machine. Collective."""
    machines = all_gather_bytes(socket.gethostname().encode())
    return max(1, number // machines.count(machines[distributed.rank()]))


def collect_graphs():
    """Free the compiled graphs of unused cells before new cells are built.

    Otherwise MindSpore 2.8 frees them in the middle of the next compilation: cells refer to each other in cycles, so
    Python has not yet removed them. MindSpore then looks up the input shapes by another key at the second call of the
    new cell, and compiles the cell a second time.
    """
    gc.collect()


def set_up_device(device_target="auto", device_id=None, fast_math=False):
    """Choose the device, and make it compute in full float32 and deterministically.

    Args:
        device_target (str): 'auto' (the best device of this machine), 'CPU', 'GPU' or 'Ascend'.
        device_id (int or None): number of the device; None takes the first, or one for each worker of `msrun`.
        fast_math (bool): let the device choose the precision of float32 arithmetic.

    Returns:
        str: the device in use.

    Raises:
        UserError: the device is not on this machine, or an option does not apply to it.
    """
    global is_fast
    if distributed.is_scheduler() and distributed.world_size() == 1:
        sys.exit(0)  # a single worker needs no scheduler
    target, targets = device_target, available_targets()
    if target == "auto":  # a plugin may be loaded on a machine without such a device
        target = next(kind for kind in targets if kind == "CPU" or ms.hal.device_count(kind))
    if target not in targets:
        raise UserError(f"--device_target {target}: {unavailable_reason(target)}; or else choose "
                        f"{' or '.join(targets)}")
    check_device_options(target, device_id, fast_math)
    is_fast = bool(fast_math)
    ms.set_context(deterministic="ON")
    if distributed.world_size() > 1 and target != "CPU" and not distributed.is_scheduler():
        ms.set_device(target, int(os.environ["DEVICE_ID"]))  # each worker on this machine has its own device
    elif device_id is not None:
        ms.set_device(target, device_id)
    elif device() != target:  # once a graph has run, setting even the same device is an error
        ms.set_device(target)
    settings = {**DETERMINISTIC.get(target, {}), **({} if fast_math else FULL_PRECISION.get(target, {}))}
    for name, value in ({} if distributed.is_scheduler() else settings).items():  # the scheduler has no device
        operator.attrgetter(f"{target.lower()}.{name}")(ms.device_context)(value)
    if distributed.world_size() > 1 and distributed.monitor is None:
        init_process_group()
    return target


def check_device_options(target, device_id, fast_math):
    """Raise a `UserError` unless the target has a device `device_id` and, if `fast_math` is set, a faster precision."""
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
    """Join the other processes of `msrun`. The scheduler waits here until they have ended, and then exits."""
    global all_gather_cell
    try:
        init()
    except RuntimeError:
        if not distributed.is_scheduler():
            raise
        sys.exit(1)  # a worker has died, and the remaining workers report it
    if distributed.is_scheduler():
        sys.exit(0)
    os.environ["RANK_ID"] = str(get_rank())  # msrun leaves it unset if it is not given the number of the node
    if not distributed.is_main_process():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, stays open until this process ends
    all_gather_cell = AllGatherInts()
    distributed.monitor = distributed.PeerMonitor(all_gather_bytes, os.environ["MS_SCHED_HOST"])


@contextlib.contextmanager
def pynative_mode():
    """Run cells operator by operator in the body. Code that runs once is done before it would be compiled."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        yield
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


def set_seed(seed):
    """Seed the generator of initial weights; `seed` is at least 0."""
    ms.set_seed(seed)
