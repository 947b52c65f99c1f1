"""Train and evaluate: python main.py --num_severity 6 -c gaussian_noise -d cifar10"""
import resource
import time

import numpy as np
from tqdm import tqdm

from utils.device import MINDSPORE_VERSION, TARGETS, set_up_device
from corruptions import CORRUPTIONS
from dataset import SOURCES
from dataset.corrupted import load_corrupted
from dataset.pipeline import SAMPLINGS, EvaluationBatches, TrainBatches, batches, release_pages
from dataset.poisson import write_split
from dataset.prepare_dataset import counts_table, sample_split
from losses.methods import METHODS, add_method_arguments, create_step, resolve
from losses.step import EvaluationStep
from models import MODELS, create_model
from utils import cli
from utils.checkpoint import save_checkpoint
from utils.errors import UserError
from utils.figures import plot_accuracy_by_severity
from utils.files import write_json
from utils.logs import EvaluationLog, RunFolder, TrainLog
from utils.schedule import set_learning_rate, step_schedule


def parse_args(argv=None):
    parser = cli.Parser(prog="main.py", description="Train an image classifier on photon-limited corruptions, most "
                        "images clean and few severely corrupted, and measure its accuracy at every severity.")
    cli.add_data_arguments(parser, sorted(SOURCES), list(CORRUPTIONS))
    parser.add_argument("--split", metavar="FILE", default=None,
                        help="table of severities to use instead of drawing one: split.csv of an earlier run or of "
                             "dataset/prepare_dataset.py")
    parser.add_argument("--augment_data", action="store_true",
                        help="besides flipping, crop training images at random after padding by 1/8")
    parser.add_argument("-m", "--model", choices=sorted(MODELS), default="wideresnet",
                        help="network; wideresnet is WRN-28-2, wideresnet10 is WRN-10-1, for CPUs")
    parser.add_argument("--sampling", choices=SAMPLINGS, default="uniform",
                        help="training images are drawn with equal chance, or every distribution is")
    add_method_arguments(parser)
    parser.add_argument("--total_epoch", type=cli.positive_int, default=200, help="epochs")
    parser.add_argument("-b", "--batch_size", type=cli.positive_int, default=100, help="training images in a batch")
    parser.add_argument("--lr", type=cli.positive_float, default=0.1,
                        help="initial learning rate, times 0.2 at 30, 60 and 80 %% of the epochs")
    parser.add_argument("--momentum", type=cli.fraction, default=0.9, help="momentum of SGD")
    parser.add_argument("--nesterov", action="store_true", help="Nesterov's momentum, as in the DAMP paper")
    parser.add_argument("--weight_decay", type=cli.non_negative_float, default=5e-4, help="l2 penalty on all weights")
    parser.add_argument("--eval_batch_size", type=cli.positive_int, default=128,
                        help="images in a batch of an evaluation")
    parser.add_argument("--eval_every", type=cli.positive_int, default=1, metavar="N",
                        help="evaluate after every N-th epoch, and after the last")
    parser.add_argument("--log_dir", default="./logs", help="folder for the folders of runs")
    parser.add_argument("--desc", default="none", help="first part of the name of the run's folder")
    parser.add_argument("--log_train", type=cli.positive_int, default=100, metavar="N",
                        help="write a row of train.csv at every N-th batch of an epoch")
    parser.add_argument("--save_step", type=cli.positive_int, default=50, metavar="N",
                        help="keep a checkpoint after the first epoch and every N-th after it")
    parser.add_argument("--save_last", action="store_true", help="renew last_model.ckpt after every epoch")
    parser.add_argument("--save_best", action="store_true",
                        help="renew best_model.ckpt when the mean validation accuracy over severities rises")
    parser.add_argument("--device_target", choices=("auto", *TARGETS), default="auto",
                        help="device; auto takes the best that is there")
    return parser.parse_args(argv)


def train_epoch(step, loader, steps, epoch, args, train_log):
    """Take one epoch's batches from `loader`; return their mean loss.

    Raises:
        UserError: the loss is no longer finite.
    """
    total = 0.0
    hidden = False if args.show_progress else None
    with tqdm(total=steps, desc=f"epoch {epoch}", unit=" steps", leave=False, disable=hidden) as bar:
        for batch in range(steps):
            images, labels, groups = next(loader)
            losses, logits, perturbed_losses, norm, _ = step.run_batch(images, labels, groups)
            if not np.isfinite([losses.sum(), perturbed_losses.sum(), norm]).all():
                raise UserError(f"the loss is not finite at step {batch} of epoch {epoch}; lower --lr or --rho "
                                "(checkpoints of earlier epochs are kept)")
            total += losses.mean()
            bar.set_postfix(loss=f"{total / (batch + 1):.3f}", refresh=False)
            bar.update()
            if batch % args.log_train == 0:
                hits = logits.argmax(1) == labels.asnumpy()
                train_log.write_batch(epoch, batch, losses, hits, groups.asnumpy(), norm, step, args.weight_decay)
    return total / steps


def evaluate(step, images, labels, indices, source, args):
    """Accuracy (0..1), mean loss and number of images at each severity of `images`, over the images at `indices`."""
    results = []
    step.set_train(False)
    for array in images:
        data = EvaluationBatches(array, labels, indices, source.mean, source.std, args.eval_batch_size)
        losses, hits = [], []
        for batch, batch_labels, count in batches(data, args.num_workers):
            batch_losses, batch_hits = step(batch, batch_labels)
            losses.append(batch_losses.asnumpy()[:int(count)])
            hits.append(batch_hits.asnumpy()[:int(count)])
        release_pages(array)
        if hits:
            hits, losses = np.concatenate(hits), np.concatenate(losses)
            results.append((float(hits.mean()), float(losses.mean(dtype=np.float64)), len(hits)))
        else:
            results.append((float("nan"), float("nan"), 0))
    return results


def run_title(args):
    """The method's name, or the pair that replaces it."""
    method = METHODS[args.method]
    if (args.objective, args.perturbation) == (method.objective, method.perturbation):
        return args.method
    return f"{args.objective} x {args.perturbation}"


def percentages(results):
    return " ".join(f"{100 * accuracy:5.1f}" for accuracy, _, _ in results)


def run(args):
    resolve(args)
    if args.batch_size % args.num_sub_batches:
        raise UserError(f"--num_sub_batches {args.num_sub_batches}: does not divide -b {args.batch_size}; "
                        "choose a divisor")
    cli.require_writable_folder("--log_dir", args.log_dir)
    device = set_up_device(args.device_target, args.seed)

    source = SOURCES[args.dataset](args.data_dir)
    split = sample_split(args, source.labels["train"])
    if args.batch_size > sum(split.counts):
        raise UserError(f"-b {args.batch_size}: the training set has only {sum(split.counts)} images; "
                        "give a smaller batch or a larger -n")
    images = load_corrupted(args.data_dir, source, args.corruption, args.num_severity, args.num_workers,
                            args.show_progress)

    folder = RunFolder(args.log_dir, f"{args.desc}_dset{args.dataset}_sever{args.num_severity}_corr{args.corruption}_"
                       f"{run_title(args).replace(' x ', '-')}_{args.model}_seed{args.seed}")
    write_json(folder.file("config.json"), {**vars(args), "device": device, "mindspore": MINDSPORE_VERSION})
    write_split(folder.file("split.csv"), split, source.labels["train"])
    folder.log(counts_table(split))

    steps = sum(split.counts) // args.batch_size
    network = create_model(args.model, source.classes)
    step = create_step(args, network, args.num_severity)
    evaluation = EvaluationStep(network)
    data = TrainBatches(images["train"], source.labels["train"], split, source.mean, source.std, args.batch_size,
                        range(steps * args.total_epoch), args.seed, args.augment_data, args.sampling)
    loader = batches(data, args.num_workers)
    train_log = TrainLog(folder.file("train.csv"), args.num_severity)
    logs = {part: EvaluationLog(folder, part, args.num_severity) for part in ("val", "test")}
    parts = {"val": (images["train"], source.labels["train"], split.validation),
             "test": (images["test"], source.labels["test"], np.arange(len(source.labels["test"])))}

    best, started, results = -1.0, time.time(), {}
    for epoch in range(args.total_epoch):
        rate = step_schedule(args.lr, epoch, args.total_epoch)
        set_learning_rate(step.optimizer, rate)
        step.set_train()
        loss = train_epoch(step, loader, steps, epoch, args, train_log)
        message = f"epoch {epoch}  lr {rate:.4g}  loss {loss:.4f}"
        last = epoch + 1 == args.total_epoch
        if last or (epoch + 1) % args.eval_every == 0:
            for part, (part_images, labels, indices) in parts.items():
                results[part] = evaluate(evaluation, part_images, labels, indices, source, args)
                logs[part].write(epoch, steps, results[part])
                message += f"  {part} {percentages(results[part])}"
            mean = np.mean([accuracy for accuracy, _, _ in results["val"]])
            if args.save_best and mean > best:
                best = mean
                save_checkpoint(step, folder.file("best_model.ckpt"))
        folder.log(f"{message}  {time.time() - started:.0f} s")
        if epoch % args.save_step == 0:
            save_checkpoint(step, folder.file(f"{epoch}_model.ckpt"))
        if args.save_last:
            save_checkpoint(step, folder.file("last_model.ckpt"))

    report(folder, args, split, results, time.time() - started)


def report(folder, args, split, results, seconds):
    """Write `results.json` and the figure; print the table of accuracy per severity."""
    title = run_title(args)
    write_json(folder.file("results.json"), {
        "train_images": split.counts, "epochs": args.total_epoch, "seconds": round(seconds, 1),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20, 2),
        **{part: {"accuracy": [r[0] for r in rows], "loss": [r[1] for r in rows], "images": [r[2] for r in rows]}
           for part, rows in results.items()}})
    plot_accuracy_by_severity(folder.file("accuracy_by_severity.png"), [r[0] for r in results["test"]], split.counts,
                              f"{title} on {args.dataset}, {args.corruption.replace('_', ' ')}")
    table = ["", "severity  training images  test accuracy"]
    table += [f"{s:8d}  {count:15d}  {100 * result[0]:11.2f} %"
              for s, (count, result) in enumerate(zip(split.counts, results["test"], strict=True))]
    folder.log("\n".join(table))
    print(f"\nresults are in {folder.path}")


def main(argv=None):
    args = parse_args(argv)
    with cli.one_line_errors("main.py"):
        run(args)


if __name__ == "__main__":
    main()
