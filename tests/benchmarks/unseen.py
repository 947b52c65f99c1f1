"""Evaluate a comparison under corruptions that its networks were not trained on: unseen.py COMPARISON unseen.csv

A run takes the whole test set of its data. Here the test set may be smaller: `cifar10_from_jpeg.py --num_test 1000`
writes one, and --data_dir names it.
"""
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import utils.runtime.device  # noqa: E402, F401, I001, first: it sets the environment that MindSpore reads

import numpy as np  # noqa: E402

from corruptions import SETS  # noqa: E402
from corruptions.utils.cli import Parser, cpu_count, exit_on_error  # noqa: E402
from corruptions.utils.errors import UserError  # noqa: E402
from corruptions.utils.files import write_csv  # noqa: E402
from losses.evaluation.corruptions import evaluate_run  # noqa: E402
from utils.records.reading import is_finished, planned_runs, read_record  # noqa: E402
from utils.records.trained import find_trained  # noqa: E402

SCORES = ("accuracy", "nll", "ece")


def evaluate_copy(run, data_dir):
    """Evaluate a copy of the newest checkpoint of a run. The run's own folder keeps its records.

    Returns:
        dict: content of the JSON file of the evaluation.
    """
    trained = find_trained("COMPARISON", run)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(trained.checkpoint, folder)
        return evaluate_run(copy, [*SETS["common"], *SETS["bar"]], model=trained.config["model"],
                            dataset=trained.config["dataset"], data_dir=data_dir, num_workers=cpu_count())


def score_rows(run, evaluation):
    """The rows of the table of a run: a dict for each corruption, with its scores averaged over the severities."""
    record = read_record(run)
    cells = {"none": {score: [evaluation["clean"][score]] for score in SCORES}, **evaluation["corrupted"]}
    return [{"method": record.name, "seed": record.config["seed"], "corruption": name,
             **{score: round(float(np.mean(scores[score])), 6) for score in SCORES}} for name, scores in cells.items()]


def main(argv=None):
    parser = Parser(prog="unseen.py", description="Evaluate a comparison under common corruptions and those of C-bar.")
    parser.add_argument("comparison", metavar="COMPARISON", help="folder of a comparison")
    parser.add_argument("output", metavar="FILE", help="CSV file to write")
    parser.add_argument("--data_dir", default="./data", metavar="FOLDER", help="folder of the data (default: ./data)")
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog):
        rows = []
        for run in filter(is_finished, planned_runs(args.comparison)):
            print(run)
            rows += score_rows(run, evaluate_copy(run, args.data_dir))
        if not rows:
            raise UserError(f"{args.comparison}: no run has ended; give the command of the comparison again")
        write_csv(args.output, {column: [row[column] for row in rows] for column in rows[0]})


if __name__ == "__main__":
    main()
