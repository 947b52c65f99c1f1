"""Metrics of a mini-batch or an evaluation."""
from typing import NamedTuple

import numpy as np

SHARPNESS_IMAGES = 512  # images of each severity; a surface needs many more passes and uses half of them
SHARPNESS_RHO = 0.05  # the value in the papers


class SeverityResult(NamedTuple):
    """The result of an evaluation at one severity.

    Attributes:
        accuracy (float): share of images that are classified correctly, 0..1; nan if there is no image.
        loss (float): mean cross-entropy; nan if there is no image.
        images (int): number of images.
        gradient_norm (float or None): l2 norm of the gradient of the mean loss; None if it was not measured.
    """

    accuracy: float
    loss: float
    images: int
    gradient_norm: float | None = None


def group_means(values, groups, num_groups):
    """Return the mean of `values` (N,) for each distribution index in `groups` (N,), and the counts.

    A mean is 0 where the count is 0.

    Returns:
        tuple: float64 (num_groups,) means, int64 (num_groups,) counts.
    """
    counts = np.bincount(groups, minlength=num_groups)
    sums = np.bincount(groups, weights=values, minlength=num_groups)
    return sums / np.maximum(counts, 1), counts
