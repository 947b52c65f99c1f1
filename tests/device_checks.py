"""The checks of `on_device.py`, each in a process of its own: python tests/device_checks.py CHECK OUT.jsonl

A check yields lines. Each line is written to the file at once, so that the lines before a crash are kept.
"""
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

from utils.runtime.device import (  # noqa: E402, I001, first: it sets what MindSpore reads
    available_targets,
    device,
    saturates,
    set_up_device,
    unavailable_reason,
)

import mindspore as ms  # noqa: E402
import mindspore.nn as nn  # noqa: E402
import mindspore.ops as ops  # noqa: E402
import numpy as np  # noqa: E402

from corruptions.utils.cli import Parser  # noqa: E402
from corruptions.utils.errors import exit_on_error  # noqa: E402
from corruptions.utils.files import write_json  # noqa: E402
from losses import create_step  # noqa: E402
from losses.evaluation.cells import GradientNorm  # noqa: E402
from losses.evaluation.predict import mean_gradient_norm  # noqa: E402
from losses.methods import METHODS  # noqa: E402
from models import create_model  # noqa: E402
from models.torch_names import torch_name  # noqa: E402
from tests import crosscheck  # noqa: E402
from tests.benchmarks.kernels import convolution_operations, matmul_rate  # noqa: E402
from tests.benchmarks import same_bytes  # noqa: E402
from tests.benchmarks.step import prepare_step  # noqa: E402
from tests.formula import formula_weight, method_batches, random_batch  # noqa: E402
from tests.graph_operators import list_operators  # noqa: E402
from tests.step_errors import relative_error, step_limits, summarise_updates, update_error  # noqa: E402
from utils.records.checkpoint import lasting_parameters  # noqa: E402
from utils.records.cost import peak_memory  # noqa: E402
from utils.runtime.plugins import TARGETS  # noqa: E402

GOLDEN = os.path.join(ROOT, "tests", "golden")
# The families of networks, and the side of the images that each takes one step with.
NETWORKS = {"wideresnet10": 32, "resnet18_cifar": 32, "resnet50_damp": 64, "preactresnet18": 64, "vit_s16": 32}
# Largest relative errors of outputs and updates. In a network, a gradient jumps where a ReLU has an input near 0.
NETWORK_LIMITS, METHOD_LIMITS, AMP_LIMITS = (1e-4, 2e-2), (2e-5, 2e-3), (1e-3, 4e-2)
SATURATES = "not possible, because float16 overflows to its largest number here"
TRAINING = f"{same_bytes.TRAINING} --save_step 1"
MOST_RATIO = 2.6  # two passes over one; more means that a step waits for the host, or is compiled again


def line(name, passed, result):
    """A line of the report: its name, True or False (None for a measurement without a limit), and numbers as text."""
    return {"name": name, "passed": None if passed is None else bool(passed), "result": result}


class SmallNetwork(nn.Cell):
    """A network with a convolution, a BatchNorm, a ReLU and a dense layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dense(8, 10)

    def construct(self, x):
        return self.fc(ops.relu(self.norm(self.conv(x))).mean((2, 3)))


def example(side, number):
    """The batch of `random_batch` as tensors: images, labels, groups."""
    return tuple(map(ms.Tensor, random_batch(side, number)))


def set_weights(weights):
    """Give weights (list of Parameter) the values that the formula has for their names."""
    for parameter in weights:
        parameter.set_data(ms.Tensor(formula_weight(torch_name(parameter.name), parameter.shape)))


def take_steps(network, batches, **options):
    """Take a step with each batch, which is a tuple of arrays, from new weights.

    Returns:
        tuple: outputs, float64 (n,), which are for each step the losses of both passes, the gradient norm and the
            objective; updates, as returned by `summarise_updates`.
    """
    set_weights(network.trainable_params())
    before = {p.name: p.asnumpy().copy() for p in network.trainable_params()}
    step = create_step(network, **options)
    parts = []
    for batch in batches:
        taken = step.train_batch(*map(ms.Tensor, batch))
        parts += [taken.losses, taken.perturbed_losses, taken.gradient_norm, taken.objective]
    updates = [parameter.asnumpy().astype(np.float64) - before[parameter.name]
               for parameter in network.trainable_params()]
    return np.concatenate(list(map(np.ravel, parts))).astype(np.float64), summarise_updates(updates)


def moves_weights(outputs, updates):
    """Whether steps are finite and move every parameter; arguments are as returned by `take_steps`."""
    return np.isfinite(outputs).all() and np.isfinite(updates).all() and updates[:, 0].all()


def comparison_line(name, outputs, updates, reference, limits):
    """Return the line of some steps that must agree with others.

    Args:
        name (str): name of the line.
        outputs, updates (numpy.ndarray): as returned by `take_steps`.
        reference (tuple): outputs and updates of the other steps.
        limits (tuple of float): largest relative errors of the outputs and of the updates.
    """
    their_outputs, their_updates = map(np.array, reference)
    errors = relative_error(outputs, their_outputs), update_error(updates, their_updates)
    return line(name, moves_weights(outputs, updates) and errors[0] <= limits[0] and errors[1] <= limits[1],
                f"largest error {errors[0]:.1e} of outputs (at most {limits[0]:.0e}), {errors[1]:.1e} of updates (at "
                f"most {limits[1]:.0e})")


def cpu_line(name, outputs, updates, values, limits):
    """Return the line of some steps that must agree with those of the CPU, which are added to `values` on the CPU.

    Args:
        name, outputs, updates, limits: as in `comparison_line`.
        values (dict): name to outputs and updates of the CPU.
    """
    if device() == "CPU":
        values[name] = outputs.tolist(), updates.tolist()
        return line(name, moves_weights(outputs, updates), "finite, moves all weights; other devices are compared")
    if name in values:
        return comparison_line(name, outputs, updates, values[name], limits)
    return line(name, False, "not compared, because the CPU has no result")


def check_published_steps(_):
    """Two-pass steps of SharpDRO against the authors' PyTorch code, in float32."""
    for number, entry in enumerate(crosscheck.load_json(os.path.join(GOLDEN, "release_step.json")), 1):
        for title, errors, limits in zip(("first step", "later steps"), crosscheck.check_step_case(entry),
                                         step_limits(entry), strict=True):
            worst = max(errors, key=lambda name: errors[name] / limits[name] if limits[name] else errors[name])
            yield line(f"SharpDRO, case {number}, {title}", all(errors[name] <= limits[name] for name in errors),
                       f"largest error {errors[worst]:.1e} of at most {limits[worst]:.0e} ({worst})")


def check_published_perceptron(_):
    """SAM and ASAM steps against the DAMP authors' JAX code, in float32."""
    for entry in crosscheck.load_json(os.path.join(GOLDEN, "damp_sam_asam.json")):
        error = max(crosscheck.check_perceptron_case(entry).values())
        sub_batches = f"{entry['sub_batches']} sub-batch{'es' if entry['sub_batches'] > 1 else ''}"
        yield line(f"{entry['method']}, {sub_batches}", error <= crosscheck.PERCEPTRON_TOLERANCE,
                   f"largest error {error:.1e} of at most {crosscheck.PERCEPTRON_TOLERANCE:.0e}")


def check_methods(_):
    """Two steps of every method without a data strategy, and of SharpDRO with --amp and --accumulate."""
    recorded = crosscheck.load_json(os.path.join(GOLDEN, "methods.json"))
    steps = {name: {"method": name} for name, row in METHODS.items() if row.data == "plain"}
    steps |= {"sharpdro --amp": {"method": "sharpdro", "amp": True},
              "sharpdro --accumulate 2": {"method": "sharpdro", "accumulate": 2}}
    for name, options in steps.items():
        if name not in recorded:
            yield line(name, False, "not in tests/golden/methods.json; add it to tests/golden/record_methods.py")
            continue
        if "amp" in options and saturates():
            yield line(name, None, SATURATES)
            continue
        results = take_steps(SmallNetwork(), method_batches(), recipe="sharpdro", seed=1, **options)
        yield comparison_line(name, *results, recorded[name], AMP_LIMITS if "amp" in options else METHOD_LIMITS)


PATHS = {"damp, copies side by side": {"method": "damp", "num_sub_batches": 2, "sync_bn": True},
         "asam, copies side by side": {"method": "asam", "num_sub_batches": 2, "sync_bn": True},
         "sam, sub-batches one after the other": {"method": "sam", "num_sub_batches": 2, "sync_bn": False},
         "erm, AdamW with clipping": {"method": "erm", "optimizer": "adamw", "lr": 0.001, "clip_norm": 1.0}}


def check_paths(values):
    """What the other checks leave out. `values` has the steps and norms of the CPU, or gets them."""
    found = {name: take_steps(SmallNetwork(), method_batches(), recipe="sharpdro", seed=1, **options)
             for name, options in PATHS.items()}
    network = SmallNetwork()
    set_weights(network.trainable_params())
    images, labels, _ = example(16, 24)
    norm = mean_gradient_norm(GradientNorm(network), [(images, labels, ms.Tensor(20, ms.int32))])
    found["norm of a mean gradient"] = np.array([norm]), np.ones((1, 1))
    for name, (outputs, updates) in found.items():
        yield cpu_line(name, outputs, updates, values, METHOD_LIMITS)
    yield line("a step that overflows float16", None, SATURATES) if saturates() else check_overflow()
    yield check_later_reading()


def check_overflow():
    """A step whose gradient overflows float16 leaves everything as it was, but for the loss scale."""
    network = SmallNetwork()
    step = create_step(network, "sharpdro", recipe="sharpdro", amp=True)
    images, labels, groups = example(16, 24)
    step.train_batch(images, labels, groups)
    scale = {"loss_scale", "finite_steps", "skipped_steps"}
    kept = [parameter for parameter in lasting_parameters(step) if parameter.name not in scale]
    before = [parameter.asnumpy().copy() for parameter in kept]
    step.train_batch(images * 1e8, labels, groups)
    changed = [parameter.name for parameter, value in zip(kept, before, strict=True)
               if parameter.asnumpy().tobytes() != value.tobytes()]
    skipped = int(step.scaling.skipped_steps.asnumpy())
    return line("a step that overflows float16", skipped == 1 and not changed,
                f"{skipped} of 1 steps skipped; {', '.join(changed) if changed else 'all state as it was'}")


def check_later_reading():
    """Steps give the same numbers if these are read after all of them."""
    readings, (images, labels, groups) = [], example(16, 24)
    for reads_later in (False, True):
        step, outputs = create_step(SmallNetwork(), "sharpdro", recipe="sharpdro"), []
        set_weights(step.weights)
        for k in range(10):
            taken = step.train_batch_async(images * (1 + k / 10), labels, groups)
            outputs.append(taken if reads_later else tuple(part.asnumpy().copy() for part in taken))
        readings.append([np.asarray(part.asnumpy() if reads_later else part).tobytes()
                         for taken in outputs for part in taken])
    same = sum(first == second for first, second in zip(*readings, strict=True))
    return line("ten steps, read one by one and at the end", readings[0] == readings[1],
                f"{same} of {len(readings[0])} results are equal")


def check_networks(values):
    """One step of SharpDRO with every family of networks. `values` has the steps of the CPU, or gets them."""
    for name, side in NETWORKS.items():
        outputs, updates = take_steps(create_model(name, 10), [random_batch(side, 8)], method="sharpdro")
        yield cpu_line(name, outputs, updates, values, NETWORK_LIMITS)


def check_data_strategies(_):
    """A training with every method that has a data strategy, such as a first model or corrupted halves of batches."""
    with tempfile.TemporaryDirectory() as folder:
        for name, row in METHODS.items():
            if row.data != "plain":
                status, message = run_main(folder, name, method=name)
                yield line(name, status == 0, "two epochs" if status == 0 else message)


def check_operators(_):
    """Operators of the graphs of all methods and families of networks, before the passes of the device's compiler."""
    operators = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in METHODS:
            step = create_step(SmallNetwork(), name, recipe="sharpdro")
            operators.setdefault("methods", set()).update(list_operators(step.graph, example(16, 24), folder))
        for name, size in NETWORKS.items():
            step = create_step(create_model(name, 10), "erm", recipe="sharpdro")
            operators.setdefault("networks", set()).update(list_operators(step.graph, example(size, 8), folder))
    for name, found in operators.items():
        yield line(f"{len(found)} operators in the steps of all {name}", None, ", ".join(sorted(found)))


def run_main(folder, name, *words, program=("main.py",), method="sharpdro"):
    """Run `main.py` on this device in a folder. Return its exit status and the last line of its errors, as text."""
    command = [sys.executable, os.path.join(ROOT, program[0]), *program[1:], *words, "--device_target", device()]
    if "--resume" not in words:
        command += [*TRAINING.split(), "--method", method, "--data_dir", "data", "--log_dir", name]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          errors="replace")
    return done.returncode, f"exit status {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}"


def equality(name, folder, other):
    """Return the line that compares the checkpoints, tables and results of two folders."""
    ours, theirs = ({path: value for path, value in same_bytes.hashes(root).items()
                     if path.endswith((".ckpt", ".csv", "results.json"))} for root in (folder, other))
    names = sorted(path for path in ours | theirs if ours.get(path) != theirs.get(path))
    return line(name, len(ours) > 5 and not names, f"{len(ours) - len(names)} of {len(ours)} files are equal"
                + (f"; {names[0]} differs" if names else ""))


def check_same_bytes(_):
    """Two runs of SharpDRO with equal bytes, and a run that is killed and resumed."""
    with tempfile.TemporaryDirectory() as folder:
        a, b, c = (os.path.join(folder, name) for name in "abc")
        for name in "ab":
            status, message = run_main(folder, name)
            if status:
                yield line("a run", False, message)
                return
        yield equality("two runs have equal bytes", a, b)
        status, message = run_main(folder, "c", program=("tests/killed_main.py", "checkpoint", "1"))
        if status != -signal.SIGKILL:
            yield line("a run is killed", False, message)
            return
        [run] = os.listdir(c)
        status, message = run_main(folder, "c", "--resume", os.path.join(c, run))
        yield (line("a killed run resumes", False, message) if status else
               equality("a killed run resumes, with equal bytes", a, c))


def device_memory():
    """The largest memory that this process has allocated on the device, in GiB; None on CPU."""
    return None if device() == "CPU" else ms.runtime.max_memory_allocated() / 2 ** 30


def check_step_time(values):
    """Time and memory of the one-pass and the two-pass step: WRN-28-2, batches of 100 images."""
    batch = example(32, 100)
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
        elif device() == "CPU":
            values[name] = seconds
        else:
            passed, result = False, f"{result}; not compared, because the CPU has no result"
        yield line(name, passed, result)
    yield line(f"two passes take at most {MOST_RATIO} times one pass", two / one <= MOST_RATIO,
               f"{two / one:.2f} times")
    on_device = device_memory()
    yield line("peak memory of both steps", None, f"{peak_memory():.2f} GiB of the process"
               + ("" if on_device is None else f", {on_device:.2f} GiB on the device"))
    rate = matmul_rate(2048 if device() == "CPU" else 8192)
    bound = 200 * sum(convolution_operations(create_model("wideresnet", 10), 32)) / rate
    yield line("convolutions at the rate of a matrix product", None,
               f"{1000 * bound:.0f} ms for two passes ({rate / 1e9:.0f} GFLOP/s); the step takes {two / bound:.1f} "
               f"times that, and a step of one pass {2 * one / bound:.1f} times half of it")


def describe_device(_):
    """The device in use, and why other devices are not."""
    index = 0 if device() == "CPU" else ms.context.get_context("device_id")
    name = device() if device() == "CPU" else ms.hal.get_device_name(index, device())
    yield line("device", None, json.dumps({"target": device(), "name": name, "index": index}))
    for target in TARGETS:
        if target not in available_targets():
            yield line(f"no {target}", None, unavailable_reason(target))


CHECKS = {"device": describe_device, "steps": check_published_steps, "perceptron": check_published_perceptron,
          "methods": check_methods, "strategies": check_data_strategies, "paths": check_paths,
          "networks": check_networks, "operators": check_operators, "bytes": check_same_bytes,
          "time": check_step_time}


def main():
    parser = Parser(prog="device_checks.py", description=__doc__.splitlines()[0])
    parser.add_argument("check", choices=CHECKS, help="name of the check")
    parser.add_argument("output", metavar="OUT.jsonl", help="file for the lines")
    parser.add_argument("--device_target", choices=("auto", *TARGETS), default="auto", help="as in main.py")
    parser.add_argument("--values", metavar="JSON", help="values of the CPU: read, and on the CPU written")
    args = parser.parse_args()
    with exit_on_error(parser.prog):
        values = {}
        if args.values and os.path.exists(args.values):
            with open(args.values, encoding="utf-8") as file:
                values = json.load(file)
        with open(args.output, "w", encoding="utf-8") as file, contextlib.redirect_stdout(sys.stderr):
            set_up_device(args.device_target)
            for result in CHECKS[args.check](values):
                print(json.dumps(result), file=file, flush=True)
                if args.values and device() == "CPU":  # at once, so that a crash keeps what there is
                    write_json(args.values, values)


if __name__ == "__main__":
    main()
