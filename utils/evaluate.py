"""From a network and data to numbers. They come as cells (`losses/evaluation.py`) and as `dataset.data.Data`."""
import mindspore as ms
import numpy as np

from utils.metrics import Result, scores


def predict(step, batches):
    """Evaluate batches, in their order.

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
    return np.concatenate(losses), np.concatenate(logits or [np.empty((0, 0), np.float32)]), np.concatenate(labels)


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
    for images, labels, count in batches:
        real = np.arange(images.shape[0]) < int(count)
        norm = gradient_norm(images, labels, ms.Tensor(real, ms.float32), ms.Tensor(total > 0, ms.float32))
        total += int(count)
    return float(norm) / total


def distribution_gradient_norms(gradient_norm, images, labels, groups):
    """For each distribution in a batch the norm of the gradient of its mean loss.

    Args:
        gradient_norm (GradientNorm): is put into evaluation mode.
        images, labels (Tensor): the batch.
        groups (numpy.ndarray): int32 (N,), distribution of each sample.

    Returns:
        dict: distribution to float.
    """
    gradient_norm.set_train(False)
    norms = {}
    for s in np.unique(groups):
        members = (groups == s).astype(np.float32)
        norms[int(s)] = float(gradient_norm(images, labels, ms.Tensor(members / members.sum()),
                                            ms.Tensor(0, ms.float32)))
    return norms


def evaluate(step, data, part, batch_size, workers, gradient_norm=None):
    """Accuracy and loss at every severity.

    Args:
        step (EvaluationStep): of the network.
        data (dataset.data.Data): what it is evaluated on.
        part (str): 'val' or 'test'.
        batch_size (int): images in a batch; does not change the result.
        workers (int): threads that read ahead.
        gradient_norm (GradientNorm or None): to measure gradient norms, too.

    Returns:
        list of Result: one for each severity.
    """
    results = []
    for severity in range(data.num_severity):
        losses, logits, labels = predict(step, data.evaluation_batches(part, severity, batch_size, workers))
        if len(labels) == 0:
            results.append(Result(float("nan"), float("nan"), 0))
            continue
        norm = None
        if gradient_norm is not None:
            norm = mean_gradient_norm(gradient_norm, data.evaluation_batches(part, severity, batch_size, workers))
        hits = logits.argmax(1) == labels
        results.append(Result(float(hits.mean()), float(losses.mean(dtype=np.float64)), len(labels), norm))
    return results


def evaluate_arrays(network, streams):
    """Scores of each of several arrays of images.

    Args:
        network (nn.Cell): images to logits; is put into evaluation mode.
        streams (iterable): for each array its batches, as for `predict`; `dataset.pipeline.array_by_array` gives them.

    Yields:
        Scores: of one array, as soon as its batches are done.
    """
    network.set_train(False)
    for batches in streams:
        found = [(network(images).asnumpy()[:int(count)], labels.asnumpy()[:int(count)])
                 for images, labels, count in batches]
        logits, labels = map(np.concatenate, zip(*found, strict=True))
        yield scores(logits, labels)
