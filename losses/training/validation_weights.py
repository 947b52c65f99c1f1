"""Updates of the weights over distributions by losses of validation images (`--group_loss validation`).

An adversary that sees training losses leaves a rare distribution as soon as its few images are learned by heart. The
loss of images that are not trained on stays high there. These images are validation images. A third of the validation
images is kept for choosing between models, which is their use without this option.
"""
import mindspore as ms
import mindspore.nn as nn
import numpy as np

from dataset.batches import EvaluationBatches
from dataset.pipeline import materialize
from losses.components import VALIDATION_BATCH
from losses.evaluation.probes import mean_loss
from utils.runtime.distributed import rank_and_world_size


class UpdateGroupWeights(nn.Cell):
    """Move `GroupWeights` by losses float32 (S,), as far as `times` batches would."""

    def __init__(self, weights, times):
        super().__init__(auto_prefix=False)
        self.weights, self.times = weights, times

    def construct(self, losses):
        return self.weights.ascend(losses, self.times)


class ValidationReweighter:
    """Move the weights over distributions at every N-th batch, by the losses of validation images.

    The choice of images depends only on the seed and the batch's number, and is the same at all severities. A severity
    without training images has loss 0, because no training image could answer for it.

    Args:
        weights (GroupWeights): the weights to move.
        evaluation (EvaluationStep): evaluation step of the network.
        data (dataset.data.ExperimentData): the data with the images.
        indices (numpy.ndarray): indices of the validation images that the moves use.
        every (int): N; a move is as large as the moves of N batches together.
        seed (int): seed of the choice of images.
    """

    def __init__(self, weights, evaluation, data, indices, every, seed):
        self.move, self.evaluation = UpdateGroupWeights(weights, every), evaluation
        self.data, self.indices = data, indices
        self.every, self.number_of_images, self.seed = every, min(VALIDATION_BATCH, len(indices)), seed

    def is_due(self, number):
        """Whether there is a move before batch number `number`, counted from 0 over the whole run."""
        return number > 0 and number % self.every == 0

    def losses(self, number):
        """Return the mean losses of validation images at every severity, float32 (S,), for the move before a batch."""
        rng = np.random.default_rng((self.seed, number))
        chosen = np.sort(rng.choice(self.indices, self.number_of_images, replace=False))
        source = self.data.source
        means = np.zeros(self.data.num_severity, np.float32)
        for severity in self.data.split.nonempty_severities:
            batches = EvaluationBatches(self.data.images["train"][severity], source.labels["train"], chosen,
                                        source.mean, source.std, self.number_of_images, rank_and_world_size())
            means[severity] = mean_loss(self.evaluation, materialize(batches))
        return means

    def __call__(self, number):
        """Move the weights; the network is in evaluation mode afterwards."""
        self.move(ms.Tensor(self.losses(number)))


def create_reweighter(step, evaluation, data, every, seed):
    """Return a `ValidationReweighter`, and the data with the third of the validation images that it does not use."""
    validation = data.split.validation
    shuffled = np.random.default_rng(seed).permutation(validation)
    held_out, indices = np.split(shuffled, [len(validation) // 3])
    reweighter = ValidationReweighter(step.objective.group_weights, evaluation, data, indices, every, seed)
    return reweighter, data.with_validation(np.sort(held_out))
