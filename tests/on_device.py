"""Report whether this project works on a device: python tests/on_device.py

The checks take up to ten minutes in all and download nothing. Each runs in a process of its own, so a check that
crashes or hangs fails alone. `device_report.md` and `device_report.json` have the device, the versions and a line for
each result. They are written after every check. On a GPU or NPU some checks run on the CPU, too, and the numbers are
compared. The exit status is 1 if a check fails.
"""
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from corruptions.utils.cli import Parser, cpu_count, positive_int  # noqa: E402
from corruptions.utils.errors import exit_on_error  # noqa: E402
from corruptions.utils.files import atomic_write, require_writable_folder, write_json  # noqa: E402
from utils.runtime.plugins import CUDA_PACKAGES, TARGETS  # noqa: E402

CHECKS = {  # name to heading
    "steps": "SharpDRO beside the authors' PyTorch code",
    "perceptron": "SAM and ASAM beside the DAMP authors' JAX code",
    "methods": "two steps of every method with its own step, beside PyTorch in float64",
    "strategies": "a training with every method that treats its data",
    "paths": "what the other checks leave out: sub-batches, AdamW, overflows, steps that are read later",
    "networks": "one step with every family of networks",
    "operators": "operators of the graphs, before the passes of the device's compiler",
    "bytes": "equal bytes",
    "time": "time and memory, WRN-28-2, batches of 100 images",
}
COMPARED = ("paths", "networks", "time")  # these also run on CPU
LIMIT = 600  # default seconds for all checks
SEND = ("Please send both files, whatever the results: attach them to a new issue where you downloaded the project, "
        "with the title \"Device report: {}\".")
MARKS = {True: "pass", False: "FAIL", None: "measured"}
ERROR = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b: ?(.*)|.*: error: (.*)")


def output_of(*command):
    """Return what a program prints, as text; '' if it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def first_match(pattern, text):
    """Return the first group of a pattern in a text; '' if there is no match."""
    found = re.search(pattern, text)
    return found[1].strip() if found else ""


def content(path):
    """Return the text in a file; '' if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def describe_cpu():
    """Return the CPU as text."""
    about = content("/proc/cpuinfo")
    flags = first_match(r"flags\s*:\s*(.*)", about).split()
    kinds = {"avx512f": "AVX-512", "avx2": "AVX2"}
    kind = next((kinds[flag] for flag in kinds if flag in flags), platform.machine())
    name = first_match(r"model name\s*:\s*(.*)", about) or first_match(
        r"Model name:\s*(.*)", output_of("lscpu")) or "an unknown CPU"
    return f"{cpu_count()} cores of {name} ({kind})"


def describe_driver(target, index):
    """Return a dict of the driver and the libraries of device number `index` of a target."""
    if target == "GPU":
        row = output_of("nvidia-smi", f"--id={index}", "--query-gpu=name,driver_version,memory.total",
                        "--format=csv,noheader")
        versions = []
        for package in CUDA_PACKAGES:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions.append(f"{package} {importlib.metadata.version(package)}")
        return {"nvidia-smi": row, "CUDA": ", ".join(versions)}
    if target == "Ascend":
        home = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME") or ""
        version = first_match(r"(?im)^version=(.*)$", content(os.path.join(home, "opp", "version.info")))
        return {"driver": first_match(r"Version:\s*(\S+)", output_of("npu-smi", "info")), "CANN": version}
    return {}


def commit():
    """Return the commit of this checkout, and whether files differ from it; '' outside of a checkout."""
    if output_of("git", "-C", ROOT, "rev-parse", "--show-toplevel") != os.path.realpath(ROOT):
        return ""
    changed = output_of("git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no")
    return output_of("git", "-C", ROOT, "rev-parse", "HEAD") + (", with changes" if changed else "")


def describe_machine(lines):
    """Return a dict of what the report says about the machine and the versions, in order.

    Args:
        lines (list of dict): the lines of `device_checks.describe_device`.
    """
    found = {row["name"]: row["result"] for row in lines if row["passed"] is None}
    device = json.loads(found.pop("device", "{}"))
    cpu, target = describe_cpu(), device.get("target", "none")
    return {"date": datetime.date.today().isoformat(), "target": target,
            "device": cpu if target == "CPU" else device.get("name", "none that can be used"),
            **describe_driver(target, device.get("index")), "CPU": cpu, **found,
            "MindSpore": importlib.metadata.version("mindspore"), "Python": platform.python_version(),
            "system": platform.platform(), "commit": commit()}


def reason(log):
    """Return the line of a program's errors that says why it has ended."""
    errors = [found[1] or found[2] or line for line in log.splitlines() if (found := ERROR.match(line))]
    return errors[-1] if errors else (log.strip().splitlines() or [""])[-1]


def carry_out(check, target, folder, seconds):
    """Carry out a check in a new process group.

    Args:
        check (str): a key of `device_checks.CHECKS`.
        target (str): the device.
        folder (str): for its files; checks in `COMPARED` share values there.
        seconds (float): time after which the check is stopped, with all processes that it has started.

    Returns:
        list of dict: its lines, with name, passed and result. A check that does not end has one more line, with the
            last lines of its errors as `log`.
    """
    if seconds <= 0:
        return [{"name": "the check runs", "passed": False,
                 "result": "not begun, because the time was over; --limit gives more"}]
    path = os.path.join(folder, f"{check}_{target}.jsonl")
    command = [sys.executable, os.path.join(ROOT, "tests", "device_checks.py"), check, path, "--device_target", target]
    if check in COMPARED:
        command += ["--values", os.path.join(folder, f"{check}.json")]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          errors="replace", start_new_session=True) as process:
        try:
            log = process.communicate(timeout=seconds)[1]
            ending = f"exit status {process.returncode}: {reason(log)}"
        except BaseException as stop:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(stop, subprocess.TimeoutExpired):
                raise
            log, ending = process.communicate()[1], "stopped, because the time was over; --limit gives more"
    lines = [json.loads(row) for row in content(path).splitlines(keepends=True) if row.endswith("\n")]
    if process.returncode or not lines:
        lines.append({"name": "the check ends", "passed": False, "result": ending, "log": log.splitlines()[-30:]})
    return lines


def as_markdown(report):
    """Return a report as Markdown."""
    name = report["machine"]["device"]
    text = [f"# Device report: {name}", "", summary(report), "", SEND.format(name), "", "| | |", "| --- | --- |"]
    text += [f"| {name} | {value or 'not found'} |" for name, value in report["machine"].items()]
    for check in report["checks"].values():
        text += ["", f"## {check['title']}", "", f"{check['seconds']:.0f} s", ""]
        text += ["| | result | |", "| --- | --- | --- |"]
        text += [f"| {MARKS[row['passed']]} | {row['name']} | {row['result'].replace('|', '/')} |"
                 for row in check["lines"]]
    return "\n".join(text) + "\n"


def results(report):
    """Return whether each line of a report has passed, a list of True, False and None."""
    return [row["passed"] for check in report["checks"].values() for row in check["lines"]]


def summary(report):
    """Return one sentence about the results."""
    passed = results(report)
    return f"{passed.count(True)} results pass, {passed.count(False)} fail, {passed.count(None)} are measurements."


def write_report(path, report):
    """Write `path`.json and `path`.md."""
    write_json(f"{path}.json", report)
    with atomic_write(f"{path}.md") as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(as_markdown(report))


def main(argv=None):
    parser = Parser(prog="on_device.py", description=__doc__.splitlines()[0])
    parser.add_argument("--device_target", choices=("auto", *TARGETS), default="auto", help="device")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="NAME",
                        help=f"checks, of {', '.join(CHECKS)}")
    parser.add_argument("--limit", type=positive_int, default=LIMIT, help="seconds for all checks")
    parser.add_argument("-o", "--output", default=".", metavar="FOLDER", help="folder for the two files")
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog), tempfile.TemporaryDirectory() as folder:
        require_writable_folder("-o", args.output)
        path = os.path.join(args.output, "device_report")
        end = time.monotonic() + args.limit
        lines = carry_out("device", args.device_target, folder, end - time.monotonic())
        report = {"machine": describe_machine(lines), "checks": {}}
        target = report["machine"]["target"]
        print(f"{target}: {report['machine']['device']}, MindSpore {report['machine']['MindSpore']}", flush=True)
        if target == "none":
            report["checks"]["device"] = {"title": "set-up of the device", "seconds": 0, "lines": lines}
            print(f"  FAIL      {lines[-1]['result']}")
        for check in dict.fromkeys(args.checks) if target != "none" else ():
            print(f"\n{CHECKS[check]}", flush=True)
            started, lines = time.monotonic(), []
            if check in COMPARED and target != "CPU":
                lines = [{**row, "name": f"on CPU: {row['name']}"}
                         for row in carry_out(check, "CPU", folder, end - time.monotonic()) if row["passed"] is False]
            lines += carry_out(check, target, folder, end - time.monotonic())
            report["checks"][check] = {"title": CHECKS[check], "seconds": round(time.monotonic() - started, 1),
                                       "lines": lines}
            for row in lines:
                print(f"  {MARKS[row['passed']]:8s}  {row['name']}: {row['result']}", flush=True)
            write_report(path, report)
        write_report(path, report)
        print(f"\n{summary(report)}\nreport: {path}.md, {path}.json\n{SEND.format(report['machine']['device'])}")
    return 1 if False in results(report) else 0


if __name__ == "__main__":
    sys.exit(main())
