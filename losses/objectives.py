"""Objectives: how the losses of a mini-batch become the scalar that is minimised.

Every objective is a cell that follows one contract. A train step (`losses/step/`) uses nothing but this contract.
Shapes: `losses` float32 (N,), per-sample cross-entropies; `logits` float32 (N, K); `labels` int32 (N,); `groups` int32
(N,), each sample's distribution index in 0..S-1, where 0 is the clean distribution.
"""

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
from mindspore import Parameter

from losses.cross_entropy import label_logits
from losses.group_weights import GroupMeans, GroupWeights
from losses.select import select_whole


class Objective(nn.Cell):
    """The contract of an objective.

    A step calls `first_risk` in its first pass, and `second_risk` in a second pass. Both call methods that an objective
    defines: `update` once a batch, then `risk`. If `compares_passes` is true, the second pass takes `perturbed_risk` in
    place of `risk`. If `adds_first_gradient` is true, the step follows the sum of both gradients.

    A batch that is cut into sub-batches is different (`MeanOverChunks`). There `update` gets the losses of all
    sub-batches after the last sub-batch, so the state moves once a batch. The sub-batches use the state that earlier
    batches have left. An objective that weighs distributions has its `GroupWeights` as attribute `group_weights`.
    """

    compares_passes = False
    adds_first_gradient = False

    def update(self, losses, groups):
        """Update the state that the objective keeps from batch to batch. `losses` carry no gradient."""
        return losses

    def first_risk(self, losses, logits, labels, groups):
        """Return the scalar of the first pass, float32 (), with the state that this batch leaves."""
        self.update(ops.stop_gradient(losses), groups)
        return self.risk(losses, logits, labels, groups)

    def second_risk(self, losses, logits, labels, groups, first_losses, first_logits):
        """Return the scalar of the second pass; arguments as in `risk` and `perturbed_risk`."""
        if self.compares_passes:
            return self.perturbed_risk(losses, logits, first_losses, first_logits, groups)
        return self.risk(losses, logits, labels, groups)

    def risk(self, losses, logits, labels, groups):
        """Return the scalar to minimise, float32 ()."""
        raise NotImplementedError

    def perturbed_risk(self, losses, logits, first_losses, first_logits, groups):
        """Return the scalar of a second pass that reads the first pass, float32 ().

        `losses` and `logits` are taken at the perturbed weights. `first_losses` and `first_logits` are the losses and
        logits of the first pass and carry no gradient.
        """
        raise NotImplementedError


class MeanOverChunks(Objective):
    """The mean of an objective over M equal chunks of the batch, without `update`.

    Args:
        objective (Objective): the objective of a chunk.
        num_chunks (int): number of chunks M.
    """

    def __init__(self, objective, num_chunks):
        super().__init__(auto_prefix=False)
        self.objective, self.num_chunks = objective, num_chunks
        self.compares_passes, self.adds_first_gradient = objective.compares_passes, objective.adds_first_gradient

    def mean(self, function, *tensors):
        if self.num_chunks == 1:
            return function(*tensors)
        total = 0.0
        for chunk in range(self.num_chunks):
            total = total + function(*(t.reshape((self.num_chunks, -1, *t.shape[1:]))[chunk] for t in tensors))
        return total / self.num_chunks

    def first_risk(self, losses, logits, labels, groups):
        return self.risk(losses, logits, labels, groups)

    def risk(self, losses, logits, labels, groups):
        return self.mean(self.objective.risk, losses, logits, labels, groups)

    def perturbed_risk(self, losses, logits, first_losses, first_logits, groups):
        return self.mean(self.objective.perturbed_risk, losses, logits, first_losses, first_logits, groups)


class Mean(Objective):
    """The empirical risk: the mean loss of the mini-batch."""

    def risk(self, losses, logits, labels, groups):
        return losses.mean()


class GroupWeightedObjective(Objective):
    """The base class of objectives with weights over distributions; the arguments are as in `GroupWeights`."""

    def __init__(self, num_groups, **options):
        super().__init__()
        self.group_weights = GroupWeights(num_groups, **options)

    def update(self, losses, groups):
        return self.group_weights.update(losses, groups)


class GroupDRO(GroupWeightedObjective):
    """sum_s q_s L_s with q moved toward large losses (Sagawa 2020; SharpDRO paper, Eq. 4)."""

    def risk(self, losses, logits, labels, groups):
        return self.group_weights(losses, groups)


class REx(Objective):
    """The mean of the distributions' losses + beta times the variance of these losses (Krueger 2021).

    Only distributions that are in the batch count. Krueger 2021 has the sum of losses; the mean keeps one learning
    rate for all methods. If beta is above 1, the result is divided by beta, as in the authors' code.

    Args:
        num_groups (int): number of distributions S.
        rex_beta (float): weight beta of the variance, >= 0.
    """

    def __init__(self, num_groups, rex_beta):
        super().__init__()
        self.beta = rex_beta
        self.means = GroupMeans(num_groups)

    def risk(self, losses, logits, labels, groups):
        means, counts = self.means(losses, groups)
        mean = self.means.mean_over_present(means, counts)
        off = means - mean
        variance = self.means.mean_over_present(off * off, counts)
        return (mean + self.beta * variance) / max(self.beta, 1.0)


class IRM(Objective):
    """The mean over distributions of the loss + lambda times a penalty (Arjovsky 2019).

    The penalty is the squared derivative of the distribution's loss with respect to a factor w on the logits, at w = 1.
    The square is the product of the derivatives on two halves of the distribution's samples. The derivative of a
    sample's loss has the closed form sum_k softmax_k z_k - z_y.

    Only distributions that are in the batch count. A distribution with a single sample has no second half and no
    penalty. For the first batches lambda is 1. If lambda is above 1, the result is divided by lambda, so that steps
    keep their size. The code of the authors of IRM and of EIIL does the same.

    Args:
        num_groups (int): number of distributions S.
        irm_lambda (float): lambda, >= 0.
        irm_anneal (int): number of first batches with lambda = 1.
    """

    def __init__(self, num_groups, irm_lambda, irm_anneal):
        super().__init__()
        self.penalty = irm_lambda
        self.anneal_batches = irm_anneal
        self.means = GroupMeans(num_groups)
        self.batches = Parameter(ms.Tensor(0, ms.int32), name="irm_batches", requires_grad=False)

    def update(self, losses, groups):
        return ops.assign_add(self.batches, ms.Tensor(1, ms.int32))

    def first_risk(self, losses, logits, labels, groups):
        risk = self.risk(losses, logits, labels, groups)
        self.update(losses, groups)
        return risk

    def second_risk(self, losses, logits, labels, groups, first_losses, first_logits):
        return self.annealed_risk(losses, logits, labels, groups, self.batches - 1)

    def risk(self, losses, logits, labels, groups):
        return self.annealed_risk(losses, logits, labels, groups, self.batches)

    def annealed_risk(self, losses, logits, labels, groups, batches_before):
        derivatives = (ops.softmax(logits, 1) * logits).sum(1) - label_logits(logits, labels)
        membership = self.means.membership(groups)
        means, counts = self.means.average(losses, membership)
        rank = (ops.cumsum(membership, 1) * membership).sum(0) - 1  # position of a sample within its distribution
        odd = rank - 2 * ops.floor(rank / 2)
        even_half, _ = self.means.average(derivatives, membership * (1 - odd).reshape((1, -1)))
        odd_half, _ = self.means.average(derivatives, membership * odd.reshape((1, -1)))
        annealed = (batches_before >= self.anneal_batches).astype(ms.float32)
        factor = 1 + annealed * (self.penalty - 1)
        return self.means.mean_over_present(means + factor * even_half * odd_half, counts) / ops.maximum(factor, 1)


class WorstGroupSharpness(GroupWeightedObjective):
    """SharpDRO (Huang 2023) with known distributions, as the authors' code computes it.

    First pass: L = mean loss at the weights. Second pass: R = sum_s q_s mean_s(loss at the perturbed weights - loss at
    the weights), with q moved by the first pass's losses. The losses at the weights are constants in R. So the step
    follows the sum of two gradients: of L at the weights, and of sum_s q_s mean_s(loss) at the perturbed weights. It is
    about twice as large as a step of one gradient.
    """

    compares_passes = adds_first_gradient = True

    def risk(self, losses, logits, labels, groups):
        return losses.mean()

    def perturbed_risk(self, losses, logits, first_losses, first_logits, groups):
        return self.group_weights(losses - first_losses, groups)


def ood_weights(first_logits, logits, scaled=True):
    """Return weights of samples that grow with the confidence lost at the perturbed weights (SharpDRO paper, Eq. 11).

    The score is the largest softmax value at the weights minus the largest softmax value at the perturbed weights.
    Scores are scaled per batch to 0..1 and then to mean 1. Equal scores give weight 1.

    Args:
        first_logits, logits (Tensor): float32 (N, K), at the weights and at the perturbed weights.
        scaled (bool): whether scores are scaled to 0..1. If false, scores are only divided by their mean, to the letter
            of Eq. 11 and 12. Then a sample that gains confidence has a score below 0, and a mean of 0 gives weight 1.

    Returns:
        Tensor: float32 (N,).
    """
    scores = ops.amax(ops.softmax(first_logits, 1), 1) - ops.amax(ops.softmax(logits, 1), 1)
    if not scaled:
        mean = scores.mean()
        usable = ops.abs(mean) > 1e-12
        return select_whole(usable, scores / ops.select(usable, mean, ops.ones_like(mean)), ops.ones_like(scores))
    lowest = ops.amin(scores)
    spread = ops.amax(scores) - lowest
    shares = (scores - lowest) / ops.select(spread > 0, spread, ops.ones_like(spread))
    return select_whole(spread > 0, shares / ops.maximum(shares.mean(), 1e-12), ops.ones_like(shares))


class OODWeightedRisk(Mean):
    """SharpDRO without known distributions, with both terms of the paper's Eq. 12 over the OOD-weighted samples.

    The sum of both terms is the mean of w_i (loss at the perturbed weights), with the samples' `ood_weights` w_i as
    constants. The weights of samples need the second pass, so the ascent follows the gradient of the mean loss, and the
    first gradient has no other use. Distribution indices are not read.

    Args:
        ood_weights (str): 'scaled' or 'plain', as in `ood_weights`.
    """

    compares_passes = True

    def __init__(self, ood_weights):
        super().__init__()
        self.is_scaled = ood_weights == "scaled"

    def perturbed_risk(self, losses, logits, first_losses, first_logits, groups):
        return (self.sample_weights(first_logits, logits) * losses).mean()

    def sample_weights(self, first_logits, logits):
        """Return the weights of the samples, float32 (N,), without a gradient."""
        return ops.stop_gradient(ood_weights(first_logits, logits, self.is_scaled))


class AgnosticSharpness(OODWeightedRisk):
    """SharpDRO without known distributions: the mean loss, and an OOD-weighted sharpness.

    R = mean of w_i (loss at the perturbed weights - loss at the weights), with the losses at the weights as constants.
    As in `WorstGroupSharpness`, the step follows the sum of the two passes' gradients.
    """

    adds_first_gradient = True

    def perturbed_risk(self, losses, logits, first_losses, first_logits, groups):
        return (self.sample_weights(first_logits, logits) * (losses - first_losses)).mean()
