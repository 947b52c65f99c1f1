"""Measurements for figures that the records of a run do not hold: its network is evaluated again.

They are separate from the run. The settings of the run name the network and the data.

`MEASUREMENTS` is the table of measurements: the name of a figure to a function. The function maps records
(`utils/records/reading.py`) to the data that the figure draws. All but `samples` and `xi` measure networks on the
requested number of test images of the run's corruption, spread evenly over the test set. They store the results in the
run's folder, and measure other checkpoints, test images or settings again.
"""
import contextlib
import functools
import os

import mindspore as ms
import numpy as np
from tqdm import tqdm

from corruptions.evaluation.metrics import calibration_bins, log_softmax
from corruptions.utils.cli import cpu_count
from corruptions.utils.errors import UserError
from corruptions.utils.files import file_hash, read_json, write_json
from corruptions.utils.signals import interruptible, raise_if_interrupted
from dataset import SOURCES, load_source, source_options
from dataset.batches import EvaluationBatches
from dataset.corrupted import open_corrupted
from dataset.find_published import find_published
from dataset.fingerprints import joint_fingerprint
from dataset.pipeline import iterate_arrays, load_batches
from losses.evaluation.cells import EvaluationStep, GradientNorm
from losses.evaluation.input_shifts import measure_xi
from losses.evaluation.predict import describe_network, predict
from losses.evaluation.probes import at_sam_perturbation, loss_surface, random_direction
from losses.evaluation.probes import sharpness as sharpness_of
from losses.objectives import ood_weights
from models import create_model, is_model
from utils.metrics import SHARPNESS_IMAGES, SHARPNESS_RHO
from utils.records.checkpoint import find_checkpoints, load_checkpoint
from utils.records.reading import first_of_each_name


class TrainedRun:
    """A run with its network and test images, for measurements.

    Args:
        record (FinishedRun): record of the run.
        data_dir (str or None): folder of the data sets; None takes the run's folder.

    Raises:
        UserError: the data set or the network of the run is unknown.
    """

    def __init__(self, record, data_dir):
        config, dataset = record.config, record.config["dataset"]
        if dataset not in SOURCES or not is_model(config["model"]):
            raise UserError(f"{record.path}: has {config['model']} on {dataset}, which this version does not know")
        self.path, self.name, self.config = record.path, record.name, config
        self.source, self.images = _test_images(dataset, data_dir or config["data_dir"], config["corruption"],
                                                config["num_severity"], config.get("test_corrupted"),
                                                **source_options(config))
        self.fingerprints = {"test": self.source.test_fingerprint, "test_corrupted": joint_fingerprint(self.images[1:])}
        self.source.check_run(config, record.path, **self.fingerprints)
        self.step, self.gradient_norm = _evaluation_cells(config["model"], self.source.classes)

    def batches(self, number):
        """Yield for each severity a list of batches of `number` test images.

        If `number` is None, yield an iterator over batches of all test images instead.
        """
        for images in interruptible(self.images):
            if number is None:
                yield from iterate_arrays([images], self.source.labels["test"], self.source.mean, self.source.std,
                                          self.config["eval_batch_size"], cpu_count())
            else:
                yield load_batches(images, self.source, number, self.config["eval_batch_size"])

    def load(self, checkpoint):
        """Load the weights in a checkpoint into the network."""
        load_checkpoint(self.step.network, checkpoint)

    def checkpoints(self):
        """Return a dict of number of finished epochs to checkpoint, in ascending order, with at least one entry."""
        paths = {epochs: path for path, epochs in find_checkpoints(self.path).items()}
        if not paths:
            raise UserError(f"{self.path}: has no checkpoint; --resume it, which leaves one after every epoch")
        return dict(sorted(paths.items()))

    def checkpoint(self, epoch=None):
        """Return the checkpoint after an epoch, or the newest: number of finished epochs, and path.

        Raises:
            UserError: the checkpoint after that epoch was not kept.
        """
        checkpoints = self.checkpoints()
        epochs = max(checkpoints) if epoch is None else epoch + 1
        if epochs not in checkpoints:
            raise UserError(f"--epoch {epoch}: {self.path} has kept checkpoints of epochs "
                            f"{', '.join(str(epochs - 1) for epochs in checkpoints)}; train with --keep_epochs {epoch}")
        return epochs, checkpoints[epochs]

    def cached_measurement(self, name, measure, epoch=None, **settings):
        """Return the result of `measure` at the checkpoint after an epoch, or at the newest checkpoint; see `cached`.

        Args:
            name (str): name of the figure.
            measure (callable): a function of this run, with the weights of the checkpoint, and of the epoch; returns
                plain values.
            epoch (int or None): as in `checkpoint`.
            settings: settings of the measurement.
        """
        epochs, path = self.checkpoint(epoch)

        def compute():
            self.load(path)
            return measure(self, epochs - 1)
        return self.cached(name, {epochs: path}, compute, **settings)

    def cached(self, name, checkpoints, compute, **settings):
        """Return the plain values of `compute`, or its stored result for the same checkpoints, images and settings."""
        description = {"checkpoints": {str(epochs): file_hash(path) for epochs, path in checkpoints.items()},
                       "fingerprints": {name: value.to_dict() for name, value in self.fingerprints.items()},
                       **describe_network(self.config["model"], self.source), **settings}
        path = os.path.join(self.path, f"{name}.json")
        stored = read_json(path)
        if isinstance(stored, dict) and stored.get("about") == description and "found" in stored:
            return stored["found"]
        value = compute()
        with contextlib.suppress(OSError):  # the folder may be read-only
            write_json(path, {"about": description, "found": value})
        return value


@functools.lru_cache(maxsize=2)
def _test_images(dataset, data_dir, corruption, num_severity, test_corrupted, **options):
    source = load_source(dataset, data_dir, **options)
    if test_corrupted is None:
        corrupted = open_corrupted(data_dir, source, "test", corruption, severities=range(1, num_severity))
    else:
        if not os.path.isdir(test_corrupted):
            raise UserError(f"{test_corrupted}: the run was tested on the images in this folder; put it back")
        corrupted = find_published(test_corrupted, source).images(corruption, range(1, num_severity))
    return source, [source.images["test"], *corrupted]


@functools.lru_cache(maxsize=1)
def _evaluation_cells(model, classes):
    network = create_model(model, classes)
    return EvaluationStep(network), GradientNorm(network)


def measure_sharpness(records, data_dir=None, images=SHARPNESS_IMAGES, rho=SHARPNESS_RHO):
    """Return the sharpness at every severity over the epochs.

    It comes from `sharpness.csv` if the run has made the same measurement, and otherwise from the run's checkpoints.

    Returns:
        list of dict: `epochs` (list of int), from 0 as in the run's tables, and `sharpness`, for each epoch a list over
        severities.
    """
    curves = []
    for record in records:
        logged = _logged_sharpness(record, images, rho)
        run = None if logged and data_dir is None else TrainedRun(record, data_dir)  # also compares images
        curves.append(logged or _sharpness(run, images, rho))
    return curves


def _logged_sharpness(record, images, rho):
    if not os.path.exists(os.path.join(record.path, "sharpness.csv")):
        return None
    table = record.table("sharpness.csv")
    number = min(images, record.results["test"]["images"][0])
    if not len(table["epoch"]) or not (np.isclose(table["rho"], rho) & (table["images"] == number)).all():
        return None
    columns = [table[f"sharpness_{s}"] for s in range(record.config["num_severity"])]
    return {"epochs": table["epoch"].astype(int).tolist(), "sharpness": np.transpose(columns).tolist()}


def _sharpness(run, images, rho):
    checkpoints = run.checkpoints()

    def compute():
        batches, values = list(run.batches(images)), []
        for path in interruptible(tqdm(checkpoints.values(), desc="sharpness", unit=" checkpoints", leave=False,
                                       disable=None)):
            run.load(path)
            values.append([sharpness_of(run.step, run.gradient_norm, severity_batches, rho)
                           for severity_batches in batches])
        return {"epochs": [epochs - 1 for epochs in checkpoints], "sharpness": values}
    return run.cached("sharpness", checkpoints, compute, images=images, rho=rho)


def measure_surface(records, data_dir=None, images=SHARPNESS_IMAGES // 2, points=11, span=1.0):
    """Return the loss along two filter-normalised random directions around the newest checkpoint.

    The directions start from the same random numbers for all runs.

    Args:
        points (int): number of points on each axis, odd.
        span (float): the axes go from -span to span.

    Returns:
        list of dict: `coefficients` (list of float), and `loss`, nested lists (S, points, points) as in
        `losses.evaluation.probes.loss_surface`, for the first record of each name.
    """
    coefficients = np.linspace(-span, span, points).tolist()

    def measure(run, _):
        weights = run.step.network.trainable_params()

        def on_point():
            bar.update()
            raise_if_interrupted()
        with tqdm(total=points ** 2, desc=f"surface of {run.name}", unit=" points", leave=False, disable=None) as bar:
            loss = loss_surface(run.step, (random_direction(weights, 0), random_direction(weights, 1)),
                                list(run.batches(images)), coefficients, on_point)
        return {"coefficients": coefficients, "loss": loss.tolist()}
    return [TrainedRun(record, data_dir).cached_measurement("surface", measure, images=images, points=points, span=span)
            for record in first_of_each_name(records)]


def measure_ood(records, data_dir=None, images=SHARPNESS_IMAGES, rho=SHARPNESS_RHO, epoch=None):
    """Return normalised OOD scores of images of every severity: the confidence that they lose in a SAM ascent step.

    The step follows the gradient of the mean loss over all of these images. The scores are scaled as in one batch, see
    `losses.objectives.ood_weights`.

    Args:
        epoch (int or None): epoch, from 0, after which the checkpoint is taken; None takes the newest checkpoint.

    Returns:
        list of dict: `epoch` (int), and `scores`, for each severity a list with a number for each image, mean 1.
    """
    def measure(run, epoch):
        severities = list(run.batches(images))
        everything = [batch for batches in severities for batch in batches]
        before = ms.Tensor(predict(run.step, everything)[1])
        with at_sam_perturbation(run.step, run.gradient_norm, everything, rho):
            after = ms.Tensor(predict(run.step, everything)[1])
        scores = ood_weights(before, after).asnumpy()
        scores[~np.isfinite((before + after).asnumpy()).all(axis=1)] = np.nan  # `ood_weights` makes them 1
        return {"epoch": epoch, "scores": scores.reshape(len(severities), -1).tolist()}
    return [TrainedRun(record, data_dir).cached_measurement("ood", measure, epoch, images=images, rho=rho)
            for record in records]


def measure_calibration(records, data_dir=None, images=None):
    """Return confidence and accuracy at every severity, at the newest checkpoint.

    Args:
        images (int or None): number of images of each severity; None takes all test images.

    Returns:
        list of dict: `images`, `hits` and `confidence`, for each severity a list over `metrics.BINS` bins of
        confidence: number of images in the bin, number of correctly classified images, sum of their confidences.
    """
    def measure(run, _):
        bins = []
        for batches in run.batches(images):
            _, logits, labels = predict(run.step, batches)
            bins.append(calibration_bins(np.exp(log_softmax(logits)), labels))
        counts, hits, confidences = np.transpose(bins, (1, 0, 2)).tolist()
        return {"images": counts, "hits": hits, "confidence": confidences}
    return [TrainedRun(record, data_dir).cached_measurement("calibration", measure, images=images)
            for record in records]


def measure_samples(records, data_dir=None, image=None):
    """Return a test image at every severity as a network receives it, taken from a batch.

    The image comes from the first run, because all runs have the same images.

    Args:
        image (int or None): number of the image in the test set; None for the image with the most contrast of the
            first 100.

    Returns:
        list of numpy.ndarray: uint8 (H, W, 3), for each severity.

    Raises:
        UserError: the test set has no image with this number.
    """
    run = TrainedRun(records[0], data_dir)
    number = len(run.source.labels["test"])
    if image is None:
        [first, _, _] = EvaluationBatches(run.images[0], run.source.labels["test"], np.arange(min(100, number)),
                                          run.source.mean, run.source.std, 100)[0]
        image = int(first.std((1, 2, 3)).argmax())
    if image >= number:
        raise UserError(f"--image {image}: the test set has {number} images; give a number below that")
    mean, std = np.reshape(run.source.mean, (3, 1, 1)), np.reshape(run.source.std, (3, 1, 1))
    pictures = []
    for images in run.images:
        [batch, _, _] = EvaluationBatches(images, run.source.labels["test"], np.array([image]), run.source.mean,
                                          run.source.std, 1)[0]
        pictures.append(np.rint(255 * (batch[0] * std + mean)).astype(np.uint8).transpose(1, 2, 0))
    return pictures


MEASUREMENTS = {"sharpness": measure_sharpness, "surface": measure_surface, "ood": measure_ood,
                "calibration": measure_calibration, "samples": measure_samples, "xi": measure_xi}
