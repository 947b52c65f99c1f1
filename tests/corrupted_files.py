"""What the tests of the corruption generators share."""
import os

import pytest

from corruptions.__main__ import main


def files_below(path):
    return sorted(os.path.relpath(os.path.join(root, file), path) for root, _, files in os.walk(path) for file in files)


def contents(path):
    result = {}
    for name in files_below(path):
        with open(os.path.join(path, name), "rb") as file:
            result[name] = file.read()
    return result


def one_line(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning:")]
    assert "error: " in line
    return line
