"""What moves the weights over distributions where losses of the training images do not (`--group_loss validation`).

An adversary that sees training losses leaves a rare distribution as soon as its few images are learned by heart. The
loss of images that are not trained on stays high there. They are validation images, of which a third is kept for
choosing between models, as validation images are otherwise.
"""
import mindspore as ms
import mindspore.nn as nn
import numpy as np

from dataset.batches import EvaluationBatches
from dataset.pipeline import hold
from utils.errors import UserError
from utils.probes import mean_loss
from utils.workers import share


class Move(nn.Cell):
    """Moves `GroupWeights` by losses float32 (S,), as far as so many batches would."""

    def __init__(self, weights, times):
        super().__init__(auto_prefix=False)
        self.weights, self.times = weights, times

    def construct(self, losses):
        return self.weights.move(losses, self.times)


class Guide:
    """Moves the weights over distributions at every N-th batch, by the losses of validation images.

    The images are a function of the seed and of the batch's number alone, and the same at all severities.

    Args:
        weights (GroupWeights): what is moved.
        evaluation (EvaluationStep): of the network.
        data (dataset.data.Data): has the images.
        indices (numpy.ndarray): the validation images that serve for this.
        every (int): N; a move is as large as those of N batches together.
        batch_size (int): images of each severity for a move.
        seed (int): of their choice.
    """

    def __init__(self, weights, evaluation, data, indices, every, batch_size, seed):
        self.move, self.evaluation, self.data, self.indices = Move(weights, every), evaluation, data, indices
        self.every, self.batch_size, self.seed = every, min(batch_size, len(indices)), seed

    def is_due(self, number):
        """Whether there is a move before batch number `number`, counted from 0 over the whole run."""
        return number > 0 and number % self.every == 0

    def losses(self, number):
        """Mean losses of validation images at every severity, float32 (S,), for the move before a batch."""
        rng = np.random.default_rng((self.seed, number))
        chosen = np.sort(rng.choice(self.indices, self.batch_size, replace=False))
        source = self.data.source
        means = []
        for images in self.data.images["train"]:
            batches = EvaluationBatches(images, source.labels["train"], chosen, source.mean, source.std,
                                        self.batch_size, share())
            means.append(mean_loss(self.evaluation, hold(batches)))
        return np.array(means, np.float32)

    def __call__(self, number):
        """Move the weights; the network is in evaluation mode afterwards."""
        self.move(ms.Tensor(self.losses(number)))


def create_guide(step, evaluation, data, every, batch_size, seed):
    """A `Guide`, and the data with the third of the validation images that it leaves alone.

    Raises:
        UserError: there are too few validation images.
    """
    validation = data.split.validation
    if len(validation) < 3:
        raise UserError(f"--group_loss validation: there are {len(validation)} validation images; a smaller -n leaves "
                        "more")
    shuffled = np.random.default_rng(seed).permutation(validation)
    kept, indices = np.split(shuffled, [len(validation) // 3])
    guide = Guide(step.objective.group_weights, evaluation, data, indices, every, batch_size, seed)
    return guide, data.with_validation(np.sort(kept))
