"""`on_device.py`: its report, and checks that fail."""
import json

import numpy as np
import pytest

from corruptions.utils.files import read_json
from tests import device_checks, on_device

UPDATES = np.array([1.0, 2.0])


def test_a_report_of_two_checks(tmp_path, capsys):
    assert on_device.main(["--device_target", "CPU", "--checks", "perceptron", "steps", "-o", str(tmp_path)]) == 0
    report = read_json(tmp_path / "device_report.json")
    assert list(report["checks"]) == ["perceptron", "steps"]
    assert all(row["passed"] for check in report["checks"].values() for row in check["lines"])
    assert report["machine"]["MindSpore"].startswith("2.") and "cores of" in report["machine"]["device"]
    text = (tmp_path / "device_report.md").read_text()
    assert text.count("| pass |") == 8 and "largest error" in text
    output = capsys.readouterr().out
    assert "8 results pass, 0 fail" in output and 'title "Device report: ' in output


def test_a_check_that_hangs_fails_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(on_device, "LIMIT", 0.01)
    assert on_device.main(["--device_target", "CPU", "--checks", "perceptron", "-o", str(tmp_path)]) == 1
    assert "FAIL      the check ends: exit status -1: stopped after 0.01 s" in capsys.readouterr().out
    assert "| FAIL |" in (tmp_path / "device_report.md").read_text()


def test_the_lines_before_a_crash_are_kept(tmp_path, monkeypatch):
    script = tmp_path / "tests" / "device_checks.py"
    script.parent.mkdir()
    row = json.dumps({"name": "a", "passed": True, "result": ""}) + "\n{"  # the second line is not complete
    script.write_text(f"import sys\nopen(sys.argv[2], 'w').write({row!r})\nsys.exit('no kernel')\n")
    monkeypatch.setattr(on_device, "ROOT", str(tmp_path))
    lines = on_device.carry_out("methods", "CPU", str(tmp_path))
    assert [(row["name"], row["passed"]) for row in lines] == [("a", True), ("the check ends", False)]
    assert lines[1]["result"] == "exit status 1: no kernel"


def test_a_device_is_compared_with_the_cpu(tmp_path, monkeypatch):
    calls = []

    def carry_out(check, target, folder):
        calls.append((check, target))
        return [{"name": "x", "passed": target != "CPU", "result": ""}]
    monkeypatch.setattr(on_device, "carry_out", carry_out)
    monkeypatch.setattr(on_device, "set_up_device", lambda target: "GPU")
    assert on_device.main(["--checks", "perceptron", "methods", "-o", str(tmp_path)]) == 1
    assert calls == [("perceptron", "GPU"), ("methods", "CPU"), ("methods", "GPU")]
    rows = read_json(tmp_path / "device_report.json")["checks"]["methods"]["lines"]
    assert [row["name"] for row in rows] == ["on CPU: x", "x"]


@pytest.mark.parametrize("losses, updates, passed", [
    ([1.0, 2.0], UPDATES, True), ([1.0, 2.00001], UPDATES * 1.001, True), ([1.0, 2.1], UPDATES, False),
    ([1.0, 2.0], UPDATES * 1.1, False), ([1.0, np.nan], UPDATES, False), ([1.0, 2.0], 0 * UPDATES, False)])
def test_steps_have_to_agree_with_the_cpu(losses, updates, passed):
    values = {}
    assert device_checks.compared("sam", np.array([1.0, 2.0]), UPDATES, values)["passed"]
    values = json.loads(json.dumps(values))
    assert device_checks.compared("sam", np.array(losses), updates, values)["passed"] is passed


def test_weights_that_stay_fail_without_a_cpu_to_compare():
    assert not device_checks.compared("sam", np.ones(2), 0 * UPDATES, {})["passed"]


@pytest.mark.slow
def test_the_whole_report_on_cpu(tmp_path):
    assert on_device.main(["--device_target", "CPU", "-o", str(tmp_path)]) == 0
    report = read_json(tmp_path / "device_report.json")
    assert list(report["checks"]) == list(on_device.CHECKS)
