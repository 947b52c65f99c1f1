"""The loss of a sample: the cross-entropy, in training with labels that may be mixed and smoothed."""
import mindspore.nn as nn
import mindspore.ops as ops


def label_logits(logits, labels):
    """Return the logit of each sample's label, float32 (N,)."""
    return ops.gather_elements(logits, 1, labels.reshape((-1, 1))).reshape((-1,))


def log_sum_exp(logits):
    """Return log(sum_k exp(logit_k)) of each sample, float32 (N,).

    `ops.cross_entropy` is not used because it calls `ops.log`. On CPU the last bit of `ops.log` depends on how the work
    was shared out among threads, and so on timing. `ops.log_softmax` is not used because on CPU it is off by 4e-6.
    """
    highest = ops.stop_gradient(ops.amax(logits, 1))
    remainder = ops.exp(logits - highest.reshape((-1, 1))).sum(1) - 1
    return ops.log1p(remainder) + highest


def cross_entropy(logits, labels):
    """Return the cross-entropy of each sample, float32 (N,), from `logits` float32 (N, K) and `labels` int32 (N,)."""
    return log_sum_exp(logits) - label_logits(logits, labels)


class TrainingLoss(nn.Cell):
    """The loss of each sample in training: the cross-entropy, with labels that may be mixed and smoothed.

    Args:
        mixup (float or None): lambda, the weight of the first of two labels of a sample; the second has 1 - lambda
            (Zhang 2018, with a constant lambda as in the DAMP authors' code). None for one label.
        label_smoothing (float or None): share of a label that is spread evenly over all classes (Szegedy 2016).

    Inputs: logits float32 (N, K); labels int32 (N,), or (N, 2) with mixup. Outputs: losses float32 (N,).
    """

    def __init__(self, mixup=None, label_smoothing=None):
        super().__init__()
        self.mixup, self.label_smoothing = mixup, label_smoothing

    def construct(self, logits, labels):
        if self.mixup is None:
            losses = cross_entropy(logits, labels)
        else:
            losses = (self.mixup * cross_entropy(logits, labels[:, 0])
                      + (1 - self.mixup) * cross_entropy(logits, labels[:, 1]))
        if self.label_smoothing is None:
            return losses
        to_all = log_sum_exp(logits) - logits.mean(1)  # the mean cross-entropy of all classes
        return (1 - self.label_smoothing) * losses + self.label_smoothing * to_all
