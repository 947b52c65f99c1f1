"""The evaluation of a network on data: cells (`cells.py`) over the images of a `dataset.data.ExperimentData`.

If several processes train together, each rank goes through batches of its own shard of the images. All ranks have the
same number of batches (`dataset.batches.EvaluationBatches`). The results cover the images of all ranks.
"""
import mindspore as ms
import numpy as np

from utils.runtime.device import all_gather_arrays, arithmetic
from corruptions.evaluation.metrics import scores
from utils.metrics import SeverityResult
from utils.runtime import distributed


def describe_network(model, source):
    """Return everything that changes the logits of a network besides its weights and the images, as plain values.

    Args:
        model (str): name of the network, as in `models.find_model`.
        source (ImageDataset): the data set.
    """
    return {"model": model, "classes": source.classes, "mean": list(source.mean), "std": list(source.std),
            **arithmetic()}


def predict(step, batches):
    """Evaluate batches in their order. The results of a rank come before the results of the next rank.

    Args:
        step (EvaluationStep): the cell; set to evaluation mode.
        batches (iterable): tuples of tensors: images, labels, number of images that count.

    Returns:
        tuple of numpy.ndarray: losses float32 (N,), logits float32 (N, K), labels int32 (N,); K is 0 if N is 0.
    """
    step.set_train(False)
    outputs = [[np.empty(0, np.float32)], [], [np.empty(0, np.int32)]]
    for images, labels, count in batches:
        for parts, tensor in zip(outputs, (*step(images, labels), labels), strict=True):
            parts.append(tensor.asnumpy()[:int(count)])
    losses, logits, labels = outputs
    return tuple(all_gather_arrays(np.concatenate(parts))
                 for parts in (losses, logits or [np.empty((0, 0), np.float32)], labels))


def mean_gradient_norm(gradient_norm, batches):
    """Return the norm of the gradient of the mean loss over all images of `batches`.

    Args:
        gradient_norm (GradientNorm): the cell; set to evaluation mode.
        batches (iterable): at least one batch, as in `predict`.

    Returns:
        float
    """
    gradient_norm.set_train(False)
    total = 0
    for k, (images, labels, count) in enumerate(batches):
        real = np.arange(images.shape[0]) < int(count)
        norm = gradient_norm(images, labels, ms.Tensor(real, ms.float32), ms.Tensor(k > 0, ms.float32))
        total += int(count)
    return float(norm) / all_gather_arrays(np.array([total])).sum()


def distribution_gradient_norms(gradient_norm, images, labels, groups):
    """Return for each distribution in a batch the norm of the gradient of its mean loss.

    Args:
        gradient_norm (GradientNorm): the cell; set to evaluation mode.
        images (Tensor): images of the batch, or this rank's shard of them.
        labels (Tensor), groups (numpy.ndarray): int32 (N,), label and distribution of each sample of the whole batch.

    Returns:
        dict: distribution to float.
    """
    gradient_norm.set_train(False)
    norms, local_rows = {}, distributed.rank_slice(len(groups), distributed.rank_and_world_size())
    for s in np.unique(groups):
        members = (groups == s).astype(np.float32)
        norms[int(s)] = float(gradient_norm(images, labels[local_rows],
                                            ms.Tensor((members / members.sum())[local_rows]), ms.Tensor(0, ms.float32)))
    return norms


def evaluate(step, data, part, batch_size, workers, gradient_norm=None, on_severity=lambda: None):
    """Return accuracy and loss at every severity.

    Args:
        step (EvaluationStep): evaluation step of the network.
        data (dataset.data.ExperimentData): data to evaluate on.
        part (str): 'val' or 'test'.
        batch_size (int): images in a batch; does not change the result.
        workers (int): number of threads that prefetch.
        gradient_norm (GradientNorm or None): cell to measure gradient norms, too.
        on_severity (callable): a function without arguments to call after each severity.

    Returns:
        list of SeverityResult: one for each severity.
    """
    results = []
    for severity in range(data.num_severity):
        losses, logits, labels = predict(step, data.evaluation_batches(part, severity, batch_size, workers))
        result = SeverityResult(float("nan"), float("nan"), 0)
        if len(labels):
            norm = None
            if gradient_norm is not None:
                norm = mean_gradient_norm(gradient_norm, data.evaluation_batches(part, severity, batch_size, workers))
            hits = logits.argmax(1) == labels
            result = SeverityResult(float(hits.mean()), float(losses.mean(dtype=np.float64)), len(labels), norm)
        results.append(result)
        on_severity()
    return results


def evaluate_arrays(network, streams):
    """Yield the scores of each of several arrays of images.

    Args:
        network (nn.Cell): images to logits; set to evaluation mode.
        streams (iterable): for each array its batches, as in `predict`; `dataset.pipeline.iterate_arrays` yields them.

    Yields:
        CalibrationScores: scores of one array, as soon as its batches are done.
    """
    network.set_train(False)
    for batches in streams:
        outputs = [(network(images).asnumpy()[:int(count)], labels.asnumpy()[:int(count)])
                   for images, labels, count in batches]
        logits, labels = map(np.concatenate, zip(*outputs, strict=True))
        yield scores(logits, labels)
