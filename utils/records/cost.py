"""Time and memory of a run, and the text of numbers in its log."""
import contextlib
import time

from corruptions.utils.files import read_json, write_json


def reset_peak_memory():
    """Make `peak_memory` count from now on, if the system supports it."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_memory():
    """Return the largest resident memory of this process since `reset_peak_memory`, in GiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2 ** 20


class ResourceUsage:
    """Time and memory of a run, over all its sessions.

    A run that is stopped and resumed has several sessions. Time and memory that this process used before the run are
    not counted.

    Args:
        path (str): JSON file that keeps the numbers between sessions.
        resumed (bool): whether to continue from the numbers in the file.
        first_path (str or None): JSON file with the numbers of a training that was a part of the run before its first
            session; without effect if it is missing.
    """

    def __init__(self, path, resumed, first_path=None):
        self.path = path
        self._started = time.monotonic()
        reset_peak_memory()
        before = read_json(path if resumed else first_path or "")
        self._before = {name: before[name] if isinstance(before, dict) and type(before.get(name)) in (int, float) else 0
                        for name in ("seconds", "peak_memory_gib")}

    @property
    def session_seconds(self):
        """Duration of this session alone, in seconds."""
        return time.monotonic() - self._started

    def totals(self):
        """Return a dict of `seconds` and `peak_memory_gib`.

        The latter is the largest resident memory of this process, without the processes that read files.
        """
        return {"seconds": round(self._before["seconds"] + self.session_seconds, 1),
                "peak_memory_gib": round(max(self._before["peak_memory_gib"], peak_memory()), 2)}

    def save(self):
        """Write the numbers that a later session starts from. This is called with each checkpoint."""
        write_json(self.path, self.totals())


def duration(seconds):
    """Return a time as text, such as '2 h 5 min'."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return " ".join(f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if n)


def percentages(results):
    """Return accuracies in percent on one line. `results` has a `SeverityResult` for each severity."""
    return " ".join(f"{100 * result.accuracy:5.1f}" for result in results)
