"""Corrupted test images for an evaluation: read where they are stored, else made as they are read."""
import dataclasses
import os
import shutil

import numpy as np
import pytest

from corruptions import SETS
from corruptions.utils.errors import UserError
from dataset import SOURCES
from dataset.batches import normalise
from dataset.corrupted import LazyCorruptedArray, load_corrupted, open_corrupted
from dataset.pipeline import iterate_arrays
from dataset.stored import corrupted_path
from tests.cifar_files import make_cifar

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A data folder with gaussian_noise on disk; its source and the stored test images."""
    folder = str(tmp_path_factory.mktemp("data"))
    make_cifar(folder)
    source = SOURCES["cifar10"](folder)
    return folder, source, load_corrupted(folder, source, "gaussian_noise", 6)["test"][1:]


def test_stored_images_are_opened_and_others_made_and_not_stored(stored):
    folder, source, arrays = stored
    for result, array in zip(open_corrupted(folder, source, "test", "gaussian_noise"), arrays, strict=True):
        assert isinstance(result, np.memmap) and result.filename == array.filename
    before = sorted(os.listdir(os.path.dirname(arrays[0].filename)))
    made = open_corrupted(folder, source, "test", "fog")
    assert [images.severity for images in made] == [1, 2, 3, 4, 5]
    made[0][np.arange(3)]
    assert sorted(os.listdir(os.path.dirname(arrays[0].filename))) == before


@pytest.mark.parametrize("name", SETS["all"])
def test_made_images_are_those_that_would_be_stored(stored, tmp_path, name):
    _, source, _ = stored
    images = {part: array[:20] for part, array in source.images.items()}
    labels = {part: subset[:20] for part, subset in source.labels.items()}
    few = dataclasses.replace(source, images=images, labels=labels)
    wanted = load_corrupted(str(tmp_path), few, name, 6)["test"]
    order = np.array([7, 8, 9, 3, 19, 0, 1, 1, 18])  # neighbours, jumps, repeats
    for severity in (1, 5):
        np.testing.assert_array_equal(LazyCorruptedArray(few, "test", name, severity)[order], wanted[severity][order])


def test_images_that_are_being_made_are_not_read(stored, tmp_path):
    folder, source, _ = stored
    copy = str(shutil.copytree(folder, tmp_path / "data"))
    path = corrupted_path(copy, source, "test", 4, "gaussian_noise")
    os.rename(path, os.path.join(os.path.dirname(path), ".gaussian_noise.npy.partial"))
    images = open_corrupted(copy, source, "test", "gaussian_noise")
    assert all(isinstance(image, LazyCorruptedArray) for image in images)


@pytest.mark.parametrize("damage, message", [
    (os.remove, "not there, though other severities are"),
    (lambda path: os.truncate(path, 500), "truncated or not a numpy array"),
])
def test_damaged_images_are_named(stored, tmp_path, damage, message):
    folder, source, _ = stored
    copy = str(shutil.copytree(folder, tmp_path / "data"))
    path = corrupted_path(copy, source, "test", 4, "gaussian_noise")
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        open_corrupted(copy, source, "test", "gaussian_noise")
    assert str(error.value).startswith(path)
    assert len(load_corrupted(copy, source, "gaussian_noise", 4)["test"]) == 4  # severities that are not needed


@pytest.mark.parametrize("workers", [1, 2])
def test_arrays_come_one_after_the_other(stored, workers):
    _, source, arrays = stored
    labels = source.labels["test"]
    arrays = [arrays[0], LazyCorruptedArray(source, "test", "fog", 2), arrays[4]]
    streams = iterate_arrays(arrays, labels, MEAN, STD, 16, workers)
    result = [[tensor.asnumpy() for tensor in batch] for stream in streams for batch in stream]
    everyone = np.arange(50)
    for k, images in enumerate(arrays):
        ours = result[4 * k:4 * (k + 1)]
        assert [int(count) for _, _, count in ours] == [16, 16, 16, 2]
        pixels = np.concatenate([batch[:count] for batch, _, count in ours])
        np.testing.assert_array_equal(pixels, normalise(images[everyone], MEAN, STD))
        np.testing.assert_array_equal(np.concatenate([subset[:count] for _, subset, count in ours]), labels)
    assert len(result) == 12


def test_normalised_images_are_those_of_the_formula():
    images = np.random.RandomState(0).randint(0, 256, (5, 8, 6, 3)).astype(np.uint8)
    result = normalise(images, MEAN, STD)
    np.testing.assert_allclose(result, ((images / 255 - MEAN) / STD).transpose(0, 3, 1, 2), rtol=2e-6, atol=1e-6)
    assert result.dtype == np.float32 and result.flags.c_contiguous
