"""The checks of `on_device.py`, each carried out in a process of its own: python tests/device_checks.py CHECK OUT.jsonl

A check yields lines. Each line is written to the file at once, so that the lines before a crash are kept.
"""
import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from utils.runtime.device import device, set_up_device  # noqa: E402, I001, first: it sets what MindSpore reads

import mindspore as ms  # noqa: E402
import mindspore.nn as nn  # noqa: E402
import numpy as np  # noqa: E402

from losses import create_step  # noqa: E402
from losses.methods import METHODS  # noqa: E402
from models import create_model  # noqa: E402
from tests import crosscheck  # noqa: E402
from tests.benchmarks.kernels import convolution_operations, matmul_rate  # noqa: E402
from tests.benchmarks.same_bytes import hashes  # noqa: E402
from tests.benchmarks.step import prepare_step  # noqa: E402
from tests.graph_operators import list_operators  # noqa: E402
from tests.step_errors import relative_error, step_limits  # noqa: E402
from utils.records.cost import peak_memory  # noqa: E402

GOLDEN = os.path.join(ROOT, "tests", "golden")
# The families of networks, and the side of the images that each takes one step with.
NETWORKS = {"wideresnet10": 32, "resnet18_cifar": 32, "resnet50_damp": 64, "preactresnet18": 64, "vit_s16": 32}
# Largest relative errors of losses and updates against the CPU. A gradient jumps where a ReLU has an input near 0.
FLOAT32_LIMITS, FLOAT16_LIMITS = (1e-4, 1e-2), (1e-2, 1e-1)
TRAINING = ("-d photos -m wideresnet10 -n 16 --num_val 5 -b 40 --total_epoch 2 --eval_every 2 --log_train 1 "
            "--save_last --save_step 1 --num_workers 1 --eval_batch_size 250 --method damp --train_on poisson")
MOST_RATIO = 2.6  # two passes over one; more means that a step waits for the host, or is compiled again


def line(name, passed, result):
    """A line of the report: its name, True or False (None for a measurement without a limit), and numbers as text."""
    return {"name": name, "passed": None if passed is None else bool(passed), "result": result}


class SmallNetwork(nn.Cell):
    """A network with a convolution, a BatchNorm and a dense layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.dense = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dense(8, 10)

    def construct(self, x):
        return self.dense(self.norm(self.conv(x)).mean((2, 3)))


def example(size, number=24):
    """A batch of random images of all severities: images, labels, severities."""
    rng = np.random.RandomState(0)
    images = rng.standard_normal((number, 3, size, size)).astype(np.float32)
    return ms.Tensor(images), *(ms.Tensor(rng.randint(0, n, number), ms.int32) for n in (10, 6))


def set_weights(network):
    """Draw the weights from a fixed generator, so that they are the same on every device."""
    rng = np.random.RandomState(1)
    for parameter in network.trainable_params():
        if parameter.ndim > 1:
            scale = np.sqrt(2 / np.prod(parameter.shape[1:]))
            parameter.set_data(ms.Tensor(scale * rng.standard_normal(parameter.shape), parameter.dtype))
        elif parameter.name.endswith("bias"):
            parameter.set_data(ms.Tensor(0.1 * rng.standard_normal(parameter.shape), parameter.dtype))


def take_steps(network, batch, steps, **options):
    """Take steps with new weights. Return the losses of all steps, and the norm of each parameter's movement."""
    set_weights(network)
    before = {p.name: p.asnumpy().copy() for p in network.get_parameters()}
    step = create_step(network, **options)
    losses = np.concatenate([step.train_batch(*batch).losses for _ in range(steps)])
    updates = np.array([np.linalg.norm(p.asnumpy().astype(np.float64) - before[p.name])
                        for p in network.get_parameters() if p.name in before])
    return losses, updates


def compared(name, losses, updates, values, limits=FLOAT32_LIMITS):
    """The line of some steps. They must be finite, move the weights, and agree with the CPU if it was measured.

    Args:
        name (str): name of the line.
        losses, updates (numpy.ndarray): as returned by `take_steps`.
        values (dict): the values of the CPU by name; the values of this device are added if there are none.
        limits (tuple of float): largest relative errors of the losses and of the updates.
    """
    passed = np.isfinite(losses).all() and np.isfinite(updates).all() and updates.any()
    result = f"mean loss {losses.mean():.4f}"
    if name in values:
        their_losses, their_updates = map(np.array, values[name])
        errors = relative_error(losses, their_losses), relative_error(updates, their_updates)
        passed = passed and errors[0] <= limits[0] and errors[1] <= limits[1]
        result += f"; differs from CPU by {errors[0]:.1e} (loss), {errors[1]:.1e} (update)"
    else:
        values[name] = losses.tolist(), updates.tolist()
    return line(name, passed, result)


def check_published_steps(_):
    """Two-pass steps of SharpDRO against the authors' PyTorch code, in float32."""
    for number, entry in enumerate(crosscheck.load_json(os.path.join(GOLDEN, "release_step.json"))):
        for title, errors, limits in zip(("first step", "later steps"), crosscheck.check_step_case(entry),
                                         step_limits(entry), strict=True):
            worst = max(errors, key=lambda name: errors[name] / limits[name] if limits[name] else errors[name])
            yield line(f"SharpDRO, case {number}, {title}", all(errors[name] <= limits[name] for name in errors),
                       f"largest error {errors[worst]:.1e} of at most {limits[worst]:.0e} ({worst})")


def check_published_perceptron(_):
    """SAM and ASAM steps against the DAMP authors' JAX code, in float32."""
    for entry in crosscheck.load_json(os.path.join(GOLDEN, "damp_sam_asam.json")):
        error = max(crosscheck.check_perceptron_case(entry).values())
        yield line(f"{entry['method']}, {entry['sub_batches']} sub-batches", error <= crosscheck.PERCEPTRON_TOLERANCE,
                   f"largest error {error:.1e} of at most {crosscheck.PERCEPTRON_TOLERANCE:.0e}")


def check_methods(values):
    """Two steps of every method, and of SharpDRO with --amp and --accumulate."""
    steps = {name: {"method": name} for name in METHODS}
    steps |= {"sharpdro --amp": {"method": "sharpdro", "amp": True},
              "sharpdro --accumulate 2": {"method": "sharpdro", "accumulate": 2}}
    for name, options in steps.items():
        limits = FLOAT16_LIMITS if "amp" in options else FLOAT32_LIMITS
        yield compared(name, *take_steps(SmallNetwork(), example(16), 2, recipe="sharpdro", **options), values, limits)


def check_networks(values):
    """One step of SharpDRO with every family of networks."""
    for name, size in NETWORKS.items():
        network = create_model(name, 10)
        yield compared(name, *take_steps(network, example(size, 8), 1, method="sharpdro"), values)


def check_operators(_):
    """The operators of the compiled step. They have all run if the step has."""
    with tempfile.TemporaryDirectory() as folder:
        for name, options in {"sharpdro": {}, "damp": {"recipe": "sharpdro"}}.items():
            step, batch = create_step(create_model("wideresnet10", 10), name, **options), example(32)
            losses = step.train_batch(*batch).losses
            operators = sorted(list_operators(step.graph, batch, folder))
            yield line(name, np.isfinite(losses).all(), ", ".join(operators))


def run_main(log_dir, data_dir, *words, program=("main.py",)):
    """Run `main.py` on this device. Return its exit status."""
    command = [sys.executable, *program, *words, "--device_target", device()]
    if "--resume" not in words:
        command += [*TRAINING.split(), "--data_dir", data_dir, "--log_dir", log_dir]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode


def differing(folder, other):
    """Names of the checkpoints, tables and results that differ between two folders, and how many there are."""
    ours, theirs = ({name: value for name, value in hashes(path).items()
                     if name.endswith((".ckpt", ".csv", "results.json"))} for path in (folder, other))
    return sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name)), len(ours)


def check_same_bytes(_):
    """Two runs with equal bytes, and a run that is killed and resumed."""
    with tempfile.TemporaryDirectory() as folder:
        data, logs = os.path.join(folder, "data"), [os.path.join(folder, name) for name in ("a", "b", "c")]
        status = [run_main(path, data) for path in logs[:2]]
        names, number = differing(*logs[:2])
        yield line("two runs have equal bytes", status == [0, 0] and not names and number > 5,
                   f"{number - len(names)} of {number} files are equal" + (f"; {names[0]} differs" if names else ""))
        killed = run_main(logs[2], data, program=("tests/killed_main.py", "checkpoint", "1"))
        [run] = os.listdir(logs[2]) or [""]
        resumed = run_main(logs[2], data, "--resume", os.path.join(logs[2], run))
        names, number = differing(logs[0], logs[2])
        yield line("a killed run resumes, with equal bytes",
                   (killed, resumed) == (-signal.SIGKILL, 0) and not names and number > 5,
                   f"{number - len(names)} of {number} files are equal" + (f"; {names[0]} differs" if names else ""))


def device_memory():
    """The largest memory that this process has allocated on the device, in GiB; None on CPU."""
    return None if device() == "CPU" else ms.runtime.max_memory_allocated() / 2 ** 30


def check_step_time(values):
    """Time and memory of the one-pass and the two-pass step: WRN-28-2, batches of 100 images."""
    batch = tuple(tensor.asnumpy() for tensor in example(32, 100))
    batch = (ms.Tensor(batch[0]), *(ms.Tensor(array, ms.int32) for array in batch[1:]))
    steps = {name: prepare_step(name, "wideresnet", batch) for name in ("erm", "sharpdro")}
    times = {name: [] for name in steps}
    for _ in range(7):
        for name, (timed, _) in steps.items():
            times[name].append(timed())
    one, two = (statistics.median(times[name]) for name in steps)
    compiled = ", ".join(f"{seconds:.0f} s" for _, seconds in steps.values())
    yield line("compilation, one pass and two passes", None, compiled)
    for name, seconds in (("one-pass step", one), ("two-pass step", two)):
        result, passed = f"{1000 * seconds:.0f} ms, {100 / seconds:.0f} images/s", None
        if name in values:
            passed = seconds < values[name]
            result += f"; {values[name] / seconds:.1f} times as fast as CPU ({1000 * values[name]:.0f} ms)"
        values.setdefault(name, seconds)
        yield line(name, passed, result)
    yield line("two passes take at most 2.6 times one pass", two / one <= MOST_RATIO, f"{two / one:.2f} times")
    rate = matmul_rate(2048 if device() == "CPU" else 8192)
    bound = 200 * sum(convolution_operations(create_model("wideresnet", 10), 32)) / rate
    yield line("convolutions at the rate of a matrix product", None,
               f"{1000 * bound:.0f} ms for two passes ({rate / 1e9:.0f} GFLOP/s); the step takes {two / bound:.1f} "
               "times that")
    on_device = device_memory()
    yield line("peak memory", None, f"{peak_memory():.2f} GiB of the process"
               + ("" if on_device is None else f", {on_device:.2f} GiB on the device"))


CHECKS = {"steps": check_published_steps, "perceptron": check_published_perceptron, "methods": check_methods,
          "networks": check_networks, "operators": check_operators, "bytes": check_same_bytes,
          "time": check_step_time}
COMPARED = ("methods", "networks", "time")  # these are also carried out on CPU, to compare


def main():
    parser = argparse.ArgumentParser(prog="device_checks.py", description=__doc__.splitlines()[0])
    parser.add_argument("check", choices=CHECKS, help="name of the check")
    parser.add_argument("output", metavar="OUT.jsonl", help="file for the lines")
    parser.add_argument("--device_target", default="auto", help="as in main.py")
    parser.add_argument("--values", metavar="JSON", help="values of the CPU: read if the file is there, else written")
    args = parser.parse_args()
    set_up_device(args.device_target)
    values = {}
    if args.values and os.path.exists(args.values):
        with open(args.values, encoding="utf-8") as file:
            values = json.load(file)
    with open(args.output, "w", encoding="utf-8") as file, contextlib.redirect_stdout(sys.stderr):
        for result in CHECKS[args.check](values):
            print(json.dumps(result), file=file, flush=True)
    if args.values and not os.path.exists(args.values):
        with open(args.values, "w", encoding="utf-8") as file:
            json.dump(values, file)


if __name__ == "__main__":
    main()
