"""The distribution `sharpdro-corruptions`: the wheel of corruptions/, installed into an environment of its own."""
import email
import glob
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement

import corruptions
from tests import generators_alone
from tests.generators_alone import ROOT
from tests.test_generators_alone import TEXTURES, environment, named, with_dependencies

GENERATORS = pathlib.Path(generators_alone.GENERATORS)
GOLDEN = os.path.join(ROOT, "tests", "golden", "corruptions_32.npz")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built with the build backend that is installed here."""
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source") / "corruptions"
    shutil.copytree(GENERATORS, source, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder,
                    source], check=True, timeout=120)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of an environment with the wheel, its dependencies and the frost textures."""
    packages = with_dependencies(item.name for item in named() if item.name != TEXTURES)
    python = environment(str(tmp_path_factory.mktemp("installed")),
                         [*packages.values(), importlib.metadata.distribution(TEXTURES)])
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel], check=True,
                   timeout=120)
    return python


def run(python, folder, *words):
    """Run a program of the environment in a folder, without the project on the module search path."""
    program = os.path.join(os.path.dirname(python), words[0])
    return subprocess.run([program, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=300,
                          env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})


def test_the_wheel_has_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        [metadata] = [name for name in names if name.endswith("/METADATA")]
        text = email.message_from_bytes(file.read(metadata))
    tracked = {f"corruptions/{path.relative_to(GENERATORS)}" for path in GENERATORS.rglob("*.py")}
    folder = os.path.dirname(metadata)
    assert names == tracked | {metadata, f"{folder}/licenses/LICENSE", *(
        f"{folder}/{name}" for name in ("WHEEL", "RECORD", "entry_points.txt"))}
    assert text["Version"] == corruptions.__version__ and text["License-Expression"] == "MIT"
    needed = {str(item) for item in map(Requirement, text.get_all("Requires-Dist")) if item.marker is None}
    assert needed == {str(item).replace("opencv-python", "opencv-python-headless") for item in named()
                      if item.name != TEXTURES}


def test_licence_version_and_changes_are_those_of_the_project():
    assert (GENERATORS / "LICENSE").read_text() == pathlib.Path(ROOT, "LICENSE").read_text()
    newest = next(line for line in (GENERATORS / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert newest.startswith(f"## {corruptions.__version__}")
    assert f"\nversion: {corruptions.__version__}\n" in pathlib.Path(ROOT, "CITATION.cff").read_text()


def test_the_installed_command_works_from_any_folder(python, tmp_path):
    done = run(python, tmp_path, "corruptions", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: corruptions [-h] [--version] COMMAND")
    assert "dataset" not in done.stdout  # a command of the whole project
    done = run(python, tmp_path, "corruptions", "preview", "nothing.png")
    assert done.returncode == 2 and done.stderr.startswith("corruptions: error: nothing.png")
    done = run(python, tmp_path, "python", "-m", "corruptions", "array", "nothing.npy", "out", "-c", "fog")
    assert done.returncode == 2 and done.stderr.startswith("python -m corruptions: error: nothing.npy")


def test_the_installed_package_has_the_published_pixels(python, tmp_path):
    os.mkdir(tmp_path / "tests")
    shutil.copy(os.path.join(ROOT, "tests", "corruption_errors.py"), tmp_path / "tests")
    done = run(python, tmp_path, "python", "-c", generators_alone.COMPARE, GOLDEN)
    assert done.returncode == 0 and json.loads(done.stdout)["passed"], done.stderr
    where = run(python, tmp_path, "python", "-c", "import corruptions; print(corruptions.__file__)").stdout
    assert not where.startswith(ROOT)


def test_a_missing_package_is_named_with_the_way_out(python, tmp_path):
    [site] = glob.glob(os.path.join(os.path.dirname(os.path.dirname(python)), "lib", "python*", "site-packages"))
    os.rename(os.path.join(site, "tqdm"), os.path.join(site, "hidden"))
    try:
        done = run(python, tmp_path, "corruptions", "--help")
    finally:
        os.rename(os.path.join(site, "hidden"), os.path.join(site, "tqdm"))
    [line] = done.stderr.splitlines()
    assert done.returncode == 2 and line.endswith(": tqdm; " + f"{python} -m pip install tqdm")


@pytest.mark.slow
def test_the_newest_dependencies_give_the_published_pixels(tmp_path):
    python = generators_alone.install_wheel(str(tmp_path / "new"), sys.executable)
    os.mkdir(tmp_path / "tests")
    shutil.copy(os.path.join(ROOT, "tests", "corruption_errors.py"), tmp_path / "tests")
    done = run(python, tmp_path, "python", "-c", generators_alone.COMPARE, *generators_alone.GOLDEN)
    result = json.loads(done.stdout)
    assert result["passed"] and "numpy 2." in result["versions"] and "opencv-python 5." in result["versions"]
