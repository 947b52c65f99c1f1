"""The time that the remaining runs of a comparison take."""
import time

from utils.records.cost import duration


def estimated_cost(config):
    """Return a rough estimate of a run's time, in passes over the data of one epoch."""
    method = config.method
    return method.total_epoch * method.passes + (method.options.get("stage_one_epochs") or 0)


class EtaEstimator:
    """An estimator of the time of the remaining runs, from the time of the finished runs.

    Args:
        costs (list of float): estimated cost of each run, in any unit.
        waiting (list of int): numbers of the runs that remain.
    """

    def __init__(self, costs, waiting):
        self.costs, self.remaining, self.finished = costs, sum(costs[k] for k in waiting), 0.0
        self.started = time.monotonic()

    def end(self, k, failed=False):
        """Record that run number `k` has ended. The time of a failed run does not predict the time of another run."""
        self.remaining -= self.costs[k]
        if not failed:
            self.finished += self.costs[k]

    def __str__(self):
        if not self.finished:
            return ""
        return f", about {duration((time.monotonic() - self.started) * self.remaining / self.finished)} left"
