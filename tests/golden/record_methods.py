"""Record two steps of every method in PyTorch: PYTHON_WITH_TORCH tests/golden/record_methods.py

Writes `methods.json` beside this file, which `tests/device_checks.py` reads. PyTorch 2.13.0 was used. The file has the
outputs of each method's steps, and a summary of the updates of the weights. A method that differs from another one in
its data alone is left out. The objectives and perturbations are written here a second time, in float64, with PyTorch's
gradients. They follow the papers, and the docstrings in `losses/` where a paper leaves something open. The noise
repeats the hash of `losses/perturbations.py`.
"""
import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))

from record_networks import rounded  # noqa: E402

from tests.formula import formula_weight, method_batches  # noqa: E402
from tests.step_errors import summarise_updates  # noqa: E402

SHAPES = {"conv.weight": (8, 3, 3, 3), "norm.weight": (8,), "norm.bias": (8,), "fc.weight": (10, 8), "fc.bias": (10,)}
NUM_GROUPS, NOISE_SEED = 6, 1
LR, MOMENTUM, WEIGHT_DECAY, STEP_SIZE = 0.1, 0.9, 5e-4, 0.01
WEIGHTS_AND_SCALES = ("conv.weight", "norm.weight", "fc.weight")


def forward(weights, images):
    """Return the logits of the network in `device_checks.SmallNetwork`."""
    x = F.conv2d(images, weights["conv.weight"], padding=1)
    x = F.batch_norm(x, None, None, weights["norm.weight"], weights["norm.bias"], training=True)
    return F.linear(F.relu(x).mean((2, 3)), weights["fc.weight"], weights["fc.bias"])


def gradients_of(value, weights):
    return dict(zip(weights, torch.autograd.grad(value, list(weights.values())), strict=True))


def group_means(values, groups):
    """Return the mean of each distribution in the batch, a dict of its number to a scalar."""
    return {s: values[groups == s].mean() for s in range(NUM_GROUPS) if (groups == s).any()}


class Mean:
    """The mean loss."""

    adds_first_gradient = False

    def first(self, losses, logits, labels, groups):
        return losses.mean()

    def second(self, losses, logits, first_losses, first_logits, groups):
        return losses.mean()


class REx(Mean):
    """V-REx of Krueger 2021, with the mean of the losses in place of their sum; beta is 1."""

    def first(self, losses, logits, labels, groups):
        means = torch.stack(list(group_means(losses, groups).values()))
        return means.mean() + means.var(unbiased=False)


class IRM(Mean):
    """IRMv1 of Arjovsky 2019, with the mean over distributions in place of the sum; lambda is 1.

    PyTorch takes the derivative by the factor.
    """

    def first(self, losses, logits, labels, groups):
        total = 0
        for s, mean in group_means(losses, groups).items():
            members = torch.nonzero(groups == s).ravel()
            total = total + mean
            if len(members) > 1:
                factor, derivatives = torch.ones((), dtype=torch.float64, requires_grad=True), []
                for half in (members[::2], members[1::2]):
                    loss = F.cross_entropy(factor * logits[half], labels[half])
                    derivatives.append(torch.autograd.grad(loss, factor, create_graph=True)[0])
                total = total + derivatives[0] * derivatives[1]
        return total / len(group_means(losses, groups))


class GroupDRO(Mean):
    """Sagawa 2020, Algorithm 1. A distribution that the batch lacks has the loss 0."""

    def __init__(self):
        self.q = torch.full((NUM_GROUPS,), 1 / NUM_GROUPS, dtype=torch.float64)

    def move(self, losses, groups):
        means = group_means(losses.detach(), groups)
        self.q = self.q * torch.tensor([np.exp(STEP_SIZE * float(means.get(s, 0))) for s in range(NUM_GROUPS)])
        self.q = self.q / self.q.sum()

    def weighted(self, values, groups):
        return sum(self.q[s] * mean for s, mean in group_means(values, groups).items())

    def first(self, losses, logits, labels, groups):
        self.move(losses, groups)
        return self.weighted(losses, groups)


class SharpDRO(GroupDRO):
    """Huang 2023, as the authors' code computes it."""

    adds_first_gradient = True

    def first(self, losses, logits, labels, groups):
        self.move(losses, groups)
        return losses.mean()

    def second(self, losses, logits, first_losses, first_logits, groups):
        return self.weighted(losses - first_losses, groups)


class AgnosticSharpDRO(Mean):
    """Huang 2023, Eq. 11 and 12, with scores that are scaled to 0..1, and then to a mean of 1.

    The first term of Eq. 12 is the mean loss.
    """

    adds_first_gradient = True

    def second(self, losses, logits, first_losses, first_logits, groups):
        scores = first_logits.softmax(1).max(1)[0] - logits.detach().softmax(1).max(1)[0]
        scores = (scores - scores.min()) / (scores.max() - scores.min())
        return (scores / scores.mean() * (losses - first_losses)).mean()


def ascend(rho, is_scaled=()):
    """Return the ascent of SAM; weights in `is_scaled` have a ball that scales with them, as in ASAM."""
    def perturb(weights, gradients):
        factors = {name: value.abs() if name in is_scaled else torch.ones_like(value)
                   for name, value in weights.items()}
        norm = torch.sqrt(sum(((factors[name] * gradient) ** 2).sum() for name, gradient in gradients.items()))
        return {name: value + rho * factors[name] ** 2 * gradients[name] / norm for name, value in weights.items()}
    return perturb


def scatter(x):
    """Return uint32 values that are hashed one to one: xor with the upper half, and a product, in turn."""
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def normal_numbers(size, step):
    """Return the noise of a step as float64, from a hash of position, step and seed, and Box and Muller's formula."""
    key = scatter(scatter(scatter(np.full(1, NOISE_SEED, np.uint32))) + np.uint32(step + 1))

    def uniform(key):
        hashed = scatter(np.arange(size // 2, dtype=np.uint32) * np.uint32(0x9E3779B9) + key)
        return hashed.astype(np.float32).astype(np.float64) * (1 - 2 ** -24) / 2 ** 32
    radius, angle = np.sqrt(-2 * np.log1p(-uniform(key))), 2 * np.pi * uniform(scatter(key + np.uint32(0x7FEB352D)))
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])


def add_noise(sigma, is_multiplicative):
    """Return the noise of DAMP (Trinh 2024, Algorithm 1) or DAAP (Algorithm 3)."""
    def perturb(weights, step):
        noise = normal_numbers(sum(value.numel() for value in weights.values()), step)
        parts = np.split(noise, np.cumsum([value.numel() for value in weights.values()])[:-1])
        moved = dict(weights)
        for (name, value), part in zip(weights.items(), parts, strict=True):
            if name in WEIGHTS_AND_SCALES:
                change = sigma * torch.tensor(part).reshape(value.shape)
                moved[name] = value + (change * value if is_multiplicative else change)
        return moved
    return perturb


def take_steps(objective, ascent=None, noise=None, parts=1):
    """Take steps with an objective and at most one perturbation. BatchNorm sees each part of a batch alone.

    Returns:
        list: for each step, the losses of both passes, the norm of the first gradient, and the objective of the last
            pass; summaries of the updates of the weights.
    """
    start = {name: torch.tensor(formula_weight(name, shape)).double() for name, shape in SHAPES.items()}
    weights, velocity, recorded = dict(start), {name: 0 for name in start}, []

    def run(weights, images, labels):
        weights = {name: value.detach().requires_grad_() for name, value in weights.items()}
        logits = torch.cat([forward(weights, part) for part in images.chunk(parts)])
        return weights, logits, F.cross_entropy(logits, labels, reduction="none")
    for step, arrays in enumerate(method_batches()):
        images, labels, groups = map(torch.tensor, arrays)
        images, labels = images.double(), labels.long()
        moved, logits, losses = run(noise(weights, step) if noise else weights, images, labels)
        risk = objective.first(losses, logits, labels, groups)
        gradients = gradients_of(risk, moved)
        norm = torch.sqrt(sum((gradient ** 2).sum() for gradient in gradients.values()))
        first_losses, first_logits = losses.detach(), logits.detach()
        if ascent:
            moved, logits, losses = run(ascent(weights, gradients), images, labels)
            risk = objective.second(losses, logits, first_losses, first_logits, groups)
            second = gradients_of(risk, moved)
            gradients = {name: second[name] + objective.adds_first_gradient * gradients[name] for name in weights}
        recorded += [*first_losses.tolist(), *losses.tolist(), norm.item(), risk.item()]
        for name in weights:
            velocity[name] = MOMENTUM * velocity[name] + gradients[name] + WEIGHT_DECAY * weights[name]
            weights[name] = weights[name] - LR * velocity[name]
    updates = summarise_updates([(weights[name] - start[name]).numpy() for name in start])
    return [rounded(recorded), [rounded(row) for row in updates]]


def main():
    steps = {
        "erm": take_steps(Mean()), "irm": take_steps(IRM()), "rex": take_steps(REx()),
        "group_dro": take_steps(GroupDRO()), "sam": take_steps(Mean(), ascend(0.045)),
        "asam": take_steps(Mean(), ascend(1.0, WEIGHTS_AND_SCALES)), "sharpdro": take_steps(SharpDRO(), ascend(0.05)),
        "sharpdro_agnostic": take_steps(AgnosticSharpDRO(), ascend(0.05)),
        "damp": take_steps(Mean(), noise=add_noise(0.2, True)),
        "daap": take_steps(Mean(), noise=add_noise(0.01, False)),
        "sharpdro --accumulate 2": take_steps(SharpDRO(), ascend(0.05), parts=2)}
    steps["sharpdro --amp"] = steps["sharpdro"]
    with open(os.path.join(HERE, "methods.json"), "w", encoding="utf-8") as file:
        json.dump(steps, file)
        file.write("\n")


if __name__ == "__main__":
    main()
