"""Numbers that describe a mini-batch or an evaluation."""
from typing import NamedTuple

import numpy as np


class Result(NamedTuple):
    """What an evaluation finds at one severity.

    Attributes:
        accuracy (float): share of images that are classified right, 0..1; nan where there is no image.
        loss (float): mean cross-entropy; nan where there is no image.
        images (int): number of images.
        gradient_norm (float or None): l2 norm of the mean loss's gradient; None where it was not asked for.
    """

    accuracy: float
    loss: float
    images: int
    gradient_norm: float | None = None


def group_means(values, groups, num_groups):
    """Mean of `values` (N,) for each distribution index in `groups` (N,), and the counts; 0 where the count is 0.

    Returns:
        tuple: float64 (num_groups,) means, int64 (num_groups,) counts.
    """
    counts = np.bincount(groups, minlength=num_groups)
    sums = np.bincount(groups, weights=values, minlength=num_groups)
    return sums / np.maximum(counts, 1), counts
