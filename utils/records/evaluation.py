"""Stored evaluations of a trained network: finding the evaluations on the same images."""
import glob
import os

from corruptions.evaluation.metrics import CalibrationScores
from corruptions.evaluation.record import CLEAN, severities_of
from corruptions.utils.files import read_json
from utils.fingerprint import Fingerprint, first_difference


def same_images(record, names, severities, fingerprints):
    """Whether an evaluation used certain images.

    Args:
        record (dict): the evaluation, as read from its file. An evaluation by an earlier version has no fingerprints.
        names (list of str): requested corruptions.
        severities (list of int): requested severities.
        fingerprints (dict): `CLEAN` and each of these corruptions to its `Fingerprint`.
    """
    if not set(names) <= set(record["corrupted"]) or severities_of(record) != list(severities):
        return False
    return first_difference(record.get("fingerprints"), {name: fingerprints[name] for name in (CLEAN, *names)}) is None


def same_network(record, network):
    """Whether an evaluation used a network that gives the same logits, apart from its weights.

    `network` is a dict as `losses.evaluation.predict.describe_network` returns it.
    """
    return all(record.get(key) == value for key, value in network.items())


def read_evaluations(trained):
    """Return the stored evaluations of a trained network, the one with the most severities and corruptions first.

    Evaluations of an earlier checkpoint are left out. If no checkpoint remains, all evaluations count.

    Args:
        trained (TrainedNetwork): the network.
    """
    evaluations = []
    for path in _evaluation_files(trained.file("")):
        record = read_json(path)
        if not isinstance(record, dict) or not record.get("corrupted") or not isinstance(record.get("clean"), dict):
            continue
        if trained.checkpoint is None or record.get("checkpoint_sha256") == trained.sha256:
            evaluations.append(record)
    return sorted(evaluations, key=lambda record: (-len(severities_of(record)), -len(record["corrupted"])))


def _evaluation_files(prefix):
    return sorted(glob.glob(glob.escape(prefix) + "evaluation_*.json"))


def run_evaluations(folder):
    """Return the evaluations in a run's folder, as `read_evaluations` does."""
    if not _evaluation_files(os.path.join(folder, "")):
        return []
    from utils.records.trained import find_trained  # imports MindSpore and reads checkpoints, which most runs need not
    return read_evaluations(find_trained("run", folder))


def stored_evaluation(trained, network, names, severities, fingerprints):
    """Return a stored evaluation of a trained network on the same images, with at least the corruptions `names`.

    Return None if there is none.

    Args:
        trained (TrainedNetwork): the network.
        network (dict): as in `same_network`.
        names, severities, fingerprints: as in `same_images`.
    """
    return next((record for record in read_evaluations(trained) if same_network(record, network)
                 and same_images(record, names, severities, fingerprints)), None)


def stored_scores(record, names):
    """Yield pairs of a name and its list of `CalibrationScores` from a stored evaluation.

    The names are `CLEAN` and the corruptions `names`.
    """
    yield CLEAN, [CalibrationScores(*(record["clean"][metric] for metric in CalibrationScores._fields))]
    for name in names:
        columns = (record["corrupted"][name][metric] for metric in CalibrationScores._fields)
        yield name, [CalibrationScores(*values) for values in zip(*columns, strict=True)]


def common_evaluations(evaluations_by_run):
    """Return for each network its evaluation on the largest common set of corruptions, or None without a common set.

    All of these evaluations used the same images.

    Args:
        evaluations_by_run (list): for each network a list of its evaluations, with the most corruptions first.
    """
    for record in evaluations_by_run[0] if evaluations_by_run else []:
        names, severities = list(record["corrupted"]), severities_of(record)
        stored = record.get("fingerprints") or {}
        fingerprints = {name: Fingerprint.from_dict(value) for name, value in stored.items()}
        if {CLEAN, *names} <= {name for name, value in fingerprints.items() if value}:
            matches = [next((candidate for candidate in evaluations if set(candidate["corrupted"]) == set(names)
                             and same_images(candidate, names, severities, fingerprints)), None)
                       for evaluations in evaluations_by_run]
            if None not in matches:
                return matches
    return None


def network_title(description):
    """Return as text which weights were evaluated, with the number of epochs if it is known."""
    epochs = description["epochs"]
    after = f" after {epochs} epoch{'' if epochs == 1 else 's'}" if epochs else ""
    return f"{description['checkpoint']}{after}"


