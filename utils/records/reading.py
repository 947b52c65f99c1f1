"""Reading what runs have left."""
import csv
import os
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError
from utils.files import read_json


@dataclass(frozen=True)
class Record:
    """What a run that has ended has left.

    Attributes:
        path (str): its folder.
        name (str): its row in a comparison, or its method.
        config, results (dict): content of `config.json` and `results.json`.
    """

    path: str
    name: str
    config: dict
    results: dict

    @property
    def setting(self):
        """Data set, corruption and number of severities."""
        return tuple(self.config[option] for option in ("dataset", "corruption", "num_severity"))

    def table(self, name):
        """The columns of a CSV file of the run, float64 arrays, nan where a cell is empty.

        Raises:
            UserError: it is not there, or is no table of numbers.
        """
        path = os.path.join(self.path, name)
        try:
            with open(path, newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file)
            cells = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(len(rows), len(header))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: missing or damaged; name another run, or run this one again") from error
        return dict(zip(header, cells.T, strict=True))


def read_record(path, name=None):
    """Read a run's folder; `name` as in `Record`.

    Raises:
        UserError: it is no folder of a run that has ended.
    """
    config, results = (read_json(os.path.join(path, file)) for file in ("config.json", "results.json"))
    if config is None:
        raise UserError(f"{path}: not the folder of a run, which has a config.json; name LOG_DIR/NAME")
    if results is None:
        raise UserError(f"{path}: this run has not ended; go on with main.py --resume {path}")
    return Record(path, name or config.get("title", config["method"]), config, results)


def ended_runs(path):
    """The runs of a comparison that have ended, pairs of folder and name; of any other folder itself, and None.

    Raises:
        UserError: none of them has ended.
    """
    planned = read_json(os.path.join(path, "comparison.json"))
    if planned is None:
        return [(path, None)]
    runs = [(os.path.join(path, run["folder"]), run["name"]) for run in planned]
    ended = [run for run in runs if os.path.exists(os.path.join(run[0], "results.json"))]
    if not ended:
        raise UserError(f"{path}: none of its runs has ended; go on with its command")
    return ended


def read_records(paths, shared=("dataset", "corruption", "num_severity")):
    """Read runs, and those of comparisons that have ended.

    Args:
        paths (list of str): folders of runs or comparisons.
        shared (tuple of str): settings that must be the same for all of them.

    Returns:
        list of Record

    Raises:
        UserError: a folder is neither, none of a comparison's runs has ended, or the runs are of different data.
    """
    records = [read_record(*run) for path in paths for run in ended_runs(path)]
    first, *others = [[str(record.config[option]) for option in shared] for record in records]
    for record, setting in zip(records[1:], others, strict=True):
        if setting != first:
            raise UserError(f"{record.path}: its data ({', '.join(setting)}) are not those of "
                            f"{records[0].path} ({', '.join(first)}); draw them apart")
    return records


def first_of_each_name(records):
    """The first record of each name."""
    return list({record.name: record for record in reversed(records)}.values())[::-1]
