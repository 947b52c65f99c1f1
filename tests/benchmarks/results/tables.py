"""The tables of README.md beside this file, from the CSV files: python tests/benchmarks/results/tables.py"""
import csv
import os
import sys

RESULTS_DIR = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(RESULTS_DIR))))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from corruptions import COMMON, SETS  # noqa: E402
from utils.reports.comparison_rows import ComparisonRow, paired_differences  # noqa: E402
from utils.reports.tables import markdown, statistics, texts  # noqa: E402

ALL_OF_CIFAR10 = "cifar10_full"  # the comparison with unseen corruptions
LONGER = f"{ALL_OF_CIFAR10}_longer"  # some of its runs, with 50 epochs in place of 10
CONTROL = f"{ALL_OF_CIFAR10}_control"  # erm with steps as large as the steps of sharpdro, otherwise as `LONGER`
# Pairs of methods in the two folders whose difference `control_table` has.
CONTROL_PAIRS = (("erm, doubled", "erm"), ("sharpdro", "erm, doubled"), ("rare_aug", "erm, doubled"))
PAIRED = (ALL_OF_CIFAR10, "photos_gaussian_noise")  # the comparisons with differences that are paired by seed
TRAINED_ON, NOISE = "gaussian_noise", ("shot_noise", "impulse_noise")
OTHERS = {"other common": [name for name in COMMON if name not in (TRAINED_ON, *NOISE)], "C-bar": SETS["bar"]}
# Groups of corruptions of the two tables of `unseen.csv`. One has the scores, the other the differences of accuracy.
UNSEEN = {"shot and impulse noise": NOISE, **OTHERS}
COMPARED = {**{name.replace("_", " "): [name] for name in (TRAINED_ON, *NOISE)}, "all common": COMMON, **OTHERS}

# Heading of a table, to the folders whose rows it has; each with the number of runs of a row, one for each seed.
TABLES = {
    "All of CIFAR-10, gaussian noise": {ALL_OF_CIFAR10: 3, f"{ALL_OF_CIFAR10}_methods": 1},
    "All of CIFAR-10, 50 epochs": {LONGER: 3, CONTROL: 3},
    "All of CIFAR-10, SharpDRO with other options": {f"{ALL_OF_CIFAR10}_q": 1, f"{ALL_OF_CIFAR10}_algorithm": 1},
    "CIFAR-10, gaussian noise": {"cifar10_gaussian_noise": 3, "cifar10_gaussian_noise_methods": 3,
                                 "cifar10_gaussian_noise_cures": 3},
    "CIFAR-10, gaussian noise, over ρ": {"cifar10_gaussian_noise_rho": 1},
    "CIFAR-10, snow": {"cifar10_snow": 3},
    "photos, gaussian noise": {"photos_gaussian_noise": 3, "photos_candidates": 3},
}


def rows(folder):
    """The rows of a folder's comparison.

    Returns:
        dict: name of a method or variant to its columns as text, of which `…_mean` and `…_std` are in percent.
    """
    with open(os.path.join(RESULTS_DIR, folder, "comparison.csv"), encoding="utf-8", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def accuracies_by_run(folder):
    """The accuracy of each run of a folder's comparison in percent, a DataFrame with a row for each run."""
    return pd.read_csv(os.path.join(RESULTS_DIR, folder, "comparison_runs.csv"))


def table(folders):
    """All rows of the folders, as in `TABLES`, as a Markdown table, those that are best at severity 5 first."""
    result = []
    for folder, runs in folders.items():
        result += rows(folder).values()
        unfinished = [name for name, row in rows(folder).items() if (row["runs"], row["failed"]) != (str(runs), "0")]
        assert not unfinished, f"not of {runs} runs: {unfinished}"
    names = [row["method"] for row in result]
    assert len(set(names)) == len(names), f"a name twice in {folders}"
    lines = ["| method | 0 | 1 | 2 | 3 | 4 | 5 | worst | mean | validation, 5 | last q of 0 to 5 |",
             "| --- |" + " --- |" * 10]
    for row in sorted(result, key=lambda row: -float(row["severity_5_mean"])):
        cells = [number(row, column) for column in (*(f"severity_{s}" for s in range(6)), "worst", "mean",
                                                    "val_severity_5")]
        q = " ".join(f"{float(row[f'q_{s}_mean']):.2f}" for s in range(6) if row.get(f"q_{s}_mean"))
        lines.append(f"| {row['method']} | {' | '.join(cells)} | {q} |")
    return "\n".join(lines) + "\n"


def paired_table(folder):
    """Differences from erm as a Markdown table, of runs with the same seed."""
    runs = accuracies_by_run(folder)
    rows = []
    for name, group in runs.groupby("method", sort=False):
        accuracies = group[[f"severity_{s}" for s in range(6)]].to_numpy() / 100
        rows.append(ComparisonRow(("", "", ""), name, dict(zip(group["seed"], accuracies, strict=True)), {}))
    return "\n".join(markdown(*paired_differences(rows, digits=1))) + "\n"


def accuracies_by_severity(*folders):
    """The test accuracy of each run in percent, a DataFrame with a row for each method and seed of the folders."""
    runs = pd.concat([accuracies_by_run(folder) for folder in folders]).set_index(["method", "seed"])
    return runs.filter(regex=r"^severity_\d$")


def differences_table(header, differences):
    """Mean and standard deviation of differences over the seeds as a Markdown table.

    Args:
        header (list of str): headings of the words of a row.
        differences (dict): the words of a row (tuple of str) to a DataFrame as in `control_differences`.
    """
    columns = [*map(str, range(6)), "mean"]
    runs = [values.assign(mean=values.mean(axis=1)).to_numpy() for values in differences.values()]
    cells = texts(statistics(runs, columns), digits=1, signed=True)
    lines = [[*words, *cells.loc[k]] for k, words in enumerate(differences)]
    return "\n".join(markdown([*header, *columns], lines)) + "\n"


def differences_by_epochs():
    """The test accuracy minus the accuracy of erm with the same seed, in percentage points.

    Returns:
        dict: number of epochs to a DataFrame with a row for each other method and seed of `LONGER` and a column for
        each severity.
    """
    longer = accuracies_by_severity(LONGER).index
    result = {}
    for epochs, folder in ((10, ALL_OF_CIFAR10), (50, LONGER)):
        accuracy = accuracies_by_severity(folder).loc[longer]
        result[epochs] = (accuracy - accuracy.xs("erm").reindex(longer, level="seed")).drop("erm", level="method")
    return result


def epochs_table():
    """Mean and standard deviation of `differences_by_epochs` over the seeds as a Markdown table."""
    differences = differences_by_epochs()
    return differences_table(["method", "epochs"], {
        (method, str(epochs)): differences[epochs].loc[method]
        for method in differences[50].index.unique("method") for epochs in differences})


def control_differences():
    """Differences of test accuracy between runs with the same seed, in percentage points.

    Returns:
        dict: each pair of `CONTROL_PAIRS` to a DataFrame with a row for each seed and a column for each severity.
    """
    accuracy = accuracies_by_severity(LONGER, CONTROL)
    return {(method, other): accuracy.xs(method) - accuracy.xs(other) for method, other in CONTROL_PAIRS}


def control_table():
    """Mean and standard deviation of `control_differences` over the seeds as a Markdown table."""
    return differences_table(["method", "minus"], control_differences())


def unseen_means(folder, groups):
    """Scores of `unseen.csv`, averaged over corruptions and severities.

    Args:
        folder (str): a folder of results.
        groups (dict): name of a group to its corruptions, of which 'none' stands for clean images.

    Returns:
        dict: name of a group to a DataFrame with a row for each method and seed and the columns `accuracy` in percent,
        `nll` and `ece`.
    """
    scores = pd.read_csv(os.path.join(RESULTS_DIR, folder, "unseen.csv"))
    assert scores.groupby("method")["seed"].nunique().nunique() == 1, f"{folder}: methods have other numbers of seeds"
    scores["accuracy"] *= 100
    return {group: scores[scores["corruption"].isin(names)].groupby(["method", "seed"], sort=False)[
        ["accuracy", "nll", "ece"]].mean() for group, names in groups.items()}


def unseen_table(*folders):
    """The scores of `UNSEEN` as a Markdown table, averaged over the seeds; a row for each method of the folders."""
    means = [unseen_means(folder, {"clean": ["none"], **UNSEEN}) for folder in folders]
    means = {group: pd.concat([values[group] for values in means]).groupby("method", sort=False).mean()
             for group in means[0]}
    lines = ["| method | clean |" + "".join(f" {group} | NLL | ECE |" for group in UNSEEN), "| --- |" + " --- |" * 10]
    for method in means["clean"].index:
        cells = [f"{means['clean'].at[method, 'accuracy']:.1f}"]
        for group in UNSEEN:
            accuracy, nll, ece = means[group].loc[method]
            cells += [f"{accuracy:.1f}", f"{nll:.2f}", f"{ece:.3f}"]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def unseen_differences(folder):
    """The test accuracy minus the accuracy of erm with the same seed, in percentage points.

    Returns:
        dict: name of a group of `COMPARED` to a DataFrame with a row for each other method and a column for each seed.
    """
    accuracy = {group: values["accuracy"].unstack("seed")
                for group, values in unseen_means(folder, COMPARED).items()}
    return {group: (values - values.loc["erm"]).drop("erm") for group, values in accuracy.items()}


def unseen_paired_table(folder):
    """Mean and standard deviation of `unseen_differences` over the seeds as a Markdown table."""
    differences = unseen_differences(folder)
    methods = differences["C-bar"].index
    runs = [np.stack([values.loc[method] for values in differences.values()], axis=1) for method in methods]
    cells = texts(statistics(runs, list(differences)), digits=1, signed=True)
    return "\n".join(markdown(["method", *cells], [[method, *cells.loc[k]] for k, method in enumerate(methods)])) + "\n"


def number(row, column):
    """Mean and standard deviation of a column as text; of one run there is no deviation."""
    result = [row[f"{column}_{kind}"] for kind in ("mean", "std")]
    return " ± ".join(f"{float(value):.1f}" for value in result if value)


if __name__ == "__main__":
    for heading, folders in TABLES.items():
        print(f"## {heading}\n\n{table(folders)}")
        for folder in filter(PAIRED.__contains__, folders):
            print(paired_table(folder))
        if LONGER in folders:
            print("\n".join([epochs_table(), control_table(), unseen_table(LONGER, CONTROL)]))
        if ALL_OF_CIFAR10 in folders:
            print("\n".join(make(ALL_OF_CIFAR10) for make in (unseen_table, unseen_paired_table)))
            print(unseen_table(f"{ALL_OF_CIFAR10}_methods"))
