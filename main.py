"""Train and evaluate: python main.py --num_severity 6 -c gaussian_noise -d cifar10"""
import argparse
import contextlib
import os
import sys
from dataclasses import replace

if __name__ == "__main__":  # before anything that takes long
    from corruptions.utils.startup import begin_imports
    begin_imports("main.py")
    import utils.runtime.requirements  # noqa: F401, it reports missing packages

from corruptions import CORRUPTIONS, SETS
from corruptions.utils import cli, startup
from corruptions.utils.errors import UserError, exit_on_error
from losses.config.options import AUTHORS_OPTIONS, apply_recipe, create_parser, parse_command_line, parse_variants
from losses.config.short_help import NO_OPTIONS
from losses.config.table import EVALUATION_ONLY
from utils.runtime.distributed import is_main_process, require_single_process, set_resume_hint
from utils.shared_options import device_options

# The other imports stand in the functions, because they bring MindSpore: the help and a mistyped option need none.


def announce():
    """Print a first line at once on a terminal, because the import of MindSpore takes seconds."""
    if is_main_process() and sys.stdout.isatty():
        print("loading MindSpore ...", flush=True)


def train_command(args, given):
    """Train in a new folder, or resume in an old one. `given` has the options that the command line names."""
    announce()
    with startup.late_imports():
        from utils.runtime.device import main_process_first, per_process, set_up_device, shutdown
        from dataset.splits import counts_table
        from losses.config.resolve import load_or_resolve_config
        from losses.training.begin import begin_or_resume
        from losses.training.experiment import ExperimentLoader
        from losses.training.run import run
        from utils.records.logs import create_run_folder, open_run_folder
        from utils.reports.page import next_steps
    with contextlib.ExitStack() as stack:
        config = load_or_resolve_config(args, given)
        device = set_up_device(**device_options(vars(config)))
        if config.resume is not None:
            folder = stack.enter_context(open_run_folder(config.resume))
        local = replace(config, num_workers=per_process(config.num_workers))
        data = main_process_first(lambda: ExperimentLoader().load(local))
        if config.resume is None:
            folder = stack.enter_context(create_run_folder(config.log_dir, config.folder_name()))
        if folder.is_writable:
            begin_or_resume(folder, data, config, given, device)
        set_resume_hint(f"--resume {folder.path} resumes it, with any number of workers")
        folder.log(counts_table(data.split, data.source.labels["train"]))
        run(local, data, folder)
        if folder.is_writable:
            print("\n" + next_steps(folder.path))
        shutdown()


def compare_command(args, given):
    """Carry out a comparison: the runs for all values of the options, and the variants. Exit with 1 if some fail."""
    if args.resume is not None:
        raise UserError("--resume: continues one run; a comparison continues when its command is given again")
    if args.show_progress and args.jobs > 1:
        raise UserError("--show_progress: bars of several runs would mix; leave it out, or --jobs")
    announce()
    with startup.late_imports():
        from utils.runtime.device import set_up_device
        from losses.comparison.plan import expand_grid
        from losses.comparison.runs import compare
        from losses.config.resolve import require_folders, resolve_config
        from losses.training.experiment import ExperimentLoader
    outer = ("variant", "jobs", "resume", "desc", "log_dir")
    shared = {option: value for option, value in given.items() if option not in outer}
    planned = expand_grid({**shared, "save_last": True}, parse_variants(args.variant))
    defaults = vars(cli.parse(create_parser(), [])[0])
    configs = [resolve_config(argparse.Namespace(**{**defaults, **spec.given}), spec.given) for spec in planned]
    require_folders(args)
    device = set_up_device(**device_options(vars(args)))
    folder = os.path.join(args.log_dir, f"{args.desc}_comparison")
    done = compare(planned, configs, folder, ExperimentLoader(), device, args.jobs, os.path.abspath(__file__))
    sys.exit(0 if done else 1)


def evaluate_command(args, given):
    """Evaluate a trained network, or all networks of a comparison, under corruptions or on other images.

    `given` has the options that the command line names.
    """
    announce()
    with startup.late_imports():
        from utils.runtime.device import set_up_device
        from losses.evaluation.commands import check_evaluation, evaluate
    kind = check_evaluation(given)
    set_up_device(**device_options(vars(args)))
    if not evaluate(kind, args, given):
        sys.exit(1)


def main(argv=None):
    if not (sys.argv[1:] if argv is None else argv):
        return cli.print_text(NO_OPTIONS)
    with exit_on_error("main.py"):
        args, given = parse_command_line(argv)
        if args.evaluate is None or args.test_corrupted is None:  # else the folder may have other names
            cli.require_known("--corruption", args.corruption, CORRUPTIONS, SETS)
        if args.evaluate is not None:
            require_single_process("--evaluate")
            return evaluate_command(args, given)
        apply_recipe(args, given)
        for option in EVALUATION_ONLY:
            if option in given:
                way_out = "name a run with --evaluate, too, or leave it out"
                raise UserError(f"--{option}: needs --evaluate; "
                                f"{AUTHORS_OPTIONS['-s'] if option == 'severity' else way_out}")
        if args.variant or any(isinstance(value, cli.MultipleValues) for value in given.values()):
            require_single_process("a comparison of several values")
            return compare_command(args, given)
        if "jobs" in given:
            raise UserError("--jobs: needs a comparison; give an option several values, or leave it out")
        train_command(args, given)


if __name__ == "__main__":
    main()
