"""Corruptions of inputs as multiplicative perturbations of weights, on a small perceptron (Trinh 2024, section 2).

A perceptron of H layers without biases maps x to logits: f(0) = x, z(h) = W(h) f(h-1), f(h) = tanh(z(h)), and the
logits are z(H). A corruption g shifts the outputs of a layer by df(h) = f(h)(g(x)) - f(h)(x). The paper's Lemma 1
bounds the shift of the loss by the first-order term <grad_z(h+1) l, W(h+1) df(h)>, and Eq. 14 gives factors xi of the
weights that have the same first-order effect, averaged over layers. All is float64 numpy.
"""
from dataclasses import dataclass

import numpy as np

from corruptions import CORRUPTIONS, corrupt
from corruptions.evaluation.metrics import log_softmax
from corruptions.utils.errors import UserError
from dataset import load_source, source_options
from dataset.batches import normalise

STEPS, LEARNING_RATE, HIDDEN = 300, 0.01, (32, 32)
SEVERITY = 3
XI_IMAGES, XI_SIDE = 1000, 64  # images of a figure; their longest side, in pixels
BETAS, EPS = (0.9, 0.999), 1e-8  # of Adam


@dataclass(frozen=True)
class Perceptron:
    """A perceptron. Layers count from 1, as in the paper, and `weights[h - 1]` is W(h).

    Attributes:
        weights (list of numpy.ndarray): float64 (outputs, inputs) of each layer.
    """

    weights: list

    def outputs(self, images):
        """Return f(0), ..., f(H-1) and the logits for images (N, D), a list of H + 1 arrays (N, width)."""
        layers = [images]
        for weight in self.weights[:-1]:
            layers.append(np.tanh(layers[-1] @ weight.T))
        return [*layers, layers[-1] @ self.weights[-1].T]

    def losses(self, images, labels):
        """Return the cross-entropy of each image, (N,), in nats."""
        return -log_softmax(self.outputs(images)[-1])[np.arange(len(labels)), labels]

    def gradients(self, images, labels):
        """Return the gradients of each image's loss by z(1), ..., z(H), a list of arrays (N, width)."""
        layers = self.outputs(images)
        off = np.exp(log_softmax(layers[-1]))
        off[np.arange(len(labels)), labels] -= 1
        found = [off]
        for weight, layer in zip(self.weights[:0:-1], layers[-2:0:-1], strict=True):
            found.append(found[-1] @ weight * (1 - layer ** 2))
        return found[::-1]

    def times(self, factors):
        """Return the perceptron with the weights W(h) * factors[h - 1]."""
        return Perceptron([weight * factor for weight, factor in zip(self.weights, factors, strict=True)])


def train_perceptron(images, labels, classes, hidden=HIDDEN, steps=STEPS):
    """Return a `Perceptron` that has been trained on images (N, D) and labels int (N,), by Adam on all images."""
    rng = np.random.default_rng(0)
    widths = (images.shape[1], *hidden, classes)
    weights = [rng.standard_normal((after, before)) / np.sqrt(before)
               for before, after in zip(widths, widths[1:], strict=False)]
    moments = [[np.zeros_like(weight) for weight in weights] for _ in BETAS]
    for step in range(1, steps + 1):
        perceptron = Perceptron(weights)
        off, layers = perceptron.gradients(images, labels), perceptron.outputs(images)
        for h, weight in enumerate(weights):
            gradient = off[h].T @ layers[h] / len(labels)
            for moment, beta, power in zip(moments, BETAS, (1, 2), strict=True):
                moment[h] += (1 - beta) * (gradient ** power - moment[h])
            first, second = (moment[h] / (1 - beta ** step) for moment, beta in zip(moments, BETAS, strict=True))
            weight -= LEARNING_RATE * first / (np.sqrt(second) + EPS)
    return Perceptron(weights)


def first_order_shifts(perceptron, images, corrupted, labels):
    """Return the first term of Lemma 1 for each layer h = 0, ..., H-1 and each image, (H, N).

    It is <grad_z(h+1) l, W(h+1) df(h)>, the change of the loss to first order in the shift of the outputs f(h).

    Args:
        perceptron (Perceptron): the network.
        images, corrupted (numpy.ndarray): (N, D), x and g(x).
        labels (numpy.ndarray): int (N,).
    """
    clean, shifted = perceptron.outputs(images), perceptron.outputs(corrupted)
    return np.array([(gradient * ((after - before) @ weight.T)).sum(axis=1) for gradient, before, after, weight in
                     zip(perceptron.gradients(images, labels), clean, shifted, perceptron.weights, strict=False)])


def weight_factors(perceptron, images, corrupted, labels):
    """Return xi(h), the factors of the weights for a corruption (Eq. 14), a list of arrays with the weights' shapes.

    xi(h) = 1 + 1/H (sum_k grad_z(h) l_k df(h-1)_k) / (sum_k grad_z(h) l_k f(h-1)_k), element by element, and 1 where
    the denominator, the gradient of the loss by the weight, is 0. Arguments are as in `first_order_shifts`.
    """
    clean, shifted = perceptron.outputs(images), perceptron.outputs(corrupted)
    factors = []
    for gradient, before, after in zip(perceptron.gradients(images, labels), clean, shifted, strict=False):
        numerator, denominator = gradient.T @ (after - before), gradient.T @ before
        ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
        factors.append(1 + ratio / len(perceptron.weights))
    return factors


def measure_corruptions(train, test, classes, mean, std, severity=SEVERITY):
    """Measure what each corruption does to the loss of a perceptron that is trained on clean images.

    Args:
        train, test (tuple): images, uint8 (N, H, W, 3), and labels, int (N,).
        classes (int): number of classes.
        mean, std (tuple of float): normalisation, as in `ImageDataset`.
        severity (int): severity of the corruptions, 1 to 5.

    Returns:
        dict: `clean`, the mean loss on the test images; and for each corruption a list of three mean losses: on the
        corrupted images; to first order in the shifts, averaged over layers (Lemma 1); and on clean images with the
        weights times xi (Theorem 1).
    """
    def flat(images):
        return normalise(images, mean, std).reshape(len(images), -1).astype(np.float64)
    perceptron = train_perceptron(flat(train[0]), train[1], classes)
    images, labels = flat(test[0]), test[1]
    clean = float(perceptron.losses(images, labels).mean())
    found = {"clean": clean, "corruptions": {}}
    for name in CORRUPTIONS:
        corrupted = flat(corrupt(test[0], name, severity))
        first = first_order_shifts(perceptron, images, corrupted, labels).mean()
        perturbed = perceptron.times(weight_factors(perceptron, images, corrupted, labels))
        found["corruptions"][name] = [float(perceptron.losses(corrupted, labels).mean()), float(clean + first),
                                      float(perturbed.losses(images, labels).mean())]
    return found


def measure_xi(records, data_dir=None, images=XI_IMAGES):
    """Return the result of `measure_corruptions` for the data set of the first run, whose network is not used.

    Args:
        images (int): number of training images, and at most of test images, spread evenly.

    Raises:
        UserError: the images are larger than `XI_SIDE`.
    """
    config = records[0].config
    source = load_source(config["dataset"], data_dir or config["data_dir"], **source_options(config))
    if max(source.image_size) > XI_SIDE:
        raise UserError(f"xi: images of {max(source.image_size)} pixels are too large for its perceptron; name a run "
                        f"with images of at most {XI_SIDE}")
    parts = []
    for part in ("train", "test"):
        labels = source.labels[part]
        chosen = np.linspace(0, len(labels) - 1, min(images, len(labels))).round().astype(int)
        parts.append((source.images[part][chosen], labels[chosen]))
    return measure_corruptions(*parts, source.classes, source.mean, source.std)
