"""The reports of a run, or of its stage one, that has ended."""
import os

import numpy as np

from corruptions.utils.files import read_json, write_csv, write_json
from utils.figures.severity import accuracy_and_images
from utils.figures.style import save
from utils.figures.training import training
from utils.options import command_line
from utils.records.evaluation import run_evaluations
from utils.records.reading import FinishedRun
from utils.reports.page import Section, Table, settings_section, write_page
from utils.reports.summary import evaluation_table

PAGE_FIGURES = {"accuracy_by_severity.svg": "test accuracy at every severity",
                "training.svg": "training, from the logged batches"}


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
    content = {"train_images": split.counts, "epochs": total_epoch, **cost.totals(),
               **{part: {"accuracy": [r.accuracy if r.images else None for r in rows],
                         "loss": [r.loss if r.images else None for r in rows],
                         "images": [r.images for r in rows]} for part, rows in results.items()}}
    write_run_page(folder.path, title, content)
    write_json(folder.file("results.json"), content)  # last: with it the run has ended
    lines = ["", "severity  training images  test accuracy"]
    lines += [f"{s:8d}  {count:15d}  {100 * result.accuracy:11.2f} %"
              for s, (count, result) in enumerate(zip(split.counts, results["test"], strict=True))]
    folder.log("\n".join(lines))


def run_title(title, dataset, corruption):
    """The title of a run on its page and figure; `title` is the method's."""
    return f"{title} on {dataset}, {corruption.replace('_', ' ')}"


def write_run_page(path, title, results):
    """Write `report.html` of a run, in place of an earlier one.

    Args:
        path (str): the run's folder; the page shows the figures, evaluations and settings that it has.
        title (str): of the page.
        results (dict): content of `results.json`.
    """
    config = read_json(os.path.join(path, "config.json"))
    test, validation = results["test"], results["val"]
    rows = [[s, results["train_images"][s], f"{100 * test['accuracy'][s]:.2f}", f"{test['loss'][s]:.4f}",
             "no images" if validation["accuracy"][s] is None else f"{100 * validation['accuracy'][s]:.2f}"]
            for s in range(len(test["accuracy"]))]
    header = ["severity", "training images", "test accuracy (%)", "test loss", "validation accuracy (%)"]
    epochs = results["epochs"]
    sections = [Section(f"After {epochs} epoch{'' if epochs == 1 else 's'}", table=Table(header, rows))]
    for evaluation in run_evaluations(path):
        description, table = evaluation_table(evaluation)
        sections.append(Section(f"Evaluation: {evaluation['set']}", description, table))
    drawn = {caption: os.path.join(path, name) for name, caption in PAGE_FIGURES.items()
             if os.path.exists(os.path.join(path, name))}
    sections.append(Section("Figures", figures=drawn))
    files = [name for name in ("log.txt", "train.csv", "config.json") if os.path.exists(os.path.join(path, name))]
    sections.append(Section("Files", links={name: name for name in (*files, "results.json")}))  # written after the page
    if config is None:
        return write_page(path, title, sections)
    sections.append(settings_section(config))
    facts = [f"seed {config['seed']}", config["model"], *(f"{name} {config[key]}" for name, key in (
        ("MindSpore", "mindspore"), ("device", "device")) if key in config)]  # old runs lack some
    write_page(path, title, sections, facts, command_line(config.get("given", {})))


def report_stage_one(folder, name, column, split, labels, selected, **columns):
    """Write which training images a stage one has found: `NAME.csv`, one line for each image, and
    `NAME_by_severity.csv`, their number at each severity, which is logged, too. Only the main process writes.

    Args:
        folder (RunFolder): where the files go.
        name (str): of the files.
        column (str): title of the column `selected`.
        split (dataset.poisson.Split): the training images.
        labels (numpy.ndarray): int (n,), of the images `split.indices`.
        selected (numpy.ndarray): bool (n,), of the same images.
        columns: name to values (n,), further columns.
    """
    if not folder.is_writable:
        return
    write_csv(folder.file(f"{name}.csv"), {"index": split.indices, "label": labels, "severity": split.severities,
                                           **columns, column: selected.astype(int)})
    counts = np.bincount(split.severities[selected], minlength=len(split.train))
    write_csv(folder.file(f"{name}_by_severity.csv"), {"severity": range(len(split.train)), "images": split.counts,
                                                       column: counts})
    lines = [f"severity  training images  {column}    share"]
    lines += [f"{s:8d}  {images:15d}  {count:{len(column)}d}  {100 * count / max(images, 1):5.1f} %"
              for s, (images, count) in enumerate(zip(split.counts, counts, strict=True))]
    folder.log("\n".join(lines))
