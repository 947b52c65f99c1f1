"""A trained network with all that it needs to classify images of any size, without its data set."""
import os
from dataclasses import dataclass

import mindspore.nn as nn
import numpy as np
from tqdm import tqdm

from corruptions.utils.errors import UserError
from dataset.inputs import InputFormat, input_format
from dataset.pipeline import iterate_arrays
from losses.evaluation.network import require_finite
from losses.evaluation.trained_network import find_network, run_options
from models import check_image_size, create_model
from models.convert import classes_of
from models.loading import load_network
from models.weight_files import read_weights
from utils.records.trained import TrainedNetwork


@dataclass(frozen=True)
class Classifier:
    """A trained network and the form of its input.

    Attributes:
        trained (TrainedNetwork): where the network lies.
        model (str): name of the network, as in `models.find_model`.
        network (nn.Cell): images to logits, in evaluation mode.
        epochs (int or None): number of epochs that it was trained for, if that is known.
        class_names (tuple of str): names of the classes; their numbers as text if the names are not known.
        input (InputFormat): the form of its input.
    """

    trained: TrainedNetwork
    model: str
    network: nn.Cell
    epochs: int | None
    class_names: tuple
    input: InputFormat

    def description(self):
        """Return what was evaluated, as plain values for a record."""
        return {"model": self.model, "checkpoint": os.path.basename(self.trained.checkpoint),
                "checkpoint_sha256": self.trained.sha256, "epochs": self.epochs, "classes": len(self.class_names),
                "mean": list(self.input.mean), "std": list(self.input.std),
                "transform": self.input.images("", []).transform_name}

    def logits(self, images, eval_batch_size=None, num_workers=1, show_progress=False):
        """Return the logits for images (`FileImages`), float32 (N, K).

        Args:
            eval_batch_size, num_workers, show_progress: as in `evaluate_run`.
        """
        labels, parts = np.zeros(len(images), np.int32), []
        [batches] = iterate_arrays([images], labels, self.input.mean, self.input.std,
                                   self.trained.eval_batch_size(eval_batch_size), num_workers)
        with tqdm(total=len(images), desc="classifying", unit=" images", leave=False,
                  disable=False if show_progress else None) as bar:
            for pixels, _, count in batches:
                parts.append(self.network(pixels).asnumpy()[:int(count)])
                bar.update(int(count))
        logits = np.concatenate(parts)
        require_finite(logits, self.trained.checkpoint)
        return logits


def load_classifier(path, model=None, dataset=None, class_names=None, **options):
    """Return the `Classifier` of a trained network.

    Args:
        path, model, dataset: as in `evaluate_run`.
        class_names (str or None): file with the name of a class in each line, for a network without a config.json.
        options: values of `dataset.SOURCE_OPTIONS`, for a network without a config.json.

    Raises:
        UserError: a file is missing or damaged, or options do not fit the network.
    """
    trained, model, dataset = find_network(path, model, dataset)
    source_options = run_options(trained, dataset, options)
    form = input_format(dataset, **{name: source_options[name] for name in ("image_size", "mean", "std",
                                                                            "interpolation")})
    check_image_size(model, form.side, form.side)
    names = _read_names(class_names) if class_names is not None else trained.config.get("classes")
    if class_names is not None and trained.config.get("classes"):
        raise UserError(f"--class_names {class_names}: the settings of {trained.path} already have the names; leave it "
                        "out")
    probe = create_model(model, 2)
    stored_names = trained.config.get("classes")
    number = len(stored_names) if stored_names else classes_of(read_weights(trained.checkpoint, probe), model, probe)
    if names and len(names) != number:
        raise UserError(f"--class_names {class_names}: has {len(names)} names, and {trained.checkpoint} has {number} "
                        "classes; give a name for each")
    network, weights = load_network(model, number, trained.checkpoint)
    network.set_train(False)
    for note in weights.notes:
        print(f"{trained.checkpoint}: {note}")
    return Classifier(trained, model, network, weights.epochs, tuple(names or map(str, range(number))), form)


def _read_names(path):
    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors begin a file with a mark
            names = file.read().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--class_names {path}: cannot be read as text; give the name of a class in each line"
                        ) from error
    names = [name.strip() for name in (names[:-1] if names[-1] == "" else names)]
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise UserError(f"--class_names {path}: must have the name of a class in each line, none empty or twice")
    return names
