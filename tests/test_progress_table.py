"""The table on the terminal: what its numbers are, and that it fits into 80 columns."""
import numpy as np
import pytest

from utils.metrics import SeverityResult
from utils.records.progress_table import SCREENFUL, ProgressTable, short_duration


def results(*accuracies):
    return [SeverityResult(accuracy, 1.0, 0 if np.isnan(accuracy) else 10) for accuracy in accuracies]


def test_a_row_has_clean_worst_and_mean():
    table = ProgressTable(8, 100)
    rows = table.row(2, 0.1, 1.23456, {"val": results(0.9, 0.7, 0.8), "test": results(0.85, 0.5, 0.6)}, True, 7.25, 130)
    *header, row = rows.splitlines()
    assert header[1].index("validation") < header[1].index("test") and "clean worst  mean" in header[2]
    assert row.split() == ["3/8", "0.1", "1.2346", "|", "90.0", "70.0", "80.0*", "|", "85.0", "50.0", "65.0", "|",
                           "725", "2m"]


def test_it_fits_and_repeats_its_header():
    table, full = ProgressTable(1000, 128), results(*[1.0] * 6)
    texts = [table.row(k, 1.234e-5, 123.4567, {"val": full, "test": full}, True, 9999, 1e6)
             for k in range(SCREENFUL + 1)]
    assert max(len(line) for text in texts for line in text.splitlines()) <= 80
    headers = [k for k, text in enumerate(texts) if "epoch" in text]
    assert headers == [0, SCREENFUL]
    pipes = [[k for k, sign in enumerate(line) if sign == "|"] for line in texts[0].splitlines()[1:]]
    assert pipes[1] == pipes[2] and pipes[0] == pipes[1]


def test_missing_images_and_evaluations():
    table = ProgressTable(3, 100)
    table.row(0, 0.1, 1.0, {}, False, None, 0)
    row = table.row(1, 0.1, 1.0, {"val": results(np.nan, np.nan), "test": results(np.nan, 0.5, 0.7)}, False, None, 0)
    assert row.split() == ["2/3", "0.1", "1.0000", "|", "|", "nan", "50.0", "60.0", "|"]


def test_all_severities():
    rows = ProgressTable(3, 100, is_verbose=True).row(0, 0.1, 1.0, {"test": results(0.5, 0.25)}, False, None, 0)
    assert rows.splitlines()[-1].split() == ["test", "50.0", "25.0"]


@pytest.mark.parametrize("seconds, says", [(0.4, "0s"), (99.4, "99s"), (99.6, "2m"), (5950, "99m"), (9000, "2h"),
                                           (1e6, "12d")])
def test_time_is_short(seconds, says):
    assert short_duration(seconds) == says
