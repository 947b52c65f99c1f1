"""Learning rates over a run."""
import mindspore as ms
import mindspore.ops as ops


def step_schedule(base, epoch, total_epochs):
    """The SharpDRO release's learning rate: `base`, times 0.2 from 30 %, 60 % and 80 % of the epochs on.

    Args:
        base (float): initial learning rate.
        epoch (int): the epoch that starts, from 0.
        total_epochs (int): length of the run.

    Returns:
        float: the learning rate of the epoch.
    """
    drops = sum(epoch * 10 >= total_epochs * tenths for tenths in (3, 6, 8))
    return base * 0.2 ** drops


def linear_schedule(base, epoch, total_epochs):
    """The learning rate of the DAMP authors' CIFAR experiments: `base` up to 50 % of the epochs, then falling linearly
    to a hundredth of it at 90 %, where it stays; arguments and result as above.
    """
    progress = min(max(epoch / total_epochs - 0.5, 0) / 0.4, 1)
    return base * (1 - 0.99 * progress)


SCHEDULES = {"step": step_schedule, "linear": linear_schedule}


def set_learning_rate(optimizer, rate):
    """Give a MindSpore optimiser that was built with a plain number another learning rate; its graph stays compiled."""
    ops.assign(optimizer.learning_rate, ms.Tensor(rate, ms.float32))
