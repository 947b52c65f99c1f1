"""Helpers of the tests of the corruption generators."""
import contextlib
import os

import numpy as np
import pytest
from PIL import Image

from corruptions.__main__ import main


def files_below(path):
    return sorted(os.path.relpath(os.path.join(root, file), path) for root, _, files in os.walk(path) for file in files)


def with_records(sets, *more):
    """Sorted names of arrays or folders, of the records beside them of how they were made, and of other files."""
    return sorted([*sets, *(f"{name}.json" for name in sets), *more])


def make_images(path, count, look):
    """Random images of two classes; `look` gives the shape and the suffix of image k. Returns the folder's path."""
    rng = np.random.RandomState(0)
    for k in range(count):
        shape, suffix = look(k)
        below = path / ("ant" if k % 2 else "bee")
        below.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.randint(0, 256, shape).astype(np.uint8)).save(below / f"{k}.{suffix}")
    return str(path)


def contents(path):
    result = {}
    for name in files_below(path):
        with open(os.path.join(path, name), "rb") as file:
            result[name] = file.read()
    return result


def one_line(capsys, argv, status=2):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == status
    [line] = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning:")]
    assert "error: " in line
    return line


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs the rights to act as another user")


@contextlib.contextmanager
def acting_as_nobody():
    """While the body runs, be a user who may read what is open to all, and write nothing."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
