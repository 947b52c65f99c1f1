"""Another test set in class folders, such as ImageNet-A, -R or -Sketch: python main.py --evaluate RUN --test_images DIR

Its folders are matched with the classes of the network by name. A set need not have all classes.
"""
import json
import os

import numpy as np
import pandas as pd

from corruptions.evaluation.metrics import expected_calibration_error, log_softmax, negative_log_likelihood
from corruptions.utils.errors import UserError
from corruptions.utils.files import atomic_write, require_writable_folder, safe_filename, write_csv, write_json
from dataset.fingerprints import fingerprint
from dataset.sources.class_folders import list_classes, list_files
from losses.evaluation.classifier import load_classifier

TOP = 5
NAMES_SHOWN = 3
GENERAL_NAMES = ("val", "validation", "test", "train", "images")  # these say nothing without the folder above


def evaluate_test_images(path, folder, class_map=None, eval_batch_size=None, num_workers=1, show_progress=False,
                         **options):
    """Classify the images of a test set, print a table, and write it beside the network.

    Two protocols are measured: among all classes of the network, and among those that the test set has, as published
    for ImageNet-A and ImageNet-R. Files: `test_images_NAME.json`; `.csv`, a row for each folder; `_confusion.csv`, the
    number of images of each folder (row) that were taken for each class (column), among all classes.

    Args:
        path (str): a run or a checkpoint, as in `evaluate_run`.
        folder (str): folder of the test set, with CLASS/FILE.
        class_map (str or None): JSON file of folder names to lists of the classes that are right for them, names or
            numbers from 0; negative numbers count for nothing, as in the file of ImageNet-D. None stands for the class
            that has the name of the folder.
        eval_batch_size, num_workers, show_progress: as in `evaluate_run`.
        options: further arguments of `load_classifier`.

    Returns:
        dict: content of the JSON file.

    Raises:
        UserError: as in `load_classifier`, or no folder is a class, or a file is damaged.
    """
    classifier = load_classifier(path, **options)
    require_writable_folder("--evaluate", classifier.trained.folder)
    folders = list_classes(folder)
    right = match_classes(folders, classifier.class_names, class_map)
    left_out = [name for name in folders if name not in right]
    if not right:
        if class_map is not None:
            raise UserError(f"--class_map {class_map}: has no class for a folder in {folder}, which has "
                            f"{', '.join(folders[:NAMES_SHOWN])}; name a map for these")
        advice = "give --class_names" if classifier.class_names[0] == "0" else "rename the folders, or give --class_map"
        raise UserError(f"--test_images {folder}: no folder has the name of a class; it has "
                        f"{', '.join(folders[:NAMES_SHOWN])}, the classes are "
                        f"{', '.join(classifier.class_names[:NAMES_SHOWN])}; {advice}")
    files = {name: list_files(os.path.join(folder, name)) for name in right}
    images = classifier.input.images(folder, [f"{name}/{file}" for name in right for file in files[name]])
    rows = np.repeat(np.arange(len(right)), [len(files[name]) for name in right])
    logits = classifier.logits(images, eval_batch_size, num_workers, show_progress)

    sets = list(right.values())
    matched = sorted({number for numbers in sets for number in numbers})
    title = title_of(folder, class_map)
    record = {"test_images": title, "folder": os.path.abspath(folder), "images": len(images),
              "folders": len(right), "folders_left_out": left_out,
              "matched_classes": len(matched), **classifier.description(),
              "fingerprint": fingerprint(images, rows.astype(np.int32)).to_dict(),
              "among_all": scores_of_sets(logits, [sets[row] for row in rows])}
    if len(matched) < len(classifier.class_names):
        places = {number: place for place, number in enumerate(matched)}
        inner = [[places[number] for number in numbers] for numbers in sets]
        record["among_matched"] = scores_of_sets(logits[:, matched], [inner[row] for row in rows])
    write_records(classifier, record, list(right), sets, rows, logits)
    print(table(record, classifier))
    return record


def title_of(folder, class_map=None):
    """Return the name of a test set in the names of its files: that of its folder, and of the class map."""
    path = os.path.abspath(folder)
    title = os.path.basename(path)
    if title.lower() in GENERAL_NAMES:
        title = f"{os.path.basename(os.path.dirname(path))}-{title}"
    return title if class_map is None else f"{title}-{os.path.splitext(os.path.basename(class_map))[0]}"


def match_classes(folders, class_names, class_map=None):
    """Return the folders that stand for classes, to the numbers of the classes that are right for their images.

    Arguments are as in `evaluate_test_images`.

    Raises:
        UserError: the file cannot be read, or names a class that there is not.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    if class_map is None:
        return {name: [numbers[name]] for name in folders if name in numbers}
    try:
        with open(class_map, encoding="utf-8") as file:
            content = json.load(file)
        right = {name: list(filter(_counts, content[name])) for name in folders if name in content}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"--class_map {class_map}: must be JSON of folder names to lists of classes, names or numbers "
                        f"({error})") from error
    for name, values in right.items():
        for value in values:
            if value not in numbers if isinstance(value, str) else value >= len(class_names):
                raise UserError(f"--class_map {class_map}: {name} has {value!r}, and there are {len(class_names)} "
                                f"classes, {', '.join(class_names[:NAMES_SHOWN])} and so on; correct the map")
    return {name: sorted({numbers[value] if isinstance(value, str) else value for value in values})
            for name, values in right.items() if values}


def _counts(value):
    """Whether a value of a class map, a name or a number, counts as a class."""
    if not isinstance(value, str) and type(value) is not int:
        raise ValueError(f"{value!r} is neither a name nor a whole number")
    return isinstance(value, str) or value >= 0


def scores_of_sets(logits, right):
    """Return the scores of logits (N, K); `right` has for each image the list of the classes that are right for it.

    Returns:
        dict: `top1` and `top5`, shares of images, 0..1, for which a right class is among the most probable one or five;
        `nll` in nats and `ece`, 0..1, if each image has one right class.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    hits = np.array([np.isin(row[:TOP], numbers) for row, numbers in zip(order, right, strict=True)])
    result = {"top1": float(hits[:, 0].mean()), "top5": float(hits.any(axis=1).mean())}
    if all(len(numbers) == 1 for numbers in right):
        labels, log_probabilities = np.array([numbers[0] for numbers in right]), log_softmax(logits)
        result |= {"nll": negative_log_likelihood(log_probabilities, labels),
                   "ece": expected_calibration_error(np.exp(log_probabilities), labels)}
    return result


def write_records(classifier, record, folders, right, rows, logits):
    """Write the record, a table of the folders and the confusion matrix.

    Args:
        classifier (Classifier): the network.
        record (dict): scores of all images.
        folders (list of str): names of the folders.
        right (list): for each folder the numbers of the right classes.
        rows (numpy.ndarray): int (N,), the folder of each image.
        logits (numpy.ndarray): float32 (N, K).
    """
    predicted = logits.argmax(axis=1)
    confusion = np.zeros((len(folders), logits.shape[1]), int)
    np.add.at(confusion, (rows, predicted), 1)
    columns = {"folder": folders, "images": [], "top1": [], "top5": [], "most_often_wrong": [], "times": []}
    for row, numbers in enumerate(right):
        own = scores_of_sets(logits[rows == row], [numbers] * int((rows == row).sum()))
        wrong = confusion[row].copy()
        wrong[numbers] = 0
        columns["images"].append(int((rows == row).sum()))
        columns["top1"].append(own["top1"])
        columns["top5"].append(own["top5"])
        columns["most_often_wrong"].append(classifier.class_names[wrong.argmax()] if wrong.any() else "")
        columns["times"].append(int(wrong.max()))
    place = classifier.trained.file(f"test_images_{safe_filename(record['test_images'])}")
    with atomic_write(f"{place}_confusion.csv") as temporary:  # a class may be called 'folder', or as another
        pd.DataFrame(confusion, folders, classifier.class_names).to_csv(temporary, index_label="folder")
    write_csv(f"{place}.csv", columns)
    write_json(f"{place}.json", record)
    print(f"results are in {place}.json, .csv and _confusion.csv")


def table(record, classifier):
    """Return the scores of a record as text."""
    left_out = record["folders_left_out"]
    lines = [f"\n{record['test_images']}: {record['images']} images in {record['folders']} folders, which stand for "
             f"{record['matched_classes']} of {len(classifier.class_names)} classes"]
    if left_out:
        more = f" and {len(left_out) - NAMES_SHOWN} more" if len(left_out) > NAMES_SHOWN else ""
        lines.append(f"left out, no class of that name: {', '.join(left_out[:NAMES_SHOWN])}{more}")
    lines.append(f"{'':28}{'top-1 (%)':>10}{'top-5 (%)':>10}{'NLL':>8}{'ECE':>8}")
    for key, title in (("among_all", "among all classes"), ("among_matched", "among the classes matched")):
        if key in record:
            scores = record[key]
            numbers = "".join(f"{scores[name]:8.3f}" for name in ("nll", "ece") if name in scores)
            lines.append(f"{title:28}{100 * scores['top1']:10.2f}{100 * scores['top5']:10.2f}{numbers}")
    return "\n".join(lines)
