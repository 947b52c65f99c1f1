"""main.py that is killed (SIGKILL) at one place: python tests/killed_main.py PLACE COUNT ARGUMENTS

PLACE is where, and COUNT how often the program comes there before: 'checkpoint', with half of the file written; 'copy',
between a checkpoint and its copies; 'row', in the midst of a row of a CSV file; 'results', before the last file; 'npy',
in the midst of the pixels of a .npy file, which is a process of its own if there are several.
"""
import os
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import main  # noqa: E402
from corruptions.jobs import arrays  # noqa: E402
from losses.training import run  # noqa: E402
from utils.records import checkpoint, logs  # noqa: E402


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_checkpoint(original, values, path, **options):
    original(values, path, **options)
    os.truncate(path, os.path.getsize(path) // 2)
    killed()


def half_a_row(original, log, row):
    log._file.write("1,2,0.")
    log._file.flush()
    killed()


def half_of_the_pixels(original, images, part, *args):
    first = part.start or 0
    original(images, slice(first, first + 7), *args)
    killed()


PLACES = {"checkpoint": (checkpoint.ms, "save_checkpoint", half_a_checkpoint),
          "copy": (checkpoint.Checkpoints, "finish_and_prune", lambda *_, **__: killed()),
          "row": (logs.CSVLog, "write", half_a_row),
          "results": (run, "report_results", lambda *_: killed()),
          "npy": (arrays, "_corrupt_into", half_of_the_pixels)}


def kill_at(place, count):
    """Have the program killed when it has come to a place so many times."""
    owner, name, end = PLACES[place]
    original, left = getattr(owner, name), [count]

    def counted(*args, **options):
        left[0] -= 1
        return end(original, *args, **options) if left[0] < 0 else original(*args, **options)
    setattr(owner, name, counted)


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]))
    main.main(sys.argv[3:])
