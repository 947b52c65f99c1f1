"""Evaluate a comparison under corruptions that its networks were not trained on: unseen.py COMPARISON unseen.csv

A run takes the whole test set of its data. Here the test set may be smaller: `cifar10_from_jpeg.py --num_test 1000`
writes one, and --data_dir names it.
"""
import contextlib
import io
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import utils.runtime.device  # noqa: E402, F401, I001, first: it sets the environment that MindSpore reads

import numpy as np  # noqa: E402

from corruptions import SETS  # noqa: E402
from corruptions.utils.cli import Parser, cpu_count  # noqa: E402
from corruptions.utils.errors import UserError, exit_on_error  # noqa: E402
from corruptions.utils.files import require_writable_file, write_csv  # noqa: E402
from dataset import source_options  # noqa: E402
from losses.evaluation.corruptions import evaluate_run  # noqa: E402
from losses.evaluation.trained_network import find_network  # noqa: E402
from utils.records.reading import read_records  # noqa: E402

SCORES = ("accuracy", "nll", "ece")


def evaluate_copy(record, data_dir):
    """Evaluate a copy of the newest checkpoint of a run. The run's own folder keeps its records.

    Returns:
        dict: content of the JSON file of the evaluation.
    """
    trained, model, dataset = find_network(record.path)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return evaluate_run(shutil.copy(trained.checkpoint, folder), [*SETS["common"], *SETS["bar"]], model=model,
                            dataset=dataset, data_dir=data_dir, num_workers=cpu_count(),
                            **source_options(record.config))


def score_rows(record, evaluation):
    """The rows of the table of a run: a dict for each corruption, with its scores averaged over the severities."""
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
        records, rows = read_records([args.comparison]), []
        if len({record.setting for record in records}) > 1:
            raise UserError(f"{args.comparison}: has several data sets, corruptions or networks; name a comparison of "
                            "one")
        require_writable_file("FILE", args.output)
        for record in records:
            print(record.path, flush=True)
            rows += score_rows(record, evaluate_copy(record, args.data_dir))
            write_csv(args.output, {column: [row[column] for row in rows] for column in rows[0]})


if __name__ == "__main__":
    main()
