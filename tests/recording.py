"""Cases of training steps, and their recording from a clone of the authors' code: `crosscheck.py record`.

The authors' code needs PyTorch, which need not be installed here: `record_release.py` runs it in a Python that has it.
"""
import itertools
import json
import os
import shlex
import shutil
import subprocess
import tempfile

from corruptions.utils.cli import names, non_negative_float, num_severity, positive_float, positive_int, seed
from corruptions.utils.errors import UserError
from corruptions.utils.files import atomic_write

URL = "https://github.com/zhuohuangai/SharpDRO"
NETWORKS = ("wideresnet", "resnet18", "resnet50")  # all that the authors' code has
MODULES = ("train.py", "sam.py", "bypass_bn.py", "step_lr.py", "models/model_factory.py", "models/resnet.py")
ADAPTIVE = {"off": [False], "on": [True], "both": [False, True]}


def add_arguments(parser):
    """Give the parser of the command its options."""
    add = parser.add_argument
    add("file", metavar="OUT.json", help="where the steps are written, for crosscheck.py step")
    add("--release", required=True, metavar="CLONE", help=f"folder of a clone of {URL}")
    add("--python", default="python3", help="Python interpreter that has torch, and for the ResNets torchvision")
    cases = parser.add_argument_group("cases", "Every combination of network, width, rho, adaptive and seed is a case.")
    add = cases.add_argument
    add("--network", nargs="+", type=names(NETWORKS, {}), default=["wideresnet"], metavar="NAME",
        help=f"the networks of the authors' code: {', '.join(NETWORKS)}")
    add("--width", nargs="+", type=positive_int, metavar="W",
        help="of wideresnet, whose depth is 28 in the authors' code (default: 1)")
    add("--rho", nargs="+", type=non_negative_float, default=[0.05], metavar="RHO", help="length of the ascent")
    add("--adaptive", nargs="?", choices=ADAPTIVE, const="on", default="both",
        help="whether the ascent is scaled by the weights; without a word it is")
    add("--seeds", nargs="+", type=seed, default=[0], metavar="SEED",
        help="step k draws images, labels and distributions from SEED + k; the weights are the same for all")
    add = parser.add_argument_group("all cases").add_argument
    add("--steps", type=positive_int, default=3, metavar="N", help="steps of a case, one after the other")
    add("-b", "--batch_size", type=positive_int, default=24, metavar="N", help="images of 32x32 in a step")
    add("--num_severity", type=num_severity, default=6, metavar="S",
        help="number of distributions, the clean one included")
    add("--lr", type=positive_float, default=0.05, help="learning rate")
    add("--step_size", type=positive_float, default=0.01, help="of the weights over distributions")


def step_groups(number, steps):
    """The distributions that each step draws from: all of them, the first half, and a few, of which one is frequent.

    Args:
        number (int): of distributions.
        steps (int): how many.

    Returns:
        list of lists of int.
    """
    kinds = [list(range(number)), list(range((number + 1) // 2)), [0, 0, 1, number - 1]]
    return [kinds[k % len(kinds)] for k in range(steps)]


def make_cases(args):
    """The cases that a command line asks for.

    Args:
        args (argparse.Namespace): of `add_arguments`.

    Returns:
        list of dict: each a `case` in the format of `release_step.json`, with `network`, one of `NETWORKS`; width is
        there for wideresnet alone, `settled`, as in `formula_weight`, for the others.

    Raises:
        UserError: an option has no effect, or the authors' code cannot take its value.
    """
    if args.width and "wideresnet" not in args.network:
        raise UserError(f"--width: has no effect with --network {' '.join(args.network)}; leave it out")
    if args.batch_size < 2:
        raise UserError(f"--batch_size {args.batch_size}: a batch is too small; give 2 or more")
    networks = []
    for name in args.network:  # the ResNets with weights that keep float32 from a ReLU's jumps
        networks += [{"network": name, "width": width} for width in args.width or [1]] if name == "wideresnet" else [
            {"network": name, "settled": True}]
    shared = {"lr": args.lr, "step_size": args.step_size, "num_distribution": args.num_severity,
              "batch": args.batch_size}
    return [{**network, "rho": rho, "adaptive": adaptive, **shared, "seed": start,
             "groups": step_groups(args.num_severity, args.steps)}
            for network, rho, adaptive, start in itertools.product(networks, args.rho, ADAPTIVE[args.adaptive],
                                                                   args.seeds)]


def check_release(clone):
    """Make sure that a folder is a clone of the authors' code.

    Raises:
        UserError: it is not.
    """
    if not os.path.isdir(clone):
        raise UserError(f"--release {clone}: no such folder; make it with git clone {URL} {clone}")
    for name in MODULES:
        if not os.path.isfile(os.path.join(clone, name)):
            raise UserError(f"--release {clone}: is not the authors' code, it has no {name}; name a clone of {URL}")


def commit(clone):
    """The commit of a clone (str), with -dirty where files were changed; None where it has no git folder, or no git is
    installed."""
    if not os.path.exists(os.path.join(clone, ".git")):
        return None  # git would tell of a repository around it
    try:
        result = subprocess.run(["git", "-C", clone, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
                                capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() or None


def run_release(clone, python, cases):
    """Have another Python record cases; yield each entry (dict) as soon as it is there.

    Raises:
        UserError: that Python, or the authors' code in it, does not do that.
    """
    program = shutil.which(python)
    if program is None:
        raise UserError(f"--python {python}: no such program; name a Python interpreter that has torch")
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "record_release.py")
    command = [program, "-B", script, os.path.abspath(clone), json.dumps(cases)]  # -B: no __pycache__ in the clone
    with tempfile.TemporaryFile("w+") as messages:
        try:
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, text=True)
        except OSError as error:
            raise UserError(f"--python {python}: cannot be run ({error.strerror}); name a Python interpreter that has "
                            "torch") from error
        done = 0
        with worker:
            for line in worker.stdout:
                yield parse_entry(line, python)
                done += 1
        messages.seek(0)
        last = (messages.read().strip().splitlines() or ["without a message"])[-1]
    if worker.returncode == 2:
        raise UserError(last)
    if worker.returncode or done != len(cases):
        raise UserError(f"--python {python}, --release {clone}: stopped in case {done} ({last}); name a Python that "
                        "has torch, and an unchanged clone")


def parse_entry(line, python):
    """The entry that a line of `record_release.py` describes."""
    try:
        entry = json.loads(line)
        entry["recorded"]["torch"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--python {python}: says {line.strip()[:60]!r} instead of results; name a Python interpreter "
                        "that has torch") from error
    return entry


def record(path, clone, python, cases, command):
    """Write a JSON list, one entry a line, in the format of `release_step.json`, whole or not at all. Each entry says
    in `recorded` where it is from: release (its commit, or None), command, torch (its version).

    Args:
        path (str): where.
        clone (str): folder of the authors' code.
        python (str): the interpreter.
        cases (list of dict): as in `make_cases`.
        command (str): what the user has typed.

    Raises:
        UserError: something that the user has named is at fault.
    """
    check_release(clone)
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder; name a file in it")
    origin = {"release": commit(clone), "command": command}
    try:
        with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            for number, entry in enumerate(run_release(clone, python, cases)):
                entry["recorded"] = {**origin, **entry["recorded"]}
                file.write(("[" if number == 0 else ",\n") + json.dumps(entry))
                print(f"case {number}: {describe(entry['case'])}", flush=True)
            file.write("]\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another file") from error
    print(f"{path}: {len(cases)} cases; compare with python tests/crosscheck.py step {shlex.quote(path)}")


def describe(case):
    """A case in one line."""
    return ", ".join(f"{name} {value}" for name, value in case.items() if name != "groups")
