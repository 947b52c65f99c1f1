"""Report whether this project works on a device: python tests/on_device.py

The checks take less than ten minutes and download nothing. Each runs in a process of its own, so a check that crashes
or hangs fails alone. `device_report.md` and `device_report.json` have the device, the versions and a line for each
result. On a GPU or NPU some checks run on the CPU, too, and the numbers are compared. The exit status is 1 if a check
fails.
"""
import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from utils.runtime.device import MINDSPORE_VERSION, set_up_device  # noqa: E402, I001

import mindspore as ms  # noqa: E402

from corruptions.utils.cli import Parser, cpu_count, exit_on_error  # noqa: E402
from corruptions.utils.files import atomic_write, write_json  # noqa: E402
from utils.runtime.plugins import CUDA_PACKAGES  # noqa: E402

CHECKS = {  # name to heading
    "steps": "SharpDRO beside the authors' PyTorch code",
    "perceptron": "SAM and ASAM beside the DAMP authors' JAX code",
    "methods": "two steps of every method",
    "networks": "one step with every family of networks",
    "operators": "operators of the compiled steps",
    "bytes": "equal bytes",
    "time": "time and memory, WRN-28-2, batches of 100 images",
}
COMPARED = ("methods", "networks", "time")  # these also run on CPU
LIMIT = 240  # seconds for one check
SEND = ("Please send both files to the project, whatever the results: attach them to a new issue with the title "
        "\"Device report: {}\".")
MARKS = {True: "pass", False: "FAIL", None: "measured"}


def output_of(*command):
    """Return what a program prints, as text; '' if it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def first_match(pattern, path):
    """Return the first group of a pattern in a file; '' if there is no such file or no match."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(pattern, file.read())
    except OSError:
        return ""
    return found[1].strip() if found else ""


def describe_gpu():
    """Return a dict of NVIDIA's device, driver and CUDA."""
    name, driver, memory = (output_of("nvidia-smi", "--query-gpu=name,driver_version,memory.total",
                                      "--format=csv,noheader").splitlines() or [",,"])[0].split(",")
    versions = []
    for package in CUDA_PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"device": name.strip(), "memory": memory.strip(), "driver": driver.strip(), "CUDA": ", ".join(versions)}


def describe_npu():
    """Return a dict of Ascend's device, driver and CANN."""
    home = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME") or ""
    table = output_of("npu-smi", "info")
    driver = re.search(r"Version:\s*(\S+)", table)
    return {"device": f"Ascend {ms.hal.get_device_name(0, 'Ascend')}", "driver": driver[1] if driver else "",
            "CANN": first_match(r"(?im)^version=(.*)$", os.path.join(home, "opp", "version.info"))}


def describe_machine(target):
    """Return a dict of what the report says about the machine and the versions, in order."""
    cpu = first_match(r"model name\s*:\s*(.*)", "/proc/cpuinfo") or platform.processor()
    flags = first_match(r"flags\s*:\s*(.*)", "/proc/cpuinfo").split()
    kinds = {"avx512f": "AVX-512", "avx2": "AVX2"}
    kind = next((kinds[flag] for flag in kinds if flag in flags), platform.machine())
    cores = f"{cpu_count()} cores of {cpu} ({kind})"
    device = {"GPU": describe_gpu, "Ascend": describe_npu}.get(target, lambda: {"device": cores})()
    return {"date": datetime.date.today().isoformat(), "target": target, **device, "CPU": cores,
            "MindSpore": MINDSPORE_VERSION, "Python": platform.python_version(), "system": platform.platform(),
            "commit": output_of("git", "-C", ROOT, "rev-parse", "HEAD")}


def carry_out(check, target, folder):
    """Carry out a check in a new process.

    Args:
        check (str): a key of `CHECKS`.
        target (str): the device.
        folder (str): for its files; checks in `COMPARED` share values there.

    Returns:
        list of dict: its lines, with name, passed and result.
    """
    path = os.path.join(folder, f"{check}_{target}.jsonl")
    command = [sys.executable, os.path.join(ROOT, "tests", "device_checks.py"), check, path, "--device_target", target]
    if check in COMPARED:
        command += ["--values", os.path.join(folder, f"{check}.json")]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, errors="replace")
        status, message = process.returncode, (process.stderr.strip().splitlines() or [""])[-1]
    except subprocess.TimeoutExpired:
        status, message = -1, f"stopped after {LIMIT} s"
    lines = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(row) for row in file if row.endswith("\n")]
    if status or not lines:
        lines.append({"name": "the check ends", "passed": False, "result": f"exit status {status}: {message}"})
    return lines


def as_markdown(report):
    """Return a report as Markdown."""
    text = [f"# Device report: {report['machine']['device']}", "", summary(report), "", "| | |", "| --- | --- |"]
    text += [f"| {name} | {value or 'not found'} |" for name, value in report["machine"].items()]
    for check in report["checks"].values():
        text += ["", f"## {check['title']}", "", f"{check['seconds']:.0f} s", ""]
        text += ["| | result | |", "| --- | --- | --- |"]
        text += [f"| {MARKS[row['passed']]} | {row['name']} | {row['result'].replace('|', '/')} |"
                 for row in check["lines"]]
    return "\n".join(text) + "\n"


def summary(report):
    """Return one sentence about the results."""
    rows = [row["passed"] for check in report["checks"].values() for row in check["lines"]]
    failed = sum(passed is False for passed in rows)
    return f"{sum(passed is True for passed in rows)} results pass, {failed} fail, {rows.count(None)} are measurements."


def main(argv=None):
    parser = Parser(prog="on_device.py", description=__doc__.splitlines()[0])
    parser.add_argument("--device_target", choices=("auto", "Ascend", "GPU", "CPU"), default="auto", help="device")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="NAME",
                        help=f"checks, of {', '.join(CHECKS)}")
    parser.add_argument("-o", "--output", default=".", metavar="FOLDER", help="folder for the two files")
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog):
        target = set_up_device(args.device_target)
        os.makedirs(args.output, exist_ok=True)
        report = {"machine": describe_machine(target), "checks": {}}
        print(f"{target}: {report['machine']['device']}, MindSpore {MINDSPORE_VERSION}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for check in dict.fromkeys(args.checks):
                print(f"\n{CHECKS[check]}", flush=True)
                started = time.monotonic()
                lines = []
                if check in COMPARED and target != "CPU":
                    lines = [row for row in carry_out(check, "CPU", folder) if row["passed"] is False]
                    lines = [{**row, "name": f"on CPU: {row['name']}"} for row in lines]
                lines += carry_out(check, target, folder)
                report["checks"][check] = {"title": CHECKS[check], "seconds": round(time.monotonic() - started, 1),
                                           "lines": lines}
                for row in lines:
                    print(f"  {MARKS[row['passed']]:8s}  {row['name']}: {row['result']}", flush=True)
        path = os.path.join(args.output, "device_report")
        write_json(f"{path}.json", report)
        with atomic_write(f"{path}.md") as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write(as_markdown(report))
        print(f"\n{summary(report)}\nreport: {path}.md, {path}.json\n{SEND.format(report['machine']['device'])}")
    return 1 if any(row["passed"] is False for check in report["checks"].values() for row in check["lines"]) else 0


if __name__ == "__main__":
    sys.exit(main())
