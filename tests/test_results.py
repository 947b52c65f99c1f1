"""The numbers in the READMEs are those of the files in `benchmarks/results`."""
import itertools
import json
import os
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from corruptions import COMMON, SETS
from dataset.poisson import poisson_counts
from dataset.sources.cifar import CIFAR, load_cifar
from losses.config.resolve import resolve
from models.zoo import zoo_networks
from tests.benchmarks import cifar10_from_jpeg
from tests.benchmarks.results.tables import (
    ALL_OF_CIFAR10,
    CONTROL,
    CONTROL_PAIRS,
    LONGER,
    PAIRED,
    RESULTS_DIR,
    TABLES,
    UNSEEN,
    accuracies_by_run,
    control_differences,
    control_table,
    differences_by_epochs,
    epochs_table,
    paired_table,
    rows,
    table,
    unseen_differences,
    unseen_means,
    unseen_paired_table,
    unseen_table,
)
from tests.test_main import read_csv
from tests.test_readme import text
from utils.reports.tables import best

RESULTS = {dataset: rows(f"{dataset}_gaussian_noise") for dataset in ("cifar10", "photos")}
SNOW = rows("cifar10_snow")
CURES = rows("cifar10_gaussian_noise_cures")
METHODS = rows("cifar10_gaussian_noise_methods")
FULL = rows(ALL_OF_CIFAR10)
FULL_METHODS = rows(f"{ALL_OF_CIFAR10}_methods")
LONGER_ROWS = {**rows(LONGER), **rows(CONTROL)}
NOISE_LIKE = {"blue_noise_sample", "cocentric_sine_waves", "single_frequency_greyscale"}
UNLIKE_NOISE = sorted(set(SETS["bar"]) - NOISE_LIKE)  # the corruptions of C-bar that add neither noise nor waves
# What the main README calls a row of `comparison.csv`.
NAMES = {"`erm --sampling balanced`": "erm, balanced", "`erm --lr 0.2 --weight_decay 0.00025`": "erm, doubled"}


def value(name, dataset, column):
    result = SNOW if dataset == "snow" else {**RESULTS[dataset], **CURES, **METHODS}
    return float(result[name][f"{column}_mean"])


def readme_table():
    """Return the rows of the table of results in the main README."""
    results = {"10": {**FULL, **FULL_METHODS}, "50": LONGER_ROWS, "photos": RESULTS["photos"]}
    columns = [*((epochs, f"severity_{s}") for epochs in ("10", "50") for s in (0, 3, 5)), ("photos", "severity_5")]
    names = sorted([*FULL, "erm, balanced"], key=lambda name: -float(results["10"][name]["severity_5_mean"]))
    names.insert(names.index("erm") + 1, "erm, doubled")
    statistics = pd.DataFrame({(f"{data} {column}", kind): [
        float(results[data].get(name, {}).get(f"{column}_{kind}") or "nan") for name in names]
        for data, column in columns for kind in ("mean", "std")}, index=names)
    is_marked = best(statistics, [3] * len(names))  # a row of one seed has no deviation
    labels, lines = {name: label for label, name in NAMES.items()}, []
    for name in names:
        means = [(column, statistics.at[name, (column, "mean")]) for column in map(" ".join, columns)]
        cells = ["" if np.isnan(mean) else f"**{mean:.1f}**" if is_marked.at[name, column] else f"{mean:.1f}"
                 for column, mean in means]
        lines.append(f"| {labels.get(name, f'`{name}`')} | {' | '.join(cells)} |")
    return lines


def test_the_main_readme_has_the_numbers_of_the_comparisons():
    assert "\n".join(readme_table()) in text("README.md")
    images = [10 * count for count in poisson_counts(4000, 6)]
    words = " ".join(text("README.md").split())
    assert f"{sum(images)} training images, {images[5]} of severity 5" in words and "10 and 50 epochs, images" in words
    assert {row["runs"] for row in (*FULL.values(), *LONGER_ROWS.values())} == {"3"}
    assert "means of three seeds" in words and FULL_METHODS["erm, balanced"]["runs"] == "1"
    assert "`erm --sampling balanced` has one seed on CIFAR-10" in words


def test_no_other_form_of_a_convolution_is_clearly_faster():
    """The page of the tests says so; the project's own form is never slower, and both of its kernels help."""
    rows = pd.read_csv(os.path.join(RESULTS_DIR, "convolutions.csv"))
    assert "No other form is clearly faster" in " ".join(text("tests", "README.md").split())
    assert rows[["products of slices", "one product", "formula"]].min(axis=None) > 0.9
    here = rows.set_index("pass")["as here"].dropna()
    assert here.max() < 1.05 and {name: values.min() < 0.6 for name, values in here.groupby(level=0)} == {
        "gradient by the inputs": True, "gradient by the weights": True}


def test_the_main_readme_has_the_devices_that_were_reported():
    folder = os.path.join(RESULTS_DIR, "devices")
    names = [name for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    for name in names:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            report = json.load(file)
        passed = [row["passed"] for check in report["checks"].values() for row in check["lines"]]
        link = f"[{passed.count(True)} results pass, {passed.count(False)} fail](tests/benchmarks/results/devices/"
        assert f"| {report['machine']['MindSpore']} | {link}{name.replace('.json', '.md')}) |" in text("README.md")
    assert names


def page_of_results():
    return text("tests", "benchmarks", "results", "README.md")


def words_of_results():
    """Return the page of results without line breaks."""
    return " ".join(page_of_results().split())


def test_the_page_of_results_says_how_far_the_recommended_method_is_above_others():
    names = {"`sharpdro`": "sharpdro", "`erm --sampling balanced`": "erm, balanced", "`erm`": "erm"}
    data = {"CIFAR-10, gaussian noise": "cifar10", "`photos`, gaussian noise": "photos", "CIFAR-10, snow": "snow"}
    lines = ["| `rare_aug` minus | data | severity 0 | severity 5 |", "| --- | --- | --- | --- |"]
    for label, rival in names.items():
        for title, dataset in data.items():
            cells = [f"{value('rare_aug', dataset, column) - value(rival, dataset, column):+.1f}"
                     for column in ("severity_0", "severity_5")]
            lines.append(f"| {label} | {title} | {' | '.join(cells)} |")
    assert "\n\n" + "\n".join(lines) + "\n\n" in page_of_results()


def test_the_page_of_results_says_how_sure_the_differences_are():
    def standard_errors(result, rivals):
        return [np.hypot(*(float(result[name][f"{column}_std"]) for name in ("rare_aug", rival))) / np.sqrt(3)
                for rival in rivals for column in ("severity_0", "severity_5")]
    rivals, words = ("sharpdro", "erm, balanced", "erm"), words_of_results()
    cifar10 = [error for result in ({**RESULTS["cifar10"], **CURES, **METHODS}, SNOW)
               for error in standard_errors(result, rivals)]
    every_severity = accuracies_by_run("photos_gaussian_noise").pivot(index="seed", columns="method")
    photos = [(every_severity[column]["rare_aug"] - every_severity[column][rival]).sem()
              for rival in rivals for column in ("severity_0", "severity_5")]
    assert (f"The standard errors of these differences are {min(cifar10):.1f} to {max(cifar10):.1f} points on "
            f"CIFAR-10, and {min(photos):.1f} to {max(photos):.1f} points on `photos`") in words
    runs = every_severity["severity_5"]
    for rival, limit in (("corrupt_aug", 2), ("erm, balanced", 1)):
        change = runs["rare_aug"] - runs[rival]
        assert abs(change.mean()) < limit * change.sem()
    assert (runs["erm, balanced"] > runs["erm"]).all()
    assert "`erm --sampling balanced` is above `erm` at severity 5 with each seed" in text("README.md")
    assert "4.7 points at severity 5, with each seed. On clean images it gains 0.6 points, but with one" in words
    clean = every_severity["severity_0"]["erm, balanced"] - every_severity["severity_0"]["erm"]
    assert f"{clean.mean():.1f}" == "0.6" and (clean < 0).sum() == 1
    growth = [float(result["rare_aug"]["severity_5_mean"]) - float(result["erm"]["severity_5_mean"])
              for result in (FULL, RESULTS["cifar10"])]
    error = np.hypot(*(np.hypot(*(float(result[name]["severity_5_std"]) for name in ("rare_aug", "erm"))) / np.sqrt(3)
                       for result in (FULL, RESULTS["cifar10"])))
    assert 0 < growth[0] - growth[1] < 2 * error


@pytest.mark.parametrize("says, name, rival, dataset, column", [
    ("`rare_aug` is 2.5 points above `corrupt_aug` at severity 5", "rare_aug", "corrupt_aug", "photos", "severity_5"),
    ("ERM with balanced sampling gains 4.7 points at severity 5", "erm, balanced", "erm", "photos", "severity_5"),
    ("0.6 points lower than with balanced sampling alone", "sharpdro, balanced", "sharpdro, validation, balanced",
     "cifar10", "severity_5")])
def test_the_page_of_results_says_what_the_comparisons_say(says, name, rival, dataset, column):
    assert says in words_of_results()
    assert f"{value(name, dataset, column) - value(rival, dataset, column):.1f}" in says


def test_the_page_of_results_says_how_sure_the_loss_by_validation_is():
    pair = "sharpdro, balanced", "sharpdro, validation, balanced"
    difference = np.subtract(*(value(name, "cifar10", "severity_5") for name in pair))
    assert f"which is {difference / standard_error(*pair):.1f} standard errors of the difference" in words_of_results()


def standard_error(name, rival):
    """Return the standard error of the difference of two rows at severity 5 on CIFAR-10, of three seeds each."""
    rows = {**RESULTS["cifar10"], **CURES, **METHODS}
    return np.hypot(*(float(rows[row]["severity_5_std"]) for row in (name, rival))) / np.sqrt(3)


@pytest.mark.parametrize("row, pairs", [
    ("| `--sampling balanced` | {} | {} | {} |",
     [("sharpdro, balanced", "sharpdro"), ("group_dro, balanced", "group_dro"), ("erm, balanced", "erm")]),
    ("| `--group_loss last_seen` | {} | {} | |",
     [("sharpdro, last_seen", "sharpdro"), ("group_dro, last_seen", "group_dro")]),
    ("| `--group_loss validation` | {} | {} | |",
     [("sharpdro, validation", "sharpdro"), ("group_dro, validation", "group_dro")]),
    ("| `--group_loss validation` | `sharpdro` | {q} | {} |",
     [("sharpdro, validation, balanced", "sharpdro, balanced")]),
    ("| `--group_loss validation` | `group_dro` | {q} | {} |",
     [("group_dro, validation, balanced", "group_dro, balanced")]),
    ("| `--group_adjustment 5` | `sharpdro` | {q} | {} |",
     [("sharpdro, balanced, adjustment", "sharpdro, balanced")]),
    ("| `--group_adjustment 5` | `group_dro` | {q} | {} |",
     [("group_dro, balanced, adjustment", "group_dro, balanced")])])
def test_the_page_of_methods_says_what_the_cures_gave(row, pairs):
    """The changes of accuracy at severity 5, and the weight of severity 5 in the last row of `train.csv`.

    Changes of less than one standard error, of three seeds each, are marked.
    """
    changes = []
    for name, rival in pairs:
        change = value(name, "cifar10", "severity_5") - value(rival, "cifar10", "severity_5")
        is_chance = abs(change) < standard_error(name, rival)
        changes.append(f"{change:+.1f}{' (within chance)' if is_chance else ''}")
    weight = f"{value(pairs[0][0], 'cifar10', 'q_5'):.2f}" if "{q}" in row else None
    assert row.format(*changes, q=weight) in text("losses", "README.md").splitlines()


@pytest.mark.parametrize("says, name, columns", [
    ("sinks to 0.01 for severity 4 and to 0.00 for severity 5", "sharpdro", "45"),
    ("q of severities 4 and 5 still ends at 0.00", "sharpdro, balanced", "45"),
    ("severity 5 has the largest weight, 0.29", "sharpdro, validation, balanced", "5")])
def test_the_page_of_results_says_what_became_of_the_weights(says, name, columns):
    assert says in words_of_results()
    result = {f"{value(name, 'cifar10', f'q_{s}'):.2f}" for s in columns}
    assert result == set(re.findall(r"0\.\d\d", says))
    assert "validation" not in name or result == {f"{max(value(name, 'cifar10', f'q_{s}') for s in range(6)):.2f}"}


def test_where_an_image_has_one_severity_for_good_no_method_is_clearly_above_erm():
    words = words_of_results()
    assert ("On a tenth of CIFAR-10, none of these methods is clearly above plain ERM, and the best of them at "
            "severity 5 is `daap`, with 52.8") in words
    assert "five methods that were tried on `photos`, ERM with balanced sampling is best" in words
    rest = [name for name in {**RESULTS["cifar10"], **CURES, **METHODS} if not name.endswith("_aug")]
    best = {column: max(rest, key=lambda name, column=column: value(name, "cifar10", column))
            for column in ("severity_0", "mean", "severity_5")}
    assert best == {"severity_0": "erm", "mean": "erm", "severity_5": "daap"}
    assert f"{value('daap', 'cifar10', 'severity_5'):.1f}" == "52.8"
    assert value("daap", "cifar10", "severity_5") - value("erm", "cifar10", "severity_5") < float(
        RESULTS["cifar10"]["erm"]["severity_5_std"])
    photos = [name for name in RESULTS["photos"] if not name.endswith("_aug")]
    assert len(photos) == 5
    assert max(photos, key=lambda name: float(RESULTS["photos"][name]["severity_5_mean"])) == "erm, balanced"


def test_sam_and_the_agnostic_sharpdro_are_within_chance_of_what_the_page_says():
    for name, second in (("sam", "sharpdro"), ("sharpdro_agnostic", "erm")):
        for column in ("severity_0", "severity_5", "mean"):
            assert abs(value(name, "cifar10", column) - value(second, "cifar10", column)) < float(
                METHODS[name][f"{column}_std"])


def test_no_cure_has_more_than_erm_and_balanced_sampling_loses_nothing_on_clean_images():
    for column in ("severity_0", "severity_5"):
        assert max(value(name, "cifar10", column) for name in CURES) < value("erm", "cifar10", column)
    for name in ("sharpdro", "group_dro"):
        assert value(f"{name}, balanced", "cifar10", "severity_0") > value(name, "cifar10", "severity_0")
    same = [{**CURES[name], "method": ""} for name in ("sharpdro, balanced", "sharpdro, last_seen, balanced")]
    assert same[0] == same[1]


def test_the_loss_is_flatter_around_sharpdro_than_around_erm_and_around_rare_aug_at_rare_severities():
    sharpness, rise = {}, {}
    for method in ("erm", "sharpdro", "rare_aug"):
        result = {name: json.loads(text("tests", "benchmarks", "results", "cifar10_gaussian_noise",
                                        f"{name}_{method}.json"))["found"] for name in ("sharpness", "surface")}
        sharpness[method] = np.array(result["sharpness"]["sharpness"][-1])
        loss, middle = np.array(result["surface"]["loss"]), result["surface"]["coefficients"].index(0)
        rise[method] = loss.mean((1, 2)) - loss[:, middle, middle]
    assert (sharpness["sharpdro"] < sharpness["erm"]).all()
    assert (rise["sharpdro"] < rise["erm"] / 2).all()
    for second in ("erm", "sharpdro"):
        assert (sharpness["rare_aug"][3:] < sharpness[second][3:]).all()


def test_the_page_of_results_says_what_is_best_on_clean_images():
    for dataset, names, method in (("photos", RESULTS["photos"], "erm, balanced"),
                                   ("cifar10", {**RESULTS["cifar10"], **CURES, **METHODS}, "erm"),
                                   ("snow", SNOW, "erm")):
        assert max(names, key=lambda name, dataset=dataset: value(name, dataset, "severity_0")) == method
    assert ("In these comparisons, plain ERM is best on clean images of CIFAR-10, and ERM with balanced sampling on "
            "those of `photos`") in words_of_results()


def test_the_page_of_results_says_what_the_paper_found():
    folder = os.path.join(RESULTS_DIR, "..", "..", "..", "losses", "config")
    published = pd.read_csv(os.path.join(folder, "published.csv")).query(
        "recipe == 'sharpdro/cifar10' and source == 'Huang 2023, Table 1' and corruption == 'gaussian_noise'")
    gains = np.subtract(*(published.set_index("method").loc[name, ["5", "0"]] for name in ("sharpdro", "erm")))
    assert ("SharpDRO is {:.1f} points above ERM at severity 5 of gaussian noise, and {:.1f} points above it on clean "
            "images").format(*gains) in words_of_results()


def test_the_pages_say_what_all_of_cifar10_gave():
    def change(name, severity, result=FULL):
        return float(result[name][f"severity_{severity}_mean"]) - float(result["erm"][f"severity_{severity}_mean"])

    words, readme = words_of_results(), " ".join(text("README.md").split())
    assert (f"`rare_aug` is {change('rare_aug', 5):.1f} points of test accuracy above ERM at severity 5, and "
            f"`corrupt_aug` {change('corrupt_aug', 5):.1f}, in the mean of three seeds") in words
    assert (f"`corrupt_aug` is {-change('corrupt_aug', 0):.1f} points below ERM, and `rare_aug` is "
            f"{-change('rare_aug', 0):.1f} points below it") in words
    assert (f"over ERM at severity 5 is {change('rare_aug', 5):.1f} points, and it was "
            f"{change('rare_aug', 5, RESULTS['cifar10']):.1f} on a tenth of the images") in words
    assert (f"they are {change('corrupt_aug', 5):.1f} and {change('rare_aug', 5):.1f} points above `erm` at severity "
            f"5, and {-change('corrupt_aug', 0):.1f} and {-change('rare_aug', 0):.1f} points below it on clean images"
            ) in readme
    for name in ("sharpdro", "group_dro"):
        assert all(f"{float(FULL[name][f'q_{severity}_mean']):.2f}" == "0.00" for severity in (4, 5))
    runs = accuracies_by_run(ALL_OF_CIFAR10).set_index(["method", "seed"])
    changes = runs.filter(regex=r"^severity_\d$")
    changes = changes - changes.xs("erm").reindex(changes.index, level="seed")
    assert (changes.loc[["sharpdro", "group_dro"]] < 0).all(axis=None) and len(changes) == 15
    for severity, alike in ((0, ()), (5, ("corrupt_aug", "rare_aug"))):
        order = [sorted(set(FULL) - set(alike), key=lambda name, result=result: change(name, severity, result))
                 for result in (FULL, RESULTS["cifar10"])]
        assert order[0] == order[1]
    for result in (FULL, RESULTS["cifar10"]):
        first, second = (change(name, 5, result) for name in ("corrupt_aug", "rare_aug"))
        assert min(first, second) > 0
        assert abs(first - second) < min(float(result[name]["severity_5_std"]) for name in ("corrupt_aug", "rare_aug"))
    first = runs.loc["erm", 0]
    says = f"ERM has {first['severity_0']:.1f} on clean images and {first['severity_5']:.1f} at severity 5"
    gains = {name: [float(row[f"{severity}_mean"]) - first[severity] for severity in ("severity_0", "severity_5")]
             for name, row in FULL_METHODS.items()}
    assert "{}. `sharpdro_agnostic` is {:.1f} and {:.1f} points above it".format(
        says, *gains.pop("sharpdro_agnostic")) in words
    assert "The other four are below ERM at both" in words and len(gains) == 4
    assert all(max(values) < 0 for values in gains.values())
    images = [10 * count for count in poisson_counts(4000, 6)]
    assert ", ".join(map(str, images[:5])) + f" and {images[5]} training images of severity 0 to 5" in words
    lacks = [f"{(1 - count / sum(images)) ** 100:.0%}" for count in images]
    assert lacks == ["0%", "0%", "0%", "0%", "21%", "74%"]
    assert "One batch in five has no image of severity 4, and one in four has an image of severity 5" in words
    both = [name for name in FULL_METHODS if name in METHODS or name in RESULTS["cifar10"]]
    small = {name: float({**METHODS, **RESULTS["cifar10"]}[name]["severity_5_mean"]) for name in ("erm", *both)}
    large = {"erm": first["severity_5"], **{name: float(FULL_METHODS[name]["severity_5_mean"]) for name in both}}
    passed = {(high, low) for high, low in itertools.permutations(small, 2)
              if large[high] > large[low] and small[high] < small[low]}
    assert passed == {("sharpdro_agnostic", "erm"), ("asam", "damp")} and len(small) == 6
    assert "`sharpdro_agnostic` is now above `erm` at severity 5, and `asam` above `damp`" in words
    assert all(paired_table(folder) in page_of_results() for folder in PAIRED)


def test_the_pages_say_what_more_epochs_change():
    words, readme, page = words_of_results(), " ".join(text("README.md").split()), page_of_results()
    assert epochs_table() in page and unseen_table(LONGER, CONTROL) in page
    by_seed = differences_by_epochs()
    few, many = (values.groupby("method", sort=False).mean() for values in by_seed.values())
    assert (by_seed[10].loc["sharpdro"] < 0).all(axis=None) and (by_seed[50].loc["sharpdro"] > 0).all(axis=None)
    bounds = f"{many.loc['sharpdro'].min():.1f} to {many.loc['sharpdro'].max():.1f}"
    assert f"after 50 epochs it is {bounds} points above ERM. Both hold with each seed" in words
    assert f"SharpDRO is then above ERM, too, by {bounds} points, but" in words
    mean = by_seed[50].loc["sharpdro"].mean(axis=1)
    assert (f"In the mean over severities SharpDRO is then {mean.mean():.1f} points above ERM, or "
            f"{mean.mean() / mean.sem():.1f} standard errors") in words and len(mean) == 3
    errors = by_seed[50].loc["sharpdro"].mean() / by_seed[50].loc["sharpdro"].sem()
    assert (errors < 4.3).tolist() == [True, False, False, True, False, True]
    assert (f"At severities 0, 3 and 5 alone, the difference is only {errors[errors < 4.3].min():.1f} to "
            f"{errors[errors < 4.3].max():.1f} standard errors") in words
    assert (few.loc["rare_aug"] < 0).tolist() == [True, True, True, False, False, False]
    by_severity = by_seed[50].loc["rare_aug"]
    assert (by_severity.drop(columns="severity_0") > 0).all(axis=None) and (by_severity["severity_0"] < 0).sum() == 1
    clean, severe = many.loc["rare_aug", ["severity_0", "severity_5"]]
    assert f"{clean:.1f} points above ERM on clean images, and {severe:.1f} points above it at severity 5" in words
    assert (f"by {severe:.1f} points at severity 5. On clean images it is {clean:.1f} points above ERM in the mean"
            ) in words
    assert (f"`rare_aug` is {severe:.1f} points above it at severity 5, and not clearly above it on clean images"
            ) in readme
    assert clean < 2 * by_severity["severity_0"].sem()
    above = by_severity - by_seed[50].loc["sharpdro"]
    assert (above.iloc[:, 2:] > 0).all(axis=None)
    above = above.mean()
    assert f"above SharpDRO, by {above[2:].min():.1f} to {above[2:].max():.1f} points at severities 2 to 5" in words
    assert f"At severities 0 and 1 the two differ by at most {above[:2].abs().max():.1f} points in the mean" in words
    longer, shorter = (accuracies_by_run(folder).set_index(["method", "seed"])[["severity_0", "severity_5"]]
                       for folder in (LONGER, ALL_OF_CIFAR10))
    gains = (longer - shorter.loc[longer.index]).groupby("method").mean()
    assert "ERM gains {:.1f} points on clean images and {:.1f} points at severity 5".format(*gains.loc["erm"]) in words
    assert "SharpDRO gains {:.1f} and {:.1f} points".format(*gains.loc["sharpdro"]) in words
    weights = rows(LONGER)["sharpdro"]
    assert "The weights q of severities 4 and 5 still end near 0, at {:.2f} and {:.2f}".format(
        *(float(weights[f"q_{s}_mean"]) for s in (4, 5))) in words
    means = unseen_means(LONGER, UNSEEN)
    change = {group: values.xs("rare_aug") - values.xs("erm") for group, values in means.items()}
    assert all((part["accuracy"] > 0).all() and (part[["nll", "ece"]] < 0).all(axis=None) for part in change.values())
    assert (f"by {change['other common']['accuracy'].mean():.1f} points under the other common corruptions, and by "
            f"{change['C-bar']['accuracy'].mean():.1f} points under C-bar") in words
    assert "All this holds with each seed" in words
    scores = pd.read_csv(os.path.join(RESULTS_DIR, LONGER, "unseen.csv"))
    accuracy = 100 * scores.pivot_table(index="corruption", columns="method", values="accuracy")
    fog = (accuracy["rare_aug"] - accuracy["erm"]).drop("none")
    assert fog.idxmin() == "fog" and f"Single corruptions lose, fog most, by {-fog['fog']:.1f} points" in words
    twelve = unseen_means(LONGER, {"twelve": UNLIKE_NOISE})["twelve"]["accuracy"]
    gain = twelve.xs("rare_aug") - twelve.xs("erm")
    assert (gain > 0).all() and f"add neither noise nor waves, `rare_aug` is {gain.mean():.1f} points above" in words
    flat = means["C-bar"].xs("sharpdro") - means["C-bar"].xs("erm")
    assert f"SharpDRO is {flat['accuracy'].mean():.1f} points above ERM under C-bar" in words
    assert (flat["accuracy"] > 0).all() and (flat[["nll", "ece"]] < 0).all(axis=None)
    common = means["other common"]["accuracy"].xs("sharpdro") - means["other common"]["accuracy"].xs("erm")
    assert (f"Under the other common corruptions it is {common.mean():.1f} points above ERM, but not with each seed"
            ) in words and (common < 0).any()
    earlier = unseen_means(ALL_OF_CIFAR10, UNSEEN)["C-bar"].loc[means["C-bar"].index]
    assert "ERM, SharpDRO and `rare_aug` are less well calibrated under C-bar than after 10 epochs" in words
    assert (means["C-bar"]["ece"] > earlier["ece"]).all() and len(earlier) == 9


def test_the_pages_say_what_steps_as_large_as_those_of_sharpdro_give():
    words, readme, page = words_of_results(), " ".join(text("README.md").split()), page_of_results()
    assert control_table() in page
    differences = control_differences()
    larger, sharp, rare = (differences[pair] for pair in CONTROL_PAIRS)
    mean, rest = larger.mean(axis=1), sharp.mean(axis=1)
    assert (f"`erm, doubled` is {mean.mean():.1f} points above ERM in the mean over severities, or "
            f"{mean.mean() / mean.sem():.1f} standard errors") in words and (mean > 0).all()
    assert (f"SharpDRO is {-rest.mean():.1f} points below `erm, doubled`, or {-rest.mean() / rest.sem():.1f} standard "
            "errors") in words
    half = 4.303 * rest.sem()  # Student's t, two degrees of freedom
    assert len(rest) == 3 and (f"The 95 % interval of this difference is {rest.mean() - half:+.1f} to "
                               f"{rest.mean() + half:+.1f} points") in words
    assert f"At no severity do the means of the two differ by more than {sharp.mean().abs().max():.1f} points" in words
    bound = max(half - rest.mean(), half + rest.mean())
    sharpdro = differences_by_epochs()[50].loc["sharpdro"].mean(axis=1).mean()
    assert f"After 50 epochs on CIFAR-10 it is {mean.mean():.1f} points above `erm` in the mean over" in readme
    assert (f"is {sharpdro:.1f} points above `erm`. The two are equal within {bound:.1f} points (95 %, three seeds)"
            ) in readme and "and is better calibrated under C-bar" in readme
    below = larger.loc[0] < 0
    assert below[below].index.tolist() == ["severity_3", "severity_5"] and (larger.drop(index=0) > 0).all(axis=None)
    assert "With seed 0 it is below ERM at severities 3 and 5" in words
    assert "no more than ERM with steps of the same size" in words
    assert (rare.iloc[:, 2:] > 0).all(axis=None)
    assert (f"`rare_aug` is above `erm, doubled` at severities 2 to 5 with each seed, by "
            f"{rare['severity_5'].mean():.1f} points at severity 5. At severities 0 and 1 it is "
            f"{-rare['severity_0'].mean():.1f} and {-rare['severity_1'].mean():.1f} points below it in the mean, "
            "but not with each seed") in words
    assert ((rare[["severity_0", "severity_1"]] >= 0).sum() > 0).all()
    flat, doubled = (unseen_means(folder, UNSEEN) for folder in (LONGER, CONTROL))
    change = {group: flat[group].xs("sharpdro") - doubled[group].xs("erm, doubled") for group in flat}
    assert all((values["ece"] < 0).all() for values in change.values())
    unlike = change.pop("C-bar")
    assert (unlike["accuracy"] > 0).all() and (unlike["nll"] < 0).all()
    assert (f"by {-unlike['ece'].mean():.3f} under C-bar. There its NLL is {-unlike['nll'].mean():.2f} lower, and it "
            f"is {unlike['accuracy'].mean():.1f} points above `erm, doubled`, both with each seed") in words
    others = max(abs(values["accuracy"].mean()) for values in change.values())
    assert f"the accuracies of the two differ by at most {others:.1f} points in the mean" in words
    gain = {group: flat[group].xs("rare_aug") - doubled[group].xs("erm, doubled") for group in flat}
    assert all((values["ece"] < 0).all() for values in gain.values())
    has_sign = {group: bool((values["accuracy"] > 0).all()) for group, values in gain.items()}
    assert has_sign == {"shot and impulse noise": True, "other common": False, "C-bar": True}
    assert ("`rare_aug` gains {:.1f} points under shot and impulse noise, and {:.1f} points under C-bar, with each "
            "seed. Under the other common corruptions it gains {:.1f} points, but not with each seed").format(
        *(gain[group]["accuracy"].mean() for group in ("shot and impulse noise", "C-bar", "other common"))) in words
    twelve = [unseen_means(folder, {"twelve": UNLIKE_NOISE})["twelve"]["accuracy"].xs(name)
              for folder, name in ((LONGER, "rare_aug"), (CONTROL, "erm, doubled"))]
    gain = twelve[0] - twelve[1]
    assert f"It is {gain.mean():.1f} points above `erm, doubled`, but not with each seed" in words and (gain < 0).any()


def test_the_page_of_results_says_what_a_thousand_images_cannot_tell():
    seen = unseen_means(LONGER, {"noise": ["gaussian_noise"]})["noise"]["accuracy"]
    few = (seen.xs("sharpdro") - seen.xs("erm"))[2]
    many = differences_by_epochs()[50].loc[("sharpdro", 2)].drop("severity_0").mean()
    assert (f"SharpDRO with seed 2 is {-few:.1f} points below ERM on these images, and {many:.1f} points above it on "
            "all 10 000") in words_of_results()


def test_the_page_of_results_says_what_other_options_of_sharpdro_gave():
    runs = accuracies_by_run(ALL_OF_CIFAR10)
    first, words = runs[runs["seed"] == 0].set_index("method"), words_of_results()
    tried = {name: {column.removesuffix("_mean"): float(row[column]) for column in row if column.endswith("_mean")}
             for part in ("q", "algorithm") for name, row in rows(f"{ALL_OF_CIFAR10}_{part}").items()}
    assert "With this seed it is {:.1f} for `sharpdro`, {:.1f} for `erm` and {:.1f} for `rare_aug`".format(
        *first.loc[["sharpdro", "erm", "rare_aug"], "val_severity_5"]) in words
    best = max(row["val_severity_5"] for row in tried.values())
    assert best < first.at["rare_aug", "val_severity_5"] and "So no row here is better than `rare_aug`" in words
    balanced, both, argmax = map(tried.pop, ("sharpdro, balanced", "rare_aug, sharpdro", "sharpdro, argmax"))
    sign, ascents = tried.pop("sharpdro, sign"), [tried.pop(f"sharpdro, rho {rho}") for rho in ("0.5", "1")]
    worst_case, whole = tried.pop("sharpdro, worst_case"), tried.pop("sharpdro, Algorithm 1")
    short_sign = tried.pop("sharpdro, sign, rho 0.00018")
    assert not tried
    assert ("It has {severity_0:.1f} on clean test images and {severity_5:.1f} at severity 5".format(**worst_case)
            in words)
    below = first.at["group_dro", "severity_5"] - worst_case["severity_5"]
    assert f"With this seed it is {below:.1f} points below `group_dro` at severity 5" in words
    assert "`--rho 1` has {severity_0:.1f} and {severity_5:.1f}".format(**ascents[1]) in words
    assert ("`--rho 0.5`, ten times the default, has {severity_0:.1f} on clean test images and {severity_5:.1f} at "
            "severity 5").format(**ascents[0]) in words and 0.5 / resolve("sharpdro").options["rho"] == 10
    assert "It has {severity_0:.1f} and {severity_5:.1f}".format(**sign) in words
    assert f"each of 77 850 weights by ρ. So at the default ρ of 0.05 it is {np.sqrt(77850):.0f} times as long" in words
    assert "With `--rho 0.00018` the ascent along the sign is as long as by default" in words
    assert f"{resolve('sharpdro').options['rho'] / np.sqrt(77850):.5f}" == "0.00018"
    difference = max(abs(short_sign[f"severity_{s}"] - first.at["sharpdro", f"severity_{s}"]) for s in range(6))
    assert f"This row is within {difference:.1f} points of `sharpdro` at every severity" in words
    assert "| `wideresnet10` | WRN-10-1 | 77 850 |" in text("models", "README.md")
    for name in ("severity_0", "severity_5"):
        assert max(row[name] for row in (sign, worst_case, *ascents)) < first.at["sharpdro", name]
    reached = "It reaches {severity_0:.1f} on clean test images and {severity_5:.1f} at severity 5"
    assert reached.format(**argmax) in words and reached.format(**whole) in words
    gains = [balanced[f"severity_{s}"] - first.at["sharpdro", f"severity_{s}"] for s in (5, 0)]
    assert ("raises the validation accuracy of `sharpdro` to {:.1f}. On test images it gains {:.1f} points at severity "
            "5, and {:.1f} on clean images").format(balanced["val_severity_5"], *gains) in words
    gains = [balanced[f"severity_{s}"] - first.at["erm", f"severity_{s}"] for s in (5, 0)]
    assert (f"So it is {gains[0]:.1f} points above `erm` at severity 5, and {-gains[1]:.1f} points below it on clean "
            "images") in words
    losses = [first.at["rare_aug", f"severity_{s}"] - both[f"severity_{s}"] for s in (5, 0)]
    assert ("reaches {:.1f}. On test images it is {:.1f} points below `rare_aug` at severity 5, and {:.1f} points "
            "below it on clean images").format(both["val_severity_5"], *losses) in words
    assert all(f"{row[f'q_{s}']:.2f}" == "0.00" for row in (balanced, both, argmax, sign, short_sign, worst_case, whole,
                                                            *ascents) for s in (4, 5))


def test_the_page_of_results_says_what_carries_over_to_other_corruptions():
    others = f"{ALL_OF_CIFAR10}_methods"
    for made in (unseen_table(ALL_OF_CIFAR10), unseen_table(others), unseen_paired_table(ALL_OF_CIFAR10)):
        assert made in page_of_results()
    differences, words, names = unseen_differences(ALL_OF_CIFAR10), words_of_results(), ["corrupt_aug", "rare_aug"]
    impulse = differences["impulse noise"].loc[names]
    assert ("Under impulse noise `corrupt_aug` is {:.1f} points above ERM, and `rare_aug` is {:.1f} points above it"
            ).format(*impulse.mean(axis=1)) in words
    assert all(f"`{name}`" in words for name in NOISE_LIKE)
    means = unseen_means(ALL_OF_CIFAR10, {"clean": ["none"], **UNSEEN, "gaussian noise": ["gaussian_noise"],
                                          "twelve": UNLIKE_NOISE})
    change = {(group, score): np.subtract(*(means[group].loc[name, score] for name in ("rare_aug", "erm")))
              for group in means for score in ("accuracy", "nll", "ece")}
    assert (f"Under the other twelve, `rare_aug` is {-change['twelve', 'accuracy'].mean():.1f} points below ERM"
            ) in words and (change["twelve", "accuracy"] < 0).all() and len(UNLIKE_NOISE) == 12
    ratio = {key: abs(values.mean()) / (values.std(ddof=1) / np.sqrt(3)) for key, values in change.items()}
    nll, ece, clean, noise = ("C-bar", "nll"), ("C-bar", "ece"), ("clean", "nll"), ("gaussian noise", "ece")
    assert (f"the NLL of `rare_aug` is {-change[nll].mean():.2f} lower than the NLL of ERM, or {ratio[nll]:.1f} "
            f"standard errors, and the ECE is {-change[ece].mean():.3f} lower, or {ratio[ece]:.1f} standard errors. "
            f"But on clean images its NLL is {change[clean].mean():.2f} higher, or {ratio[clean]:.1f} standard "
            f"errors, and under gaussian noise its ECE is {change[noise].mean():.3f} higher, or {ratio[noise]:.1f} "
            "standard errors") in words
    calibration = means["C-bar"]["ece"].unstack("method")
    assert calibration.drop(columns="erm").lt(calibration["erm"], axis=0).all(axis=None) and len(calibration) == 3
    rest = [differences[group].loc[names] for group in ("shot noise", "other common", "C-bar")]
    assert f"ERM by at most {max(part.mean(axis=1).abs().max() for part in rest):.1f} points in the mean" in words
    errors = max((part.mean(axis=1).abs() / part.sem(axis=1)).max() for part in rest)
    assert f"These differences are at most {errors:.1f} times their standard errors" in words
    for part in differences.values():
        assert part.shape == (4, 3) and (part.loc[["sharpdro", "group_dro"]] < 0).all(axis=None)
    groups = {"clean": ["none"], **UNSEEN}
    erm, single = (pd.DataFrame({group: values["accuracy"] for group, values in unseen_means(folder, groups).items()})
                   .xs(0, level="seed") for folder in (ALL_OF_CIFAR10, others))
    erm = erm.loc["erm"]
    assert ("ERM with seed 0 has {:.1f} on clean images, {:.1f} under shot and impulse noise, {:.1f} under the other "
            "common corruptions, and {:.1f} under C-bar").format(*erm) in words
    assert (single.loc[["asam", "damp", "erm, balanced"]] < erm).all(axis=None) and len(single) == 5
    assert (f"`sam` and `sharpdro_agnostic` differ from ERM by at most "
            f"{(single.loc[['sam', 'sharpdro_agnostic']] - erm).abs().max(axis=None):.1f} points") in words
    scores = pd.read_csv(os.path.join(RESULTS_DIR, ALL_OF_CIFAR10, "unseen.csv"))
    accuracy = 100 * scores.pivot_table(index="corruption", columns="method", values="accuracy")
    change = (accuracy["rare_aug"] - accuracy["erm"]).drop("none").sort_values()
    assert (change.index[0], change.index[-1]) == ("fog", "cocentric_sine_waves")
    assert (f"With `rare_aug`, C-bar's sine waves gain most, {change.iloc[-1]:.1f} points, and fog loses most, "
            f"{-change.iloc[0]:.1f} points") in words


def test_the_zoo_has_the_numbers_of_the_results():
    """A network is a run of a comparison; its accuracy under common corruptions is of `unseen.csv`."""
    names = {}
    for folder, ending, epochs in ((ALL_OF_CIFAR10, "", 10), (f"{ALL_OF_CIFAR10}_methods", "", 10),
                                   (LONGER, "-50epochs", 50)):
        accuracies = {name: [float(row[f"severity_{s}_mean"]) for s in range(6)] for name, row in rows(folder).items()}
        if folder in (ALL_OF_CIFAR10, LONGER):  # their means are of several seeds
            first = accuracies_by_run(folder).query("seed == 0")
            accuracies = {row["method"]: [row[f"severity_{s}"] for s in range(6)] for _, row in first.iterrows()}
        scores = pd.read_csv(os.path.join(RESULTS_DIR, folder, "unseen.csv")).query("seed == 0").set_index("method")
        names |= {f"{method.replace(', ', '-')}{ending}-cifar10": (accuracy, scores.loc[method], epochs)
                  for method, accuracy in accuracies.items()}
    networks = zoo_networks()
    assert set(names) == {name for name in networks if name.endswith("-cifar10")} and len(names) == 13
    for name, (accuracy, unseen, epochs) in names.items():
        entry = networks[name]
        assert [100 * value for value in entry["accuracy"]] == pytest.approx(accuracy)
        common = unseen.set_index("corruption").loc[list(COMMON), "accuracy"]
        assert entry["common_accuracy"] == pytest.approx(common.mean(), abs=2e-6)
        assert (entry["config"]["seed"], entry["config"]["total_epoch"], entry["common_images"]) == (0, epochs, 1000)
    first = accuracies_by_run("photos_gaussian_noise").query("seed == 0")
    [row] = first[first["method"] == "rare_aug"].filter(regex=r"^severity_\d$").to_numpy()
    assert [100 * accuracy for accuracy in networks["rare_aug-photos"]["accuracy"]] == pytest.approx(row)


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_of_results_has_the_tables(heading):
    assert f"## {heading}\n\n{table(TABLES[heading])}" in page_of_results()


@pytest.mark.parametrize("folder", ["tests", os.path.join("tests", "benchmarks", "results")])
def test_links_and_pictures_of_the_pages_lead_somewhere(folder):
    targets = re.findall(r"\]\((?!http)([^)]+)\)", text(folder, "README.md"))
    for target in targets:
        file, _, anchor = target.partition("#")
        assert os.path.exists(os.path.join(RESULTS_DIR, "..", "..", "..", folder, file)), target
        titles = re.findall("^#+ (.*)$", text(folder, file or "README.md"), re.MULTILINE) if anchor else []
        anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not anchor or anchor in anchors, target


def test_every_folder_of_results_is_in_a_table_and_has_its_command():
    folders = {entry.name for entry in os.scandir(RESULTS_DIR) if entry.is_dir()} - {"__pycache__", "devices"}
    assert folders == {folder for subset in TABLES.values() for folder in subset}
    page = page_of_results()
    for folder in folders:  # the block is the next one, and of no other folder
        assert re.search(rf"^`{folder}/`:(?:(?!\n## |\n`\w+/`:|```).)*\n```bash\npython main\.py", page,
                         re.DOTALL | re.MULTILINE), folder


def test_the_page_of_results_describes_the_runs_as_their_commands_do():
    page, words = page_of_results(), words_of_results()
    commands = re.findall(r"^python main\.py .*", page, re.MULTILINE)
    epochs = {(dataset, epochs) for line in commands for epochs, dataset in
              re.findall(r"-m wideresnet10 .*--total_epoch (\d+) .*-d (\w+) ", line)}
    assert len(commands) == 13
    assert epochs == {("cifar10", "10"), ("cifar10", "20"), ("cifar10", "50"), ("photos", "15")}
    assert "train WRN-10-1 with three seeds: 20 epochs on a tenth of CIFAR-10, and 15 epochs on the data" in words
    counts = [10 * count for count in poisson_counts(500, 6)]
    assert words.count("{}, {}, {}, {}, {} and {} training images".format(*counts)) == 2
    lacks = [(1 - count / sum(counts)) ** 100 for count in counts]
    assert (round(1 / lacks[4]), round(1 / (1 - lacks[5]))) == (4, 5)
    assert ("One batch in four has no image of severity 4, and only one batch in five has an image of severity 5"
            ) in words


def test_accuracy_over_rho_is_what_the_page_says():
    result = {float(name.split("=")[1]): [float(row[f"severity_{s}_mean"]) for s in range(6)]
              for name, row in rows("cifar10_gaussian_noise_rho").items()}
    small, large = [result[rho] for rho in (0.01, 0.05, 0.1)], [result[rho] for rho in (0.5, 1.0, 2.0)]
    assert (np.ptp(small, axis=0) < [float(METHODS["sam"][f"severity_{s}_std"]) for s in range(6)]).all()
    assert (np.diff([np.min(small, axis=0), *large], axis=0) < 0).all()
    assert ("Up to ρ = 0.1 the runs differ by less than the seeds of `sam` in the table above. From ρ = 0.5 on, "
            "accuracy falls at all severities") in words_of_results()


def test_the_release_and_this_project_agree():
    """Means over seeds are within one standard deviation, the smaller of the two."""
    result = read_csv(os.path.join(RESULTS_DIR, "release.csv"))
    accuracy = {name: np.array([[float(row[f"severity_{s}"]) for s in range(6)] for row in result
                                if row["program"] == name]) for name in ("release", "ours")}
    page = text("tests", "README.md")
    for name, row in (("release", "authors' code"), ("ours", "here")):
        assert accuracy[name].shape == (10, 6)
        cells = [f"{mean:.1f} ± {std:.1f}" for mean, std in zip(accuracy[name].mean(0), accuracy[name].std(0, ddof=1),
                                                                strict=True)]
        assert f"| {row} | {' | '.join(cells)} |" in page
    apart = accuracy["ours"] - accuracy["release"]
    error = apart.std(0, ddof=1) / len(apart) ** 0.5
    assert (np.abs(apart.mean(0)) < np.minimum(*(values.std(0, ddof=1) for values in accuracy.values()))).all()
    assert (f"The difference is {np.abs(apart.mean(0)).max():.1f} at most, with a standard error of "
            f"{error.max():.1f}") in page
    curves = read_csv(os.path.join(RESULTS_DIR, "release_curves.csv"))

    def largest(first, second, part=curves):
        return max(abs(float(row[first]) - float(row[second] if second else 0)) for row in part)
    words = " ".join(page.split())
    assert f"the losses differ by up to {largest('largest_loss_difference', None, curves[:10]):.2f}" in words
    q = max(largest(f"release_q_{s}", f"ours_q_{s}") for s in range(6))
    assert f"differ by {q:.3f} at most in all {len(curves)} batches" in words
    assert f"The mean losses differ by {largest('release_loss', 'ours_loss'):.2f} at most" in words


def test_the_images_of_the_results_are_made_of_published_files(tmp_path, capsys):
    expected, clone, data = {}, tmp_path / "clone", tmp_path / "data"
    rng = np.random.default_rng(0)
    for part, count in (("train", 5), ("test", 2)):
        expected[part] = []
        for label, name in enumerate(CIFAR["cifar10"].class_names):
            os.makedirs(clone / part / name)
            for k in range(count):
                path = clone / part / name / f"{k:04}.jpg"
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
                expected[part].append((np.asarray(Image.open(path)), label))
    cifar10_from_jpeg.main([str(clone), str(data)])
    source = load_cifar("cifar10", data)
    assert capsys.readouterr().out.split()[5].strip(",") == source.train_fingerprint.pixels
    for part, subset in expected.items():
        order = np.random.RandomState(0).permutation(len(subset))
        np.testing.assert_array_equal(source.images[part], [subset[k][0] for k in order])
        np.testing.assert_array_equal(source.labels[part], [subset[k][1] for k in order])
    cifar10_from_jpeg.main([str(clone), str(tmp_path / "few"), "--num_test", "3"])
    few = load_cifar("cifar10", tmp_path / "few")
    np.testing.assert_array_equal(few.images["train"], source.images["train"])
    np.testing.assert_array_equal(few.images["test"], source.images["test"][:3])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cifar10_from_jpeg.main([str(clone), str(tmp_path / "other"), "--num_test", "21"])
    assert "--num_test 21: there are only 20 test images" in capsys.readouterr().err
    assert not os.listdir(tmp_path / "other")
    with pytest.raises(SystemExit):
        cifar10_from_jpeg.main([str(clone), str(data)])
    assert "is there already; remove it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cifar10_from_jpeg.main([str(data), str(tmp_path / "other")])
    assert "has no folder train" in capsys.readouterr().err
    os.remove(clone / "test" / "cat" / "0001.jpg")
    (clone / "test" / "cat" / "0000.jpg").write_bytes(b"damaged")
    with pytest.raises(SystemExit):
        cifar10_from_jpeg.main([str(clone), str(tmp_path / "other")])
    assert "0000.jpg" in capsys.readouterr().err and not os.listdir(tmp_path / "other")
