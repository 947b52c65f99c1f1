"""Train and evaluate: python main.py --num_severity 6 -c gaussian_noise -d cifar10"""
import argparse
import contextlib
import os
import sys
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from tqdm import tqdm

from utils.device import TARGETS, set_seed, set_up_device
from corruptions import CORRUPTIONS
from dataset import SOURCES
from dataset.corrupted import load_corrupted
from dataset.pipeline import EvaluationBatches, TrainBatches, batches, release_pages
from dataset.poisson import Split, write_split
from dataset.prepare_dataset import counts_table, sample_split
from dataset.source import Source
from losses.methods import DATA, METHODS, OBJECTIVES, create_step
from losses.options import add_method_arguments, add_training_arguments, resolve, title
from losses.stage_one import ENVIRONMENTS, error_set, infer_environments
from losses.step import EvaluationStep, GradientNorm
from models import MODELS, create_model
from utils import cli
from utils.checkpoint import Checkpoints, load_checkpoint, newest_checkpoint
from utils.errors import UserError
from utils.logs import EvaluationLog, RunFolder, TrainLog, new_folder
from utils.metrics import Result
from utils.report import Cost, percentages, report_found, report_results
from utils.schedule import SCHEDULES, set_learning_rate
from utils.settings import resumed_settings, write_settings


def create_parser():
    parser = cli.Parser(prog="main.py", description="Train an image classifier on photon-limited corruptions, most "
                        "images clean and few severely corrupted, and measure its accuracy at every severity.")
    cli.add_data_arguments(parser, sorted(SOURCES), list(CORRUPTIONS))
    parser.add_argument("--split", metavar="FILE", default=None,
                        help="table of severities to use instead of drawing one: split.csv of an earlier run or of "
                             "dataset/prepare_dataset.py")
    parser.add_argument("--augment_data", action="store_true",
                        help="besides flipping, crop training images at random after padding by 1/8")
    parser.add_argument("--aug_corruption", choices=list(CORRUPTIONS), metavar="NAME", default=None,
                        help="corruption of half of every batch in method corrupt_aug, on top of the one that an image "
                             "has (default: that of -c)")
    parser.add_argument("-m", "--model", choices=sorted(MODELS), default="wideresnet",
                        help="network; wideresnet is WRN-28-2, wideresnet10 is WRN-10-1, for CPUs")
    add_method_arguments(parser)
    add_training_arguments(parser)
    parser.add_argument("--eval_batch_size", type=cli.positive_int, default=128,
                        help="images in a batch of an evaluation")
    parser.add_argument("--eval_every", type=cli.positive_int, default=1, metavar="N",
                        help="evaluate after every N-th epoch, and after the last")
    parser.add_argument("--log_dir", default="./logs", help="folder for the folders of runs")
    parser.add_argument("--desc", default="none", help="first part of the name of the run's folder")
    parser.add_argument("--log_train", type=cli.positive_int, default=100, metavar="N",
                        help="write a row of train.csv at every N-th batch of an epoch")
    parser.add_argument("--record_norm", action="store_true",
                        help="measure the norm of the loss's gradient at each severity (gradnorm_k in the CSV files), "
                             "which makes evaluations take about four times as long")
    parser.add_argument("--save_step", type=cli.positive_int, default=50, metavar="N",
                        help="keep a checkpoint after the first epoch and every N-th after it")
    parser.add_argument("--save_last", action="store_true",
                        help="renew last_model.ckpt after every epoch, so that --resume loses at most one")
    parser.add_argument("--save_best", action="store_true",
                        help="renew best_model.ckpt when the mean validation accuracy over severities rises")
    parser.add_argument("--resume", metavar="FOLDER", default=None,
                        help="go on with the run in FOLDER from its newest checkpoint; its settings are those of the "
                             "run and need not be given again")
    parser.add_argument("--device_target", choices=("auto", *TARGETS), default="auto",
                        help="device; auto takes the best that is there")
    return parser


@dataclass(frozen=True)
class Data:
    """What a run trains and is evaluated on: clean images, who is corrupted how much, and the corrupted images."""

    source: Source
    split: Split
    images: dict  # as `load_corrupted` returns


def train_epoch(step, loader, steps, epoch, args, train_log, gradient_norm=None):
    """Take one epoch's batches from `loader`; return their mean loss. A `GradientNorm` is asked where a row is logged.

    Raises:
        UserError: the loss is no longer finite.
    """
    total = 0.0
    hidden = False if args.show_progress else None
    with tqdm(total=steps, desc=f"epoch {epoch}", unit=" steps", leave=False, disable=hidden) as bar:
        for batch in range(steps):
            images, labels, groups, severities = next(loader)
            is_logged = batch % args.log_train == 0
            norms = {}
            if is_logged and gradient_norm is not None:
                norms = distribution_gradient_norms(gradient_norm, images, labels, severities.asnumpy())
                step.set_train()
            losses, logits, perturbed_losses, norm, _ = step.run_batch(images, labels, groups)
            if not np.isfinite([losses.sum(), perturbed_losses.sum(), norm]).all():
                raise UserError(f"the loss is not finite at step {batch} of epoch {epoch}; lower --lr, or --rho "
                                "or the weight of a penalty (checkpoints of earlier epochs are kept)")
            total += losses.mean()
            bar.set_postfix(loss=f"{total / (batch + 1):.3f}", refresh=False)
            bar.update()
            if is_logged:
                hits = logits.argmax(1) == labels.asnumpy()
                train_log.write_batch(epoch, batch, losses, hits, severities.asnumpy(), norm, norms, step,
                                      args.weight_decay)
    return total / steps


def distribution_gradient_norms(gradient_norm, images, labels, severities):
    """For each distribution in a batch the norm of the gradient of its mean loss (a `GradientNorm`), as a dict."""
    gradient_norm.set_train(False)
    norms = {}
    for s in np.unique(severities):
        members = (severities == s).astype(np.float32)
        norms[int(s)] = float(gradient_norm(images, labels, ms.Tensor(members / members.sum()),
                                            ms.Tensor(0, ms.float32)))
    return norms


def predict(step, images, labels, indices, source, args):
    """Losses float32 (N,) and logits float32 (N, K) of an `EvaluationStep` for the `images` at `indices`, in order."""
    step.set_train(False)
    data = EvaluationBatches(images, labels, indices, source.mean, source.std, args.eval_batch_size)
    losses, logits = [np.empty(0, np.float32)], [np.empty((0, source.classes), np.float32)]
    for batch, batch_labels, count in batches(data, args.num_workers):
        batch_losses, batch_logits = step(batch, batch_labels)
        losses.append(batch_losses.asnumpy()[:int(count)])
        logits.append(batch_logits.asnumpy()[:int(count)])
    release_pages(images)
    return np.concatenate(losses), np.concatenate(logits)


def mean_gradient_norm(gradient_norm, images, labels, indices, source, args):
    """The norm of the gradient of the mean loss over the `images` at `indices`, by a `GradientNorm`."""
    gradient_norm.set_train(False)
    data = EvaluationBatches(images, labels, indices, source.mean, source.std, args.eval_batch_size)
    norm = None
    for batch, batch_labels, count in batches(data, args.num_workers):
        shares = (np.arange(args.eval_batch_size) < int(count)) / len(indices)
        norm = gradient_norm(batch, batch_labels, ms.Tensor(shares, ms.float32),
                             ms.Tensor(norm is not None, ms.float32))
    release_pages(images)
    return float(norm)


def evaluate(step, data, part, args, gradient_norm=None):
    """A `Result` at each severity of 'val' or 'test', with a gradient norm if there is a `GradientNorm`."""
    source = data.source
    kind, indices = ("train", data.split.validation) if part == "val" else ("test", np.arange(len(source.labels[part])))
    labels = source.labels[kind]
    results = []
    for images in data.images[kind]:
        losses, logits = predict(step, images, labels, indices, source, args)
        hits = logits.argmax(1) == labels[indices]
        if len(hits) == 0:
            results.append(Result(float("nan"), float("nan"), 0))
            continue
        norm = None
        if gradient_norm is not None:
            norm = mean_gradient_norm(gradient_norm, images, labels, indices, source, args)
        results.append(Result(float(hits.mean()), float(losses.mean(dtype=np.float64)), len(hits), norm))
    return results


def run(args, given):
    """Train, or go on with a run, and report; `given` are the options that the command line names."""
    with contextlib.ExitStack() as stack:
        if args.resume is None:
            resolve(args, given)
            args.aug_corruption = args.aug_corruption or args.corruption
            cli.require_writable_folder("--log_dir", args.log_dir)
        else:
            folder = stack.enter_context(RunFolder(args.resume))
        device = set_up_device(args.device_target)
        data = load_data(args)
        if args.resume is None:
            method = title(args).replace(" x ", "-").replace(" ", "-")
            name = (f"{args.desc}_dset{args.dataset}_sever{args.num_severity}_corr{args.corruption}_{method}_"
                    f"{args.model}_seed{args.seed}")
            folder = stack.enter_context(RunFolder(new_folder(args.log_dir, name)))
            write_split(folder.file("split.csv"), data.split, data.source.labels["train"])
            write_settings(folder.file("config.json"), args, given, device)
        folder.log(counts_table(data.split))
        train(args, folder, data, **treatment(args, folder, data))
        print(f"\nresults are in {folder.path}")


def load_data(args):
    """The images that a run needs, and who is corrupted how much.

    Raises:
        UserError: options that the data do not allow, or files that are damaged.
    """
    source = SOURCES[args.dataset](args.data_dir)
    split = sample_split(args, source.labels["train"])
    if args.batch_size > sum(split.counts):
        raise UserError(f"-b {args.batch_size}: the training set has only {sum(split.counts)} images; "
                        "give a smaller batch or a larger -n")
    if args.save_best and len(split.validation) == 0:
        raise UserError("--save_best: no image is left for validation; leave it out, or give a --split that has some")
    if args.stage_one is not None:
        load_checkpoint(create_model(args.model, source.classes), args.stage_one)  # to find a wrong one now
    images = load_corrupted(args.data_dir, source, args.corruption, args.num_severity, args.num_workers,
                            args.show_progress)
    return Data(source, split, images)


def treatment(args, folder, data):
    """How the method treats the training data: keyword arguments of `TrainBatches`, some after its stage one."""
    kind, split = METHODS[args.method].data, data.split
    # An objective that does without the distributions is not told of them.
    treated = {} if OBJECTIVES[args.objective].reads_groups else {"groups": np.zeros_like(split.severities)}
    if kind == "half_corrupted":
        treated["corruption"] = args.aug_corruption
    elif kind == "error_set":
        logits, labels = stage_one_logits(args, folder, data)
        found = error_set(logits, labels)
        report_found(folder, kind, "error", split, labels, found)
        if not found.any():
            print("warning: the first model makes no error, so that jtt is erm; fewer --stage_one_epochs leave some",
                  file=sys.stderr)
        treated["repeats"] = np.where(found, args.jtt_lambda, 1)
    elif kind == "environments":
        logits, labels = stage_one_logits(args, folder, data)
        probability = infer_environments(logits, labels, args.seed)
        found = probability > 0.5
        report_found(folder, kind, "environment_1", split, labels, found, probability=probability)
        treated["groups"] = found.astype(np.int32)
    return treated


def stage_one_logits(args, folder, data):
    """Logits of the first model for the training images, each at its severity, float32 (n, K), and their labels; the
    model is read from `--stage_one`, or trained with ERM in the folder `stage_one` of the run.
    """
    checkpoint = args.stage_one
    if checkpoint is None:
        first = argparse.Namespace(**{
            **vars(args), "method": "erm", "objective": "mean", "perturbation": "none", "num_sub_batches": 1,
            "total_epoch": args.stage_one_epochs, "eval_every": args.stage_one_epochs, "save_last": True})
        with RunFolder(folder.file("stage_one")) as first_folder:
            checkpoint = first_folder.file("last_model.ckpt")
            folder.log(f"stage one: erm, {args.stage_one_epochs} epochs")
            train(first, first_folder, data, **treatment(first, first_folder, data))
    network = create_model(args.model, data.source.classes)
    load_checkpoint(network, checkpoint)
    step, labels = EvaluationStep(network), data.source.labels["train"]
    logits = [predict(step, images, labels, indices, data.source, args)[1]
              for images, indices in zip(data.images["train"], data.split.train, strict=True)]
    return np.concatenate(logits), labels[data.split.indices]


def train(args, folder, data, **treatment):
    """Train a network, from the newest checkpoint in the folder if there is one, and report; `treatment` goes to
    `TrainBatches`.
    """
    source, split = data.source, data.split
    set_seed(args.seed)  # the initial weights do not depend on what was trained before
    network = create_model(args.model, source.classes)
    sets_groups = DATA[METHODS[args.method].data].sets_groups
    step = create_step(args, network, ENVIRONMENTS if sets_groups else args.num_severity)
    evaluation = EvaluationStep(network)
    gradient_norm = GradientNorm(network) if args.record_norm else None
    checkpoint = newest_checkpoint(folder.path)
    start = load_checkpoint(step, checkpoint) if checkpoint else 0
    if start == args.total_epoch and os.path.exists(folder.file("results.json")):
        folder.log(f"{folder.path}: all {start} epochs are done, results.json is left as it is")
        return
    cost = Cost(folder.file("cost.json"), start > 0)
    train_log = TrainLog(folder.file("train.csv"), args.num_severity, start, ENVIRONMENTS if sets_groups else 0)
    logs = {part: EvaluationLog(folder, part, args.num_severity, start) for part in ("val", "test")}
    best, best_epoch = logs["val"].best()
    checkpoints = Checkpoints(folder.path, args.save_step, args.save_last)
    if start:
        checkpoints.complete(checkpoint, start - 1, args.save_best and best_epoch == start - 1)
        folder.log(f"resumed after epoch {start - 1}, from {checkpoint}")

    steps = sum(split.counts) // args.batch_size
    train_batches = TrainBatches(data.images["train"], source.labels["train"], split, source.mean, source.std,
                                 args.batch_size, range(steps * start, steps * args.total_epoch), args.seed,
                                 args.augment_data, args.sampling, **treatment)
    loader = batches(train_batches, args.num_workers)
    results = {}
    for epoch in range(start, args.total_epoch):
        rate = SCHEDULES[args.schedule](args.lr, epoch, args.total_epoch)
        set_learning_rate(step.optimizer, rate)
        step.set_train()
        loss = train_epoch(step, loader, steps, epoch, args, train_log, gradient_norm)
        message = f"epoch {epoch}  lr {rate:.4g}  loss {loss:.4f}"
        is_best = False
        if epoch + 1 == args.total_epoch or (epoch + 1) % args.eval_every == 0:
            for part, log in logs.items():
                results[part] = evaluate(evaluation, data, part, args, gradient_norm)
                log.write(epoch, steps, results[part])
                message += f"  {part} {percentages(results[part])}"
            mean = np.mean([result.accuracy for result in results["val"]])
            is_best = args.save_best and mean > best
            best = max(best, mean)
        folder.log(f"{message}  {cost.so_far()['seconds']:.0f} s")
        if checkpoints.due(epoch, is_best):
            for log in (train_log, *logs.values()):
                log.sync()
            checkpoints.save(step, epoch, is_best)
            cost.save()
    if not results:  # killed after the last checkpoint
        results = {part: evaluate(evaluation, data, part, args) for part in logs}
    report_results(folder, args, title(args), split, results, cost)


def main(argv=None):
    parser = create_parser()
    args, given = cli.parse(parser, argv)
    with cli.one_line_errors("main.py"):
        if args.resume is not None:
            args = resumed_settings(args.resume, args, given)
        run(args, given)


if __name__ == "__main__":
    main()
