"""Predictions for single images, labelled or not: python main.py --evaluate RUN --predict DIR -o predictions.csv"""
import numpy as np

from corruptions.evaluation.metrics import log_softmax
from corruptions.images import list_images, said_of
from corruptions.utils.errors import UserError, one_line
from corruptions.utils.files import require_writable_file, write_csv
from losses.evaluation.classifier import load_classifier

MOST_CLASSES = 5


def write_predictions(path, folder, output, eval_batch_size=None, num_workers=1, show_progress=False, **options):
    """Classify all images below a folder, and write the most probable classes of each to a CSV file.

    A row has the image's path relative to the folder, and up to five pairs of a class and its probability, 0..1.

    Args:
        path (str): a run or a checkpoint, as in `evaluate_run`.
        folder (str): folder of the images, in any layout.
        output (str): the CSV file.
        eval_batch_size, num_workers, show_progress: as in `evaluate_run`.
        options: further arguments of `load_classifier`.

    Returns:
        int: number of images.

    Raises:
        UserError: as in `load_classifier`, or there is no image, or one is damaged.
    """
    if output is None:
        raise UserError("--predict: give -o FILE, too, the CSV file for the predictions")
    require_writable_file("--output", output)
    classifier = load_classifier(path, **options)
    names, left_out = list_images(folder)
    print(f"images read: {len(names)}{one_line(said_of(left_out))}", flush=True)
    logits = classifier.logits(classifier.input.images(folder, names), eval_batch_size, num_workers, show_progress)
    probabilities = np.exp(log_softmax(logits))
    order = np.argsort(-logits, axis=1, kind="stable")[:, :MOST_CLASSES]
    columns = {"file": names}
    for place in range(order.shape[1]):
        suffix = f"_{place + 1}" if place else ""
        chosen = order[:, place]
        columns[f"class{suffix}"] = [classifier.class_names[number] for number in chosen]
        columns[f"probability{suffix}"] = [f"{value:.6g}" for value in probabilities[np.arange(len(names)), chosen]]
    write_csv(output, columns)
    print(f"predictions are in {output}")
    return len(names)
