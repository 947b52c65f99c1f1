"""`on_device.py`: its report, and checks that fail."""
import glob
import json
import os
import time

import numpy as np
import pytest

from corruptions.utils.files import read_json
from losses.methods import METHODS
from tests import device_checks, on_device
from tests.benchmarks.results.tables import RESULTS_DIR

RECORDED = read_json(os.path.join(device_checks.GOLDEN, "methods.json"))
UPDATES = np.array([[1.0, 0.5, -0.5], [0.1, 0.1, 0.2]])


def test_a_report_of_two_checks(tmp_path, capsys):
    assert on_device.main(["--device_target", "CPU", "--checks", "perceptron", "steps", "-o", str(tmp_path)]) == 0
    report = read_json(tmp_path / "device_report.json")
    assert list(report["checks"]) == ["perceptron", "steps"]
    assert all(row["passed"] for check in report["checks"].values() for row in check["lines"])
    assert report["machine"]["MindSpore"].startswith("2.") and "cores of" in report["machine"]["device"]
    text = (tmp_path / "device_report.md").read_text()
    assert text.count("| pass |") == 8 and "largest error" in text and "Please send both files" in text
    assert "8 results pass, 0 fail" in capsys.readouterr().out


def test_the_stored_reports_are_of_these_checks():
    paths = glob.glob(os.path.join(RESULTS_DIR, "devices", "*.json"))
    for path in paths:
        report = read_json(path)
        assert {name: check["title"] for name, check in report["checks"].items()} == on_device.CHECKS, path
        own, treated = ({row["name"] for row in report["checks"][check]["lines"]}
                        for check in ("methods", "strategies"))
        assert own == RECORDED.keys() and METHODS.keys() <= own | treated, path
    assert paths


def test_two_steps_of_every_method_are_those_of_pytorch(monkeypatch):
    """On CPU they are closer than a device has to be."""
    monkeypatch.setattr(device_checks, "METHOD_LIMITS", (1e-6, 4e-4))
    lines = list(device_checks.check_methods({}))
    assert {row["name"] for row in lines} == RECORDED.keys()
    assert [row for row in lines if not row["passed"] or "largest error" not in row["result"]] == []


def test_a_method_that_was_not_recorded_fails(monkeypatch):
    monkeypatch.setattr(device_checks, "METHODS", {"new": METHODS["erm"]})
    row = next(device_checks.check_methods({}))
    assert not row["passed"] and "add it to tests/golden/record_methods.py" in row["result"]


def test_both_files_know_the_same_checks():
    assert ["device", *on_device.CHECKS] == list(device_checks.CHECKS)


def test_a_device_that_is_not_there_leaves_a_report(tmp_path, capsys):
    assert on_device.main(["--device_target", "Ascend", "-o", str(tmp_path)]) == 1
    [row] = read_json(tmp_path / "device_report.json")["checks"]["device"]["lines"]
    assert row["result"].startswith("exit status 2: --device_target Ascend: ") and row["log"]
    assert "FAIL      exit status 2: --device_target Ascend" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_an_error_before_the_checks(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        on_device.main(["-o", str(tmp_path / "file")])
    assert stop.value.code == 2 and "-o: cannot write to" in capsys.readouterr().err


def script(tmp_path, monkeypatch, *lines):
    """Have `carry_out` run these lines of Python in place of `device_checks.py`."""
    (tmp_path / "tests").mkdir()
    row = json.dumps({"name": "a", "passed": True, "result": ""}) + "\n{"  # the second line is not complete
    (tmp_path / "tests" / "device_checks.py").write_text("\n".join([
        "import subprocess, sys, time", f"with open(sys.argv[2], 'w') as file: file.write({row!r})", *lines]))
    monkeypatch.setattr(on_device, "ROOT", str(tmp_path))


def test_the_lines_before_a_crash_are_kept(tmp_path, monkeypatch):
    script(tmp_path, monkeypatch, "raise RuntimeError('no kernel\\n# 0 In file x.py')")
    lines = on_device.carry_out("methods", "CPU", str(tmp_path), 60)
    assert [(row["name"], row["passed"]) for row in lines] == [("a", True), ("the check ends", False)]
    assert lines[1]["result"] == "exit status 1: no kernel" and lines[1]["log"][-1] == "# 0 In file x.py"


def test_a_check_that_hangs_is_stopped_with_its_processes(tmp_path, monkeypatch):
    script(tmp_path, monkeypatch, "child = subprocess.Popen(['sleep', '60'])",
           f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))", "time.sleep(60)")
    started = time.monotonic()
    lines = on_device.carry_out("bytes", "CPU", str(tmp_path), 6)
    assert [row["passed"] for row in lines] == [True, False] and "the time was over" in lines[1]["result"]
    assert time.monotonic() - started < 30
    status = f"/proc/{(tmp_path / 'pid').read_text()}/stat"
    end = time.monotonic() + 20  # the kernel needs a moment
    while (state := on_device.content(status).split()[2:3]) not in ([], ["Z"]) and time.monotonic() < end:
        time.sleep(0.05)
    assert state in ([], ["Z"])  # it is gone, or a zombie


def test_a_device_is_compared_with_the_cpu(tmp_path, monkeypatch):
    calls = []

    def carry_out(check, target, folder, seconds):
        calls.append((check, target))
        if check == "device":
            return [{"name": "device", "passed": None, "result": '{"target": "GPU", "name": "X", "index": 0}'}]
        return [{"name": "x", "passed": target != "CPU", "result": ""}]
    monkeypatch.setattr(on_device, "carry_out", carry_out)
    assert on_device.main(["--checks", "methods", "networks", "-o", str(tmp_path)]) == 1
    assert calls == [("device", "auto"), ("methods", "GPU"), ("networks", "CPU"), ("networks", "GPU")]
    rows = read_json(tmp_path / "device_report.json")["checks"]["networks"]["lines"]
    assert [row["name"] for row in rows] == ["on CPU: x", "x"]


@pytest.mark.parametrize("outputs, updates, passed", [
    ([1.0, 2.0], UPDATES, True), ([1.0, 2.00001], UPDATES * 1.001, True), ([1.0, 2.1], UPDATES, False),
    ([1.0, 2.0], UPDATES * 1.1, False), ([1.0, np.nan], UPDATES, False), ([1.0, 2.0], 0 * UPDATES, False),
    ([1.0, 2.0], UPDATES * [[1], [-1]], False), ([1.0, 2.0], UPDATES * [[1, 1, 1], [1, -1, -1]], False)])
def test_steps_have_to_agree_with_others(outputs, updates, passed):
    """Also where the norms agree, or where the update is a small one."""
    reference = json.loads(json.dumps(([1.0, 2.0], UPDATES.tolist())))
    row = device_checks.comparison_line("sam", np.array(outputs), updates, reference, device_checks.NETWORK_LIMITS)
    assert row["passed"] is passed


def test_networks_are_compared_with_the_cpu(monkeypatch):
    def lines(values, updates=UPDATES):
        monkeypatch.setattr(device_checks, "take_steps", lambda *_, **__: (np.ones(2), updates))
        return list(device_checks.check_networks(values))
    monkeypatch.setattr(device_checks, "NETWORKS", {"wideresnet10": 32})
    values = {}
    assert [row["passed"] for row in lines(values)] == [True] and list(values) == ["wideresnet10"]
    assert [row["passed"] for row in lines({}, UPDATES * [[1], [0]])] == [False]
    monkeypatch.setattr(device_checks, "device", lambda: "GPU")
    assert [row["passed"] for row in lines(values)] == [True]
    assert [row["passed"] for row in lines(values, 1.1 * UPDATES)] == [False]
    [row] = lines({})
    assert not row["passed"] and "not compared" in row["result"]


def test_paths_that_other_checks_leave_out(monkeypatch):
    def failed(values):
        return [row["name"] for row in device_checks.check_paths(values) if not row["passed"]]
    monkeypatch.setattr(device_checks, "PATHS", {"erm": {"method": "erm"}})
    values = {}
    assert failed(values) == [] and sorted(values) == ["erm", "norm of a mean gradient"]
    monkeypatch.setattr(device_checks, "device", lambda: "GPU")
    monkeypatch.setattr(device_checks, "check_overflow", lambda: {"name": "overflow", "passed": True})
    monkeypatch.setattr(device_checks, "check_later_reading", lambda: {"name": "later", "passed": True})
    assert failed(values) == [] and failed({}) == sorted(values)
    for name in values:
        changed = json.loads(json.dumps(values))
        changed[name][0][0] *= 1.001
        assert failed(changed) == [name]


def first_of(condition, x, y):
    """In place of `select_whole`; a lambda would not do in a graph."""
    return x


def test_an_overflow_that_changes_state_fails(monkeypatch):
    monkeypatch.setattr("losses.step.mixed_precision.select_whole", first_of)
    row = device_checks.check_overflow()
    assert not row["passed"] and "norm.moving_mean" in row["result"]


def test_a_check_without_time_is_not_run(tmp_path):
    [row] = on_device.carry_out("methods", "CPU", str(tmp_path), 0)
    assert (row["name"], row["passed"]) == ("the check runs", False) and "not begun" in row["result"]


@pytest.mark.slow
def test_the_whole_report_on_cpu(tmp_path):
    assert on_device.main(["--device_target", "CPU", "-o", str(tmp_path)]) == 0
    report = read_json(tmp_path / "device_report.json")
    assert list(report["checks"]) == list(on_device.CHECKS)
