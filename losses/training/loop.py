"""The epoch loop, which calls the step.

The loop takes batches and records as arguments, so that it depends neither on data sets nor on files.
"""
import contextlib
import time

import numpy as np
from tqdm import tqdm

from utils.runtime.device import max_steps_in_flight, synchronize
from corruptions.utils.signals import Interrupted, raise_if_interrupted
from losses.evaluation.predict import distribution_gradient_norms
from losses.schedules import set_learning_rate
from utils.errors import NotFiniteError
from utils.records.checkpoint import Progress, lasting_parameters
from utils.records.cost import duration

PACE_STEPS = 5
HINT = "lower --lr, or --rho, --step_size or the weight of a penalty (checkpoints of earlier epochs are kept)"


class PendingLosses:
    """Steps with losses that are not read yet, so that the device continues without waiting for the host.

    Args:
        start (Progress): progress before these steps, a part of an epoch.
        scaling (LossScaling or None): the loss scale of mixed precision, in which a step may overflow and is skipped.
    """

    def __init__(self, start, scaling=None):
        self.scaling = scaling
        self.epoch, self.batch, self.loss, self.steps = start.epochs, start.batches, start.loss, []

    def add(self, outs):
        """Add the next step of the epoch (`StepOutputs`)."""
        self.steps.append((outs.losses, outs.perturbed_losses, outs.gradient_norm))

    def read(self):
        """Wait for these steps.

        Returns:
            Progress: the progress including these steps.

        Raises:
            NotFiniteError: a loss is not finite. In mixed precision the first pass has such a loss, or a gradient
                overflowed at loss scale 1.
        """
        hint = HINT if self.scaling is None else f"begin another run without --amp, or {HINT}"
        skipped = None  # the last step whose first pass overflowed
        for outs in self.steps:
            losses, *measures = (out.asnumpy() for out in outs)
            is_finite, *rest = np.isfinite([array.sum() for array in (losses, *measures)])
            if not is_finite or not (all(rest) or self.scaling is not None):
                raise NotFiniteError(f"the loss is not finite at step {self.batch} of epoch {self.epoch}; {hint}")
            skipped = skipped if all(rest) else self.batch
            self.loss += losses.mean()
            self.batch += 1
        self.steps.clear()
        if self.scaling is not None and self.scaling.hopeless_steps.asnumpy() > 0:
            where = f"before step {self.batch}" if skipped is None else f"at step {skipped}"  # in the second pass
            raise NotFiniteError(f"a gradient overflows float16 even at loss scale 1, {where} of epoch {self.epoch}; "
                                 f"{hint}")
        return Progress(self.epoch, self.batch, float(self.loss))


def train_epoch(step, loader, steps_per_epoch, start, records, schedule, gradient_norm=None, reweighter=None,
                show_progress=False):
    """Take the steps of one epoch, or its remaining steps.

    Args:
        step (TrainStep): the train step.
        loader (iterator): tuples of tensors: images, labels, groups, severities.
        steps_per_epoch (int): number of batches in an epoch.
        start (Progress): progress before.
        records (RunRecorder): writer of the rows of `train.csv`, and of checkpoints.
        schedule (callable): numbers of an epoch and of a batch in it, from 0, to the learning rate of the step.
        gradient_norm (GradientNorm or None): measure of gradient norms, for the rows of `train.csv`.
        reweighter (ValidationReweighter or None): mover of the weights over distributions.
        show_progress (bool): whether the progress bar is shown even if the output is not a terminal.

    Returns:
        tuple: `Progress` with all batches of the epoch, and the sum of their mean losses in the first pass; steps per
            second without a first step that compiles, None if there was no other.

    Raises:
        NotFiniteError: the loss is no longer finite, or a weight is not finite when a checkpoint is due.
        Interrupted: a signal has stopped the training; there is a checkpoint.
    """
    epoch, rate, unread, ahead = start.epochs, None, PendingLosses(start, step.scaling), max_steps_in_flight()
    hidden = False if show_progress else None
    steps, started = 0, time.monotonic()
    with tqdm(total=steps_per_epoch, initial=start.batches, desc=f"epoch {epoch + 1}", unit=" steps", leave=False,
              disable=hidden) as bar:
        for batch in range(start.batches, steps_per_epoch):
            images, labels, groups, severities = next(loader)
            if rate != (rate := schedule(epoch, batch)):
                set_learning_rate(step.optimizer, rate)
            if reweighter is not None and reweighter.is_due(epoch * steps_per_epoch + batch):
                reweighter(epoch * steps_per_epoch + batch)
            norms = {}
            if gradient_norm is not None and records.logs_batch(batch):
                norms = distribution_gradient_norms(gradient_norm, images, first_labels(labels), severities.asnumpy())
            is_compiled = step.is_compiled
            outs = step.train_batch_async(images, labels, groups)
            unread.add(outs)
            if is_compiled:
                steps += 1
            else:
                synchronize()
                started = time.monotonic()
            if records.logs_batch(batch) or len(unread.steps) == ahead:
                bar.set_postfix(loss=f"{unread.read().loss / (batch + 1):.3f}", refresh=False)
            bar.update()
            if records.logs_batch(batch):
                hits = outs.logits.asnumpy().argmax(1) == first_labels(labels.asnumpy())
                gradient_norm_of_batch = outs.gradient_norm.asnumpy().mean()
                records.train_log.write_batch(epoch, batch, outs.losses.asnumpy(), hits, severities.asnumpy(),
                                              gradient_norm_of_batch, norms, step)
            if records.saves_batch(batch + 1):
                done = unread.read()
                require_finite_parameters(step, done)
                records.save(done)
            with checkpoint_on_signal(step, records, unread.read):
                raise_if_interrupted()
    done = unread.read()
    return done, steps / (time.monotonic() - started) if steps else None


def first_labels(labels):
    """Return the labels (N,) of samples. With mixup, whose labels are (N, 2), it is the first label of each sample."""
    return labels if labels.ndim == 1 else labels[:, 0]


def require_finite_parameters(step, done):
    """Check that the weights, and all other parameters of a step that a checkpoint holds, are finite.

    Args:
        step (TrainStep): the step to check.
        done (Progress): progress so far, for the error.

    Raises:
        NotFiniteError: a number is infinite or NaN.
    """
    for parameter in lasting_parameters(step):
        if not np.isfinite(parameter.asnumpy()).all():
            raise NotFiniteError(f"{parameter.name} is not finite after {done}; {HINT}")


def require_finite_losses(results, done):
    """Check that the losses of an evaluation are finite, as `require_finite_parameters` does for parameters.

    `results` has 'val' and 'test' to a list of `SeverityResult`.
    """
    for part, rows in results.items():
        for severity, row in enumerate(rows):
            if row.images and not np.isfinite(row.loss):
                raise NotFiniteError(f"the {part} loss at severity {severity} is not finite after {done}; {HINT}")


@contextlib.contextmanager
def checkpoint_on_signal(step, records, done):
    """Write a checkpoint if a signal stops the body, which must not change the trained parameters.

    `done` returns the `Progress`, or raises an error if the trained parameters are not worth saving.
    """
    try:
        yield
    except Interrupted:
        progress = done()
        require_finite_parameters(step, progress)
        path = records.save(progress)
        records.folder.log(f"stopped after {progress}, saved in {path}")
        raise


def warn_if_slow(loader, steps, log):
    """Yield the batches for `steps` steps; after the first few steps, log a note if all will take more than a day."""
    for k, batch in enumerate(loader):
        if k in (1, 1 + PACE_STEPS):
            synchronize()
        if k == 1:  # the first step also compiled the graph
            started = time.monotonic()
        elif k == 1 + PACE_STEPS:
            seconds = (time.monotonic() - started) / PACE_STEPS * steps
            if seconds > 24 * 3600:
                log(f"at the pace of the first steps this run takes {duration(seconds)} and more; a smaller network, "
                    "fewer epochs, or a faster device make it shorter")
        yield batch


def fit(step, loader, steps_per_epoch, total_epoch, schedule, records, evaluate, eval_every, measure_sharpness,
        sharpness_every, **epoch_options):
    """Train from the epoch that the records have reached to the last epoch, and evaluate.

    Args:
        step, loader, steps_per_epoch, records: as in `train_epoch`; the loader begins with the first batch to take.
        total_epoch (int): number of epochs, including epochs done before.
        schedule (callable): as in `train_epoch`.
        evaluate (callable): function that returns 'val' and 'test' to a list of `SeverityResult`.
        eval_every (int): N, to evaluate after every N-th epoch and after the last.
        measure_sharpness (callable): function that returns the sharpness for `RunRecorder.end_epoch`.
        sharpness_every (int or None): N as above, or None for never.
        epoch_options: further arguments of `train_epoch`.

    Returns:
        dict: the last evaluation.
    """
    def due(epoch, every):
        return epoch + 1 == total_epoch or (epoch + 1) % every == 0
    start, results = records.start, {}
    loader = warn_if_slow(loader, steps_per_epoch * (total_epoch - start.epochs) - start.batches, records.folder.log)
    for epoch in range(start.epochs, total_epoch):
        done, steps_per_second = train_epoch(step, loader, steps_per_epoch, start, records, schedule, **epoch_options)
        with checkpoint_on_signal(step, records, lambda done=done: done):
            require_finite_parameters(step, done)
            results = evaluate() if due(epoch, eval_every) else {}
            require_finite_losses(results, done)
            risen = measure_sharpness() if sharpness_every and due(epoch, sharpness_every) else None
        rate, loss = schedule(epoch, steps_per_epoch - 1), done.loss / steps_per_epoch
        records.end_epoch(epoch, total_epoch, rate, loss, results, risen, steps_per_second)
        start = Progress(epoch + 1)
    if not results:  # all epochs were done when the run was killed
        results = evaluate()
        require_finite_losses(results, start)
    return results
