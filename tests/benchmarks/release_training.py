"""Train the authors' code beside ours: release_training.py --release CLONE --release_python PYTHON

Both train SharpDRO with WRN-28-1 on CIFAR-10, from the same initial weights and with the same batches in the same
order. The authors' Trainer, optimiser and network run in a process of their own, whose Python has torch. The script
compares the curves of loss and of the weights q, and the test accuracy at every severity, over several seeds. It
prints a table, and writes every run's accuracy, the curves and a figure to --output.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

import utils.runtime.device  # noqa: E402, F401, I001, first: it sets the environment that MindSpore reads

import subprocess  # noqa: E402
import tempfile  # noqa: E402

import mindspore as ms  # noqa: E402
import numpy as np  # noqa: E402

from dataset.data import load_data  # noqa: E402
from dataset.batches import EvaluationBatches, TrainBatches  # noqa: E402
from losses import create_step  # noqa: E402
from losses.evaluation.cells import EvaluationStep  # noqa: E402
from models.torch_names import torch_name  # noqa: E402
from models.wideresnet import WideResNet  # noqa: E402
from corruptions.utils.cli import Parser, positive_int, cpu_count  # noqa: E402
from corruptions.utils.files import require_writable_folder  # noqa: E402
from losses.evaluation.predict import predict  # noqa: E402
from utils.figures.style import legend_below, line_styles, save, subplots  # noqa: E402
from corruptions.utils.files import write_csv  # noqa: E402
from losses.schedules import set_learning_rate, step_schedule  # noqa: E402

LR, BATCH = 0.1, 100


def write_inputs(folder, data, network, seed, steps, number):
    """Leave what both need: initial weights, batches, test images of every severity, as .npy files."""
    np.savez(os.path.join(folder, "weights.npz"), **{torch_name(p.name): p.asnumpy() for p in network.get_parameters()})
    source, split = data.source, data.split
    batches = TrainBatches(data.images["train"], source.labels["train"], split, source.mean, source.std, BATCH,
                           range(steps), seed)
    columns = zip(*(batches[k] for k in range(steps)), strict=True)
    for name, arrays in zip(("images", "labels", "groups"), columns, strict=False):
        np.save(os.path.join(folder, f"{name}.npy"), np.stack(arrays))
    labels = source.labels["test"]
    chosen = np.linspace(0, len(labels) - 1, number).round().astype(int)
    tests = [EvaluationBatches(images, labels, chosen, source.mean, source.std, number)[0][0]
             for images in data.images["test"]]
    np.save(os.path.join(folder, "test_images.npy"), np.stack(tests))
    np.save(os.path.join(folder, "test_labels.npy"), labels[chosen])


def train_ours(folder, network, epochs, num_groups):
    """Train on what `write_inputs` has left; curves as the authors' worker gives them."""
    images, labels, groups = (np.load(os.path.join(folder, f"{name}.npy"), mmap_mode="r")
                              for name in ("images", "labels", "groups"))
    step = create_step(network, "sharpdro", num_groups, lr=LR)
    losses, weights = [], []
    for k in range(len(images)):
        set_learning_rate(step.optimizer, step_schedule(LR, k * epochs // len(images), epochs))
        first, *_ = step.train_batch(*(ms.Tensor(array[k]) for array in (images, labels, groups)))
        losses.append(first.mean())
        weights.append(step.objective.group_weights.adv_probs.asnumpy().copy())
    tests, test_labels = (np.load(os.path.join(folder, f"test_{name}.npy")) for name in ("images", "labels"))
    evaluation = EvaluationStep(network)
    accuracies = []
    for severity in tests:
        parts = range(0, len(severity), BATCH)
        batches = [(ms.Tensor(severity[k:k + BATCH]), ms.Tensor(test_labels[k:k + BATCH]), ms.Tensor(BATCH))
                   for k in parts]
        accuracies.append((predict(evaluation, batches)[1].argmax(1) == test_labels).mean())
    return {"loss": np.array(losses), "q": np.array(weights), "accuracy": np.array(accuracies)}


def train_release(folder, python, clone, epochs, num_groups):
    """Have the authors' code train on what `write_inputs` has left."""
    subprocess.run([python, os.path.join(ROOT, "tests", "benchmarks", "release_trainer.py"), clone, folder, str(epochs),
                    str(num_groups), str(LR)], check=True)
    with np.load(os.path.join(folder, "release.npz")) as result:
        return dict(result)


def write(curves, folder):
    """Write release.csv, the test accuracy of every run in percent, and release_curves.csv, means over seeds.

    `curves` has, for "release" and "ours", `loss` [seeds, batches], `q` [seeds, batches, severities] and `accuracy`
    [seeds, severities] in 0..1. Of the curves the largest difference of a seed is written, too.
    """
    seeds, severities = curves["ours"]["accuracy"].shape
    accuracy = np.concatenate([values["accuracy"] for values in curves.values()])
    write_csv(os.path.join(folder, "release.csv"), {
        "program": np.repeat(list(curves), seeds), "seed": [*range(seeds)] * len(curves),
        **{f"severity_{s}": (100 * accuracy[:, s]).round(2) for s in range(severities)}})
    apart = {key: np.abs(curves["ours"][key] - curves["release"][key]).max(0) for key in ("loss", "q")}
    write_csv(os.path.join(folder, "release_curves.csv"), {
        "batch": range(len(apart["loss"])),
        **{f"{name}_loss": values["loss"].mean(0) for name, values in curves.items()},
        **{f"{name}_q_{s}": values["q"].mean(0)[:, s] for name, values in curves.items() for s in range(severities)},
        "largest_loss_difference": apart["loss"], "largest_q_difference": apart["q"].max(1)})


def summary(curves):
    """Lines with mean and standard deviation of the accuracy of every severity, and how far the curves are apart."""
    release, ours = (100 * curves[name]["accuracy"] for name in ("release", "ours"))
    for s, (a, b) in enumerate(zip(release.T, ours.T, strict=True)):
        yield (f"severity {s}: release {a.mean():.2f} ± {a.std(ddof=1):.2f}, "
               f"ours {b.mean():.2f} ± {b.std(ddof=1):.2f}; "
               f"ours less release {(b - a).mean():+.2f}, standard error {(b - a).std(ddof=1) / len(a) ** 0.5:.2f}")
    apart = [curves["ours"][key] - curves["release"][key] for key in ("loss", "q")]
    first, means = [np.abs(each[:, :10]).max() for each in apart], [np.abs(each.mean(0)).max() for each in apart]
    yield (f"largest difference in the first 10 batches: loss {first[0]:.1e}, q {first[1]:.1e}; of the means over "
           f"seeds in all: loss {means[0]:.3f}, q {means[1]:.4f}")


def draw(curves, path):
    """Curves of loss and q, mean over seeds, both programs in one panel each."""
    figure, (top, bottom) = subplots(2, height=3.2, sharex=True)
    styles = line_styles(range(curves["ours"]["q"].shape[-1]))
    for name, line in (("release", "-"), ("ours", ":")):
        top.plot(curves[name]["loss"].mean(0), linestyle=line, label=name, color="black")
        for s, look in styles.items():
            bottom.plot(curves[name]["q"].mean(0)[:, s], color=look["color"], linestyle=line,
                        label=f"severity {s}" if name == "release" else None)
    top.set(ylabel="training loss")
    bottom.set(ylabel="weights q", xlabel="batch")
    top.legend(frameon=False)
    legend_below(figure, bottom)
    save(figure, path)


def main():
    parser = Parser(prog="release_training.py", description=__doc__.splitlines()[0])
    parser.add_argument("--release", required=True, help="clone of zhuohuangai/SharpDRO")
    parser.add_argument("--release_python", default="python3", help="Python interpreter that has torch")
    parser.add_argument("--data_dir", default="./data", help="folder that holds CIFAR-10")
    parser.add_argument("-c", "--corruption", default="gaussian_noise", help="corruption")
    parser.add_argument("-n", type=positive_int, default=250, help="training images of each class")
    parser.add_argument("--total_epoch", type=positive_int, default=6, help="epochs")
    parser.add_argument("--seeds", type=positive_int, default=10, help="seeds, from 0")
    parser.add_argument("--test_images", type=positive_int, default=2000,
                        help=f"of each severity, a multiple of {BATCH}")
    parser.add_argument("--output", default="./logs/release", help="folder for table, curves and figure")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error("--seeds: deviations need two at least")
    if args.test_images % BATCH:
        parser.error(f"--test_images: {args.test_images} is not a multiple of {BATCH}")

    require_writable_folder("--output", args.output)
    runs = {"release": [], "ours": []}
    for seed in range(args.seeds):
        data = load_data("cifar10", args.data_dir, args.corruption, 6, seed, args.n, workers=cpu_count())
        ms.set_seed(seed)
        network = WideResNet(28, 1, 10)
        steps = sum(data.split.counts) // BATCH * args.total_epoch
        with tempfile.TemporaryDirectory() as folder:
            write_inputs(folder, data, network, seed, steps, args.test_images)
            runs["release"].append(train_release(folder, args.release_python, args.release, args.total_epoch, 6))
            runs["ours"].append(train_ours(folder, network, args.total_epoch, 6))
        for name, subset in runs.items():
            print(f"seed {seed}, {name}: accuracy " + " ".join(f"{100 * a:.1f}" for a in subset[-1]["accuracy"]),
                  flush=True)
        result = {name: {key: np.stack([run[key] for run in subset]) for key in subset[0]}
                  for name, subset in runs.items()}
        write(result, args.output)
    draw(result, os.path.join(args.output, "release"))
    print("\n".join(summary(result)))


if __name__ == "__main__":
    main()
