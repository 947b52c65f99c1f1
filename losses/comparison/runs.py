"""Several runs, one after the other or some at a time, each in a folder of its own under that of the comparison."""
import contextlib
import os
import subprocess
import sys
import tempfile
import time

from losses.comparison.checks import (
    _check_files,
    _check_images,
    _check_plan,
    _check_rows,
    _resumable_options,
    _stored_settings,
)
from losses.comparison.plan import BENCHMARK_KEYS
from losses.config.recipes import to_argv
from losses.training.run import RunConfig, StepCache, run, write_config
from utils import cli
from utils.errors import UserError
from utils.figures.severity import accuracy
from utils.figures.style import save
from utils.files import file_lock, safe_filename, write_json
from utils.records.cost import duration
from utils.records.logs import RunFolder
from utils.records.reading import PLAN_FILE, by_setting, is_finished, read_record
from utils.records.settings import (
    read_settings,
)
from utils.reports.comparison import ComparisonRow, last_weights, write_comparison, write_comparison_page
from utils.runtime import signals


def add_comparison_arguments(parser):
    """The options of a comparison."""
    group = parser.add_argument_group("comparison", "Of all values of options that have several, and of variants. "
                                      "Given again, the same command goes on.")
    group.add_argument("--variant", action="append", default=[], metavar="'NAME: OPTIONS'",
                       help="a row beside those of --method, with options of its own; repeat it for more")
    group.add_argument("--jobs", type=cli.workers, default=1, metavar="J",
                       help="runs at a time, each in a process of its own; does not change results")


def compare(planned, values, folder, load, device, jobs, program, check=None):
    """Carry out the runs of a comparison that have not ended yet, and write its table.

    Args:
        planned (list of RunSpec): the runs.
        values (list of dict): for each of them all options to their values.
        folder (str): that of the comparison; made if it is missing.
        load (callable): values of a run to its `dataset.data.ExperimentData`.
        device (str): for the records.
        jobs (int): runs at a time; with 1 all run in this process. The system shares out the processors among them:
            each process sees all, because the last bits of a result depend on how many MindSpore finds.
        program (str): path of `main.py`, which other processes start with `--resume`.
        check (callable or None): of the settings of runs that have begun, as in `resumed_settings`.

    Returns:
        bool: whether all runs have ended well; those that have not are named in the table.

    Raises:
        UserError: the folder is of a comparison that has other runs than these, or another process is at it.
    """
    os.makedirs(folder, exist_ok=True)
    with file_lock(os.path.join(folder, ".lock"), folder):
        paths = [os.path.join(folder, run_name(one, settings)) for one, settings in zip(planned, values, strict=True)]
        plan = _check_plan(folder, planned, paths)
        waiting = [k for k, path in enumerate(paths) if not is_finished(path)]
        values = [_stored_settings(*run, check) for run in zip(planned, values, paths, strict=True)]
        _check_rows(folder, planned, values)
        _check_files(folder, planned, values)
        # What is wrong with the data of a later run is found now, and before anything is written; where all runs have
        # ended, whether their images are still those that the command names.
        for k in waiting or range(len(planned)):
            _check_images(planned, paths, k, load(values[k]), values[k])
        write_json(os.path.join(folder, PLAN_FILE), plan)
        _warn_mixed_devices(paths, device)
        clock = EtaEstimator([estimated_cost(settings) for settings in values], waiting)
        print(f"comparison of {len(planned)} runs, {len(planned) - len(waiting)} of them done, in {folder}", flush=True)
        try:
            if jobs == 1:
                failures = _run_sequentially(planned, values, paths, waiting, load, device, clock)
            else:
                failures = _run_in_processes(planned, values, paths, waiting, load, device, jobs, program, clock)
        except signals.Interrupted as stop:
            stop.way_on = "the same command goes on"
            raise
        rows, records = {}, []
        for k, (one, settings) in enumerate(zip(planned, values, strict=True)):
            setting = tuple(settings[option] for option in BENCHMARK_KEYS)
            row = rows.setdefault((setting, one.name), ComparisonRow(setting, one.name, {}, {}))
            if k in failures:
                row.failures[settings["seed"]] = failures[k]
            else:
                records.append(read_record(paths[k], one.name))
                row.accuracies[settings["seed"]] = records[-1].results["test"]["accuracy"]
                row.validation[settings["seed"]] = records[-1].results["val"]["accuracy"]
                weights = last_weights(records[-1])
                if weights is not None:
                    row.weights[settings["seed"]] = weights
        print("\n" + write_comparison(folder, list(rows.values())))
        hidden = (*BENCHMARK_KEYS, "seed", "save_last")
        options = {one.name: " ".join(to_argv({option: value for option, value in one.given.items()
                                               if option not in hidden})) for one in planned}
        write_comparison_page(folder, list(rows.values()), _plot_accuracy(folder, records), options)
        return not failures


def _plot_accuracy(folder, records):
    """Draw accuracy over severity, a figure for each setting; return caption to SVG file."""
    drawn = {}
    for suffix, some in by_setting(records).items():
        [(name, figure)] = accuracy(some)
        path = os.path.join(folder, name + suffix)
        save(figure, path)
        dataset, corruption, model, _ = some[0].setting
        drawn[f"{dataset}, {corruption.replace('_', ' ')}, {model}: mean and standard deviation over seeds"] = (
            path + ".svg")
    return drawn


def run_name(one, settings):
    """Name of the folder of a run."""
    return safe_filename(f"{one.name}_{settings['dataset']}_{settings['corruption']}_{settings['model']}_"
                         f"seed{settings['seed']}")


def estimated_cost(settings):
    """How long a run takes, in passes over the data of one epoch; a rough measure to share out the time."""
    method = RunConfig.of(settings).method
    return method.total_epoch * method.passes + (settings["stage_one_epochs"] or 0)


class EtaEstimator:
    """How long the runs that are left will take, judged by those that have ended.

    Args:
        works (list of float): how much each run is, in any unit.
        waiting (list of int): numbers of the runs that are to be done.
    """

    def __init__(self, works, waiting):
        self.works, self.left, self.done = works, sum(works[k] for k in waiting), 0.0
        self.started = time.monotonic()

    def end(self, k, failed=False):
        """Run number `k` has ended; one that failed says nothing about how long another takes."""
        self.left -= self.works[k]
        if not failed:
            self.done += self.works[k]

    def __str__(self):
        if not self.done:
            return ""
        return f", about {duration((time.monotonic() - self.started) * self.left / self.done)} left"


def _warn_mixed_devices(paths, device):
    """Warn where other runs of the comparison were begun on another device than this one."""
    others = {config["device"] for config in map(read_settings, paths) if config and "device" in config} - {device}
    if others:
        print(f"warning: some of the runs began on {', '.join(sorted(others))}, and others are on {device}, which "
              "rounds otherwise; --device_target says which to take", file=sys.stderr)


def _announce(number, total, one, settings, clock):
    print(f"\nrun {number} of {total}: {one.name}, recipe {settings['recipe']}, seed {settings['seed']}, "
          f"{settings['dataset']}, {settings['corruption']}, {settings['model']}{clock}", flush=True)


def _run_sequentially(planned, values, paths, waiting, load, device, clock):
    """Carry out runs in this process; return those that failed, number to reason."""
    failures, cells = {}, StepCache()
    for k in waiting:
        _announce(k + 1, len(planned), planned[k], values[k], clock)
        try:
            data = load(values[k])
            with RunFolder(paths[k]) as folder:
                write_config(folder, data, values[k], planned[k].given, device)
                run(RunConfig.of(values[k]), data, folder, cells)
        except (UserError, OSError, RuntimeError) as error:  # MindSpore's are RuntimeErrors, such as out of memory
            failures[k] = str(error).strip().partition("\n")[0]
            print(f"failed: {failures[k]}", flush=True)
            cells = StepCache()
        clock.end(k, k in failures)
    return failures


def _run_in_processes(planned, values, paths, waiting, load, device, jobs, program, clock):
    """Carry out runs in `jobs` processes at a time; return as above."""
    for k in waiting:  # so that they only have to go on, and find all images made
        with RunFolder(paths[k]) as folder:
            write_config(folder, load(values[k]), values[k], planned[k].given, device)

    failures, running, left = {}, {}, list(waiting)
    with signals.defer_signals(), contextlib.ExitStack() as outputs:
        try:
            while left or running:
                while left and len(running) < jobs:
                    k = left.pop(0)
                    _announce(k + 1, len(planned), planned[k], values[k], clock)
                    errors = outputs.enter_context(tempfile.TemporaryFile("w+"))
                    running[k] = subprocess.Popen([sys.executable, program, "--resume", paths[k],
                                                   *_free_options(planned[k], jobs, device)],
                                                  stdout=subprocess.DEVNULL, stderr=errors), errors
                signals.raise_if_interrupted()
                time.sleep(0.1)
                for k in [k for k, (process, _) in running.items() if process.poll() is not None]:
                    reason = _last_error_line(*running.pop(k))
                    if reason is not None:
                        failures[k] = reason
                    clock.end(k, reason is not None)
                    end = "has ended" if reason is None else f"failed: {reason}"
                    print(f"run {k + 1} of {len(planned)} {end}", flush=True)
        finally:  # where something has stopped this; they save what they have
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.wait()
    return failures


def _free_options(one, jobs, device):
    """Words for a run that is one of several at a time."""
    share = max(1, cli.cpu_count() // jobs)
    free = {**_resumable_options(one), "device_target": device}
    free["num_workers"] = min(share, free.get("num_workers", share))
    return [word for text in to_argv(free) for word in text.split(" ", 1)]


def _last_error_line(process, errors):
    """Why a process has failed, by what it has written to the file `errors`; None where it has not."""
    if not process.returncode:
        return None
    errors.seek(0)
    lines = [line for line in errors.read().splitlines() if line.strip()] or ["no message"]
    return f"{lines[-1].removeprefix('main.py: error: ')} (exit status {process.returncode})"
