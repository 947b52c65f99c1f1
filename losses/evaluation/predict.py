"""From a network and data to numbers: cells (`cells.py`) over the images of a `dataset.data.ExperimentData`.

Where several workers train together, each goes through batches of its own share of the images, all through as many
(`dataset.batches.EvaluationBatches`), and the numbers are of the images of all.
"""
import mindspore as ms
import numpy as np

from utils.runtime.device import all_gather_arrays, arithmetic
from utils.metrics import SeverityResult, scores
from utils.runtime import distributed


def describe_network(model, source):
    """Whatever changes the logits of a network besides its weights and the images; plain values.

    Args:
        model (str): name of the network, as in `models.find_model`.
        source (ImageDataset): the data set.
    """
    return {"model": model, "classes": source.classes, "mean": list(source.mean), "std": list(source.std),
            **arithmetic()}


def predict(step, batches):
    """Evaluate batches, in their order, those of the first worker before those of the next.

    Args:
        step (EvaluationStep): is put into evaluation mode.
        batches (iterable): tuples of tensors: images, labels, number of images that count.

    Returns:
        tuple of numpy.ndarray: losses float32 (N,), logits float32 (N, K), labels int32 (N,); K is 0 where N is 0.
    """
    step.set_train(False)
    found = [[np.empty(0, np.float32)], [], [np.empty(0, np.int32)]]
    for images, labels, count in batches:
        for parts, tensor in zip(found, (*step(images, labels), labels), strict=True):
            parts.append(tensor.asnumpy()[:int(count)])
    losses, logits, labels = found
    return tuple(all_gather_arrays(np.concatenate(parts))
                 for parts in (losses, logits or [np.empty((0, 0), np.float32)], labels))


def mean_gradient_norm(gradient_norm, batches):
    """The norm of the gradient of the mean loss over all images of `batches`, which are as for `predict`.

    Args:
        gradient_norm (GradientNorm): is put into evaluation mode.
        batches (iterable): at least one.

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
    """For each distribution in a batch the norm of the gradient of its mean loss.

    Args:
        gradient_norm (GradientNorm): is put into evaluation mode.
        images (Tensor): the batch, or this worker's share of it.
        labels (Tensor), groups (numpy.ndarray): int32 (N,), of the whole batch; label and distribution of each sample.

    Returns:
        dict: distribution to float.
    """
    gradient_norm.set_train(False)
    norms, own = {}, distributed.rank_slice(len(groups), distributed.rank_and_world_size())
    for s in np.unique(groups):
        members = (groups == s).astype(np.float32)
        norms[int(s)] = float(gradient_norm(images, labels[own], ms.Tensor((members / members.sum())[own]),
                                            ms.Tensor(0, ms.float32)))
    return norms


def evaluate(step, data, part, batch_size, workers, gradient_norm=None):
    """Accuracy and loss at every severity.

    Args:
        step (EvaluationStep): of the network.
        data (dataset.data.ExperimentData): what it is evaluated on.
        part (str): 'val' or 'test'.
        batch_size (int): images in a batch; does not change the result.
        workers (int): threads that read ahead.
        gradient_norm (GradientNorm or None): to measure gradient norms, too.

    Returns:
        list of SeverityResult: one for each severity.
    """
    results = []
    for severity in range(data.num_severity):
        losses, logits, labels = predict(step, data.evaluation_batches(part, severity, batch_size, workers))
        if len(labels) == 0:
            results.append(SeverityResult(float("nan"), float("nan"), 0))
            continue
        norm = None
        if gradient_norm is not None:
            norm = mean_gradient_norm(gradient_norm, data.evaluation_batches(part, severity, batch_size, workers))
        hits = logits.argmax(1) == labels
        results.append(SeverityResult(float(hits.mean()), float(losses.mean(dtype=np.float64)), len(labels), norm))
    return results


def evaluate_arrays(network, streams):
    """Scores of each of several arrays of images.

    Args:
        network (nn.Cell): images to logits; is put into evaluation mode.
        streams (iterable): for each array its batches, as for `predict`; `dataset.pipeline.iterate_arrays` gives them.

    Yields:
        CalibrationScores: of one array, as soon as its batches are done.
    """
    network.set_train(False)
    for batches in streams:
        found = [(network(images).asnumpy()[:int(count)], labels.asnumpy()[:int(count)])
                 for images, labels, count in batches]
        logits, labels = map(np.concatenate, zip(*found, strict=True))
        yield scores(logits, labels)
