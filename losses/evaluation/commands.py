"""The evaluations of `main.py --evaluate`, by the options that choose one."""
from corruptions.utils import cli
from corruptions.utils.errors import UserError
from corruptions.utils.signals import defer_signals
from dataset import source_options
from losses.config.table import EVALUATIONS, SHARED_EVALUATION_OPTIONS
from losses.evaluation.adversarial import evaluate_fgsm
from losses.evaluation.labelled_images import evaluate_test_images
from losses.evaluation.predictions import write_predictions
from losses.evaluation.runs import evaluate_each, evaluate_runs
from utils.records.reading import planned_runs


def check_evaluation(given):
    """Return the option that chooses the evaluation, a key of `EVALUATIONS`; None stands for corrupted images.

    Raises:
        UserError: two options choose one, or an option has no effect; `given` has the options of the command line.
    """
    chosen = [option for option in EVALUATIONS if option is not None and option in given]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[1]}: is another evaluation than --{chosen[0]}; leave one of them out")
    kind = chosen[0] if chosen else None
    flag = "--evaluate" if kind is None else f"--{kind}"
    for other, options in EVALUATIONS.items():
        for option in options:
            if option in given and option not in EVALUATIONS[kind] and other is not None and option != "data_dir":
                raise UserError(f"--{option}: belongs to --{other}, and has no effect with {flag}; leave it out, or "
                                f"give --{other}")
    cli.reject_unused(flag, given, (*SHARED_EVALUATION_OPTIONS, *EVALUATIONS[kind]), grid=("corruption",))
    return kind


@defer_signals()
def evaluate(kind, args, given):
    """Carry out the evaluation that a command line describes.

    Args:
        kind (str or None): as `check_evaluation` returns it.
        args (argparse.Namespace): all options.
        given (dict): the options that the command line names.

    Returns:
        bool: whether all networks were evaluated.

    Raises:
        UserError: as in the functions of the evaluations.
        Interrupted: a signal has stopped the evaluation between two batches; stored evaluations are not repeated.
    """
    path = args.evaluate
    named = {"model": given.get("model"), "dataset": given.get("dataset"), **source_options(given)}
    work = {"eval_batch_size": given.get("eval_batch_size"), "num_workers": args.num_workers,
            "show_progress": args.show_progress}
    if kind == "predict":
        if planned_runs(path) != [path]:
            raise UserError(f"--predict: {path} is a comparison; name one of its runs with --evaluate")
        write_predictions(path, args.predict, args.output, class_names=args.class_names, **named, **work)
        return True
    if kind == "test_images":
        done, runs = evaluate_each(path, lambda run: evaluate_test_images(
            run, args.test_images, args.class_map, class_names=args.class_names, **named, **work))
        return len(done) == len(runs)
    if kind == "fgsm":
        done, runs = evaluate_each(path, lambda run: evaluate_fgsm(
            run, args.fgsm, data_dir=given.get("data_dir"), **named, **work))
        return len(done) == len(runs)
    return evaluate_runs(path, corruptions=given.get("corruption"), baseline=args.baseline,
                         data_dir=given.get("data_dir"), corrupted_from=args.corrupted_from,
                         test_corrupted=args.test_corrupted,
                         severities=args.severity and sorted(set(args.severity)), **named, **work)
