"""report.html: what is on it, that it is one file, and, where Chromium is installed, how a browser shows it."""
import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from corruptions.evaluation.metrics import CalibrationScores
from corruptions.evaluation.record import to_dict, write_evaluation
from dataset.poisson import Split
from tests.test_figures import make_run
from utils.figures.severity import accuracy
from utils.figures.style import save
from utils.metrics import SeverityResult
from utils.records.cost import ResourceUsage
from utils.records.logs import RunFolder
from utils.records.reading import read_records
from utils.reports.comparison import write_comparison_page
from utils.reports.comparison_rows import ComparisonRow
from utils.reports.run import report_results, write_run_page
from utils.reports.summary import show_evaluations
from utils.reports.tables import best, statistics

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# What a reader would do, and what is seen then, put into the page's title.
PROBE = """<script>addEventListener("load", function () {
  var wide = Array.from(document.querySelectorAll("body *")).filter(function (e) {
    return !e.closest(".wide table") && e.getBoundingClientRect().right > innerWidth + 1; }).length;
  var names = function () { return Array.from(document.querySelectorAll("table.sortable tbody tr")).map(function (r) {
    return r.cells[0].textContent; }).join(","); };
  var seen = [innerWidth, wide, document.images[0].naturalWidth > 0, names()];
  var heads = document.querySelectorAll("table.sortable th");
  [CLICKS].forEach(function (k) { heads[k].click(); seen.push(names()); });
  parent.document.getElementById("seen").textContent = seen.join(";"); });</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    records = read_records([make_run(folder / "a", "erm"), make_run(folder / "b", "a <very> long name of a variant")])
    [(name, figure)] = accuracy(records)
    save(figure, str(folder / name))
    setting = ("cifar10", "gaussian_noise", "wideresnet")
    rows = [ComparisonRow(setting, "erm",
                          {0: [0.913, 0.8, 0.7, 0.6, 0.5, 0.41], 1: [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]}, {}),
            ComparisonRow(setting, "a <very> long name of a variant", {0: [1.0] * 6, 1: [1.0] * 6}, {}),
            ComparisonRow(setting, "sam", {}, {0: "the loss is not finite at step 3 of epoch 0; lower --lr, or --rho"}),
            ComparisonRow(setting, "damp", {0: [0.09] * 6, 1: [0.08] * 6}, {})]
    write_comparison_page(str(folder), rows, {"accuracy": str(folder / "accuracy.svg")},
                          {"erm": "--lr 0.25 --recipe sharpdro", "damp": ""}, ["erm"], ["seeds 0, 1"],
                          "python main.py --seed 0 1")
    return folder / "report.html"


@pytest.fixture(scope="module")
def run_page(tmp_path_factory):
    """A run's page, with an evaluation whose numbers do not sort as texts do."""
    folder = make_run(tmp_path_factory.mktemp("run") / "a", given={"lr": 0.25})
    [(_, figure)] = accuracy(read_records([folder]))
    save(figure, folder + "/accuracy_by_severity")
    corrupted = {name: dict.fromkeys(CalibrationScores._fields, [mean] * 5)
                 for name, mean in (("fog", 1.0), ("snow", 0.55), ("frost", 0.095), ("contrast", 0.999))}
    by_severity = {name: [CalibrationScores(*values) for values in zip(*columns.values(), strict=True)]
                   for name, columns in corrupted.items()}
    record = to_dict({"set": "four (4 corruptions)", "checkpoint": "last_model.ckpt", "epochs": 2},
                     CalibrationScores(0.5, 0.1, 0.2), by_severity)
    write_evaluation(folder + "/evaluation_four", record)
    test, val = {"accuracy": [0.5] * 6, "loss": [1.0] * 6}, {"accuracy": [0.25] * 6, "loss": [2.0] * 6}
    write_run_page(folder, "a run", {"epochs": 2, "train_images": [1] * 6, "val": val, "test": test})
    return folder + "/report.html"


def test_results_without_validation_images_are_valid_json(tmp_path):
    results = {"val": [SeverityResult(float("nan"), float("nan"), 0)] * 2, "test": [SeverityResult(0.5, 1.25, 8)] * 2}
    with RunFolder(str(tmp_path)) as folder:
        report_results(folder, "a run", 3, Split([np.arange(4), np.arange(2)], np.arange(0)), results,
                       ResourceUsage(str(tmp_path / "cost.json"), resumed=False))
    result = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert result["val"] == {"accuracy": [None] * 2, "loss": [None] * 2, "images": [0] * 2}
    assert result["test"]["accuracy"] == [0.5] * 2
    assert "no images" in (tmp_path / "report.html").read_text()


def test_page_is_one_file_and_says_what_the_table_says(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r'src="(?!data:)|href="(?!erm/report.html)', text)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert "90.65 ± 0.92" in text and "100.00 ± 0.00" in text and "a &lt;very&gt; long name" in text
    assert "<very>" not in text and "the loss is not finite at step 3" in text
    assert set(re.findall(r'class="best"[^>]*>([^<]*)<', text)) == {"100.00 ± 0.00"}


def test_a_page_of_a_run_has_its_numbers(run_page):
    with open(run_page, encoding="utf-8") as file:
        text = file.read()
    [row, *_] = re.findall(r"<tr>((?:<td[^>]*>[^<]*</td>)+)</tr>", text)
    assert re.findall(r">([^<]*)</td>", row) == ["0", "1", "50.00", "1.0000", "25.00"]
    assert "<pre>python main.py --lr 0.25</pre>" in text


def test_a_page_has_the_settings(page):
    text = page.read_text(encoding="utf-8")
    assert "--lr 0.25 --recipe sharpdro" in text


def test_a_page_says_how_its_results_were_made(page, run_page):
    text = page.read_text(encoding="utf-8")
    assert "<pre>python main.py --seed 0 1</pre>" in text and "seeds 0, 1" in text
    assert re.search(r'class="facts">20\d\d-\d\d-\d\d ', text)
    with open(run_page, encoding="utf-8") as file:
        text = file.read()
    assert "seed 0" in text and "<pre>python main.py" in text and 'href="train.csv"' in text


def test_the_page_of_a_comparison_has_its_evaluations_once(page, tmp_path):
    folder = tmp_path / "comparison"
    folder.mkdir()
    show_evaluations(str(folder))  # no page, nothing to do
    shutil.copy(page, folder)
    (folder / "evaluation_fog+snow.md").write_text("error in percent\n\n| method | severity 5 |\n| --- | --- |\n"
                                                   "| a\\|b <1> | 12.50 |\n")
    for _ in range(2):
        show_evaluations(str(folder))
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text.count("<h2>Evaluation: fog+snow</h2>") == 1
    assert "<td>a|b &lt;1&gt;</td><td>12.50</td>" in text
    assert text.index("<h2>Settings") < text.index("<h2>Evaluation") < text.index("<script>")
    os.remove(folder / "evaluation_fog+snow.md")
    show_evaluations(str(folder))
    assert (folder / "report.html").read_text(encoding="utf-8").replace("\n", "") == page.read_text(
        encoding="utf-8").replace("\n", "")


def test_means_within_chance_of_the_highest_are_marked():
    table = statistics([[[1.0], [3.0]], [[1.5], [2.0]], [[0.0], [0.1]], [[1.9]], []], ["mean"])
    # The standard error of the first mean is 1; of the second, 0.25. The last row has no run.
    assert best(table, [2, 2, 2, 1, 0])["mean"].tolist() == [True, True, False, True, False]
    assert best(table.iloc[2:4], [2, 1])["mean"].tolist() == [False, True]
    assert best(statistics([[[1.0], [3.0]], [[0.7], [0.7]]], ["mean"]), [2, 2])["mean"].tolist() == [True, False]


def seen_in_a_browser(path, folder, width, clicks):
    """The report of `PROBE` from a frame of a width, after clicks on columns of the table."""
    with open(path, encoding="utf-8") as file:
        probe = file.read().replace("</body>", PROBE.replace("CLICKS", ",".join(map(str, clicks))) + "</body>")
    frame = folder / "frame.html"
    frame.write_text(f'<!DOCTYPE html><p id="seen"></p><iframe style="width:{width}px;height:900px;border:0" srcdoc="'
                     f'{html.escape(probe)}"></iframe>', encoding="utf-8")
    shown = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000",
                            f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--dump-dom",
                            frame.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in shown.stderr
    inner, wide, has_figure, *orders = html.unescape(
        re.search(r"<p id=.seen.>(.*?)</p>", shown.stdout).group(1)).split(";")
    assert (int(inner), wide, has_figure) == (width, "0", "true")
    return orders


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_all_of_it_and_sorts(page, tmp_path, width):
    orders = seen_in_a_browser(page, tmp_path, width, (1, 1, 0))
    long = "a <very> long name of a variant"
    assert orders[:3] == [f"erm,{long},sam,damp", f"{long},erm,damp,sam", f"damp,erm,{long},sam"]
    assert orders[3].split(",") == [long, "damp", "erm", "sam"]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_the_page_of_a_run(run_page, tmp_path, width):
    orders = seen_in_a_browser(run_page, tmp_path, width, (6,))
    assert orders == ["none,fog,snow,frost,contrast", "fog,contrast,snow,none,frost"]
