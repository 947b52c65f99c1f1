"""Time a comparison: python tests/benchmarks/compare.py [-m MODEL] [--method METHOD]

Runs of one method with several seeds, as one comparison and as separate commands, in turns, on a small data set of
random images; and how long a command takes up to the end of its first batch, which is what loading and compiling cost.
Prints medians of the wall time, and how many loads and compilations the comparison saves.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402

from corruptions.utils.cli import Parser, positive_int, validated_by  # noqa: E402
from losses.methods import METHODS  # noqa: E402
from models import find_model  # noqa: E402
from tests.cifar_files import make_cifar  # noqa: E402


def seconds(*options, until=None):
    """Wall time of a command line of main.py, or only up to the first line that begins with `until`."""
    started = time.monotonic()
    with subprocess.Popen([sys.executable, os.path.join(ROOT, "main.py"), *options], stdout=subprocess.PIPE,
                          text=True) as process:
        noted = [time.monotonic() for line in process.stdout if until and line.startswith(until)]
    if process.returncode:
        sys.exit(f"main.py {' '.join(options)}: exit status {process.returncode}")
    return (noted or [time.monotonic()])[0] - started


def main():
    parser = Parser(prog="compare.py", description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", type=validated_by(find_model), default="wideresnet10", help="network")
    parser.add_argument("--method", choices=list(METHODS), default="sharpdro", help="method of all runs")
    parser.add_argument("--seeds", type=positive_int, default=3, help="runs in the comparison")
    parser.add_argument("--total_epoch", type=positive_int, default=5, help="epochs of a run")
    parser.add_argument("--runs", type=positive_int, default=3, help="rounds")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        make_cifar(folder, per_class=(100, 5))
        same = ["-m", args.model, "--method", args.method, "--recipe", "sharpdro", "--data_dir", folder, "-n", "80",
                "-b", "100", "--log_dir", os.path.join(folder, "logs"), "--save_last"]
        epochs = ["--total_epoch", str(args.total_epoch), "--eval_every", str(args.total_epoch)]
        seconds(*same, "--total_epoch", "1", "-b", "760")  # makes the corrupted images
        rounds = []
        for k in range(args.runs):
            rounds.append((
                seconds(*same, *epochs, "--seed", *map(str, range(args.seeds)), "--desc", f"round{k}"),
                sum(seconds(*same, *epochs, "--seed", str(seed)) for seed in range(args.seeds)),
                seconds(*same, "--total_epoch", "2", "--eval_every", "2", "-n", "13", until="epoch 0")))
    together, apart, start = (statistics.median(item) for item in zip(*rounds, strict=True))
    print(f"{args.seeds} runs of {args.method} with {args.model}: {together:.1f} s as a comparison, {apart:.1f} s "
          f"apart; {together / apart:.2f} of it")
    print(f"loading, compiling and one batch take {start:.1f} s; the comparison saves {(apart - together) / start:.2f} "
          f"times that, for {args.seeds - 1} loads and compilations")


if __name__ == "__main__":
    main()
