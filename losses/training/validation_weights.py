"""What moves the weights over distributions where losses of the training images do not (`--group_loss validation`).

An adversary that sees training losses leaves a rare distribution as soon as its few images are learned by heart. The
loss of images that are not trained on stays high there. They are validation images, of which a third is kept for
choosing between models, as validation images are otherwise.
"""
import mindspore as ms
import mindspore.nn as nn
import numpy as np

from dataset.batches import EvaluationBatches
from dataset.pipeline import materialize
from losses.evaluation.probes import mean_loss
from losses.group_weights import VALIDATION_BATCH
from utils.runtime.distributed import rank_and_world_size


class UpdateGroupWeights(nn.Cell):
    """Moves `GroupWeights` by losses float32 (S,), as far as so many batches would."""

    def __init__(self, weights, times):
        super().__init__(auto_prefix=False)
        self.weights, self.times = weights, times

    def construct(self, losses):
        return self.weights.ascend(losses, self.times)


class ValidationReweighter:
    """Moves the weights over distributions at every N-th batch, by the losses of validation images.

    The images are a function of the seed and of the batch's number alone, and the same at all severities. A severity
    without training images has loss 0: nothing in training could answer for it.

    Args:
        weights (GroupWeights): what is moved.
        evaluation (EvaluationStep): of the network.
        data (dataset.data.ExperimentData): has the images.
        indices (numpy.ndarray): the validation images that serve for this.
        every (int): N; a move is as large as those of N batches together.
        seed (int): of their choice.
    """

    def __init__(self, weights, evaluation, data, indices, every, seed):
        self.move, self.evaluation = UpdateGroupWeights(weights, every), evaluation
        self.data, self.indices = data, indices
        self.every, self.number_of_images, self.seed = every, min(VALIDATION_BATCH, len(indices)), seed

    def is_due(self, number):
        """Whether there is a move before batch number `number`, counted from 0 over the whole run."""
        return number > 0 and number % self.every == 0

    def losses(self, number):
        """Mean losses of validation images at every severity, float32 (S,), for the move before a batch."""
        rng = np.random.default_rng((self.seed, number))
        chosen = np.sort(rng.choice(self.indices, self.number_of_images, replace=False))
        source = self.data.source
        means = np.zeros(self.data.num_severity, np.float32)
        for severity in self.data.split.present:
            batches = EvaluationBatches(self.data.images["train"][severity], source.labels["train"], chosen,
                                        source.mean, source.std, self.number_of_images, rank_and_world_size())
            means[severity] = mean_loss(self.evaluation, materialize(batches))
        return means

    def __call__(self, number):
        """Move the weights; the network is in evaluation mode afterwards."""
        self.move(ms.Tensor(self.losses(number)))


def create_reweighter(step, evaluation, data, every, seed):
    """A `ValidationReweighter`, and the data with the third of the validation images that it leaves alone."""
    validation = data.split.validation
    shuffled = np.random.default_rng(seed).permutation(validation)
    kept, indices = np.split(shuffled, [len(validation) // 3])
    guide = ValidationReweighter(step.objective.group_weights, evaluation, data, indices, every, seed)
    return guide, data.with_validation(np.sort(kept))
