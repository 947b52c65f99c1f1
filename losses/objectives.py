"""Objectives: how the losses of a mini-batch become the scalar that is minimised.

Every objective is a cell that follows one contract; the train step (`losses/step.py`) calls it and knows nothing else
of it. Shapes: `losses` float32 (N,), per-sample cross-entropies; `logits` float32 (N, K); `labels` int32 (N,); `groups`
int32 (N,), each sample's distribution index in 0..S-1, 0 being the clean one.
"""
import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import Parameter


class Objective(nn.Cell):
    """Contract of an objective.

    A step calls `observe` once, with the losses of its first pass, then `risk` in every pass. Where `is_sharpness` is
    true the second pass calls `sharpness` in place of `risk`, and the step follows the sum of both gradients. An
    objective that weighs distributions has its `GroupWeights` as attribute `group_weights`.
    """

    is_sharpness = False

    def observe(self, losses, groups):
        """Move what the objective remembers from step to step. `losses` carry no gradient."""
        return losses

    def risk(self, losses, logits, labels, groups):
        """The scalar to minimise, float32 ()."""
        raise NotImplementedError

    def sharpness(self, losses, first_losses, groups):
        """The scalar for the second pass, from losses at the perturbed weights and at the weights, float32 ()."""
        raise NotImplementedError


class Mean(Objective):
    """Empirical risk: the mean loss of the mini-batch."""

    def risk(self, losses, logits, labels, groups):
        return losses.mean()


class GroupWeights(nn.Cell):
    """The weights q over distributions that an adversary moves toward large losses.

    q_s <- q_s exp(step_size * l_s) / sum, with l_s the batch's mean loss of distribution s, and 0 where the batch has
    no sample of it (Sagawa 2020, Algorithm 1; the SharpDRO release's `adv_probs`). The weights live in a Parameter, so
    they outlast the graph and are part of a checkpoint.

    Args:
        num_groups (int): number of distributions S, the clean one included.
        step_size (float): step of the adversary, >= 0.
    """

    def __init__(self, num_groups, step_size):
        super().__init__()
        self.step_size = step_size
        self.indices = ms.Tensor(list(range(num_groups)), ms.int32).reshape((-1, 1))
        uniform = ops.ones((num_groups,), ms.float32) / num_groups
        self.adv_probs = Parameter(uniform, name="adv_probs", requires_grad=False)

    def means(self, values, groups):
        """Mean of `values` (N,) in each distribution, (S,); 0 for a distribution that `groups` lacks."""
        members = (self.indices == groups.reshape((1, -1))).astype(values.dtype)
        counts = members.sum(1)
        return (members * values.reshape((1, -1))).sum(1) / ops.maximum(counts, 1)

    def observe(self, losses, groups):
        grown = self.adv_probs * ops.exp(self.step_size * self.means(losses, groups))
        return ops.assign(self.adv_probs, grown / grown.sum())

    def construct(self, values, groups):
        """sum_s q_s mean_s(values), float32 ()."""
        return (self.adv_probs * self.means(values, groups)).sum()


class WorstGroupSharpness(Objective):
    """SharpDRO (Huang 2023) with known distributions, as the release computes it.

    First pass: L = mean loss at the weights. Second pass: R = sum_s q_s mean_s(loss at the perturbed weights - loss at
    the weights), with q moved by the first pass's losses. The step follows the gradient of L plus that of R.
    """

    is_sharpness = True

    def __init__(self, num_groups, step_size):
        super().__init__()
        self.group_weights = GroupWeights(num_groups, step_size)

    def observe(self, losses, groups):
        return self.group_weights.observe(losses, groups)

    def risk(self, losses, logits, labels, groups):
        return losses.mean()

    def sharpness(self, losses, first_losses, groups):
        return self.group_weights(losses - first_losses, groups)
