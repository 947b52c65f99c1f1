"""The READMEs are right: their Python runs, their files are there, the main one is short."""
import csv
import os
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

from corruptions import CORRUPTIONS, corrupt, digital
from corruptions.severities import SEVERITY_CONSTANTS
from models import MODELS
from utils.figures import FIGURES
from utils.figures.style import subplots

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOMS = ("corruptions", "dataset", "losses", "models", "tests", "utils")


with open(os.path.join(ROOT, "tests", "benchmarks", "results", "libraries.csv"), encoding="utf-8") as table:
    MILLISECONDS = {(row["corruption"], row["size"], row["library"]): float(row["milliseconds"])
                    for row in csv.DictReader(table)}


def digits(value):
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def text(*parts):
    with open(os.path.join(ROOT, *parts), encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("room", ["losses", "dataset", "models", "corruptions"])
def test_the_first_python_block_runs(room, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", text(room, "README.md"), re.DOTALL).group(1)
    if room == "corruptions":
        code = "import numpy as np; images = np.zeros((2, 32, 32, 3), np.uint8)\n" + code
    result = {}
    exec(compile(code, room, "exec"), result)
    if room == "losses":
        assert len(capsys.readouterr().out.splitlines()) == 3 and result["losses"].shape == (12,)


@pytest.mark.parametrize("page", ["README.md", "README_CN.md"])
def test_the_main_readme_is_short_and_its_links_lead_somewhere(page):
    readme = text(page)
    assert len(readme.splitlines()) < 170
    for target in re.findall(r"\]\((?!http)([^)]+)\)", readme) + re.findall(r'src="([^"]+)"', readme):
        assert os.path.exists(os.path.join(ROOT, target.partition("#")[0])), target


def test_the_chinese_page_has_the_commands_numbers_and_links_of_the_english_one():
    pages = text("README.md"), text("README_CN.md")
    english, chinese = (re.findall(r"^```.*?^```", page, re.DOTALL | re.MULTILINE) for page in pages)
    assert english == chinese
    prose = [re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE) for page in pages]
    for pattern in (r"\]\(([^)]+)\)", r"`([^`]+)`", r"^(#+) ", r"\d+(?:\.\d+)?"):
        english, chinese = (sorted(set(re.findall(pattern, page, re.MULTILINE)) - {"README.md", "README_CN.md"})
                            for page in prose)
        assert english == chinese, pattern
    assert [len(re.findall(r"^## ", page, re.MULTILINE)) for page in prose] == [9, 9]
    english, chinese = ([re.findall(r"`[^`]*`|\*\*|\d+\.\d+", line) for line in page.splitlines() if line[:1] == "|"]
                        for page in prose)
    assert english[2:] == chinese[2:]  # the rows of the tables, in their order


def test_the_page_of_the_library_is_short_and_its_links_lead_somewhere():
    page = text("corruptions", "README.md")
    assert len(page.splitlines()) <= 150
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page):
        file, _, anchor = target.partition("#")
        assert os.path.exists(os.path.join(ROOT, "corruptions", file)), target
        titles = re.findall(r"^## (.*)$", text("corruptions", file), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [title.lower().replace(" ", "-") for title in titles], target


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_lists_its_files_and_how_to_add_one(room):
    readme = text(room, "README.md")
    if room == "tests":
        return
    assert "## How to add one" in readme
    for folder, _, files in os.walk(os.path.join(ROOT, room)):
        for file in files:
            if file.endswith(".py") and file != "__init__.py" and os.path.basename(folder) != "figures":
                assert f"`{file}`" in readme, file
    for file in re.findall(r"^\| `([\w/]+\.py)`", readme, re.MULTILINE):
        assert os.path.exists(os.path.join(ROOT, room, file)), file


def test_every_corruption_is_listed_with_what_it_does():
    number = r"([\d.]+) \|"
    rows = re.findall(rf"^\| `(\w+)` \| (.*) \| {number} {number} {number}$", text("corruptions", "README.md"),
                      re.MULTILINE)
    assert rows == [(name, corruption.summary, *(digits(MILLISECONDS[name, size, "here"])
                                                 for size in ("32", "224", "12MP")))
                    for name, corruption in CORRUPTIONS.items()]


def test_the_times_of_other_libraries_are_those_that_were_measured():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text("corruptions", "DETAILS.md"), re.MULTILINE)
    libraries = ("here", "imagecorruptions", "albumentations", "kornia")
    assert len(rows) == 20
    for name, cells in rows:
        keys = [(name, size, library) for size in ("224", "12MP") for library in libraries]
        assert cells.split(" | ") == [digits(MILLISECONDS[key]) if key in MILLISECONDS else "" for key in keys]


def test_the_corruption_that_the_readme_adds_corrupts(monkeypatch):
    readme = text("corruptions", "DETAILS.md")
    added, constants = re.findall(r"```python\n(.*?)```", readme[readme.index("## How to add one"):], re.DOTALL)
    monkeypatch.setitem(CORRUPTIONS, "posterize", None)
    exec(added, vars(digital).copy())
    for table in SEVERITY_CONSTANTS.values():
        monkeypatch.setitem(table, "posterize", eval(f"{{{constants}}}")["posterize"])
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    assert len(np.unique(corrupt(image, "posterize", 5))) == 2


def test_the_figure_that_the_readme_adds_is_drawn():
    readme = text("utils", "README.md")
    added = re.search(r"```python\n(.*?)```", readme[readme.index("## How to add one"):], re.DOTALL).group(1)
    names = {"subplots": subplots}
    exec(added, names)
    [(name, figure)] = names["images"]([types.SimpleNamespace(results={"train_images": [5, 3]})])
    assert name == "images" and len(figure.axes[0].patches) == 2


@pytest.mark.parametrize("room, table", [("models", MODELS), ("utils", FIGURES)])
def test_every_row_of_a_table_is_listed(room, table):
    for name in table:
        assert f"| `{name}` |" in text(room, "README.md")


def test_the_objective_and_the_schedule_that_the_readme_adds_can_be_trained_with(tmp_path):
    """The code and the rows of losses/README.md are added to a copy of the project."""
    readme = text("losses", "README.md")
    added, rows, schedule, schedule_row = re.findall(r"```python\n(.*?)```", readme[readme.index("## How to add one"):],
                                                     re.DOTALL)
    row, method = re.fullmatch(r"(.*OBJECTIVES in components.py\n)(.*METHODS in methods.py\n)", rows,
                               re.DOTALL).groups()
    for folder in ("corruptions", "dataset", "losses", "models", "utils"):
        shutil.copytree(os.path.join(ROOT, folder), tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(os.path.join(ROOT, "main.py"), tmp_path)
    for file, old, new in (("objectives.py", "class REx(", f"{added}\n\nclass REx("),
                           ("components.py", "OBJECTIVES = {\n", f"OBJECTIVES = {{\n{row}"),
                           ("methods.py", "METHODS = {\n", f"METHODS = {{\n{method}"),
                           ("schedules.py", "@dataclass(frozen=True)\n", f"{schedule}\n\n@dataclass(frozen=True)\n"),
                           ("schedules.py", "SCHEDULES = {\n", f"SCHEDULES = {{\n{schedule_row}")):
        path = tmp_path / "losses" / file
        content = path.read_text()
        assert content.count(old) == 1
        path.write_text(content.replace(old, new))
    program = """
import numpy as np, mindspore as ms
from losses import create_step
from losses.config.resolve import resolve
from losses.schedules import create_schedule
from tests import crosscheck
network = crosscheck.Dense(np.eye(4, 3), np.zeros(3))
step = create_step(network, "focal_sam", 3, focal_gamma=1.5, recipe="sharpdro")
x, y = ms.Tensor(np.eye(4), ms.float32), ms.Tensor([0, 1, 2, 0], ms.int32)
losses, *_, value = step.train_batch(x, y, ms.Tensor([0, 0, 0, 0], ms.int32))
name = resolve("erm", schedule="polynomial").schedule
rate = create_schedule(name, 0.1, 10, 4)(5, 0)
print(step.objective.gamma, np.isfinite(value), rate == 0.1 * 0.5 ** 0.9)
"""
    os.symlink(os.path.join(ROOT, "tests"), tmp_path / "tests")
    for words in (["main.py", "--help-all"], ["-c", program]):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        words = set(done.stdout.split())
        assert {"--focal_gamma", "polynomial:"} <= words or done.stdout == "1.5 True True\n"
