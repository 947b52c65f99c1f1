"""How stable a classifier is over the frames of perturbation sequences, as the published `test.py` computes it.

The paper is Hendrycks and Dietterich (2019). In it, the flip probability is the share of pairs of frames with different
predictions. The flip rate is the flip probability relative to a baseline, which is AlexNet there.
"""
import math

import numpy as np

from corruptions.evaluation.outputs import to_numpy
from corruptions.sequences.constants import check_difficulty, frame_counts
from corruptions.sequences.perturbations import PERTURBATIONS, SEQUENCES, sequence_name
from corruptions.utils.errors import UserError

TOP = 5


def flip_rate(predictions, baseline=None, difficulty=1):
    """Return how often the predicted class changes between frames: FP and mFP, or FR and mFR with a baseline.

    A frame with noise is compared with the first frame, which is the clean image. Another frame is compared with the
    frame `difficulty` before it. Pairs are averaged over a sequence, then over the sequences.

    Args:
        predictions (dict): perturbation to predicted classes, int (N, F), or to logits or probabilities, float
            (N, F, K), of the F frames of N images. They are an array, or a tensor of PyTorch, JAX or MindSpore. F is a
            published number of frames. Noise of difficulty 2 may have the name of its file, `gaussian_noise_2`.
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
        outputs (dict): perturbation to logits or probabilities, float (N, F, K), K at least 5, as in `flip_rate`.
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
    _check_names(sequences, difficulty)
    values = {}
    for name, frames in sequences.items():
        frames, means = _frames(name, frames), []
        is_noise = PERTURBATIONS[SEQUENCES[name][0]].is_noise
        for frame in frames:  # one sequence at a time, so that little memory is needed
            prepared = prepare(name, frame)
            first = np.broadcast_to(prepared[:1], prepared[1:].shape) if is_noise else prepared[:-difficulty]
            second = prepared[1:] if is_noise else prepared[difficulty:]
            means.append(np.mean(compare(first, second)))
        values[name] = float(np.mean(means))
    if baseline is not None:
        values = {name: value / _baseline_value(baseline, name, difficulty) for name, value in values.items()}
    return {**values, "mean": float(np.mean(list(values.values())))}


def _check_names(names, difficulty):
    """Raise a `UserError` unless the names are of different perturbations and of this difficulty."""
    seen = {}
    for name in names:
        if name not in SEQUENCES:
            raise UserError(f"perturbation {name}: unknown; choose from {', '.join(SEQUENCES)}")
        perturbation, of_name = SEQUENCES[name]
        if of_name not in (None, 1, difficulty):  # without a number, the noise may have been made in memory
            raise UserError(f"{name}: has difficulty {of_name}; give difficulty={of_name}, or leave it out")
        if perturbation in seen:
            raise UserError(f"{seen[perturbation]} and {name}: are the same perturbation; leave one out")
        seen[perturbation] = name


def _frames(name, frames):
    """Return the outputs for the frames of all images, (N, F) or (N, F, K)."""
    frames, counts = to_numpy(frames, f"{name}:"), frame_counts(SEQUENCES[name][0])
    if frames.ndim not in (2, 3) or len(frames) == 0 or frames.shape[1] not in counts:
        numbers = " or ".join(map(str, counts))
        raise UserError(f"{name}: has shape {frames.shape}; must be (N, F) or (N, F, K), of N images, F = {numbers} "
                        "frames and K classes")
    return frames


def _baseline_value(baseline, name, difficulty):
    if not isinstance(baseline, dict):
        raise UserError(f"baseline of type {type(baseline).__name__}: must be a dict of perturbation to number")
    perturbation = SEQUENCES[name][0]
    there = [other for other in (name, sequence_name(perturbation, difficulty), perturbation) if other in baseline]
    if not there:
        raise UserError(f"baseline: has no {name}, only {', '.join(map(str, baseline)) or 'nothing'}; measure it, too")
    value = baseline[there[0]]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise UserError(f"baseline of {name}: {value!r} must be a number above 0, so that others can be relative to it")
    return number


def _classes(name, frames):
    """Return the predicted class of each frame of a sequence, (F,)."""
    if frames.ndim == 1 and frames.dtype.kind in "iu":
        return frames
    if frames.ndim == 1:
        raise UserError(f"{name}: classes are {frames.dtype}; must be integers (N, F), or logits or probabilities "
                        "(N, F, K)")
    return _outputs(name, frames, 1).argmax(axis=1)


def _outputs(name, frames, least):
    if (frames.ndim != 2 or frames.dtype.kind != "f" or frames.shape[1] < least
            or not np.isfinite(frames.max(axis=1)).all()):  # classes that are ruled out may have minus infinity
        raise UserError(f"{name}: {frames.dtype} of shape {frames.shape} for a sequence; must be logits or "
                        f"probabilities of shape (F, K), K at least {least}, without NaN, and finite at their maximum")
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
