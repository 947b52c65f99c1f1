"""Train and evaluate: python main.py --num_severity 6 -c gaussian_noise -d cifar10"""
import argparse
import contextlib
import functools
import os
import sys

if __name__ == "__main__":  # before anything that takes long
    from utils.runtime.startup import begin_imports
    begin_imports("main.py")

from utils.runtime.device import main_process_first, per_process, set_up_device, shutdown
from corruptions import ALIASES, CORRUPTIONS, SETS
from dataset import SOURCES, datasets_list, source_options
from dataset.corrupted import STORAGE_MODES
from dataset.data import IMAGE_OPTIONS, load_data, load_images
from dataset.splits import counts_table
from losses.comparison.plan import expand_grid, parse_variants
from losses.comparison.runs import add_comparison_arguments, compare
from losses.config.options import (
    RunParser,
    add_method_arguments,
    add_run_arguments,
    add_training_arguments,
    apply_recipe,
    check_config_fits_data,
    load_or_resolve_config,
    require_folders,
    resolve_arguments,
    validate_saved_config,
)
from losses.evaluation.corruptions import EVALUATION_OPTIONS, add_evaluation_arguments, evaluate_runs
from losses.training.run import RunConfig, check_sha256, run, write_config
from models import FAMILIES, MODELS, find_model, models_list
from utils import cli
from utils.errors import UserError
from utils.records.logs import create_run_folder, open_run_folder
from utils.runtime.distributed import is_main_process, require_single_process, set_resume_hint
from utils.shared_options import add_data_arguments, add_device_arguments, device_options


def create_parser():
    parser = RunParser(prog="main.py", usage="main.py [options]", description="Train an image classifier on "
                        "photon-limited corruptions, most images clean and few severely corrupted, or on clean images, "
                        "and measure its accuracy at every severity. An option marked with ... takes several values, "
                        "which make a comparison: a run for each of them.")
    data = add_data_arguments(parser, SOURCES, datasets_list, CORRUPTIONS, STORAGE_MODES, SETS, ALIASES)
    data.add_argument("--split", metavar="FILE", default=None,
                      help="table of severities to use instead of drawing one: split.csv of an earlier run or of "
                           "dataset/prepare_dataset.py")
    place = parser.add_argument_group("network and device")
    place.add_argument("-m", "--model", type=cli.or_list(models_list, cli.validated_by(find_model)),
                       default="wideresnet", action=cli.StoreOneOrMany, metavar="NAME",
                       help=f"network: {', '.join(MODELS)}, {FAMILIES}; list says what they are")
    add_device_arguments(place)
    add_method_arguments(parser)
    add_training_arguments(parser)
    add_run_arguments(parser)
    add_comparison_arguments(parser)
    add_evaluation_arguments(parser)
    return parser


def load(args, load_images=load_images):
    """The data of a run.

    Raises:
        UserError: something is missing or damaged, or the options do not go with the data.
    """
    if args.split is not None and getattr(args, "classes", None) is None:  # a run that has begun has a copy of its own
        check_sha256("--split", args.split, args.split_sha256)
    data = load_data(args.dataset, args.data_dir, args.corruption, args.num_severity, args.seed,
                     getattr(args, "num_per_class", None), args.num_val, args.split, args.num_workers,
                     args.show_progress and is_main_process(), load_images, args.train_on, args.val_share,
                     **{option: getattr(args, option) for option in IMAGE_OPTIONS})
    check_config_fits_data(args, data)
    return data


def train(args, given):
    """Train in a new folder, or go on in an old one; `given` are the options that the command line names."""
    with contextlib.ExitStack() as stack:
        args = load_or_resolve_config(args, given, functools.partial(validate_saved_config, create_parser()))
        device = set_up_device(**device_options(args))
        values = dict(vars(args))
        args.num_workers = per_process(args.num_workers)
        settings = RunConfig.of(vars(args))
        if args.resume is not None:
            folder = stack.enter_context(open_run_folder(args.resume))
        data = main_process_first(lambda: load(args))
        if args.resume is None:
            name = settings.folder_name(args.desc, args.num_severity)
            folder = stack.enter_context(create_run_folder(args.log_dir, name))
        if folder.writes:
            write_config(folder, data, values, given, device)
        set_resume_hint(f"--resume {folder.path} goes on, with any number of workers")
        folder.log(counts_table(data.split, data.source.labels["train"]))
        run(settings, data, folder)
        print(f"\nresults are in {folder.path}")
        shutdown()


def compare_runs(args, given):
    """Carry out a comparison: the runs for all values of the options, and the variants; exit status 1 if some fail."""
    if args.resume is not None:
        raise UserError("--resume: is of one run; a comparison goes on when its command is given again")
    if args.show_progress and args.jobs > 1:
        raise UserError("--show_progress: bars of several runs would mix; leave it out, or --jobs")
    parser = create_parser()
    own = {option: given[option] for option in given if option not in ("variant", "jobs", "resume", "desc", "log_dir")}
    planned = expand_grid({**own, "save_last": True}, parse_variants(args.variant, create_parser))
    values = [argparse.Namespace(**{**vars(cli.parse(parser, [])[0]), **one.given}) for one in planned]
    for one, options in zip(planned, values, strict=True):
        resolve_arguments(options, one.given)
    require_folders(args)
    device = set_up_device(**device_options(args))
    kept = functools.lru_cache(maxsize=1)(load_images)  # runs of one data set and corruption follow each other
    folder = os.path.join(args.log_dir, f"{args.desc}_comparison")
    done = compare(planned, list(map(vars, values)), folder, lambda own: load(argparse.Namespace(**own), kept), device,
                   args.jobs, os.path.abspath(__file__), functools.partial(validate_saved_config, parser))
    sys.exit(0 if done else 1)


def evaluate(args, given):
    """Evaluate a trained network, or all of a comparison, under many corruptions; `given` are the options that the
    command line names."""
    cli.reject_unused("--evaluate", given, EVALUATION_OPTIONS, several=("corruption",))
    set_up_device(**device_options(args))
    if not evaluate_runs(args.evaluate, corruptions=given.get("corruption"), baseline=args.baseline,
                         model=given.get("model"), dataset=given.get("dataset"), data_dir=given.get("data_dir"),
                         eval_batch_size=given.get("eval_batch_size"), num_workers=args.num_workers,
                         show_progress=args.show_progress, corrupted=args.corrupted,
                         test_corrupted=args.test_corrupted, **source_options(given)):
        sys.exit(1)


def main(argv=None):
    args, given = cli.parse(create_parser(), argv)
    with cli.exit_on_error("main.py"):
        if args.evaluate is None or args.test_corrupted is None:  # else other names may be there
            cli.require_known("--corruption", args.corruption, CORRUPTIONS, SETS)
        if args.evaluate is not None:
            require_single_process("--evaluate")
            return evaluate(args, given)
        apply_recipe(args, given)
        if args.baseline is not None:
            raise UserError("--baseline: is what --evaluate compares with; name a run with --evaluate, too")
        if args.variant or any(isinstance(value, cli.MultipleValues) for value in given.values()):
            require_single_process("a comparison of several values")
            return compare_runs(args, given)
        if "jobs" in given:
            raise UserError("--jobs: is of a comparison; give an option several values, or leave it out")
        train(args, given)


if __name__ == "__main__":
    main()
