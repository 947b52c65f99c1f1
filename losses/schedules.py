"""Learning rates over a run."""
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from corruptions.utils.errors import UserError

WARMUP_START = 1000  # a warm-up begins with the learning rate divided by this


def step_schedule(base, epoch, total_epochs):
    """Return the SharpDRO authors' learning rate: `base`, times 0.2 from 30 %, 60 % and 80 % of the epochs on.

    Args:
        base (float): initial learning rate.
        epoch (int): number of the epoch that starts, from 0.
        total_epochs (int): length of the run.

    Returns:
        float: the learning rate of the epoch.
    """
    drops = sum(epoch * 10 >= total_epochs * tenths for tenths in (3, 6, 8))
    return base * 0.2 ** drops


def linear_schedule(base, epoch, total_epochs):
    """Return the learning rate of the DAMP authors' CIFAR experiments; arguments and result as in `step_schedule`.

    The rate is `base` up to 50 % of the epochs. It falls linearly to a hundredth of `base` at 90 %, and stays there.
    """
    progress = min(max(epoch / total_epochs - 0.5, 0) / 0.4, 1)
    return base * (1 - 0.99 * progress)


def cosine_schedule(base, epoch, total_epochs, warmup, final_lr):
    """Return the learning rate of the DAMP authors' ImageNet experiments.

    The rate rises linearly from a thousandth of `base` to `base`. It then falls along half a cosine, which ends with
    the run (Loshchilov 2017).

    Args:
        base (float): the highest learning rate.
        epoch (float): epochs done, including a fraction of an epoch: batches done over batches in an epoch.
        total_epochs (int): length of the run, including the warm-up.
        warmup (float): length of the warm-up in epochs; 0 for none.
        final_lr (float): learning rate at the end of the cosine, which is after the last step.

    Returns:
        float: the learning rate of the next step.
    """
    if epoch < warmup:
        start = base / WARMUP_START
        return start + (base - start) * epoch / warmup
    progress = (epoch - warmup) / (total_epochs - warmup)
    return final_lr + (base - final_lr) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule that can be chosen by name.

    Attributes:
        rate (callable): (base, epoch, total_epochs, **options) to a learning rate.
        summary (str): description for the help.
        defaults (dict): options that the schedule reads, to their defaults.
        by_step (bool): whether the rate changes with every step; then `epoch` has a fraction.
    """

    rate: Callable
    summary: str
    defaults: dict = field(default_factory=dict)
    by_step: bool = False


SCHEDULES = {
    "step": Schedule(step_schedule, "times 0.2 after 30, 60 and 80 % of the epochs"),
    "linear": Schedule(linear_schedule, "falls to a hundredth between 50 and 90 % of the epochs"),
    "cosine": Schedule(cosine_schedule, "rises during --warmup, then falls along half a cosine to --final_lr",
                       {"warmup": "0epochs", "final_lr": 0.0}, by_step=True),
}


def warmup_epochs(text, steps_per_epoch):
    """Return the length of a warm-up in epochs.

    Args:
        text (str): a whole number of epochs or steps, such as '5epochs' or '10000steps'.
        steps_per_epoch (int): batches in an epoch.

    Returns:
        float

    Raises:
        UserError: the text has another form.
    """
    match = re.fullmatch(r"(\d{1,9})(epoch|step)s?", text)
    if match is None:
        raise UserError(f"--warmup {text}: is not a length; give epochs or steps, such as 5epochs or 10000steps")
    return int(match[1]) / (steps_per_epoch if match[2] == "step" else 1)


def create_schedule(name, base, total_epochs, steps_per_epoch, **options):
    """Return a function that gives the learning rate of every step of a run.

    Args:
        name (str): a key of `SCHEDULES`.
        base (float): the learning rate of the settings, as in the functions of `SCHEDULES`.
        total_epochs (int): length of the run.
        steps_per_epoch (int): batches in an epoch.
        options: options that the schedule reads; `warmup` as in `warmup_epochs`.

    Returns:
        callable: numbers of an epoch and of a batch in it (int, from 0) to the learning rate (float) of that step.
    """
    schedule = SCHEDULES[name]
    if "warmup" in options:
        options["warmup"] = warmup_epochs(options["warmup"], steps_per_epoch)

    def rate(epoch, batch):
        done = epoch + batch / steps_per_epoch if schedule.by_step else epoch
        return schedule.rate(base, done, total_epochs, **options)
    return rate


def set_learning_rate(optimizer, rate):
    """Set the learning rate of an optimizer that was built with a plain number; its graph stays compiled."""
    import mindspore as ms  # here, because the command line reads the table of schedules without MindSpore
    ms.ops.assign(optimizer.learning_rate, ms.Tensor(rate, ms.float32))
