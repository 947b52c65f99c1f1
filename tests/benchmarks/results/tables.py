"""The tables of README.md beside this file, from `comparison.csv` files: python tests/benchmarks/results/tables.py"""
import csv
import os

ARRIVED = os.path.dirname(os.path.abspath(__file__))

# Heading of a table; the folders whose rows it has, and the number of runs, one a seed, that each row is of.
TABLES = {
    "CIFAR-10, gaussian noise": (["cifar10_gaussian_noise", "cifar10_gaussian_noise_methods",
                                  "cifar10_gaussian_noise_cures"], 3),
    "CIFAR-10, gaussian noise, over ρ": (["cifar10_gaussian_noise_rho"], 1),
    "CIFAR-10, snow": (["cifar10_snow"], 3),
    "photos, gaussian noise": (["photos_gaussian_noise", "photos_candidates"], 3),
}


def rows(folder):
    """The rows of a folder's comparison.

    Returns:
        dict: name of a method or variant to its columns as text, of which `…_mean` and `…_std` are in percent.
    """
    with open(os.path.join(ARRIVED, folder, "comparison.csv"), encoding="utf-8", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def table(folders, runs):
    """All rows of the folders as a Markdown table, those that are best at severity 5 first; each is of so many runs."""
    result = [row for folder in folders for row in rows(folder).values()]
    names = [row["method"] for row in result]
    assert len(set(names)) == len(names), f"a name twice in {folders}"
    unfinished = [row["method"] for row in result if (row["runs"], row["failed"]) != (str(runs), "0")]
    assert not unfinished, f"not of {runs} runs: {unfinished}"
    lines = ["| method | 0 | 1 | 2 | 3 | 4 | 5 | worst | mean | validation, 5 | last q of 0 to 5 |",
             "| --- |" + " --- |" * 10]
    for row in sorted(result, key=lambda row: -float(row["severity_5_mean"])):
        cells = [number(row, column) for column in (*(f"severity_{s}" for s in range(6)), "worst", "mean",
                                                    "val_severity_5")]
        q = " ".join(f"{float(row[f'q_{s}_mean']):.2f}" for s in range(6) if row.get(f"q_{s}_mean"))
        lines.append(f"| {row['method']} | {' | '.join(cells)} | {q} |")
    return "\n".join(lines) + "\n"


def number(row, column):
    """Mean and standard deviation of a column as text; of one run there is no deviation."""
    result = [row[f"{column}_{kind}"] for kind in ("mean", "std")]
    return " ± ".join(f"{float(value):.1f}" for value in result if value)


if __name__ == "__main__":
    for heading, (folders, runs) in TABLES.items():
        print(f"## {heading}\n\n{table(folders, runs)}")
