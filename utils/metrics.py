"""Numbers that describe a mini-batch or an evaluation."""
import numpy as np


def group_means(values, groups, num_groups):
    """Mean of `values` (N,) for each distribution index in `groups` (N,), and the counts; 0 where the count is 0.

    Returns:
        tuple: float64 (num_groups,) means, int64 (num_groups,) counts.
    """
    counts = np.bincount(groups, minlength=num_groups)
    sums = np.bincount(groups, weights=values, minlength=num_groups)
    return sums / np.maximum(counts, 1), counts
