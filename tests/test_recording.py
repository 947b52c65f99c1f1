"""`crosscheck.py record`: the authors' own steps in a file that `crosscheck.py step` reads."""
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from corruptions.utils.cli import Parser
from tests import crosscheck, recording
from tests.step_errors import FIRST_STEP_TOLERANCES, STEP_TOLERANCES, step_errors, step_limits

GOLDEN = crosscheck.load_json(os.path.join(os.path.dirname(__file__), "golden", "release_step.json"))
RELEASE, WITH_TORCH = os.environ.get("RELEASE"), os.environ.get("PYTHON_WITH_TORCH")
AS_RECORDED = ["--rho", "0.05", "--adaptive", "off", "--seeds", "100"]  # the first case of the golden file


@pytest.fixture
def clone(tmp_path):
    """A folder with the authors' files, all of them empty."""
    for name in recording.MODULES:
        path = tmp_path / "clone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return str(tmp_path / "clone")


@pytest.fixture
def python(tmp_path):
    """Make a stand-in for a Python that has torch, which runs a shell script; its arguments are $1, $2 and so on."""
    def make(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)
    return make


def cases(*words):
    parser = Parser()
    recording.add_arguments(parser)
    return recording.make_cases(parser.parse_args(["OUT.json", "--release", "CLONE", *words]))


def test_cases_are_all_combinations():
    case, = cases(*AS_RECORDED)
    assert case == {"network": "wideresnet", **GOLDEN[0]["case"]}
    result = cases("--network", "wideresnet", "resnet18", "--width", "1", "2", "--rho", "0.1", "2", "--seeds", "3", "4",
                   "--num_severity", "2", "--lr", "0.01")
    assert len(result) == 24 and len({json.dumps(case) for case in result}) == 24
    assert {case.get("width") for case in result} == {1, 2, None}
    assert all(case.get("settled", False) == (case["network"] == "resnet18") for case in result)
    assert all(case["lr"] == 0.01 and case["num_distribution"] == 2 for case in result)
    assert [case["adaptive"] for case in cases("--adaptive")] == [True]
    assert recording.step_groups(2, 4) == [[0, 1], [0], [0, 0, 1, 1], [0, 1]]


def test_what_is_recorded_can_be_read(clone, python, tmp_path, monkeypatch, capsys):
    """The file comes last, after an option that takes several values; it holds what the other Python says."""
    out, entry = str(tmp_path / "OUT.json"), {**GOLDEN[0], "recorded": {"torch": "2.0"}}
    (tmp_path / "line").write_text(json.dumps(entry) + "\n")
    words = ["record", "--release", clone, "--python", python(f'echo "$@" >{tmp_path}/words; cat {tmp_path}/line'),
             *AS_RECORDED, out]
    assert crosscheck.main(words) == 0
    assert (tmp_path / "words").read_text() == " ".join(
        ["-B", os.path.join(os.path.dirname(__file__), "record_release.py"), clone,
         json.dumps(cases(*AS_RECORDED))]) + "\n"
    result, = crosscheck.load_json(out)
    assert result.pop("recorded") == {"release": None, "torch": "2.0",
                                      "command": shlex.join(["python", "tests/crosscheck.py", *words])}
    assert result == GOLDEN[0]

    monkeypatch.setattr(crosscheck, "take_steps", lambda case: GOLDEN[0])  # as if we had taken the very steps
    assert crosscheck.main(["step", out]) == 0
    for change in (lambda e: e["steps"][0]["first_loss"].__setitem__(3, 2.1),
                   lambda e: e["steps"][0].__setitem__("sharp_loss", 0.053),
                   lambda e: e["steps"][1]["groups"].__setitem__(0, 1),
                   lambda e: e["steps"][2].__setitem__("grad_norm", float("nan")),
                   lambda e: e["param_sums"]["fc.bias"].__setitem__(0, 5.0),
                   lambda e: e["running"]["unit4.0.running_var"].__setitem__(1, 1.0)):
        changed = json.loads(json.dumps(GOLDEN[0]))
        change(changed)
        (tmp_path / "changed.json").write_text(json.dumps([changed]))
        capsys.readouterr()
        assert crosscheck.main(["step", str(tmp_path / "changed.json")]) == 1
        assert capsys.readouterr().out.count("ABOVE") >= 1


def test_limits_follow_the_releases_own_rounding():
    first, later = step_limits({**GOLDEN[0], "rounding": [{"first losses": 1e-4, "q": 1e-9}, {"gradient norm": 2.0}]})
    assert first["first losses"] == pytest.approx(5e-4)
    assert later["gradient norm"] == 0.1  # further than that nothing agrees
    assert {**first, "first losses": 1e-5} == FIRST_STEP_TOLERANCES
    assert step_limits(GOLDEN[0]) == (FIRST_STEP_TOLERANCES, STEP_TOLERANCES)


def test_commit_is_that_of_the_clone_alone(clone):
    git = ["git", "-C", clone, "-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"]
    assert recording.commit(clone) is None
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert recording.commit(clone) == commit
    assert recording.commit(os.path.join(clone, "models")) is None
    with open(os.path.join(clone, "train.py"), "w", encoding="utf-8") as file:
        file.write("changed")
    assert recording.commit(clone) == f"{commit}-dirty"


NO_TORCH = f'exec {sys.executable} -c "import sys; sys.modules[\'torch\'] = None; sys.argv = sys.argv[2:]; ' \
           'import runpy; runpy.run_path(sys.argv[0], run_name=\'__main__\')" "$@"'


@pytest.mark.parametrize("words, script, reason", [
    (["--release", "nowhere"], "", "--release nowhere: no such folder; make it with git clone"),
    (["--release", "."], "", "--release .: is not the authors' code, it has no train.py"),
    (["--python", "nowhere"], "", "--python nowhere: no such program; name a Python"),
    ([], "exit 0", r"--python \S+, --release \S+: stopped in case 0 \(without a message\); name a Python"),
    ([], "echo Oh >&2; echo Error: no >&2; exit 1", r"stopped in case 0 \(Error: no\)"),
    ([], "echo one >&2; echo two >&2; exit 2", "error: two$"),
    ([], "echo something", r"--python \S+: says 'something' instead of results"),
    ([], NO_TORCH, r"--python \S+: cannot import torch and numpy \(.*torch.*\); name a Python that has them"),
    (["nowhere/OUT.json"], "", "nowhere/OUT.json: cannot be written .*; name another file"),
    (["folder.json"], "", "folder.json: is a folder"),
    (["--network", "alexnet"], "", "--network: unknown name 'alexnet'; choose from wideresnet, resnet18, resnet50"),
    (["--network", "resnet18", "--width", "2"], "", "--width: has no effect with --network resnet18"),
    (["--rho", "0.1", "-0.1"], "", "--rho: '-0.1' is not a finite number of 0 or more"),
    (["--seeds", "-1"], "", "--seeds: '-1' is not a whole number"),
    (["-b", "1"], "", "--batch_size 1: .*give 2 or more"),
])
def test_bad_input_is_one_line_and_leaves_nothing(words, script, reason, clone, python, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder.json")
    program = python(script)
    before = sorted(os.listdir())
    given = ["record", "--release", clone, "--python", program, *words]
    if not given[-1].endswith(".json"):
        given.append("OUT.json")
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        crosscheck.main(given)
    assert stop.value.code == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1, error
    assert re.search(reason, error.strip()), error
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("command", ["step", "perceptron"])
@pytest.mark.parametrize("text", ["[]", '{"case": 1}', '[{"case": {}}]', "[1]", "{"])
def test_files_of_another_format_are_refused(command, text, tmp_path, capsys):
    (tmp_path / "OTHER.json").write_text(text)
    with pytest.raises(SystemExit) as stop:
        crosscheck.main([command, str(tmp_path / "OTHER.json")])
    assert stop.value.code == 2
    assert re.search(r"OTHER.json: (is not in the format of|cannot be read)", capsys.readouterr().err)


@pytest.mark.skipif(not (RELEASE and WITH_TORCH), reason="needs RELEASE, a clone, and PYTHON_WITH_TORCH")
def test_the_release_gives_the_golden_file_again(tmp_path):
    out = str(tmp_path / "OUT.json")
    given = ["record", "--release", RELEASE, "--python", WITH_TORCH]
    assert crosscheck.main([*given, *AS_RECORDED, out]) == 0
    result, = crosscheck.load_json(out)
    first, later = step_errors(result, GOLDEN[0])
    assert max(*first.values(), *later.values()) < 1e-12, (first, later)
    assert all(0 < error < 1e-3 for errors in result["rounding"] for title, error in errors.items()
               if title != "groups")
    with pytest.raises(SystemExit):
        crosscheck.main([*given, "--rho", "1e300", "--adaptive", "off", str(tmp_path / "not.json")])
    assert os.listdir(tmp_path) == ["OUT.json"]
