"""Compare this project with results of the published code.

python tests/crosscheck.py step FILE.json           training steps of the CVPR release
python tests/crosscheck.py record --release CLONE --python PYTHON_WITH_TORCH OUT.json    makes such a file
python tests/crosscheck.py perceptron FILE.json     SAM and ASAM steps of the DAMP authors' code
python tests/crosscheck.py corruptions FILE.npz     images from the published corruption generators
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from utils.runtime.device import set_up_device  # noqa: E402, I001, first: it sets the environment that MindSpore reads

import json  # noqa: E402
import shlex  # noqa: E402

import mindspore as ms  # noqa: E402
import mindspore.nn as nn  # noqa: E402
import mindspore.ops as ops  # noqa: E402
import numpy as np  # noqa: E402

from losses import create_step  # noqa: E402
from models import create_model  # noqa: E402
from models.torch_names import torch_name  # noqa: E402
from tests import recording  # noqa: E402
from tests.corruption_errors import compare_corruptions, is_tolerable  # noqa: E402
from tests.formula import evaluation_images, formula_weight, step_batch  # noqa: E402
from tests.step_errors import relative_error, step_errors, step_limits  # noqa: E402
from corruptions.utils.cli import Parser  # noqa: E402
from corruptions.utils.errors import UserError, exit_on_error  # noqa: E402

PERCEPTRON_TOLERANCE = 1e-4


def take_steps(case):
    """Take our SharpDRO steps.

    Args:
        case (dict): network (wideresnet, if it is left out), width, settled (as in `formula_weight`; False, if it is
            left out), rho, adaptive, lr, step_size, num_distribution, batch, seed and groups, as in
            `release_step.json`.

    Returns:
        dict: steps, eval_logits, param_sums and running, as in that file; without grad_norm where the case is adaptive,
        because there the authors' code has the norm of |w| g, by which it divides.

    Raises:
        UserError: the network is unknown.
    """
    name = case.get("network", "wideresnet")
    network = create_model(f"wideresnet28-{case['width']}" if name == "wideresnet" else name, 10)
    for parameter in network.trainable_params():
        value = formula_weight(torch_name(parameter.name), parameter.shape, case.get("settled", False))
        parameter.set_data(ms.Tensor(value))
    step = create_step(network, "sharpdro", case["num_distribution"], rho=case["rho"], is_adaptive=case["adaptive"],
                       lr=case["lr"], step_size=case["step_size"])
    steps = []
    for k in range(len(case["groups"])):
        images, labels, groups = step_batch(case, k)
        losses, _, second_losses, norm, sharpness = step.train_batch(
            ms.Tensor(images, ms.float32), ms.Tensor(labels, ms.int32), ms.Tensor(groups, ms.int32))
        q = step.objective.group_weights.adv_probs.asnumpy().copy()
        steps.append({"groups": groups, "first_loss": losses, "second_loss": second_losses, "sharp_loss": sharpness,
                      "adv_probs": q, **({} if case["adaptive"] else {"grad_norm": norm})})
    network.set_train(False)
    logits = network(ms.Tensor(evaluation_images(), ms.float32)).asnumpy()
    sums = {}
    for parameter in network.get_parameters():
        value = parameter.asnumpy().astype(np.float64)
        sums[torch_name(parameter.name)] = [value.sum(), np.linalg.norm(value)]
    return {"steps": steps, "eval_logits": logits, "param_sums": sums, "running": sums}


def check_step_case(entry):
    """Errors of our steps on one entry of a file in the format of `release_step.json`, as in `step_errors`."""
    return step_errors(take_steps(entry["case"]), entry)


class Dense(nn.Cell):
    """x @ kernel + bias, with the kernel as input x output."""

    def __init__(self, kernel, bias):
        super().__init__()
        self.kernel = ms.Parameter(ms.Tensor(kernel, ms.float32), name="kernel")
        self.bias = ms.Parameter(ms.Tensor(bias, ms.float32), name="bias")

    def construct(self, x):
        return ops.matmul(x, self.kernel) + self.bias


class Scale(nn.Cell):
    """scale * x."""

    def __init__(self, scale):
        super().__init__()
        self.scale = ms.Parameter(ms.Tensor(scale, ms.float32), name="scale")

    def construct(self, x):
        return self.scale * x


class Perceptron(nn.Cell):
    """relu(scale * (x @ kernel1 + bias1)) @ kernel2 + bias2, from the `params` of a file's entry."""

    def __init__(self, params):
        super().__init__()
        self.dense1 = Dense(**params["dense1"])
        self.norm = Scale(**params["norm"])
        self.dense2 = Dense(**params["dense2"])

    def construct(self, x):
        return self.dense2(ops.relu(self.norm(self.dense1(x))))


def check_perceptron_case(entry):
    """Run our step on one entry of a file in the format of `damp_sam_asam.json`.

    Args:
        entry (dict): method, sub_batches, rho, lr, momentum, nesterov, weight_decay, params, x, y, and the published
            code's losses and final parameters; mixup and label_smoothing, or None, in `mixup.json` alone.

    Returns:
        dict: largest relative error of the losses and of the final parameters.
    """
    options = {key: entry[key] for key in ("rho", "lr", "momentum", "nesterov", "weight_decay")}
    options.update({key: entry[key] for key in ("mixup", "label_smoothing") if entry.get(key) is not None})
    network = Perceptron(entry["params"])
    step = create_step(network, entry["method"], 1, num_sub_batches=entry["sub_batches"], **options)
    losses = []
    for x, y in zip(np.array(entry["x"]), np.array(entry["y"]), strict=True):
        groups = ops.zeros((len(y),), ms.int32)
        if "mixup" in options:
            x, y = options["mixup"] * x + (1 - options["mixup"]) * x[::-1], np.stack([y, y[::-1]], axis=1)
        x, y = ms.Tensor(x, ms.float32), ms.Tensor(y, ms.int32)
        losses.append(step.train_batch(x, y, groups)[0].mean())
    final = {p.name: p.asnumpy() for p in network.get_parameters()}
    return {"losses": relative_error(losses, entry["losses"]),
            "parameters": max(relative_error(final[f"{layer}.{name}"], value)
                              for layer, values in entry["final"].items() for name, value in values.items())}


def crosscheck_perceptron(path):
    """Print the errors of every case in a file; return True if all are within tolerance."""
    passed = True
    for entry in load_entries(path, "damp_sam_asam.json", "sub_batches", "params", "final"):
        errors = check_perceptron_case(entry)
        passed &= max(errors.values()) <= PERCEPTRON_TOLERANCE
        print(f"{entry['method']}, {entry['sub_batches']} sub-batches, rho {entry['rho']}: "
              f"losses {errors['losses']:.1e}, parameters {errors['parameters']:.1e} (<= {PERCEPTRON_TOLERANCE:.0e})")
    return passed


def load_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error


def load_entries(path, example, *keys):
    """The entries of a file, each of which has certain keys; those of `example` have them."""
    entries = load_json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) and set(keys) <= set(entry)
                                                              for entry in entries):
        raise UserError(f"{path}: is not in the format of tests/golden/{example}")
    return entries


def crosscheck_step(path):
    """Print the errors of every case in a file; return True if all are within tolerance."""
    passed = True
    for number, entry in enumerate(load_entries(path, "release_step.json", "case", "steps", "eval_logits")):
        print(f"case {number}: " + recording.describe(entry["case"]))
        for title, errors, limits in zip(("first step", "later"), check_step_case(entry), step_limits(entry),
                                         strict=True):
            for name, error in errors.items():
                within = error <= limits[name]
                passed &= within
                print(f"  {title:10s}  {name:18s}  {error:.1e}  {'<=' if within else 'ABOVE'} {limits[name]:.1e}")
    return passed


def crosscheck_corruptions(path):
    """Print how each corruption of a file compares; return True if all are within tolerance."""
    passed = True
    print(f"{'corruption':32s}  equal values  largest difference")
    for name, (share, largest) in compare_corruptions(path).items():
        within = is_tolerable(name, share, largest)
        passed &= within
        print(f"{name:32s}  {100 * (1 - share):10.4f} %  {largest:3d}{'' if within else '  TOO MUCH'}")
    return passed


def main(argv=None):
    parser = Parser(prog="crosscheck.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    step = commands.add_parser("step", help="our two-pass step against steps of the CVPR release")
    step.add_argument("file", metavar="FILE.json", help="in the format of tests/golden/release_step.json")
    step.set_defaults(check=crosscheck_step)
    record = commands.add_parser("record", help="make a file for step with a clone of the authors' code",
                                 description=recording.__doc__.partition("\n\n")[2])
    recording.add_arguments(record)
    perceptron = commands.add_parser("perceptron", help="our SAM and ASAM against the DAMP authors'")
    perceptron.add_argument("file", metavar="FILE.json", help="in the format of tests/golden/damp_sam_asam.json")
    perceptron.set_defaults(check=crosscheck_perceptron)
    corruptions = commands.add_parser("corruptions", help="our corruptions against images of the published generators")
    corruptions.add_argument("file", metavar="FILE.npz", help="in the format of tests/golden/corruptions_32.npz")
    corruptions.set_defaults(check=crosscheck_corruptions)
    argv = list(sys.argv[1:] if argv is None else argv)
    # As the last word the file would be one more value of the option before it.
    words = ["record", argv[-1], *argv[1:-1]] if argv[:1] == ["record"] and argv[-1].endswith(".json") else argv
    args = parser.parse_args(words)
    with exit_on_error(parser.prog):
        if args.command == "record":
            recording.record(args.file, args.release, args.python, recording.make_cases(args),
                             shlex.join(["python", "tests/crosscheck.py", *argv]))
            return 0
        set_up_device()
        return 0 if args.check(args.file) else 1


if __name__ == "__main__":
    sys.exit(main())
