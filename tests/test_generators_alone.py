"""The corruption generators in an environment that has the packages of `corruptions/requirements.txt` and no others."""
import ast
import glob
import importlib.metadata
import json
import os
import subprocess
import sys
import venv

import numpy as np
import pytest
from packaging.requirements import Requirement

from corruptions import CORRUPTIONS, corrupt
from corruptions.utils.errors import UserError
from tests import generators_alone
from tests.generators_alone import COMMANDS, PREPARE, REQUIREMENTS, ROOT

GOLDEN = os.path.join(ROOT, "tests", "golden", "corruptions_32.npz")
TEXTURES = "imagecorruptions"  # has them as files, and is never imported


def named():
    """The requirements of the generators."""
    with open(REQUIREMENTS, encoding="utf-8") as file:
        return [Requirement(line.partition("#")[0].strip()) for line in file]


def with_dependencies(names):
    """Installed distributions and all that they need, a dict by name."""
    result, left = {}, list(names)
    while left:
        name = left.pop()
        if name not in result:
            result[name] = importlib.metadata.distribution(name)
            wanted = map(Requirement, result[name].requires or ())
            left += [item.name for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
    return result


def environment(folder, packages):
    """Make an environment of links to distributions that are installed here; return its Python."""
    venv.create(folder, symlinks=True)
    [target] = glob.glob(os.path.join(folder, "lib", "python*", "site-packages"))
    for distribution in packages:
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not os.path.exists(os.path.join(target, top)):
                os.symlink(distribution.locate_file(top), os.path.join(target, top))
    return os.path.join(folder, "bin", "python")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of such an environment, without what the package with the textures needs."""
    packages = with_dependencies(item.name for item in named() if item.name != TEXTURES)
    return environment(str(tmp_path_factory.mktemp("alone")),
                       [*packages.values(), importlib.metadata.distribution(TEXTURES)])


@pytest.fixture(scope="module")
def files(python, tmp_path_factory):
    """A folder with images, and what the commands make of them."""
    folder = tmp_path_factory.mktemp("files")
    call(python, folder, "-c", PREPARE, GOLDEN)
    for command in COMMANDS:
        done = call(python, folder, "-m", "corruptions", *command.split())
        assert done.returncode == 0, done.stderr
    return folder


def call(python, folder, *words):
    return subprocess.run([python, *words], cwd=folder, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True,
                          text=True, timeout=300)


def imports(path):
    """The modules that a file imports when it is imported itself, with the names that it takes from them."""
    with open(path, encoding="utf-8") as file:
        left = list(ast.parse(file.read()).body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            left += ast.iter_child_nodes(node)


def test_the_requirements_are_what_is_imported():
    left, seen, packages = glob.glob(os.path.join(ROOT, "corruptions", "*.py")), set(), {TEXTURES}
    owners = importlib.metadata.packages_distributions()
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in imports(path):
            parts = module.split(".")
            if not os.path.isdir(os.path.join(ROOT, parts[0])):
                packages.update(() if parts[0] in sys.stdlib_module_names else map(str.lower, owners[parts[0]][:1]))
                continue
            for end in range(1, len(parts) + 1):
                place = os.path.join(ROOT, *parts[:end])
                left += filter(os.path.exists, (f"{place}.py", os.path.join(place, "__init__.py")))
    assert os.path.join(ROOT, "corruptions", "utils", "cli.py") in seen
    assert not [path for path in seen if not path.startswith(os.path.join(ROOT, "corruptions"))]  # it stands alone
    assert packages == {item.name for item in named()}
    assert {kind.operator for item in named() for kind in item.specifier} == {">="}  # newer versions may come


def test_there_is_no_other_package(python, tmp_path):
    for module in ("mindspore", "wand", "distributed", "pooch"):
        assert "No module named" in call(python, tmp_path, "-c", f"import {module}").stderr


def test_the_commands_make_what_they_make_here(files):
    images = np.load(files / "images.npy")
    for name in CORRUPTIONS:
        np.testing.assert_array_equal(np.load(files / "arrays" / "3" / f"{name}.npy"), corrupt(images, name, 3))
        assert len(os.listdir(files / "folders" / name / "3")) == len(images)
    assert (files / "preview.png").stat().st_size > 10_000
    assert len(os.listdir(files / "data" / "CIFAR-10-C")) > 1


@pytest.mark.parametrize("command, culprit", [
    ("dataset cifar10 -c fog --data_dir nowhere", "cifar10 is not in nowhere, and to download it takes the package "
     "pooch"),
    ("array images.npy out -c snow --backend wand", "backend wand: Wand or ImageMagick is not installed"),
    ("array images.npy out -c fog --scheduler a:1", "--scheduler a:1: needs the package distributed"),
])
def test_a_feature_without_its_package_says_so(python, files, command, culprit):
    done = call(python, files, "-m", "corruptions", *command.split())
    [line] = done.stderr.splitlines()
    assert done.returncode == 2 and culprit in line
    assert not (files / "out").exists()


def test_frost_without_textures_says_so_before_the_work(files, tmp_path):
    bare = environment(str(tmp_path / "bare"), with_dependencies(item.name for item in named()
                                                                 if item.name != TEXTURES).values())
    for command in ("array images.npy out -c fog frost", "preview images/0.png -o out.png",
                    "dataset cifar10 -c contrast frost"):
        done = call(bare, files, "-m", "corruptions", *command.split())
        [line] = done.stderr.splitlines()
        assert done.returncode == 2 and "frost: the package imagecorruptions" in line and "--no-deps" in line
    assert not (files / "out").exists() and not (files / "out.png").exists()
    assert not glob.glob(str(files / "data" / "CIFAR-10-C" / "**" / "*contrast*"), recursive=True)
    folder = os.path.join(importlib.metadata.distribution(TEXTURES).locate_file(TEXTURES), "frost")
    done = call(bare, tmp_path, "-m", "corruptions", "array", str(files / "images.npy"), "out", "-c", "frost",
                "--severity", "3", "--frost_dir", folder)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "3" / "frost.npy"),
                                  np.load(files / "arrays" / "3" / "frost.npy"))


@pytest.mark.slow
def test_the_script_compares_environments_and_sees_a_wrong_pixel(python, tmp_path, monkeypatch, capsys):
    with np.load(GOLDEN) as golden:
        content = dict(golden)
    monkeypatch.setattr(generators_alone, "make_environment", lambda folder, pip_options: python)
    monkeypatch.setattr(generators_alone, "check_wheel", lambda folder, files, paths: json.loads(
        generators_alone.run("wheel", [python, "-c", generators_alone.COMPARE, *paths], files)))
    monkeypatch.setattr(generators_alone, "COMMANDS", ["preview images/0.png -c fog"])
    monkeypatch.setattr(generators_alone, "RECORD", generators_alone.RECORD.replace(
        "argv[1:])", "argv[1:], sizes=((8, 11),))"))
    content["fog-2-0"][5, 5] ^= 1
    np.savez(tmp_path / "wrong.npz", **content)
    assert generators_alone.main([str(tmp_path / "wrong.npz")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["pinned", "newest"]
    [wrong] = [line for line in lines if line.startswith("  fog")]
    assert wrong.count("by   1") == 3
    assert lines[-1] == f"  {len(CORRUPTIONS)} corruptions: no value differs"


@pytest.mark.parametrize("content", [b"", b"no archive", {"image-0": np.zeros((8, 8, 3), np.uint8)}])
def test_a_file_in_another_format_is_refused(tmp_path, content, capsys):
    path = tmp_path / "other.npz"
    if isinstance(content, dict):
        np.savez(path, **content)
    else:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        generators_alone.main([str(path)])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and f"{path}: not in the format of tests/golden/corruptions_32.npz" in line


def test_a_command_that_fails_is_named(tmp_path):
    with pytest.raises(UserError, match="newest, recording: failed with status 1 and said too bad"):
        generators_alone.run("newest, recording", [sys.executable, "-c", "raise SystemExit('so\\ntoo bad')"], tmp_path)
