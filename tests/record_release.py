"""Takes the authors' own training steps in float64; `crosscheck.py record` starts this with a Python that has torch.

usage: record_release.py CLONE CASES; CASES is a JSON list of cases, for each of which one line of JSON is printed, as
an entry of tests/golden/release_step.json.

The network, the optimiser and the loop over batches are the authors' own. Two things are mended, in
memory: its imports (tests/release.py), and its calls of `.float()`, which do not go together with float64. The same
steps are taken once more in float32; `rounding` in the entry is how far that leads. An error that somebody can put
right is one line on stderr, with exit status 2.
"""
import json
import os
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(2)


try:
    import numpy as np
    import torch
except (ImportError, OSError) as error:
    fail(f"--python {sys.executable}: cannot import torch and numpy ({error}); name a Python that has them")

from tests.formula import evaluation_images, formula_weight, step_batch  # noqa: E402
from tests.release import make_importable  # noqa: E402
from tests.step_errors import step_errors  # noqa: E402


def take_steps(case, train, network):
    """Train as the authors' code does, one epoch of the case's batches.

    Args:
        case (dict): in the format of `release_step.json`.
        train (module): the authors'.
        network (torch.nn.Module): the authors'.

    Returns:
        list of dict: `steps` of that format.
    """
    steps = []

    class Optimizer(train.SAM):
        def _grad_norm(self):
            self.norm = super()._grad_norm()
            return self.norm

    class Trainer(train.Trainer):
        def compute_sharp_loss(self, args, output, target, robust_idx, first_loss):
            result = super().compute_sharp_loss(args, output, target, robust_idx, first_loss)
            second_loss = torch.nn.functional.cross_entropy(output, target, reduction="none")
            values = {"groups": robust_idx, "first_loss": first_loss, "grad_norm": self.optimizer.norm,
                      "second_loss": second_loss, "sharp_loss": result[0], "adv_probs": self.adv_probs}
            steps.append({name: value.tolist() for name, value in values.items()})
            return result

    logs = MagicMock()  # swallows what would be logged
    trainer = Trainer(torch.device("cpu"), network, logs, logs, logs, logs, case["num_distribution"])
    trainer.optimizer = Optimizer(network.parameters(), torch.optim.SGD, rho=case["rho"], adaptive=case["adaptive"],
                                  lr=case["lr"], momentum=0.9, weight_decay=5e-4)
    batches = []
    for k in range(len(case["groups"])):
        images, labels, groups = map(torch.tensor, step_batch(case, k))
        batches.append(((images.float(), labels), groups))
    trainer.run_epoch(SimpleNamespace(step_size=case["step_size"], log_train=len(batches), weight_decay=5e-4), 0,
                      batches)
    return steps


def sums(named):
    """Names of tensors to [sum, l2 norm]."""
    return {name: [value.double().sum().item(), value.double().norm().item()] for name, value in named
            if value.is_floating_point()}


def record(case, dtype, train, get_network):
    """The results of one case, as in an entry of `release_step.json`.

    Args:
        case (dict): of that format.
        dtype (torch.dtype): precision.
        train (module): the authors'.
        get_network (callable): the authors', name to a function that makes the network.

    Returns:
        dict: steps, eval_logits, param_sums, running.
    """
    torch.set_default_dtype(dtype)
    width = {"width": case["width"]} if "width" in case else {}
    network = get_network(case["network"])(classes=10, **width)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            value = formula_weight(name, tuple(parameter.shape), case.get("settled", False), np.float64)
            parameter.copy_(torch.tensor(value))
    steps = take_steps(case, train, network)
    with torch.no_grad():
        logits = network.eval()(torch.tensor(evaluation_images()).float())
        return {"steps": steps, "eval_logits": logits.tolist(), "param_sums": sums(network.named_parameters()),
                "running": sums(network.named_buffers())}


def main(clone, cases):
    cases = json.loads(cases)
    try:
        make_importable(clone, torchvision=any(case["network"] != "wideresnet" for case in cases))
    except (ImportError, RuntimeError) as error:  # a torchvision made for another torch
        fail(f"--python {sys.executable}: cannot import torchvision, which the ResNets need ({error}); name a Python "
             "that has it, or --network wideresnet alone")
    torch.Tensor.float = lambda tensor: tensor.to(torch.get_default_dtype())
    import train
    from models.model_factory import get_network
    for case in cases:
        exact, rounded = (record(case, dtype, train, get_network) for dtype in (torch.float64, torch.float32))
        entry = {"case": case, **exact, "rounding": step_errors(rounded, exact),
                 "recorded": {"torch": torch.__version__}}
        try:
            print(json.dumps(entry, allow_nan=False), flush=True)
        except ValueError:
            fail(f"--rho {case['rho']}: with {case['network']}, seed {case['seed']}, adaptive {case['adaptive']} the "
                 "release's numbers are not finite; give a smaller --rho or --lr, or fewer --steps")


if __name__ == "__main__":
    main(*sys.argv[1:])
