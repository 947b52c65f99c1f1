"""Files that are whole or not there: written under a temporary name, then renamed."""
import contextlib
import csv
import json
import os

PARTIAL = ".partial"  # in the name of every file that is not whole yet


@contextlib.contextmanager
def naming(path):
    """Give an error of the file system that names no file, such as a full disk, the name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextlib.contextmanager
def replacing(path):
    """Give the body a temporary path beside `path`; rename it to `path` if the body succeeds, remove it if not.

    The temporary name keeps the suffix, because libraries choose a format by it. An error of the file system is given
    the name `path` where it has none.
    """
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{os.getpid()}{PARTIAL}.{name}")
    try:
        with naming(path):
            yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def write_json(path, value):
    """Write `value` as indented JSON, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def write_csv(path, columns):
    """Write a table as CSV, whole or not at all.

    Args:
        path (str): file name.
        columns (dict): name to a sequence of values, all of one length.
    """
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
