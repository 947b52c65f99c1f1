"""Evaluations of one network, or of the networks of all runs of a comparison."""
import os

from corruptions.utils.errors import FAILURES, UserError, reason_of
from corruptions.utils.signals import defer_signals
from losses.evaluation.corruptions import evaluate_run
from utils.records.reading import is_finished, planned_runs, read_record, require_not_failed
from utils.reports.summary import write_evaluation_table


@defer_signals()
def evaluate_runs(path, **options):
    """Evaluate a network, or the networks of all runs of a comparison.

    In a comparison, a run that fails does not stop the other runs.

    Args:
        path (str): as in `evaluate_run`, or the folder of a comparison.
        options: further options of `evaluate_run`.

    Returns:
        bool: whether all evaluations succeeded.

    Raises:
        UserError: as in `evaluate_run`, for a single network.
        Interrupted: a signal has stopped the evaluation between two batches; stored evaluations are not repeated.
    """
    baseline = options.get("baseline")
    done, runs = evaluate_each(path, lambda run: evaluate_run(run, **options), baseline)
    if done and runs != [path]:
        evaluated = [run for run in runs if run in done]
        records, evaluations = [read_record(run) for run in evaluated], [done[run] for run in evaluated]
        print("\n" + write_evaluation_table(path, records, evaluations))
    return len(done) == len(runs)


def evaluate_each(path, evaluate, baseline=None):
    """Evaluate a network, or the networks of all runs of a comparison, of which one that fails does not stop others.

    Args:
        path (str): as in `evaluate_runs`.
        evaluate (callable): function from the path of a network to its result.
        baseline (str or None): run that goes first.

    Returns:
        tuple: the networks that were evaluated, a dict of paths to results; the list of all paths.

    Raises:
        UserError: the evaluation of a single network has failed.
    """
    runs = planned_runs(path)
    if runs == [path]:
        return {path: evaluate(path)}, runs
    done, is_other = {}, lambda run: baseline is None or os.path.realpath(run) != os.path.realpath(baseline)
    for number, run in enumerate(sorted(runs, key=is_other), 1):
        print(f"\nrun {number} of {len(runs)}: {run}", flush=True)
        try:
            require_not_failed(run)
            if not is_finished(run):
                raise UserError(f"{run}: this run has not ended; resume it with the command of the comparison")
            done[run] = evaluate(run)
        except FAILURES as error:
            print(f"failed: {reason_of(error)}", flush=True)
    return done, runs
