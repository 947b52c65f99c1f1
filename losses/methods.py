"""The methods, one row each: a method is an objective x a perturbation of the weights."""
from collections.abc import Callable
from dataclasses import dataclass

import mindspore.nn as nn

from losses.objectives import Mean, WorstGroupSharpness
from losses.perturbations import L2Ascent
from losses.step import OnePassStep, TwoPassStep


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        objective (callable): (args, num_groups) to an `Objective`.
        perturbation (callable or None): args to a perturbation; None where the gradient is taken at the weights.
        summary (str): one line for the help.
    """

    objective: Callable
    perturbation: Callable | None
    summary: str


def l2_ascent(args):
    return L2Ascent(args.rho, args.is_adaptive)


METHODS = {
    "sharpdro": Method(lambda args, groups: WorstGroupSharpness(groups, args.step_size), l2_ascent,
                       "flatten the loss of the worst distribution (Huang 2023)"),
    "erm": Method(lambda args, groups: Mean(), None, "minimise the mean loss"),
}


def create_step(args, network, num_groups):
    """Build the train step of the method `args.method`.

    Args:
        args (argparse.Namespace): method, rho, is_adaptive, step_size, lr, momentum, weight_decay.
        network (nn.Cell): images to logits.
        num_groups (int): number of distributions, the clean one included.

    Returns:
        TrainStep: its `optimizer.learning_rate` is a Parameter, to be set at every epoch.
    """
    method = METHODS[args.method]
    # As a group of parameters: given a plain list, nn.SGD spares those named gamma and beta from weight decay, and
    # PyTorch does not.
    optimizer = nn.SGD([{"params": network.trainable_params(), "weight_decay": args.weight_decay}],
                       learning_rate=args.lr, momentum=args.momentum)
    objective = method.objective(args, num_groups)
    if method.perturbation is None:
        return OnePassStep(network, objective, optimizer)
    return TwoPassStep(network, objective, method.perturbation(args), optimizer)
