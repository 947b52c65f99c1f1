"""The corruption functions against results of the published code."""
import os

import numpy as np
import pytest

from corruptions import CORRUPTIONS, Options, corrupt
from corruptions.generate import corrupt_chunks, corrupt_range

GOLDEN = os.path.join(os.path.dirname(__file__), "golden", "corruptions_32.npz")


def golden_cases(name):
    with np.load(GOLDEN) as golden:
        offset = int(golden["seed_offset"])
        for key in golden.files:
            if key.startswith(f"{name}-"):
                _, severity, i = key.split("-")
                yield golden[f"image-{i}"], int(severity), 1000 * int(severity) + int(i) + offset, golden[key]


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"impulse_noise"}))
def test_equals_published_code(name):
    cases = list(golden_cases(name))
    assert len(cases) >= 5
    for image, severity, seed, expected in cases:
        np.testing.assert_array_equal(CORRUPTIONS[name](image, severity, np.random.RandomState(seed)), expected)


@pytest.mark.parametrize("severity, share", [(1, 0.01), (5, 0.07)])
def test_impulse_noise_hits_its_share_of_the_values(severity, share):
    image = np.full((256, 256, 3), 100, np.uint8)
    out = CORRUPTIONS["impulse_noise"](image, severity, np.random.RandomState(0), Options(preset=32))
    deviation = np.sqrt(share * (1 - share) / image.size)
    assert abs((out != 100).mean() - share) < 4 * deviation
    assert set(np.unique(out)) == {0, 100, 255}
    hit = out[out != 100]
    assert abs((hit == 255).mean() - 0.5) < 4 * 0.5 / np.sqrt(hit.size)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_keeps_shape_and_input(name):
    image = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    before = image.copy()
    out = CORRUPTIONS[name](image, 3, np.random.RandomState(0))
    assert out.shape == image.shape and out.dtype == np.uint8
    assert not np.array_equal(out, image)
    np.testing.assert_array_equal(image, before)


def test_bytes_depend_neither_on_workers_nor_on_chunks():
    images = np.random.RandomState(0).randint(0, 256, (600, 8, 8, 3)).astype(np.uint8)
    one, two, later = (np.concatenate(list(corrupt_chunks(images, "snow", 2, 7, workers, start=start)))
                       for workers, start in ((1, 0), (2, 0), (1, 37)))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[37:], later)
    np.testing.assert_array_equal(one[431:433], corrupt_range(images[431:433], "snow", 2, 7, 431))
    np.testing.assert_array_equal(one, corrupt(images, "snow", 2, 7))
