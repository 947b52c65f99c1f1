"""Averages over distributions, and the weights over distributions that an adversary moves."""
import math

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
from mindspore import Parameter

LARGEST = 3.4e38  # the largest float32, rounded down
LARGEST_EXPONENT = 88.0  # every kernel computes e to this power in float32; from 88.4 on some kernels do not


class GroupMeans(nn.Cell):
    """The mean of values (N,) in each of `num_groups` distributions.

    Outputs: float32 (S,) means, 0 for a distribution that the batch lacks; float32 (S,) counts.
    """

    def __init__(self, num_groups):
        super().__init__()
        self.indices = ms.Tensor([[s] for s in range(num_groups)], ms.int32)

    def membership(self, groups):
        """Return float32 (S, N), 1 where sample n is in distribution s, else 0."""
        return (self.indices == groups.reshape((1, -1))).astype(ms.float32)

    def average(self, values, membership):
        """Return means and counts; `membership` float32 (S, N) marks the samples of each distribution."""
        counts = membership.sum(1)
        return (membership * values.reshape((1, -1))).sum(1) / ops.maximum(counts, 1), counts

    def mean_over_present(self, means, counts):
        """Return the mean of `means` (S,) over the distributions with a count above 0, float32 ()."""
        present = (counts > 0).astype(ms.float32)
        return (present * means).sum() / ops.maximum(present.sum(), 1)

    def construct(self, values, groups):
        return self.average(values, self.membership(groups))


class GroupWeights(nn.Cell):
    """The weights q over distributions that an adversary moves toward large losses.

    q_s <- q_s exp(step_size * l_s) / sum (Sagawa 2020, Algorithm 1; `adv_probs` in the SharpDRO authors' code), where
    l_s is the batch's mean loss of distribution s. There is one update a batch, whether or not the batch is cut into
    sub-batches (see `Objective`). The weights live in a Parameter, so they outlast the graph and are in a checkpoint.

    A distribution that the batch lacks has l_s = 0, as in the authors' code, so its weight sinks. With 'last_seen' an
    absent distribution has its mean loss in the last batch that contained it. With 'validation' the losses of a batch
    do not change q: the loop calls `ascend` with losses of validation images (`losses/training/validation_weights.py`).

    An adjustment adds C / sqrt(n_s) to every l_s, where n_s is the number of training images of distribution s. If n_s
    is 0, it adds 0. The adjustment stands for the gap between the losses of new images and of learned images (Sagawa
    2020, Eq. 5).

    With 'argmax' q jumps: it is 1 for the distribution of the largest l_s and 0 for all others (SharpDRO paper,
    Algorithm 1, line 8).

    Args:
        num_groups (int): number of distributions S, including the clean one.
        step_size (float): step of the adversary, >= 0.
        worst_case (str): 'weights', or 'argmax'.
        group_loss (str): loss of an absent distribution, 'batch' for 0 or 'last_seen'; or 'validation'.
        group_adjustment (float): C, >= 0.
        group_sizes (list of int or None): n_s of each distribution; None if they are not known, which requires C = 0.
            The weights begin equal. If only one distribution has training images, it begins with all weight, so that
            weighted averages are the mean from the first batch on. With 'validation' the weights of distributions
            without training images begin at 0 and stay there. Otherwise losses of training images let them sink.
    """

    def __init__(self, num_groups, step_size, worst_case="weights", group_loss="batch", group_adjustment=0.0,
                 group_sizes=None):
        super().__init__()
        self.step_size, self.is_argmax = step_size, worst_case == "argmax"
        self.last_seen, self.uses_validation_losses = group_loss == "last_seen", group_loss == "validation"
        self.is_adjusted = group_adjustment > 0
        if self.is_adjusted:
            adjustment = [group_adjustment / math.sqrt(size) if size else 0.0 for size in group_sizes]
            self.adjustment = Parameter(ms.Tensor(adjustment, ms.float32), name="group_adjustment", requires_grad=False)
        self.means = GroupMeans(num_groups)
        present = np.ones(num_groups)
        if group_sizes is not None and (self.uses_validation_losses or np.count_nonzero(group_sizes) == 1):
            present = np.asarray(group_sizes) > 0
        start = ms.Tensor(present / present.sum(), ms.float32)
        self.adv_probs = Parameter(start, name="adv_probs", requires_grad=False)
        if self.last_seen:
            self.last_losses = Parameter(ops.zeros((num_groups,), ms.float32), name="last_losses", requires_grad=False)

    def update(self, losses, groups):
        """Move q once by the losses float32 (N,) of a batch."""
        if self.uses_validation_losses:
            return self.adv_probs
        means, counts = self.means(losses, groups)
        if self.last_seen:
            means = ops.select(counts > 0, means, self.last_losses)
            ops.assign(self.last_losses, means)
        return self.ascend(means)

    def ascend(self, means, times=1):
        """Move q by losses l_s, float32 (S,), as far as `times` batches with these losses would."""
        if self.is_adjusted:
            means = means + self.adjustment
        if self.is_argmax:
            worst = (self.means.indices.reshape((-1,)) == ops.argmax(means)).astype(ms.float32)
            return ops.assign(self.adv_probs, worst)
        # A common shift of the exponents does not change q, and keeps the largest exponent from overflowing. If none
        # would overflow, the shift is 0, so that q has the same bytes as without a shift. A weight that has reached 0
        # stays there, whatever its loss.
        scale = min(self.step_size * times, LARGEST)
        is_there = self.adv_probs > 0
        highest = ops.amax(ops.select(is_there, means, ops.zeros_like(means)))
        shift = ops.select(scale * highest > LARGEST_EXPONENT, highest, ops.zeros_like(highest))
        means = ops.select(is_there, means, ops.zeros_like(means) + shift)
        grown = self.adv_probs * ops.exp(scale * (means - shift))
        return ops.assign(self.adv_probs, grown / grown.sum())

    def construct(self, values, groups):
        """Return sum_s q_s mean_s(values), float32 ()."""
        means, _ = self.means(values, groups)
        return (self.adv_probs * means).sum()
