"""The benchmark of any classifier under corruptions: `benchmark(predict, images, labels)`."""
import contextlib
import itertools
import numbers
import os
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from corruptions.evaluation.alexnet import CLASSES
from corruptions.evaluation.alexnet import NAME as ALEXNET
from corruptions.evaluation.baseline import Baseline
from corruptions.evaluation.metrics import scores
from corruptions.evaluation.outputs import to_numpy
from corruptions.evaluation.record import to_dict
from corruptions.evaluation.result import BenchmarkResult
from corruptions.generate import SEED, check_seed
from corruptions.images import jpeg_roundtrip
from corruptions.jobs.arrays import chunk_of, corrupt_chunk
from corruptions.jobs.parallel import parallel_map
from corruptions.jobs.settings import SHARED_ONLY, options_settings
from corruptions.registry import DEFAULTS, as_array, check_images, check_options
from corruptions.severities import SEVERITIES, as_sequence, check_severity, nearest_preset
from corruptions.table import check_usable, known_names, set_title, set_words
from corruptions.utils.checksums import array_digest
from corruptions.utils.cli import cpu_count
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json

ROUNDING = 0.01  # by which the sum of probabilities in half precision may differ from 1
LEAST = 1e-30  # for which a probability of 0 counts, so that the mean of the logarithms stays finite


def benchmark(predict, images, labels, corruptions="common", severities=SEVERITIES, preprocess=None,
              outputs="auto", baseline=None, name="classifier", batch_size=128, workers=None, seed=SEED,
              options=DEFAULTS, show_progress=None, jpeg=None):
    """Measure a classifier on clean and on corrupted images.

    Other processes make the corrupted images ahead while the classifier works. Without `jpeg`, image k has the pixels
    of `corrupt(images, ...)[k]`, as in the arrays that `python -m corruptions array` stores.

    Args:
        predict (callable): a batch, uint8 (B, H, W, C) or what `preprocess` makes of it, to logits or probabilities
            (B, K): an array, or a tensor of PyTorch, JAX or MindSpore. Grey images (N, H, W) come as (B, H, W, 1).
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C), memory-mapped or not; or a list of images of one shape.
        labels (sequence of int): N class numbers, from 0.
        corruptions (str or sequence of str): names of corruptions, or a key of `SETS`.
        severities (sequence of float): severities, each 1 to 5.
        preprocess (callable or None): function of a batch, uint8 (B, H, W, C), before `predict`.
        outputs (str): 'logits' or 'probabilities'. 'auto' takes the outputs for the clean images as probabilities if
            none is negative and each row has the sum 1. Other integers need 'logits'. A probability of 0 counts as
            1e-30 in the NLL.
        baseline (str, BenchmarkResult or None): baseline of the corruption errors, with the same images, seed and
            options: another result, or the JSON file that `BenchmarkResult.write` has written. 'alexnet' stands for its
            published errors on ImageNet-C, for classifiers of 1000 classes and the constants for 224 pixels.
        name (str): name of the classifier, for titles.
        batch_size (int): images in a batch, at least 1.
        workers (int or None): number of processes that corrupt images, at least 1; None takes one for each processor.
        seed (int): seed of the corrupted images, at least 0.
        options (Options): options of the corruptions.
        show_progress (bool or None): whether to show a progress bar; None shows it on a terminal.
        jpeg (bool or None): whether corrupted images pass through JPEG of quality 85, as the files of ImageNet-C did.
            None takes True with the baseline 'alexnet', whose errors are of these files, and False otherwise.

    Returns:
        BenchmarkResult

    Raises:
        UserError: an argument is not as above, or the classifier gives outputs of another form.

    Sources:
        error, mCE and relative mCE: Hendrycks and Dietterich (2019); ECE: Guo et al. (2017), Eq. 3, with 15 bins.
    """
    preprocess = (lambda batch: batch) if preprocess is None else preprocess
    for option, value in (("predict", predict), ("preprocess", preprocess)):
        if not callable(value):
            raise UserError(f"{option} of type {type(value).__name__}: must be a function of a batch of images")
    images = as_array(images)
    check_images(images)
    labels = _checked_labels(labels, len(images))
    names, title = _checked_names(corruptions)
    severities = [check_severity(severity) for severity in as_sequence(severities)]
    check_seed(seed)
    workers = cpu_count() if workers is None else workers
    for option, value in (("batch_size", batch_size), ("workers", workers)):
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise UserError(f"{option} {value!r}: must be a whole number of 1 or more")
    if outputs not in ("auto", "logits", "probabilities"):
        raise UserError(f"outputs {outputs!r}: must be auto, logits or probabilities")
    check_options(options)
    if not severities or len(set(severities)) < len(severities):
        raise UserError(f"severities {severities}: give each once, and one at least")
    check_usable(names, severities, options)
    is_alexnet = _is_alexnet(baseline)
    if jpeg is not None and not isinstance(jpeg, bool):
        raise UserError(f"jpeg {jpeg!r}: must be True, False or None")
    jpeg = is_alexnet if jpeg is None else jpeg
    source = {**_describe(images, labels, names, seed, options), "jpeg": jpeg}
    relative_to = _find_baseline(baseline, names, severities, source)
    if is_alexnet and any((options.preset or nearest_preset(key, *images.shape[1:3])) != 224 for key in names):
        raise UserError("baseline alexnet: its errors are published for the constants for 224 pixels; give "
                        "Options(preset=224)")
    cells = list(itertools.product(names, severities))
    starts = range(0, len(images), batch_size)
    tasks = ((*chunk_of(images, first, batch_size), corruption, severity, seed, first, options.with_absolute_paths())
             for corruption, severity in cells for first in starts)
    with contextlib.closing(parallel_map(workers, _compressed_chunk if jpeg else corrupt_chunk, tasks)) as corrupted, \
            tqdm(total=(1 + len(cells)) * len(images), desc="benchmark", unit=" images",
                 disable=None if show_progress is None else not show_progress) as bar:
        def outputs_for(batches):
            return _predict(predict, preprocess, batches, bar)
        values = outputs_for(np.array(images[first:first + batch_size]) for first in starts)
        if outputs == "auto":
            outputs = _kind_of(values)
        if is_alexnet and values.shape[1] != CLASSES:
            raise UserError(f"baseline alexnet: has {CLASSES} classes, and predict gives "
                            f"{values.shape[1]} values")
        clean, results = _score(values, labels, outputs, "the clean images"), {}
        for corruption, severity in cells:
            values = outputs_for(itertools.islice(corrupted, len(starts)))
            results.setdefault(corruption, []).append(
                _score(values, labels, outputs, f"{corruption} at severity {severity}"))
    description = {"model": str(name), "set": title, **source, "severities": severities, "outputs": outputs}
    return BenchmarkResult(to_dict(description, clean, results, relative_to), relative_to)


def _compressed_chunk(*arguments):
    """`corrupt_chunk`, with the images as they are after JPEG of quality 85."""
    return np.stack([jpeg_roundtrip(pixels) for pixels in corrupt_chunk(*arguments)])


def _predict(predict, preprocess, batches, bar):
    """Return the outputs of a classifier for all batches, (N, K), and advance the progress bar."""
    parts = []
    for batch in batches:
        batch = batch[..., None] if batch.ndim == 3 else batch
        # A copy, because some runtimes write the outputs of every batch into the same buffer.
        parts.append(np.array(_checked_outputs(predict(preprocess(batch)), len(batch))))
        bar.update(len(batch))
    if len({part.shape[1] for part in parts}) > 1:
        raise UserError("predict gives a different number of classes for some batches")
    return np.concatenate(parts)


def _checked_labels(labels, number):
    try:
        labels = np.asarray(labels)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"labels cannot become an array ({error}); give integers, one for each image") from error
    if labels.shape != (number,) or labels.dtype.kind not in "iu" or number == 0:
        raise UserError(f"labels are {labels.dtype} of shape {labels.shape}: must be integers of shape {(number,)}, "
                        "one for each image, and at least one")
    if labels.min() < 0 or labels.max() >= 2 ** 31:
        raise UserError(f"labels: {labels.min()} to {labels.max()} are not classes, which are numbers from 0")
    return labels.astype(np.int64)


def _checked_names(corruptions):
    """Return names of corruptions, and a title for them."""
    words = [corruptions]
    if not isinstance(corruptions, str) and isinstance(corruptions, Iterable):
        words = list(corruptions)
    if not all(isinstance(word, str) for word in words):
        raise UserError(f"corruptions {corruptions!r}: must be names of corruptions")
    names = list(dict.fromkeys(known_names(words)))
    if not names:
        raise UserError("corruptions: there is none; name one or more")
    return names, set_title(set_words(names), len(names))


def _describe(images, labels, names, seed, options):
    """Return what the images of a benchmark depend on, as plain values."""
    settings = {**options_settings(options, names), "preset": options.preset and int(options.preset)}
    return {"test_images": len(images), "images": array_digest(images), "labels": array_digest(labels),
            "seed": int(seed), **settings}


def _is_alexnet(baseline):
    """Whether the baseline is AlexNet's published errors."""
    return isinstance(baseline, str) and baseline.lower() == ALEXNET.lower()


def _find_baseline(baseline, names, severities, description):
    if baseline is None:
        return None
    if isinstance(baseline, BenchmarkResult):
        checked = _checked_baseline(baseline.record["model"], baseline.record, names, severities, description)
        return replace(checked, description={**checked.description, "name": baseline.record["model"]})
    if _is_alexnet(baseline):
        if any(isinstance(severity, float) for severity in severities):
            raise UserError("baseline alexnet: its errors are published for whole severities; leave the others out")
        return Baseline.of_alexnet(names, severities, "baseline")
    if not isinstance(baseline, (str, os.PathLike)) or not os.path.isfile(baseline):
        raise UserError(f"baseline {baseline}: must be 'alexnet', a BenchmarkResult or the JSON file of one")
    return _checked_baseline(os.fspath(baseline), read_json(baseline), names, severities, description)


def _checked_baseline(path, record, names, severities, description):
    """Return the `Baseline` of a record, after a check that it is of the same images."""
    checked = Baseline.of_record(path, record, names, severities, "baseline")
    record = {"jpeg": False, **record}  # earlier versions could not compress
    changed = [key for key, value in description.items() if record.get(key) != value
               and (key in record or key not in SHARED_ONLY)]
    if changed:
        raise UserError(f"baseline {path}: was measured with other {', '.join(changed)}; measure it on the same images")
    return checked


def _checked_outputs(outputs, number):
    """Return the outputs of a classifier as an array of numbers, (number, K)."""
    if isinstance(outputs, (list, tuple)) and len(outputs) == 1 and getattr(outputs[0], "ndim", 0) == 2:
        [outputs] = outputs  # ONNX Runtime gives a list of all outputs
    if isinstance(outputs, tuple):  # such as values and classes
        raise UserError(f"predict gives a tuple of {len(outputs)}: must give logits or probabilities alone")
    outputs = to_numpy(outputs, "predict gives")
    if outputs.ndim != 2 or len(outputs) != number or outputs.shape[1] < 2 or outputs.dtype.kind not in "fiu":
        raise UserError(f"predict gives {outputs.dtype} of shape {outputs.shape} for {number} images: must be logits "
                        f"or probabilities of shape ({number}, number of classes)")
    return outputs


def _kind_of(values):
    """Return whether outputs for the clean images are 'logits' or 'probabilities'.

    Raises:
        UserError: the outputs may be either, such as the values of a sigmoid, or integers.
    """
    if _are_probabilities(values):
        return "probabilities"
    if values.dtype.kind in "iu":
        raise UserError("predict gives integers, which may be logits or quantized probabilities; pass "
                        "outputs='logits', or turn them into floats between 0 and 1")
    if (values >= 0).all() and (values <= 1).all():
        raise UserError("predict gives values from 0 to 1 whose sum is not 1; pass outputs='logits', or give "
                        "probabilities")
    return "logits"


def _are_probabilities(values):
    return bool((values >= 0).all() and np.abs(values.sum(axis=1, dtype=np.float64) - 1).max() < ROUNDING)


def _score(values, labels, outputs, place):
    """Return the `CalibrationScores` of logits or probabilities (N, K). `place` names the images, for errors."""
    values = values.astype(np.float64)
    if labels.max() >= values.shape[1]:
        raise UserError(f"labels: {labels.max()} is not a class, because predict gives {values.shape[1]} values, 0 to "
                        f"{values.shape[1] - 1}")
    # Logits of minus infinity rule out classes, which may not be the right ones.
    if not np.isfinite([values.max(axis=1), values[np.arange(len(labels)), labels]]).all():
        raise UserError(f"predict gives values that are not finite for {place}; they cannot be compared")
    if outputs == "probabilities":
        if not _are_probabilities(values):
            raise UserError(f"predict gives values for {place} that are not probabilities with the sum 1; pass "
                            "outputs='logits'")
        values = np.log(np.maximum(values, LEAST))
    return scores(values, labels)
