"""Corruptions of inputs as perturbations of weights (Trinh 2024, section 2), on a small perceptron in float64."""
import matplotlib.pyplot as plt
import numpy as np
import pytest

from corruptions import CORRUPTIONS, corrupt
from dataset import load_source
from dataset.batches import normalise
from losses.evaluation.input_shifts import (
    SEVERITY,
    Perceptron,
    first_order_shifts,
    measure_corruptions,
    train_perceptron,
    weight_factors,
)
from tests.test_figures import make_run
from utils.figures import FIGURES
from utils.records.reading import read_records


@pytest.fixture(scope="module")
def images():
    """Photographs: uint8 (60, 32, 32, 3), labels, and the normalisation."""
    source = load_source("photos", None)
    return source.images["test"][::17], source.labels["test"][::17], source


def flat(pixels, source):
    return normalise(pixels, source.mean, source.std).reshape(len(pixels), -1).astype(np.float64)


@pytest.fixture(scope="module")
def perceptron(images):
    pixels, labels, source = images
    return train_perceptron(flat(pixels, source), labels, 10, hidden=(12, 8), steps=60)


def test_it_learns_and_its_gradients_are_those_of_differences(images, perceptron):
    pixels, labels, source = images
    x = flat(pixels, source)
    assert perceptron.losses(x, labels).mean() < 0.7 * np.log(10)
    layers, gradients = perceptron.outputs(x), perceptron.gradients(x, labels)
    for h, weight in enumerate(perceptron.weights):
        by_weight = gradients[h].T @ layers[h] / len(labels)
        for place in [(0, 0), (weight.shape[0] - 1, weight.shape[1] - 1), (3, 5)]:
            sides = []
            for shift in (1e-6, -1e-6):
                changed = [value.copy() for value in perceptron.weights]
                changed[h][place] += shift
                sides.append(Perceptron(changed).losses(x, labels).mean())
            assert by_weight[place] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shifts_of_every_corruption(images, perceptron, name):
    """Lemma 1 and Eq. 14, against differences and with a constant in closed form."""
    pixels, labels, source = images
    x, corrupted = flat(pixels, source), flat(corrupt(pixels, name, 3), source)
    first = first_order_shifts(perceptron, x, corrupted, labels)
    clean, shifted = perceptron.outputs(x), perceptron.outputs(corrupted)
    loss = perceptron.losses(x, labels)

    # The first term is the derivative of the loss along the shift of the outputs of each layer.
    for h in range(3):
        rest = Perceptron(perceptron.weights[h:])
        sides = [rest.losses(clean[h] + step * (shifted[h] - clean[h]), labels) for step in (1e-6, -1e-6)]
        np.testing.assert_allclose(first[h], (sides[0] - sides[1]) / 2e-6, rtol=1e-4, atol=1e-6)

    # Lemma 1 for the last hidden layer. The Hessian of the cross-entropy by logits is at most 1/2 (Boehning 1988).
    last = perceptron.weights[-1]
    squares = np.square(shifted[2] - clean[2]).sum(axis=1)
    bound = first[2] + 0.25 * np.linalg.norm(last, 2) ** 2 * squares
    assert (perceptron.losses(corrupted, labels) - loss <= bound + 1e-9).all()
    # Its proof: the shift of a layer is at most that of the layer before times the norm of the weights.
    for h in (1, 2):
        before = np.square(shifted[h - 1] - clean[h - 1]).sum(axis=1)
        assert (np.square(shifted[h] - clean[h]).sum(axis=1)
                <= np.square(perceptron.weights[h - 1]).sum() * before + 1e-9).all()

    # Eq. 11 to 14: towards xi, the loss changes by the first terms of Lemma 1, averaged over layers and images.
    factors = weight_factors(perceptron, x, corrupted, labels)
    gradients = [gradient.T @ layer / len(labels) for gradient, layer in
                 zip(perceptron.gradients(x, labels), clean, strict=False)]
    change = sum((gradient * weight * (factor - 1)).sum() for gradient, weight, factor in
                 zip(gradients, perceptron.weights, factors, strict=True))
    used = sum(((gradient != 0) * weight * (off.T @ (after - before))).sum() / len(labels) / 3
               for gradient, weight, off, before, after in zip(gradients, perceptron.weights, perceptron.gradients(
                   x, labels), clean, shifted, strict=False))
    assert change == pytest.approx(used, rel=1e-6, abs=1e-9)
    assert used == pytest.approx(first.mean(), rel=1e-6, abs=1e-6)


def test_no_shift_has_factors_of_one(images, perceptron):
    pixels, labels, source = images
    x = flat(pixels, source)
    assert all((factor == 1).all() for factor in weight_factors(perceptron, x, x, labels))


def test_the_measurement_of_a_figure(images, tmp_path):
    pixels, labels, source = images
    found = measure_corruptions((pixels[:20], labels[:20]), (pixels, labels), 10, source.mean, source.std)
    assert list(found["corruptions"]) == list(CORRUPTIONS)
    for name in ("fog", "plasma_noise"):
        assert found["corruptions"][name][0] != found["clean"] and len(found["corruptions"][name]) == 3
    flat = [normalise(part, source.mean, source.std).reshape(len(part), -1).astype(np.float64)
            for part in (pixels[:20], pixels, corrupt(pixels, "fog", SEVERITY))]
    perceptron = train_perceptron(flat[0], labels[:20], 10)
    clean, perturbed = perceptron.losses(flat[1], labels).mean(), perceptron.times(
        weight_factors(perceptron, *flat[1:], labels))
    first_order = clean + first_order_shifts(perceptron, *flat[1:], labels).mean()
    assert found["clean"] == pytest.approx(clean) and found["corruptions"]["fog"] == pytest.approx(
        [perceptron.losses(flat[2], labels).mean(), first_order, perturbed.losses(flat[1], labels).mean()])
    run = make_run(tmp_path / "run", "erm", 0)
    [(name, figure)] = FIGURES["xi"].draw(read_records([run]), found)
    [axes] = figure.axes
    assert name == "xi" and len(axes.get_xticklabels()) == len(CORRUPTIONS)
    plotted = np.array([line.get_ydata() for line in axes.lines[:3]]).T
    np.testing.assert_array_equal(plotted, list(found["corruptions"].values()))
    plt.close(figure)
