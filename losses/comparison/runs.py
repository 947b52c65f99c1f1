"""The runs of a comparison, one after the other or in parallel. Each has its own folder in the comparison's folder."""
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time

from utils.runtime.device import MINDSPORE_VERSION, device_count
from corruptions.utils import cli, signals
from corruptions.utils.errors import FAILURES, reason_of
from corruptions.utils.files import make_folder, safe_filename, write_json
from corruptions.utils.locks import file_lock
from losses.comparison.checks import (
    check_begun_images,
    check_begun_options,
    check_files,
    check_plan,
    read_plan,
    resumable_options,
    stored_config,
)
from losses.comparison.eta import EtaEstimator, estimated_cost
from losses.comparison.plan import BENCHMARK_KEYS
from losses.config.published_run import DATA_OPTIONS, published_row
from losses.config.recipes import option_texts
from losses.training.begin import begin_or_resume
from losses.training.run import run
from losses.training.step_cache import StepCache
from utils.figures.severity import accuracy
from utils.figures.style import command, save
from utils.options import option_words
from utils.records.logs import RunFolder
from utils.records.machine import machine, machine_text
from utils.records.reading import PLAN_FILE, by_setting, is_finished, read_record
from utils.records.settings import path_independent, read_settings
from utils.reports.comparison import write_comparison, write_comparison_page
from utils.reports.comparison_rows import ComparisonRow, last_weights
from utils.reports.page import next_steps


def compare(planned, configs, folder, loader, device, jobs, program):
    """Carry out the unfinished runs of a comparison, and write its table.

    Args:
        planned (list of RunSpec): the runs.
        configs (list of RunConfig): the settings of each run.
        folder (str): folder of the comparison; made if it is missing.
        loader (losses.training.experiment.ExperimentLoader): loader of the data of the runs.
        device (str): name of the device, for the records.
        jobs (int): number of parallel runs; with 1, all run in this process. The operating system shares the processors
            between the processes. Each process sees all processors, because the last bits of a result depend on the
            number that MindSpore finds.
        program (str): path of `main.py`, which other processes run with `--resume`.

    Returns:
        bool: whether all runs have ended without failure. The table names failed runs.

    Raises:
        UserError: the folder holds a comparison of other runs, or another process has locked it.
    """
    with make_folder(folder), file_lock(os.path.join(folder, ".lock"), folder):
        configs, paths, waiting = _prepare(planned, configs, folder, loader)
        _warn_mixed_machines(paths, device)
        clock = EtaEstimator([estimated_cost(config) for config in configs], waiting)
        print(f"comparison of {len(planned)} runs, {len(planned) - len(waiting)} of them done, in {folder}", flush=True)
        try:
            if jobs == 1:
                failures = _run_sequentially(planned, configs, paths, waiting, loader, device, clock)
            else:
                failures = _run_in_processes(planned, configs, paths, waiting, loader, device, jobs, program, clock)
        except signals.Interrupted as stop:
            stop.resume_hint = "the same command resumes it"
            raise
        rows, records = _collect_rows(planned, configs, paths, failures)
        print("\n" + write_comparison(folder, rows, configs[0].verbose))
        _write_page(folder, planned, rows, records, device)
        print("\n" + next_steps(folder))
        return not failures


def _prepare(planned, configs, folder, loader):
    """Check all runs of a comparison before one begins, and write the plan. Arguments are as in `compare`.

    Returns:
        tuple: settings of each run, which are the stored ones if it has begun (list of RunConfig); the folder of each
        run (list of str); the numbers of the runs that have not ended (list of int).

    Raises:
        UserError: as in `compare`, or a run does not fit its data.
    """
    stored = read_plan(folder, planned)
    paths = [os.path.join(folder, run_folder(spec, config, stored))
             for spec, config in zip(planned, configs, strict=True)]
    plan = check_plan(folder, planned, paths, stored)
    check_begun_options(planned, paths, stored)
    waiting = [k for k, path in enumerate(paths) if not is_finished(path)]
    configs = [stored_config(*run) for run in zip(planned, configs, paths, strict=True)]
    check_files(folder, planned, configs)
    # Errors in the data of later runs are found now, before anything is written. If all runs have ended, this checks
    # that their images are still the images that the command names.
    runs_to_check = waiting or range(len(planned))
    for k in runs_to_check:  # first all checks that need no corrupted images
        loader.load_split(configs[k])
    for k in runs_to_check:
        check_begun_images(planned, paths, k, loader.load(configs[k]), configs[k])
    write_json(os.path.join(folder, PLAN_FILE), plan)
    return configs, paths, waiting


def _collect_rows(planned, configs, paths, failures):
    """Return the rows of the table, and the records of the runs that ended.

    Args:
        planned, configs, paths: as in `compare` and `_prepare`.
        failures (dict): number of a run to the reason of its failure.

    Returns:
        tuple: list of ComparisonRow; list of FinishedRun.
    """
    rows, records = {}, []
    for k, (spec, settings) in enumerate(zip(planned, configs, strict=True)):
        setting = tuple(getattr(settings, option) for option in BENCHMARK_KEYS)
        # A run that has begun has its split in place of the options that made it.
        values = {**settings.to_dict(), **{name: spec.given[name] for name in DATA_OPTIONS if name in spec.given}}
        published = published_row(values, settings.method.title, settings.corruption)
        row = rows.setdefault((setting, spec.name), ComparisonRow(setting, spec.name, {}, {}, published=published))
        if k in failures:
            row.failures[settings.seed] = failures[k]
            continue
        records.append(read_record(paths[k], spec.name))
        row.accuracies[settings.seed] = records[-1].results["test"]["accuracy"]
        row.validation[settings.seed] = records[-1].results["val"]["accuracy"]
        weights = last_weights(records[-1])
        if weights is not None:
            row.weights[settings.seed] = weights
    return list(rows.values()), records


def _write_page(folder, planned, rows, records, device):
    """Draw the figures of a comparison, and write its page."""
    hidden = (*BENCHMARK_KEYS, "seed", "save_last")
    options = {spec.name: " ".join(option_texts({option: value for option, value in spec.given.items()
                                                 if option not in hidden})) for spec in planned}
    seeds = sorted({seed for row in rows for seed in (*row.accuracies, *row.failures)})
    versions, devices = ({record.config.get(key, now) for record in records}
                         for key, now in (("mindspore", MINDSPORE_VERSION), ("device", device)))
    write_comparison_page(folder, rows, _plot_accuracy(folder, records), options,
                          [os.path.basename(record.path) for record in records],
                          [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
                           f"MindSpore {', '.join(sorted(versions))}", f"device {', '.join(sorted(devices))}"],
                          command())


def _plot_accuracy(folder, records):
    """Draw accuracy over severity, a figure for each setting. Return a dict of caption to SVG file."""
    drawn, groups = {}, by_setting(records)
    if len(groups) > 1:  # the figures of several settings have other names than the figure of one
        for suffix in (".png", ".svg"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, f"accuracy{suffix}"))
    for suffix, group in groups.items():
        [(name, figure)] = accuracy(group)
        path = os.path.join(folder, name + suffix)
        save(figure, path)
        dataset, corruption, model, _ = group[0].setting
        has_seeds = len({record.name for record in group}) < len(group)
        over_seeds = ": mean and standard deviation over seeds" if has_seeds else ""
        drawn[f"{dataset}, {corruption.replace('_', ' ')}, {model}{over_seeds}"] = path + ".svg"
    return drawn


def run_folder(spec, config, stored):
    """Return the name of a run's folder: its name in the stored plan if it is there, as in `read_plan`."""
    given = path_independent(spec.given)
    for entry in stored:
        if (entry["name"], entry["given"]) == (spec.name, given):
            return entry["folder"]
    return safe_filename(f"{spec.name}_{config.dataset}_{config.corruption}_{config.model}_seed{config.seed}")


def _warn_mixed_machines(paths, device):
    """Warn if some runs of the comparison began on another device, number of processors, MindSpore or code."""
    now = machine(device)
    others = {machine_text({**now, **config, "fast_math": False}) for config in map(read_settings, paths)
              if config and "device" in config} - {machine_text(now)}
    if others:
        print(f"warning: some of the runs began on {'; '.join(sorted(others))}, and others are on {machine_text(now)}, "
              "which may give other numbers", file=sys.stderr)


def _announce(number, total, spec, config, clock):
    print(f"\nrun {number} of {total}{clock}\n{spec.name}, seed {config.seed}, {config.dataset}, "
          f"{config.corruption}, {config.model}", flush=True)


def _run_sequentially(planned, configs, paths, waiting, loader, device, clock):
    """Carry out runs in this process. Return the failures, a dict of run number to reason."""
    failures, cells = {}, StepCache()
    for k in waiting:
        _announce(k + 1, len(planned), planned[k], configs[k], clock)
        try:
            data = loader.load(configs[k])
            with RunFolder(paths[k]) as folder:
                begin_or_resume(folder, data, configs[k], planned[k].given, device)
                run(configs[k], data, folder, cells)
        except FAILURES as error:
            failures[k] = reason_of(error)
            print(f"failed: {failures[k]}", flush=True)
            cells = StepCache()
        clock.end(k, k in failures)
    return failures


def _run_in_processes(planned, configs, paths, waiting, loader, device, jobs, program, clock):
    """Carry out runs in `jobs` processes at a time. Return the failures, a dict of run number to reason."""
    for k in waiting:  # begun here, so that the processes only resume the runs and find all images
        with RunFolder(paths[k]) as folder:
            begin_or_resume(folder, loader.load(configs[k]), configs[k], planned[k].given, device)

    failures, running, queue, slots = {}, {}, list(waiting), list(range(jobs))
    with signals.defer_signals():
        try:
            while queue or running:
                while queue and len(running) < jobs:
                    k, slot = queue.pop(0), slots.pop(0)
                    _announce(k + 1, len(planned), planned[k], configs[k], clock)
                    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the end of the process
                    running[k] = subprocess.Popen([sys.executable, program, "--resume", paths[k],
                                                   *_free_options(planned[k], jobs, slot, device)],
                                                  stdout=subprocess.DEVNULL, stderr=errors), errors, slot
                signals.raise_if_interrupted()
                time.sleep(0.1)
                for k in [k for k, (process, *_) in running.items() if process.poll() is not None]:
                    process, errors, slot = running.pop(k)
                    slots.append(slot)
                    reason, warnings = _end_of(process, errors)
                    for line in warnings:
                        print(f"run {k + 1} of {len(planned)}: {line}", file=sys.stderr, flush=True)
                    if reason is not None:
                        failures[k] = reason
                    clock.end(k, reason is not None)
                    end = "has ended" if reason is None else f"failed: {reason}"
                    print(f"run {k + 1} of {len(planned)} {end}", flush=True)
        finally:  # after an interruption or an error, the remaining processes save their progress and end
            for process, *_ in running.values():
                process.terminate()
            for process, errors, _ in running.values():
                process.wait()
                errors.close()
    return failures


def _free_options(spec, jobs, slot, device):
    """Return the command-line words for a run that is one of `jobs` parallel runs, in place `slot` of them.

    If the command line gives no number of a device, the runs are spread over the devices of this machine.
    """
    share = max(1, cli.cpu_count() // jobs)
    free = {**resumable_options(spec), "device_target": device}
    if device != "CPU":
        free.setdefault("device_id", slot % device_count())
    free["num_workers"] = min(share, free.get("num_workers", share))
    return [word for name, value in free.items() for word in option_words(name, value)]


def _end_of(process, errors):
    """Close the file `errors`. Return why the process has failed, None if it has not, and a list of its warnings."""
    with errors:
        errors.seek(0)
        text = errors.read()
    warnings = [line for line in text.splitlines() if line.startswith("warning: ")]
    if not process.returncode:
        return None, warnings
    lines = [line for line in text.splitlines() if line.strip()] or ["no message"]
    reason = lines[-1].removeprefix("main.py: error: ")
    _, has_traceback, rest = text.rpartition("Traceback (most recent call last):\n")
    unexpected = re.search(r"^[\w.]+: ?(.*)", rest, re.MULTILINE | re.DOTALL)  # the first line that is not indented
    if has_traceback and unexpected and not re.search("^main.py: ", rest, re.MULTILINE):
        reason = reason_of(unexpected[1])
    return f"{reason} (exit status {process.returncode})", warnings
