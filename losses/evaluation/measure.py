"""What figures need that the records of a run do not hold: its network is looked at again. It stands beside the run,
whose settings say which network and data they were.

`MEASUREMENTS` is the table of them: the name of a figure to a function from records (`utils/records/reading.py`) to
what the figure draws, one for each record. Test images of the run's corruption are used, as many as asked for, spread
evenly over the test set. What was measured is kept in the run's folder, and measured again for other checkpoints, test
images or settings.
"""
import contextlib
import functools
import os

import mindspore as ms
import numpy as np
from tqdm import tqdm

from dataset import SOURCES, load_source, source_options
from dataset.batches import EvaluationBatches
from dataset.corrupted import open_corrupted
from dataset.find_published import find_published
from dataset.fingerprints import joint_fingerprint
from dataset.pipeline import iterate_arrays, load_batches
from losses.evaluation.cells import EvaluationStep, GradientNorm
from losses.evaluation.predict import describe_network, predict
from losses.evaluation.probes import IMAGES, RHO, at_sam_perturbation, loss_surface, random_direction
from losses.evaluation.probes import sharpness as sharpness_of
from losses.objectives import ood_weights
from models import create_model, is_model
from utils.cli import cpu_count
from utils.errors import UserError
from utils.files import file_hash, read_json, write_json
from utils.metrics import calibration_bins, log_softmax
from utils.records.checkpoint import find_checkpoints, load_checkpoint
from utils.records.reading import first_of_each_name


class TrainedRun:
    """A run whose network is looked at.

    Args:
        record (FinishedRun): of the run.
        data_dir (str or None): folder of the data sets; None takes the run's.

    Raises:
        UserError: its data set or network is not known.
    """

    def __init__(self, record, data_dir):
        config = record.config
        if config["dataset"] not in SOURCES or not is_model(config["model"]):
            raise UserError(f"{record.path}: is of {config['model']} on {config['dataset']}, which is not known here")
        self.path, self.name, self.config = record.path, record.name, config
        self.source, self.images = _test_images(config["dataset"], data_dir or config["data_dir"], config["corruption"],
                                                config["num_severity"], config.get("test_corrupted"),
                                                **source_options(config))
        self.fingerprints = {"test": self.source.test_fingerprint, "test_corrupted": joint_fingerprint(self.images[1:])}
        self.source.check_run(config, record.path, **self.fingerprints)
        self.step, self.gradient_norm = _evaluation_cells(config["model"], self.source.classes)

    def batches(self, number):
        """Yield for each severity a list of batches of so many test images, or, where `number` is None, an iterator
        over those of all."""
        for images in self.images:
            if number is None:
                yield from iterate_arrays([images], self.source.labels["test"], self.source.mean, self.source.std,
                                          self.config["eval_batch_size"], cpu_count())
            else:
                yield load_batches(images, self.source, number, self.config["eval_batch_size"])

    def load(self, checkpoint):
        """Give the network the weights in a checkpoint."""
        load_checkpoint(self.step.network, checkpoint)

    def checkpoints(self):
        """Number of epochs that were done to a checkpoint, rising; at least one."""
        found = {epochs: path for path, epochs in find_checkpoints(self.path).items()}
        if not found:
            raise UserError(f"{self.path}: has no checkpoint; --resume it, which leaves one after every epoch")
        return dict(sorted(found.items()))

    def checkpoint(self, epoch=None):
        """The checkpoint of after an epoch, or the newest: number of epochs done, path.

        Raises:
            UserError: none of after that epoch was kept.
        """
        found = self.checkpoints()
        epochs = max(found) if epoch is None else epoch + 1
        if epochs not in found:
            raise UserError(f"--epoch {epoch}: {self.path} has kept checkpoints of epochs "
                            f"{', '.join(str(epochs - 1) for epochs in found)}; train with --keep_epochs {epoch}")
        return epochs, found[epochs]

    def measured(self, name, measure, epoch=None, **about):
        """What `measure` finds at the checkpoint of after an epoch, or at the newest; see `kept`.

        Args:
            name (str): of the figure.
            measure (callable): this run, with the checkpoint's weights, and the epoch to plain values.
            epoch (int or None): as in `checkpoint`.
            about: settings of the measurement.
        """
        epochs, path = self.checkpoint(epoch)

        def compute():
            self.load(path)
            return measure(self, epochs - 1)
        return self.kept(name, {epochs: path}, compute, **about)

    def kept(self, name, checkpoints, compute, **about):
        """What `compute` returns, plain values, or did return for the same checkpoints, images and other settings."""
        about = {"checkpoints": {str(epochs): file_hash(path) for epochs, path in checkpoints.items()},
                 "fingerprints": {name: found.to_dict() for name, found in self.fingerprints.items()},
                 **describe_network(self.config["model"], self.source), **about}
        path = os.path.join(self.path, f"{name}.json")
        stored = read_json(path)
        if isinstance(stored, dict) and stored.get("about") == about and "found" in stored:
            return stored["found"]
        found = compute()
        with contextlib.suppress(OSError):  # a folder that is only there to be read
            write_json(path, {"about": about, "found": found})
        return found


@functools.lru_cache(maxsize=2)
def _test_images(dataset, data_dir, corruption, num_severity, test_corrupted, **options):
    source = load_source(dataset, data_dir, **options)
    if test_corrupted is None:
        corrupted = open_corrupted(data_dir, source, "test", corruption, severities=range(1, num_severity))
    else:
        corrupted = find_published(test_corrupted, source).images(corruption, range(1, num_severity))
    return source, [source.images["test"], *corrupted]


@functools.lru_cache(maxsize=1)
def _evaluation_cells(model, classes):
    network = create_model(model, classes)
    return EvaluationStep(network), GradientNorm(network)


def sharpness(records, data_dir=None, images=IMAGES, rho=RHO):
    """Sharpness at every severity over the epochs: of `sharpness.csv` where the run has measured the same, or else of
    its checkpoints.

    Returns:
        list of dict: `epochs` (list of int), from 0 as in the run's tables, and `sharpness`, for each of them a list
        over severities.
    """
    found = []
    for record in records:
        logged = _logged_sharpness(record, images, rho)
        run = None if logged and data_dir is None else TrainedRun(record, data_dir)  # which compares images
        found.append(logged or _sharpness(run, images, rho))
    return found


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
        batches, found = list(run.batches(images)), []
        for path in tqdm(checkpoints.values(), desc="sharpness", unit=" checkpoints", leave=False, disable=None):
            run.load(path)
            found.append([sharpness_of(run.step, run.gradient_norm, some, rho) for some in batches])
        return {"epochs": [epochs - 1 for epochs in checkpoints], "sharpness": found}
    return run.kept("sharpness", checkpoints, compute, images=images, rho=rho)


def surface(records, data_dir=None, images=IMAGES // 2, points=11, span=1.0):
    """Loss on two filter-normalised random directions, the same for all runs, around the newest checkpoint.

    Args:
        points (int): odd, places on each axis.
        span (float): the axes go from -span to span.

    Returns:
        list of dict: `coefficients` (list of float), and `loss`, nested lists (S, points, points) as in
        `losses.evaluation.probes.loss_surface`, for the first record of each name.
    """
    coefficients = np.linspace(-span, span, points).tolist()

    def measure(run, _):
        weights = run.step.network.trainable_params()
        with tqdm(total=points ** 2, desc=f"surface of {run.name}", unit=" points", leave=False, disable=None) as bar:
            loss = loss_surface(run.step, (random_direction(weights, 0), random_direction(weights, 1)),
                                list(run.batches(images)), coefficients, bar.update)
        return {"coefficients": coefficients, "loss": loss.tolist()}
    return [TrainedRun(record, data_dir).measured("surface", measure, images=images, points=points, span=span)
            for record in first_of_each_name(records)]


def ood(records, data_dir=None, images=IMAGES, rho=RHO, epoch=None):
    """Normalised OOD scores of images of every severity: the confidence that they lose when the weights climb.

    The weights climb along the gradient of the mean loss of all these images, which are scaled as one batch: see
    `losses.objectives.ood_weights`.

    Args:
        epoch (int or None): take the checkpoint of after this epoch, from 0; None for the newest.

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
        scores[~np.isfinite((before + after).asnumpy()).all(axis=1)] = np.nan  # which it makes 1
        return {"epoch": epoch, "scores": scores.reshape(len(severities), -1).tolist()}
    return [TrainedRun(record, data_dir).measured("ood", measure, epoch, images=images, rho=rho) for record in records]


def calibration(records, data_dir=None, images=None):
    """Confidence and accuracy at every severity, at the newest checkpoint.

    Args:
        images (int or None): of each severity; None for all test images.

    Returns:
        list of dict: `images`, `hits` and `confidence`, for each severity a list over `utils.metrics.BINS` bins of
        confidence: how many images are in it, how many of them are classified right, the sum of their confidences.
    """
    def measure(run, _):
        bins = []
        for batches in run.batches(images):
            _, logits, labels = predict(run.step, batches)
            bins.append(calibration_bins(np.exp(log_softmax(logits)), labels))
        counts, hits, confidences = np.transpose(bins, (1, 0, 2)).tolist()
        return {"images": counts, "hits": hits, "confidence": confidences}
    return [TrainedRun(record, data_dir).measured("calibration", measure, images=images) for record in records]


def samples(records, data_dir=None, image=0):
    """A test image at every severity as a network sees it, out of a batch: of the first run, as all have the same.

    Args:
        image (int): its number in the test set.

    Returns:
        list of numpy.ndarray: uint8 (H, W, 3), for each severity.

    Raises:
        UserError: there is no such image.
    """
    run = TrainedRun(records[0], data_dir)
    number = len(run.source.labels["test"])
    if image >= number:
        raise UserError(f"--image {image}: the test set has {number} images; give a number below that")
    mean, std = np.reshape(run.source.mean, (3, 1, 1)), np.reshape(run.source.std, (3, 1, 1))
    found = []
    for images in run.images:
        [batch, _, _] = EvaluationBatches(images, run.source.labels["test"], np.array([image]), run.source.mean,
                                          run.source.std, 1)[0]
        found.append(np.rint(255 * (batch[0] * std + mean)).astype(np.uint8).transpose(1, 2, 0))
    return found


MEASUREMENTS = {"sharpness": sharpness, "surface": surface, "ood": ood, "calibration": calibration, "samples": samples}
