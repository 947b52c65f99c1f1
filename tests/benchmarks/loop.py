"""Time that the epoch loop adds to the steps: python tests/benchmarks/loop.py [-m MODEL] [--method METHOD]

Times epochs of the real loop, with random images that are read and corrupted arrays as those of CIFAR-10, rows of
`train.csv` and all, and as many steps on one batch that stays in memory, in turns; prints the median ratio.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

from utils.runtime.device import set_up_device  # noqa: E402, I001, first: it sets the environment that MindSpore reads

import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402

from dataset.data import load_data  # noqa: E402
from losses.methods import METHODS  # noqa: E402
from losses.config.resolve import resolve  # noqa: E402
from losses.config.settings import RunConfig  # noqa: E402
from losses.training.step_cache import StepCache  # noqa: E402
from losses.training.loop import train_epoch  # noqa: E402
from models import find_model  # noqa: E402
from tests.cifar_files import make_cifar  # noqa: E402
from corruptions.utils.cli import Parser, validated_by, positive_int, cpu_count  # noqa: E402
from utils.records.checkpoint import Progress  # noqa: E402
from utils.records.logs import RunFolder  # noqa: E402
from utils.records.run import RunRecorder  # noqa: E402


def main():
    parser = Parser(prog="loop.py", description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", type=validated_by(find_model), default="wideresnet10", help="network")
    parser.add_argument("--method", choices=METHODS, default="erm", help="method")
    parser.add_argument("--steps", type=positive_int, default=20, help="steps of an epoch, of 100 images each")
    parser.add_argument("--log_train", type=positive_int, default=10, help="steps from one row of train.csv to another")
    parser.add_argument("--runs", type=positive_int, default=9, help="epochs")
    args = parser.parse_args()
    set_up_device("auto")

    method = resolve(args.method, recipe="sharpdro", batch_size=100)
    with tempfile.TemporaryDirectory() as folder, RunFolder(os.path.join(folder, "run")) as run_folder:
        make_cifar(folder, per_class=(20 * args.steps, 1))
        data = load_data("cifar10", folder, "gaussian_noise", 6, 0, num_per_class=11 * args.steps, num_val=1)
        _, step, _, _ = StepCache().get(RunConfig(method, model=args.model), 10, data.split.counts)
        records = RunRecorder(run_folder, step, 6, args.steps, log_train=args.log_train, keep_last=1, save_step=1)
        batch = next(data.train_batches(100, range(1), 0, 1))[:3]

        def loop(epoch):
            steps = range(args.steps * epoch, args.steps * (epoch + 1))
            loader = data.train_batches(100, steps, 0, cpu_count())
            train_epoch(step, loader, args.steps, Progress(epoch), records, lambda *_: 0.1)

        def bare(_):
            for _ in range(args.steps):
                step.train_batch(*batch)
        seconds = {bare: [], loop: []}
        for epoch in range(args.runs + 1):
            for kind, result in seconds.items():
                start = time.perf_counter()
                kind(epoch)
                if epoch:  # the first one also compiles
                    result.append((time.perf_counter() - start) / args.steps)
        records.close()
    ratios = [ours / alone for alone, ours in zip(*seconds.values(), strict=True)]
    print(f"{args.model}, {args.method}, seconds a step: bare {statistics.median(seconds[bare]):.4f}, loop "
          f"{statistics.median(seconds[loop]):.4f}, ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to "
          f"{max(ratios):.3f})")


if __name__ == "__main__":
    main()
