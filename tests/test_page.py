"""report.html: what is on it, that it is one file, and, where Chromium is installed, how a browser shows it."""
import re
import shutil
import subprocess

import pytest

from tests.test_figures import make_run
from utils.figures.severity import accuracy
from utils.figures.style import save
from utils.records.comparison import Row, write_comparison_page
from utils.records.reading import read_records

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# What a reader would do, and what is seen then, put into the page's title.
PROBE = """<script>addEventListener("load", function () {
  var wide = Array.from(document.querySelectorAll("body *")).filter(function (e) {
    return e.getBoundingClientRect().right > innerWidth + 1; }).length;
  var names = function () { return Array.from(document.querySelectorAll("table.sortable tbody tr")).map(function (r) {
    return r.cells[0].textContent; }).join(","); };
  var seen = [innerWidth, wide, document.images[0].naturalWidth > 0, names()];
  var heads = document.querySelectorAll("table.sortable th");
  heads[1].click(); seen.push(names()); heads[1].click(); seen.push(names()); heads[0].click(); seen.push(names());
  var answer = document.createElement("p"); answer.id = "seen"; answer.textContent = seen.join(";");
  document.body.appendChild(answer); });</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    records = read_records([make_run(folder / "a", "erm"), make_run(folder / "b", "a <very> long name of a variant")])
    [(name, figure)] = accuracy(records)
    save(figure, str(folder / name))
    setting = ("cifar10", "gaussian_noise", "wideresnet")
    rows = [Row(setting, "erm", {0: [0.913, 0.8, 0.7, 0.6, 0.5, 0.41], 1: [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]}, {}),
            Row(setting, "a <very> long name of a variant", {0: [1.0] * 6, 1: [1.0] * 6}, {}),
            Row(setting, "sam", {}, {0: "the loss is not finite at step 3 of epoch 0; lower --lr, or --rho"}),
            Row(setting, "damp", {0: [0.09] * 6, 1: [0.08] * 6}, {})]
    write_comparison_page(str(folder), rows, {"accuracy": str(folder / "accuracy.svg")})
    return folder / "report.html"


def test_page_is_one_file_and_says_what_the_table_says(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:)', text) and "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert "90.65 ± 0.92" in text and "100.00 ± 0.00" in text and "a &lt;very&gt; long name" in text
    assert "<very>" not in text and "the loss is not finite at step 3" in text


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1280, 500])  # Chromium without a screen is 500 pixels wide at least
def test_a_browser_shows_all_of_it_and_sorts(page, tmp_path, width):
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    shown = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
                            f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
                            probe.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in shown.stderr
    seen = re.search(r"<p id=.seen.>(.*?)</p>", shown.stdout).group(1).replace("&lt;", "<").replace("&gt;", ">")
    inner, wide, has_figure, *orders = seen.split(";")
    long = "a <very> long name of a variant"
    assert (int(inner), wide, has_figure) == (width, "0", "true")
    assert orders[:3] == [f"erm,{long},sam,damp", f"{long},erm,damp,sam", f"damp,erm,{long},sam"]
    assert orders[3].split(",") == [long, "damp", "erm", "sam"]
