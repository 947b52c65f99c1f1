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


def set_learning_rate(optimizer, rate):
    """Give a MindSpore optimiser that was built with a plain number another learning rate; its graph stays compiled."""
    ops.assign(optimizer.learning_rate, ms.Tensor(rate, ms.float32))
