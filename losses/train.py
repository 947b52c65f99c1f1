"""The epoch loop. It stands beside the step, because it is what the step is called by, and takes batches and records as
they come, so that it knows neither data sets nor files.
"""
import time

import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.evaluate import distribution_gradient_norms
from utils.records.report import duration
from utils.schedule import set_learning_rate

PACE_STEPS = 5


def train_epoch(step, loader, batches, epoch, records, schedule, weight_decay, decayed, gradient_norm=None, guide=None,
                show_progress=False):
    """Take one epoch's steps.

    Args:
        step (TrainStep): what takes a step.
        loader (iterator): tuples of tensors: images, labels, groups, severities.
        batches (int): how many of them are an epoch.
        epoch (int): its number, from 0.
        records (RunRecords): writes rows of `train.csv`.
        schedule (callable): numbers of an epoch and of a batch in it, from 0, to the learning rate of the step.
        weight_decay (float), decayed (tuple of bool): for these rows; which of the step's weights it is for.
        gradient_norm (GradientNorm or None): measures gradient norms for these rows.
        guide (Guide or None): moves the weights over distributions.
        show_progress (bool): show the progress bar even where the output is no terminal.

    Returns:
        float: mean loss of the first pass over all batches.

    Raises:
        UserError: the loss is no longer finite.
    """
    step.set_train()
    total, rate = 0.0, None
    hidden = False if show_progress else None
    with tqdm(total=batches, desc=f"epoch {epoch}", unit=" steps", leave=False, disable=hidden) as bar:
        for batch in range(batches):
            images, labels, groups, severities = next(loader)
            if rate != (rate := schedule(epoch, batch)):
                set_learning_rate(step.optimizer, rate)
            if guide is not None and guide.is_due(epoch * batches + batch):
                guide(epoch * batches + batch)
                step.set_train()
            norms = {}
            if gradient_norm is not None and records.is_logged(batch):
                norms = distribution_gradient_norms(gradient_norm, images, labels, severities.asnumpy())
                step.set_train()
            losses, logits, perturbed_losses, norm, _ = step.run_batch(images, labels, groups)
            if not np.isfinite([losses.sum(), perturbed_losses.sum(), norm]).all():
                raise UserError(f"the loss is not finite at step {batch} of epoch {epoch}; lower --lr, or --rho "
                                "or the weight of a penalty (checkpoints of earlier epochs are kept)")
            total += losses.mean()
            bar.set_postfix(loss=f"{total / (batch + 1):.3f}", refresh=False)
            bar.update()
            if records.is_logged(batch):
                hits = logits.argmax(1) == labels.asnumpy()
                records.train_log.write_batch(epoch, batch, losses, hits, severities.asnumpy(), norm, norms, step,
                                              weight_decay, decayed)
    return total / batches


def note_pace(loader, steps, log):
    """Pass on the batches for so many steps; after the first few say so if all will take more than a day."""
    for k, batch in enumerate(loader):
        if k == 1:  # the first also compiled the graph
            started = time.monotonic()
        elif k == 1 + PACE_STEPS:
            seconds = (time.monotonic() - started) / PACE_STEPS * steps
            if seconds > 24 * 3600:
                log(f"at the pace of the first steps this run takes {duration(seconds)} and more; a smaller network, "
                    "fewer epochs, or a faster device make it shorter")
        yield batch


def fit(step, loader, batches, total_epoch, schedule, records, evaluation, sharpness=(None, None), **epoch_options):
    """Train from the epoch that the records have come to up to the last, and evaluate.

    Args:
        step, loader, batches, records: as of `train_epoch`; the loader begins with the first batch that is to be taken.
        total_epoch (int): number of epochs, those done before included.
        schedule (callable): as of `train_epoch`.
        evaluation (tuple): callable that gives 'val' and 'test' to a list of `Result`; after how many epochs it is
            called again, and after the last.
        sharpness (tuple): callable that gives what `RunRecords.end_epoch` takes; when it is called, as above, or None.
        epoch_options: further arguments of `train_epoch`.

    Returns:
        dict: the last evaluation.
    """
    def due(epoch, every):
        return epoch + 1 == total_epoch or (epoch + 1) % every == 0
    evaluate, eval_every = evaluation
    measure_sharpness, sharpness_every = sharpness
    loader = note_pace(loader, batches * (total_epoch - records.start), records.folder.log)
    results = {}
    for epoch in range(records.start, total_epoch):
        loss = train_epoch(step, loader, batches, epoch, records, schedule, **epoch_options)
        results = evaluate() if due(epoch, eval_every) else {}
        risen = measure_sharpness() if sharpness_every and due(epoch, sharpness_every) else None
        records.end_epoch(epoch, total_epoch, batches, schedule(epoch, batches - 1), loss, results, risen)
    return results or evaluate()  # all epochs were done when the run was killed
