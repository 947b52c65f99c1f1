"""An evaluation under many corruptions as a record: averages, JSON, CSV and a text table."""
import hashlib

import numpy as np

from corruptions.evaluation.metrics import BINS, SEVERITY_LEVELS, CalibrationScores
from corruptions.severities import SEVERITIES
from corruptions.utils.files import safe_filename, write_csv, write_json

CLEAN = "none"  # the name for no corruption, as in the papers' tables
LONGEST_TAG = 210  # characters, which leaves room for the rest of a file name


def severities_of(record):
    """Return the severities of an evaluation, list of float. Published corrupted images need not have all five."""
    return list(record.get("severities", SEVERITIES))


def file_tag(title):
    """Return the part of a file name that stands for a set of corruptions.

    It is made from the `title` of the set, such as 'fog, snow (2 corruptions)'. Too many names become their number and
    their hash, so that another set has another name.
    """
    names, _, number = title.rpartition(" (")
    tag = "+".join(map(safe_filename, names.split(", ")))
    if len(tag) <= LONGEST_TAG:
        return tag
    return safe_filename(f"{number.rstrip(')')} {hashlib.sha256(names.encode()).hexdigest()[:8]}")


def summary(clean, corrupted, severities=SEVERITIES):
    """Return error, likelihood and calibration, averaged over corruptions.

    Args:
        clean (CalibrationScores): scores on the clean images.
        corrupted (dict): corruption to a list of `CalibrationScores`, one for each severity.
        severities (list of float): 1 to 5 each.

    Returns:
        dict: `by_severity` has for each metric a list over severity 0 (clean) and the given severities. `by_level` has
        for each level of `metrics.SEVERITY_LEVELS` the mean of every metric over the severities of the level. A level
        is left out unless all of its severities are given.
    """
    means = np.concatenate([[clean], np.mean(list(corrupted.values()), axis=0)])  # severity x metric
    means[:, 0] = 1 - means[:, 0]
    metrics = ("error", *CalibrationScores._fields[1:])
    places = {severity: place for place, severity in enumerate((0, *severities))}
    rows = {level: [places[s] for s in members] for level, members in SEVERITY_LEVELS.items()
            if set(members) <= set(places)}
    return {"by_severity": dict(zip(metrics, means.T.tolist(), strict=True)),
            "by_level": {level: dict(zip(metrics, means[indices].mean(0).tolist(), strict=True))
                         for level, indices in rows.items()}}


def to_dict(description, clean, corrupted, baseline=None):
    """Return an evaluation in the form in which it is stored.

    Args:
        description (dict): description of the network and the images; `severities` are 1 to 5 if it has none.
        clean, corrupted: as in `summary`.
        baseline (Baseline or None): the baseline to compare with.

    Returns:
        dict: plain values.
    """
    record = {**description, "bins": BINS, "clean": clean._asdict(),
              "corrupted": {name: dict(zip(CalibrationScores._fields, zip(*rows, strict=True), strict=True))
                            for name, rows in corrupted.items()},
              **summary(clean, corrupted, severities_of(description))}
    if baseline is not None:
        ratios = {name: baseline.corruption_error(name, rows) for name, rows in corrupted.items()}
        relative = {name: baseline.relative_corruption_error(name, rows, clean) for name, rows in corrupted.items()}
        has_all = None not in relative.values()
        record["corruption_error"] = {"baseline": baseline.description, "by_corruption": ratios,
                                      "mean": float(np.mean(list(ratios.values()))),
                                      "relative_by_corruption": relative,
                                      "relative_mean": float(np.mean(list(relative.values()))) if has_all else None}
    return record


def write_evaluation(path, record):
    """Write an evaluation as `PATH.csv`, one row for each corruption and severity, and `PATH.json`."""
    rows = [(CLEAN, 0, *record["clean"].values())]
    rows += [(name, severity, *values) for name, metrics in record["corrupted"].items()
             for severity, values in zip(severities_of(record), zip(*metrics.values(), strict=True), strict=True)]
    sets = [record["set"]] * len(rows)
    if "published" in record:  # means over the set, as accuracies like the others
        errors, name = record["published"]["error"], f"published mean, {record['published']['source']}"
        rows += [(CLEAN if severity == 0 else "mean", severity, round(1 - error / 100, 6), "", "")
                 for severity, error in enumerate(errors)]
        sets += [name] * len(errors)
    columns = dict(zip(("corruption", "severity", *CalibrationScores._fields), zip(*rows, strict=True), strict=True))
    write_csv(path + ".csv", {"set": sets, **columns})
    write_json(path + ".json", record)


def heading(title, description, names, baseline=None):
    """Return the lines above the rows of the table. `description` is as in `to_dict`, `names` are the corruptions."""
    columns = "".join(f"{severity:7.4g}" for severity in severities_of(description)) + "   mean     NLL    ECE"
    return f"\n{title}\n{'accuracy (%)':{_width(names)}}{columns}{'' if baseline is None else '     CE'}"


def row(name, rows, description, names, baseline=None):
    """Return a row of the table. Arguments are as in `Baseline.corruption_error` and `heading`.

    The row has the accuracy at every severity, and the means of accuracy, likelihood and calibration. With a baseline
    it also has the corruption error.
    """
    accuracy, nll, ece = np.mean(rows, axis=0)
    numbers = rows if name != CLEAN else []
    cells = "".join(f"{100 * score.accuracy:7.2f}" for score in numbers).rjust(7 * len(severities_of(description)))
    error = "" if baseline is None or name == CLEAN else f"{baseline.corruption_error(name, rows):7.3f}"
    return f"{name:{_width(names)}}{cells}{100 * accuracy:7.2f}{nll:8.3f}{ece:7.3f}{error}"


def averaged_over(record):
    """Return a line that says what the averages are over, and which severities belong to each level."""
    words = [f"{level}: severities {severities[0]} to {severities[-1]}" for level, severities in SEVERITY_LEVELS.items()
             if len(severities) > 1 and level in record["by_level"]]
    return "; ".join([f"averaged over {record['set']}", *words])


def averages(record):
    """Return the lines below the table: averages over corruptions, by severity and by level."""
    lines = ["", averaged_over(record),
             "severity     " + "".join(f"{severity:7.4g}" for severity in (0, *severities_of(record))) +
             "".join(f"{level:>8}" for level in record["by_level"])]
    for metric, title, factor in (("error", "error (%)", 100), ("nll", "NLL", 1), ("ece", "ECE", 1)):
        digits = 2 if factor == 100 else 3
        lines.append(f"{title:13}" + "".join(f"{factor * v:7.{digits}f}" for v in record["by_severity"][metric]) +
                     "".join(f"{factor * level[metric]:8.{digits}f}" for level in record["by_level"].values()))
    if "corruption_error" in record:
        corruption_errors, severities = record["corruption_error"], severities_of(record)
        only = "" if severities == list(SEVERITIES) else f", severity {', '.join(map(str, severities))} alone"
        lines.append(f"mean corruption error over {record['set']}{only}: {corruption_errors['mean']:.3f}, relative to "
                     f"{corruption_errors['baseline']['name']}")
        if corruption_errors.get("relative_mean") is not None:  # earlier versions stored none
            lines.append(f"mean relative corruption error, of what they add to clean errors: "
                         f"{corruption_errors['relative_mean']:.3f}")
    return "\n".join(lines)


def _width(names):
    return max(map(len, (*names, "accuracy (%)"))) + 1
