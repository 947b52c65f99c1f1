"""How stable a classifier is over the frames of perturbation sequences, as the published `test.py` computes it.

The paper is Hendrycks and Dietterich (2019). In it, the flip probability is the share of pairs of frames with different
predictions. The flip rate is the flip probability relative to a baseline, which is AlexNet there.
"""
import numbers

import numpy as np

from corruptions.sequences.constants import check_difficulty
from corruptions.sequences.perturbations import PERTURBATIONS
from corruptions.utils.errors import UserError

TOP = 5


def flip_rate(predictions, baseline=None, difficulty=1):
    """Return how often the predicted class changes between frames: FP and mFP, or FR and mFR with a baseline.

    A frame with noise is compared with the first frame, which is the clean image. Another frame is compared with the
    frame `difficulty` before it. Pairs are averaged over a sequence, then over the sequences.

    Args:
        predictions (dict): perturbation to predicted classes, int (N, F), or to logits or probabilities, float
            (N, F, K), of the F frames of N images.
        baseline (dict or None): perturbation to the flip probability of another network, such as the result of this
            function without a baseline.
        difficulty (int): 1, 2 or 3. For noise it has no effect here, because the frames themselves are noisier.

    Returns:
        dict: perturbation to its flip probability, 0..1, or to its flip rate, and 'mean' to the mean of these.

    Raises:
        UserError: an argument is not as above, or the baseline lacks a perturbation or never flips.
    """
    return _measure(predictions, baseline, difficulty, _classes, lambda first, second: first != second)


def top5_distance(outputs, baseline=None, difficulty=1):
    """Return how far the five most probable classes move between frames: uT5D, or T5D and mT5D with a baseline.

    The distance of two frames is the sum over i = 1..5 of |i - min(r_i, 6)|, where r_i is the rank in the later
    frame of the class that has rank i in the earlier one. Of equal outputs, the class with the lower
    number has the better rank. Pairs of frames are those of `flip_rate`.

    Args:
        outputs (dict): perturbation to logits or probabilities, float (N, F, K), K at least 5.
        baseline, difficulty: as in `flip_rate`.

    Returns:
        dict: perturbation to its mean distance, or to its ratio to the baseline, and 'mean' to the mean of these.

    Raises:
        UserError: as in `flip_rate`.
    """
    return _measure(outputs, baseline, difficulty, _ranks, _distance)


def _measure(sequences, baseline, difficulty, prepare, compare):
    check_difficulty(difficulty)
    if not isinstance(sequences, dict) or not sequences:
        raise UserError("sequences: must be a dict of the name of a perturbation to an array, with one at least")
    values = {}
    for name, frames in sequences.items():
        if name not in PERTURBATIONS:
            raise UserError(f"perturbation {name}: unknown; there are {', '.join(PERTURBATIONS)}")
        try:
            frames = np.asarray(frames)
        except ValueError as error:
            raise UserError(f"{name}: is no array ({error}); give (N, F) or (N, F, K)") from error
        if frames.ndim < 2 or len(frames) == 0 or frames.shape[1] <= difficulty:
            raise UserError(f"{name}: has shape {frames.shape}; must be (N, F) or (N, F, K), with one image and "
                            f"{difficulty + 1} frames at least")
        is_noise, means = PERTURBATIONS[name].is_noise, []
        for frame in frames:  # one sequence at a time, so that little memory is needed
            prepared = prepare(name, frame)
            first = np.broadcast_to(prepared[:1], prepared[1:].shape) if is_noise else prepared[:-difficulty]
            second = prepared[1:] if is_noise else prepared[difficulty:]
            means.append(np.mean(compare(first, second)))
        values[name] = float(np.mean(means))
    if baseline is not None:
        values = {name: value / _baseline_value(baseline, name) for name, value in values.items()}
    return {**values, "mean": float(np.mean(list(values.values())))}


def _baseline_value(baseline, name):
    value = baseline.get(name) if isinstance(baseline, dict) else None
    if not isinstance(value, numbers.Real) or not 0 < value < float("inf"):
        raise UserError(f"baseline of {name}: {value!r} must be a number above 0, so that others can be relative to it")
    return value


def _classes(name, frames):
    """Return the predicted class of each frame of a sequence, (F,)."""
    if frames.ndim == 1 and frames.dtype.kind in "iu":
        return frames
    return _outputs(name, frames, 1).argmax(axis=1)


def _outputs(name, frames, least):
    if frames.ndim != 2 or frames.dtype.kind != "f" or frames.shape[1] < least or not np.isfinite(frames).all():
        raise UserError(f"{name}: {frames.dtype} of shape {frames.shape} for a sequence; must be finite logits or "
                        f"probabilities of shape (F, K), K at least {least}")
    return frames


def _ranks(name, frames):
    """Return the rank of each class in each frame of a sequence, int (F, K), from 0."""
    order = np.argsort(-_outputs(name, frames, TOP), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(frames.shape[1])[None], axis=1)
    return ranks


def _distance(first, second):
    """Return the distances (P,) of P pairs of frames, each given by its ranks, int (P, K)."""
    best = np.argsort(first, axis=1)[:, :TOP]
    return np.abs(np.arange(TOP) - np.minimum(np.take_along_axis(second, best, axis=1), TOP)).sum(axis=1)
