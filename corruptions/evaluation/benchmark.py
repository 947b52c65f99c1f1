"""The benchmark of any classifier under corruptions: `benchmark(predict, images, labels)`."""
import itertools
import numbers
import os
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from corruptions.bar_levels import ALIASES
from corruptions.evaluation.alexnet import NAME as ALEXNET
from corruptions.evaluation.baseline import Baseline
from corruptions.evaluation.metrics import CalibrationScores, scores
from corruptions.evaluation.record import CLEAN, averages, heading, row, severities_of, to_dict, write_evaluation
from corruptions.generate import SEED, check_seed
from corruptions.jobs.arrays import chunk_of, corrupt_chunk
from corruptions.jobs.parallel import parallel_map
from corruptions.registry import DEFAULTS, Options, as_array, check_images
from corruptions.severities import check_severity, nearest_preset, severity_constants
from corruptions.table import CORRUPTIONS, SETS
from corruptions.utils.cli import cpu_count
from corruptions.utils.errors import UserError
from corruptions.utils.files import atomic_write, read_json
from corruptions.weather import frost_textures

ROUNDING = 0.01  # by which the sum of probabilities in half precision may differ from 1


@dataclass(frozen=True)
class BenchmarkResult:
    """The result of a classifier on clean and on corrupted images. `print` shows it as a table.

    Attributes:
        record (dict): all numbers as plain values: `clean` and `corrupted` (accuracy, nll, ece), averages
            `by_severity` and `by_level`, and with a baseline `corruption_error`, whose `mean` is the mCE.
        baseline (Baseline or None): the baseline of the corruption errors.
    """

    record: dict
    baseline: Baseline | None = None

    @property
    def clean(self):
        """The `CalibrationScores` on the clean images."""
        return CalibrationScores(**self.record["clean"])

    @property
    def corrupted(self):
        """Each corruption to a list of `CalibrationScores`, one for each severity."""
        return {name: [CalibrationScores(*values) for values in zip(*metrics.values(), strict=True)]
                for name, metrics in self.record["corrupted"].items()}

    @property
    def error_by_severity(self):
        """The error, 0..1, averaged over corruptions: a dict of severity to float, with the clean images as 0."""
        severities = (0, *severities_of(self.record))
        return dict(zip(severities, self.record["by_severity"]["error"], strict=True))

    @property
    def mean_corruption_error(self):
        """The mean over corruptions of the corruption error (mCE), relative to the baseline; None without one."""
        return self.record["corruption_error"]["mean"] if "corruption_error" in self.record else None

    def __str__(self):
        names = list(self.corrupted)
        title = f"{self.record['model']}: {self.record['set']}, {self.record['test_images']} images"
        lines = [heading(title, self.record, names, self.baseline).lstrip("\n")]
        lines += [row(name, rows, self.record, names, self.baseline)
                  for name, rows in {CLEAN: [self.clean], **self.corrupted}.items()]
        return "\n".join([*lines, averages(self.record)])

    def write(self, path):
        """Write the numbers as `PATH.json` and as `PATH.csv`, one row for each corruption and severity."""
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        write_evaluation(path, self.record)

    def plot(self, path):
        """Draw the error of each corruption at each severity, as a heat map with its numbers.

        Args:
            path (str): picture file to write, its format by the suffix.
        """
        rows = {name: [100 * (1 - score.accuracy) for score in line] for name, line in self.corrupted.items()}
        rows = {**rows, "mean": np.mean(list(rows.values()), axis=0)}
        values = np.array([[*line, np.mean(line)] for line in rows.values()])
        figure = Figure(figsize=(1.6 + 0.5 * values.shape[1], 0.9 + 0.19 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.imshow(values, cmap="Oranges", vmin=0, vmax=100, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=6.5,
                      color="white" if value > 70 else "black")
        axes.set_xticks(range(values.shape[1]), [*map(str, severities_of(self.record)), "mean"], fontsize=7)
        axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows], fontsize=7)
        axes.tick_params(length=0)
        axes.set_xlabel("severity", fontsize=7)
        axes.set_title(f"{self.record['model']}: error (%)\nclean images {100 * (1 - self.clean.accuracy):.1f}",
                       fontsize=8)
        options = {"svg.hashsalt": "figures", "svg.fonttype": "none"}
        with matplotlib.rc_context(options), atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=200)


def benchmark(predict, images, labels, corruptions="common", severities=(1, 2, 3, 4, 5), preprocess=None,
              outputs="auto", baseline=None, name="classifier", batch_size=128, workers=None, seed=SEED,
              options=DEFAULTS, show_progress=None):
    """Measure a classifier on clean and on corrupted images.

    Other processes make the corrupted images ahead while the classifier works. Image k has the pixels of
    `corrupt(images, ...)[k]`, as in the arrays that `python -m corruptions array` stores.

    Args:
        predict (callable): a batch, uint8 (B, H, W, C) or what `preprocess` makes of it, to logits or probabilities
            (B, K): an array, or a tensor of PyTorch, JAX or MindSpore.
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C), memory-mapped or not; or a list of images of one shape.
        labels (sequence of int): N class numbers, from 0.
        corruptions (str or sequence of str): names of corruptions, or a key of `SETS`.
        severities (sequence of float): severities, each 1 to 5.
        preprocess (callable or None): function of a batch, uint8 (B, H, W, C), before `predict`.
        outputs (str): 'logits' or 'probabilities'. 'auto' takes the outputs for the clean images as probabilities if
            none is negative and each row has the sum 1.
        baseline (str, BenchmarkResult or None): baseline of the corruption errors: 'alexnet' (ImageNet), another
            result, or the JSON file that `BenchmarkResult.write` has written.
        name (str): name of the classifier, for titles.
        batch_size (int): images in a batch.
        workers (int or None): number of processes that corrupt images; None takes one for each processor.
        seed (int): seed of the corrupted images.
        options (Options): options of the corruptions.
        show_progress (bool or None): whether to show a progress bar; None shows it on a terminal.

    Returns:
        BenchmarkResult

    Raises:
        UserError: an argument is not as above, or the classifier gives outputs of another form.

    Sources:
        error and mCE: Hendrycks and Dietterich (2019); ECE: Guo et al. (2017), Eq. 3, with 15 bins.
    """
    images = as_array(images)
    check_images(images)
    labels = _checked_labels(labels, len(images))
    names, title = _checked_names(corruptions)
    severities = [check_severity(severity) for severity in
                  (severities if hasattr(severities, "__iter__") else [severities])]
    check_seed(seed)
    for option, value in (("batch_size", batch_size), ("workers", cpu_count() if workers is None else workers)):
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise UserError(f"{option} {value!r}: must be a whole number of 1 or more")
    if outputs not in ("auto", "logits", "probabilities"):
        raise UserError(f"outputs {outputs!r}: must be auto, logits or probabilities")
    if not isinstance(options, Options):
        raise UserError(f"options of type {type(options).__name__}: must be corruptions.Options")
    if not severities or len(set(severities)) < len(severities):
        raise UserError(f"severities {severities}: give each once, and one at least")
    for corruption, severity in itertools.product(names, severities):  # some have no effect between two severities
        severity_constants(corruption, severity, options.preset or nearest_preset(corruption, *images.shape[1:3]))
    if "frost" in names:
        frost_textures(options.frost_dir, 1)  # raises an error if they are missing
    relative_to = _find_baseline(baseline, names, severities)
    cells = list(itertools.product(names, severities))
    starts = range(0, len(images), batch_size)
    tasks = ((*chunk_of(images, first, batch_size), corruption, severity, seed, first, options.with_absolute_paths())
             for corruption, severity in cells for first in starts)
    batches = itertools.chain((np.array(images[first:first + batch_size]) for first in starts),
                              parallel_map(workers or cpu_count(), corrupt_chunk, tasks))
    results = {}
    with tqdm(total=(1 + len(cells)) * len(images), desc="benchmark", unit=" images",
              disable=None if show_progress is None else not show_progress) as bar:
        for corruption, severity in [(CLEAN, 0), *cells]:
            parts = []
            for batch in itertools.islice(batches, len(starts)):
                parts.append(_to_numpy(predict(batch if preprocess is None else preprocess(batch)), len(batch)))
                bar.update(len(batch))
            values = np.concatenate(parts)
            if outputs == "auto":
                outputs = "probabilities" if _are_probabilities(values) else "logits"
            results.setdefault(corruption, []).append(_score(values, labels, outputs, corruption, severity))
    [clean] = results.pop(CLEAN)
    description = {"model": name, "set": title, "test_images": len(images), "severities": severities, "seed": seed,
                   "preset": options.preset, "outputs": outputs}
    return BenchmarkResult(to_dict(description, clean, results, relative_to), relative_to)


def _checked_labels(labels, number):
    labels = np.asarray(labels)
    if labels.shape != (number,) or labels.dtype.kind not in "iu" or number == 0:
        raise UserError(f"labels are {labels.dtype} of shape {labels.shape}: must be integers of shape {(number,)}, "
                        "one for each image, and at least one")
    if labels.min() < 0:
        raise UserError(f"labels: {labels.min()} is negative; classes count from 0")
    return labels.astype(np.int64)


def _checked_names(corruptions):
    """Return names of corruptions, and a title for them."""
    words = [corruptions] if isinstance(corruptions, str) else list(corruptions)
    names = [ALIASES.get(name, name) for word in words for name in SETS.get(word, (word,))]
    for name in names:
        if name not in CORRUPTIONS:
            raise UserError(f"corruption {name}: unknown; there are {', '.join([*SETS, *CORRUPTIONS])}")
    names = list(dict.fromkeys(names))
    if not names:
        raise UserError("corruptions: there is none; name one or more")
    word = next((word for word, members in SETS.items() if set(members) == set(names)), ", ".join(names))
    return names, f"{word} ({len(names)} corruption{'' if len(names) == 1 else 's'})"


def _find_baseline(baseline, names, severities):
    if baseline is None:
        return None
    if isinstance(baseline, BenchmarkResult):
        return Baseline.of_record(baseline.record["model"], baseline.record, names, severities, "baseline")
    if isinstance(baseline, str) and baseline.lower() == ALEXNET.lower():
        if any(isinstance(severity, float) for severity in severities):
            raise UserError("baseline alexnet: its errors are published for whole severities; leave the others out")
        return Baseline.of_alexnet(names, severities, "baseline")
    if not isinstance(baseline, (str, os.PathLike)) or not os.path.isfile(baseline):
        raise UserError(f"baseline {baseline}: must be 'alexnet', a BenchmarkResult or the JSON file of one")
    return Baseline.of_record(os.fspath(baseline), read_json(baseline), names, severities, "baseline")


def _to_numpy(outputs, number):
    """Return the outputs of a classifier as an array of a float type, (number, K)."""
    if isinstance(outputs, (list, tuple)) and len(outputs) == 1:  # ONNX Runtime gives a list of all outputs
        [outputs] = outputs
    if hasattr(outputs, "detach"):  # PyTorch
        outputs = outputs.detach().cpu()
        if str(outputs.dtype) == "torch.bfloat16":  # which NumPy does not have
            outputs = outputs.float()
    outputs = outputs.asnumpy() if hasattr(outputs, "asnumpy") else np.asarray(outputs)  # MindSpore; JAX and others
    if outputs.ndim != 2 or len(outputs) != number or outputs.shape[1] < 2 or outputs.dtype.kind not in "fiu":
        raise UserError(f"predict gives {outputs.dtype} of shape {outputs.shape} for {number} images: must be logits "
                        f"or probabilities of shape ({number}, number of classes)")
    return outputs if outputs.dtype.kind == "f" else outputs.astype(np.float64)


def _are_probabilities(values):
    return bool((values >= 0).all() and np.abs(values.sum(axis=1, dtype=np.float64) - 1).max() < ROUNDING)


def _score(values, labels, outputs, corruption, severity):
    """Return the `CalibrationScores` of logits or probabilities (N, K)."""
    place = "the clean images" if corruption == CLEAN else f"{corruption} at severity {severity}"
    if not np.isfinite(values).all():
        raise UserError(f"predict gives values that are not finite for {place}; they cannot be compared")
    if labels.max() >= values.shape[1]:
        raise UserError(f"labels: {labels.max()} is no class, because predict gives {values.shape[1]} values, 0 to "
                        f"{values.shape[1] - 1}")
    if outputs == "probabilities":
        if not _are_probabilities(values):
            raise UserError(f"predict gives values for {place} that are no probabilities, which have the sum 1; pass "
                            "outputs='logits'")
        # A probability of 0 counts as the smallest number of its type, so that the mean stays finite.
        values = np.log(np.maximum(values, np.finfo(values.dtype).tiny).astype(np.float64))
    return scores(values.astype(np.float64), labels)
