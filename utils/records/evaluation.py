"""The records of an evaluation at many corruptions: JSON, CSV and a table to read."""
import glob
import os
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError
from utils.files import read_json, safe_filename, write_csv, write_json
from utils.fingerprint import Fingerprint, first_difference
from utils.metrics import BINS, SEVERITY_LEVELS, CalibrationScores, corruption_error
from utils.records import alexnet

CLEAN = "none"  # stands for no corruption, as in the papers' tables
SEVERITIES = (1, 2, 3, 4, 5)
LONGEST_TAG = 210  # signs, which leaves room for the rest of a file's name


def severities_of(record):
    """The severities of an evaluation, list of int; other people's corrupted images need not have all five."""
    return list(record.get("severities", SEVERITIES))


def file_tag(title):
    """The part of a file's name that stands for a set of corruptions, of its `title`, such as 'fog, snow (2
    corruptions)'."""
    names, _, number = title.rpartition(" (")
    tag = "+".join(map(safe_filename, names.split(", ")))
    return tag if len(tag) <= LONGEST_TAG else safe_filename(number.rstrip(")"))


def same_images(record, names, severities, fingerprints):
    """Whether an evaluation was of certain images.

    Args:
        record (dict): the evaluation, as it was read; one of an earlier version does not say which images it was of.
        names (list of str): corruptions that are asked for.
        severities (list of int): and their severities.
        fingerprints (dict): `CLEAN` and each of these corruptions to its `Fingerprint`.
    """
    if not set(names) <= set(record["corrupted"]) or severities_of(record) != list(severities):
        return False
    return first_difference(record.get("fingerprints"), {name: fingerprints[name] for name in (CLEAN, *names)}) is None


def same_network(record, network):
    """Whether an evaluation was of a network with the same logits, weights aside; `network` is as in
    `losses.evaluation.predict.describe_network`.
    """
    return all(record.get(key) == value for key, value in network.items())


def summary(clean, corrupted, severities=SEVERITIES):
    """Error, likelihood and calibration, averaged over corruptions.

    Args:
        clean (CalibrationScores): of the clean images.
        corrupted (dict): corruption to a list of `CalibrationScores` at each of the severities.
        severities (list of int): some of 1 to 5.

    Returns:
        dict: `by_severity`, for each metric a list over severity 0 (clean) and these, and `by_level`, for each of
        `metrics.SEVERITY_LEVELS` whose severities are all among them the mean of every metric over its severities.
    """
    means = np.concatenate([[clean], np.mean(list(corrupted.values()), axis=0)])  # severity x metric
    means[:, 0] = 1 - means[:, 0]
    metrics = ("error", *CalibrationScores._fields[1:])
    places = {severity: place for place, severity in enumerate((0, *severities))}
    rows = {level: [places[s] for s in members] for level, members in SEVERITY_LEVELS.items()
            if set(members) <= set(places)}
    return {"by_severity": dict(zip(metrics, means.T.tolist(), strict=True)),
            "by_level": {level: dict(zip(metrics, means[some].mean(0).tolist(), strict=True))
                         for level, some in rows.items()}}


def as_record(about, clean, corrupted, baseline=None):
    """An evaluation as it is stored.

    Args:
        about (dict): what was evaluated on what; `severities` are 1 to 5 where it has none.
        clean, corrupted: as in `summary`.
        baseline (Baseline or None): to compare with.

    Returns:
        dict: plain values.
    """
    record = {**about, "bins": BINS, "clean": clean._asdict(),
              "corrupted": {name: dict(zip(CalibrationScores._fields, zip(*rows, strict=True), strict=True))
                            for name, rows in corrupted.items()},
              **summary(clean, corrupted, severities_of(about))}
    if baseline is not None:
        ratios = {name: baseline.corruption_error(name, rows) for name, rows in corrupted.items()}
        record["corruption_error"] = {"baseline": baseline.about, "by_corruption": ratios,
                                      "mean": float(np.mean(list(ratios.values())))}
    return record


def write_evaluation(path, record):
    """Write an evaluation as `PATH.csv`, one row for each corruption and severity, and `PATH.json`."""
    rows = [(CLEAN, 0, *record["clean"].values())]
    rows += [(name, severity, *values) for name, metrics in record["corrupted"].items()
             for severity, values in zip(severities_of(record), zip(*metrics.values(), strict=True), strict=True)]
    columns = dict(zip(("corruption", "severity", *CalibrationScores._fields), zip(*rows, strict=True), strict=True))
    write_csv(path + ".csv", {"set": [record["set"]] * len(rows), **columns})
    write_json(path + ".json", record)


@dataclass(frozen=True)
class Baseline:
    """What corruption errors are relative to.

    Attributes:
        about (dict): what it is; `name` is how it is called.
        errors (dict): corruption to a list of its errors, 0..1, at the severities that are needed.
    """

    about: dict
    errors: dict

    @classmethod
    def of_record(cls, path, record, names, severities=SEVERITIES):
        """The baseline that an evaluation makes.

        Args:
            path (str): as it was named, for errors.
            record (dict): the evaluation, as `as_record` gives it, or as it was read.
            names (list of str): the corruptions that are needed.
            severities (list of int): the severities that are needed.

        Raises:
            UserError: the record is no evaluation, lacks a corruption or a severity, or has a corruption without an
                error.
        """
        try:
            about = {"name": os.path.basename(os.path.abspath(path)),
                     **{key: record[key] for key in ("model", "checkpoint", "epochs")}}
            places = {severity: k for k, severity in enumerate(severities_of(record))}
            lacking = [str(severity) for severity in severities if severity not in places]
            found = {name: [1 - metrics["accuracy"][places[s]] for s in severities if s in places]
                     for name, metrics in record["corrupted"].items()}
            if not all(0 <= error <= 1 for errors in found.values() for error in errors):
                raise TypeError
        except (LookupError, TypeError, AttributeError) as error:
            raise UserError(f"--baseline {path}: not an evaluation; name a run's folder, a checkpoint, or an "
                            "evaluation_SET.json of one") from error
        missing = [name for name in names if name not in found]
        if lacking:
            raise UserError(f"--baseline {path}: lacks severity {', '.join(lacking)}; name the run that it is of, "
                            "which is then evaluated again")
        if missing:
            raise UserError(f"--baseline {path}: lacks {', '.join(missing)}; name the run that it is of, which is "
                            "then evaluated again, or leave these out of -c")
        perfect = [name for name in names if sum(found[name]) == 0]
        if perfect:
            raise UserError(f"--baseline {path}: makes no error under {', '.join(perfect)}, so that nothing can be "
                            "relative to it; name another, or leave these out of -c")
        return cls(about, found)

    @classmethod
    def of_alexnet(cls, names, severities=SEVERITIES):
        """AlexNet by its published errors; arguments as in `of_record`.

        Raises:
            UserError: none are published of a corruption.
        """
        missing = [name for name in names if name not in alexnet.ERRORS]
        if missing:
            raise UserError(f"--baseline alexnet: no errors of it are published under {', '.join(missing)}; name a "
                            "run, or name others with -c")
        return cls({"name": alexnet.NAME, "source": alexnet.SOURCE},
                   {name: [alexnet.ERRORS[name][severity - 1] for severity in severities] for name in names})

    def corruption_error(self, name, rows):
        """Corruption error of the `CalibrationScores` at the severities of one corruption."""
        return corruption_error([1 - row.accuracy for row in rows], self.errors[name])


def read_evaluations(trained):
    """The evaluations of a trained network that are stored, widest first.

    One of an earlier checkpoint does not count. Where no checkpoint is left, the evaluation speaks for itself.

    Args:
        trained (TrainedNetwork): the network.
    """
    found = []
    for path in _evaluation_files(trained.file("")):
        record = read_json(path)
        if not isinstance(record, dict) or not record.get("corrupted") or not isinstance(record.get("clean"), dict):
            continue
        if trained.checkpoint is None or record.get("checkpoint_sha256") == trained.sha256:
            found.append(record)
    return sorted(found, key=lambda record: -len(record["corrupted"]))


def _evaluation_files(prefix):
    return sorted(glob.glob(glob.escape(prefix) + "evaluation_*.json"))


def run_evaluations(folder):
    """The evaluations in a run's folder, as `read_evaluations` gives them."""
    if not _evaluation_files(os.path.join(folder, "")):
        return []
    from utils.records.trained import find_trained  # it imports MindSpore and reads checkpoints, which most runs spare
    return read_evaluations(find_trained("run", folder))


def stored_evaluation(trained, network, names, severities, fingerprints):
    """An evaluation of a trained network that is stored and has at least some corruptions of the same images, or None.

    Args:
        trained (TrainedNetwork): the network.
        network (dict): as in `same_network`.
        names, severities, fingerprints: as in `same_images`.
    """
    return next((record for record in read_evaluations(trained) if same_network(record, network)
                 and same_images(record, names, severities, fingerprints)), None)


def stored_scores(record, names):
    """Yield `CLEAN` and each of the corruptions `names` with the list of `CalibrationScores` of a stored evaluation."""
    yield CLEAN, [CalibrationScores(*(record["clean"][metric] for metric in CalibrationScores._fields))]
    for name in names:
        columns = (record["corrupted"][name][metric] for metric in CalibrationScores._fields)
        yield name, [CalibrationScores(*values) for values in zip(*columns, strict=True)]


def common_evaluations(several):
    """For each of several networks its evaluation on the widest set that all have, of the same images; or None.

    Args:
        several (list): for each network the list of its evaluations, widest first.
    """
    for record in several[0] if several else []:
        names, severities = list(record["corrupted"]), severities_of(record)
        stored = record.get("fingerprints") or {}
        fingerprints = {name: Fingerprint.from_dict(value) for name, value in stored.items()}
        if {CLEAN, *names} <= {name for name, value in fingerprints.items() if value}:
            found = [next((other for other in records if set(other["corrupted"]) == set(names)
                           and same_images(other, names, severities, fingerprints)), None) for records in several]
            if None not in found:
                return found
    return None


def _trained(about):
    """Which weights, and of after how many epochs where that is known."""
    epochs = f" after {about['epochs']} epoch{'' if about['epochs'] == 1 else 's'}" if about["epochs"] else ""
    return f"{about['checkpoint']}{epochs}"


def heading(about, names, baseline=None):
    """What stands above the rows of a table."""
    title = (f"{about['set']} on {about['dataset']}, {about['test_images']} test images: {about['model']}, "
             f"{_trained(about)}")
    columns = "".join(f"{severity:7d}" for severity in severities_of(about)) + "   mean     NLL    ECE"
    return f"\n{title}\n{'accuracy (%)':{_width(names)}}{columns}{'' if baseline is None else '     CE'}"


def row(name, rows, about, names, baseline=None):
    """A row of the table: accuracy at every severity, the means of accuracy, likelihood and calibration, and the
    corruption error where there is a baseline; arguments as in `Baseline.corruption_error` and `heading`.
    """
    accuracy, nll, ece = np.mean(rows, axis=0)
    numbers = rows if name != CLEAN else []
    cells = "".join(f"{100 * one.accuracy:7.2f}" for one in numbers).rjust(7 * len(severities_of(about)))
    error = "" if baseline is None or name == CLEAN else f"{baseline.corruption_error(name, rows):7.3f}"
    return f"{name:{_width(names)}}{cells}{100 * accuracy:7.2f}{nll:8.3f}{ece:7.3f}{error}"


def averaged_over(record):
    """What averages are over, and what the words for severities mean."""
    words = [f"{level}: severities {severities[0]} to {severities[-1]}" for level, severities in SEVERITY_LEVELS.items()
             if len(severities) > 1 and level in record["by_level"]]
    return "; ".join([f"averaged over {record['set']}", *words])


def averages(record):
    """The lines below the table: averages over corruptions, by severity and grouped."""
    lines = ["", averaged_over(record),
             "severity     " + "".join(f"{severity:7d}" for severity in (0, *severities_of(record))) +
             "".join(f"{level:>8}" for level in record["by_level"])]
    for metric, title, factor in (("error", "error (%)", 100), ("nll", "NLL", 1), ("ece", "ECE", 1)):
        digits = 2 if factor == 100 else 3
        lines.append(f"{title:13}" + "".join(f"{factor * v:7.{digits}f}" for v in record["by_severity"][metric]) +
                     "".join(f"{factor * level[metric]:8.{digits}f}" for level in record["by_level"].values()))
    if "corruption_error" in record:
        found, some = record["corruption_error"], severities_of(record)
        only = "" if some == list(SEVERITIES) else f", severity {', '.join(map(str, some))} alone"
        lines.append(f"mean corruption error over {record['set']}{only}: {found['mean']:.3f}, relative to "
                     f"{found['baseline']['name']}")
    return "\n".join(lines)


def _width(names):
    return max(map(len, (*names, "accuracy (%)"))) + 1
