"""What a run leaves when it, or its stage one, has ended."""
import os

import numpy as np

from utils.figures.severity import accuracy_and_images
from utils.figures.style import save
from utils.figures.training import training
from utils.files import read_json, write_csv, write_json
from utils.records.evaluation import run_evaluations
from utils.records.reading import FinishedRun
from utils.reports import page
from utils.reports.summary import evaluation_table

FIGURES = {"accuracy_by_severity.svg": "accuracy by severity", "training.svg": "training, of the logged batches"}


def report_results(folder, title, total_epoch, split, results, cost):
    """Write `results.json`, figures and `report.html`, log the table of accuracy per severity.

    Args:
        folder (RunFolder): where the files go.
        title (str): of the figure and the page.
        total_epoch (int): epochs of the training.
        split (dataset.poisson.Split): for the number of training images.
        results (dict): for 'val' and 'test' a list with a `SeverityResult` for each severity.
        cost (ResourceUsage): of the training.
    """
    save(accuracy_and_images([r.accuracy for r in results["test"]], split.counts, title),
         folder.file("accuracy_by_severity"))
    config = read_json(folder.file("config.json"))
    if config is not None:  # a stage one has none of its own
        [(_, figure)] = training([FinishedRun(folder.path, title, config, {})])
        save(figure, folder.file("training"))
    found = {"train_images": split.counts, "epochs": total_epoch, **cost.so_far(),
             **{part: {"accuracy": [r.accuracy if r.images else None for r in rows],
                       "loss": [r.loss if r.images else None for r in rows],
                       "images": [r.images for r in rows]} for part, rows in results.items()}}
    write_run_page(folder.path, title, found)
    write_json(folder.file("results.json"), found)  # last: with it the run has ended
    lines = ["", "severity  training images  test accuracy"]
    lines += [f"{s:8d}  {count:15d}  {100 * result.accuracy:11.2f} %"
              for s, (count, result) in enumerate(zip(split.counts, results["test"], strict=True))]
    folder.log("\n".join(lines))


def run_title(title, dataset, corruption):
    """What a run is called on its page and figure; `title` is that of its method."""
    return f"{title} on {dataset}, {corruption.replace('_', ' ')}"


def write_run_page(path, title, results):
    """Write `report.html` of a run; one of before is replaced.

    Args:
        path (str): the run's folder, of which figures, evaluations and settings are shown where they are.
        title (str): of the page.
        results (dict): content of `results.json`.
    """
    config = read_json(os.path.join(path, "config.json"))
    test, validation = results["test"], results["val"]
    rows = [[s, results["train_images"][s], f"{100 * test['accuracy'][s]:.2f}", f"{test['loss'][s]:.4f}",
             "no images" if validation["accuracy"][s] is None else f"{100 * validation['accuracy'][s]:.2f}"]
            for s in range(len(test["accuracy"]))]
    header = ["severity", "training images", "test accuracy (%)", "test loss", "validation accuracy (%)"]
    parts = [page.heading(f"After {results['epochs']} epochs"), page.table(header, rows)]
    for evaluation in run_evaluations(path):
        about, table = evaluation_table(evaluation)
        parts += [page.heading(f"Evaluation: {evaluation['set']}"), page.paragraph(about),
                  page.table(*table)]
    drawn = {caption: os.path.join(path, name) for name, caption in FIGURES.items()
             if os.path.exists(os.path.join(path, name))}
    parts += [page.heading("Figures"), page.figures(drawn)]
    if config is not None:
        parts += [page.heading("Settings that were asked for"), page.settings_table(config)]
    page.write_page(path, title, parts)


def report_stage_one(folder, name, column, split, labels, found, **columns):
    """Write down, where a worker writes, which training images a stage one has found: `NAME.csv`, one line for each
    image, and `NAME_by_severity.csv`, how many there are at each severity, which is logged, too.

    Args:
        folder (RunFolder): where the files go.
        name (str): of the files.
        column (str): title of what was found.
        split (dataset.poisson.Split): the training images.
        labels (numpy.ndarray): int (n,), of `split.indices`, as what follows.
        found (numpy.ndarray): bool (n,).
        columns: name to values (n,), to be written as well.
    """
    if not folder.writes:
        return
    write_csv(folder.file(f"{name}.csv"), {"index": split.indices, "label": labels, "severity": split.severities,
                                           **columns, column: found.astype(int)})
    counts = np.bincount(split.severities[found], minlength=len(split.train))
    write_csv(folder.file(f"{name}_by_severity.csv"), {"severity": range(len(split.train)), "images": split.counts,
                                                       column: counts})
    lines = [f"severity  training images  {column}    share"]
    lines += [f"{s:8d}  {images:15d}  {count:{len(column)}d}  {100 * count / max(images, 1):5.1f} %"
              for s, (images, count) in enumerate(zip(split.counts, counts, strict=True))]
    folder.log("\n".join(lines))
