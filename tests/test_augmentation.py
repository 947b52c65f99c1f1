"""RandAugment and mixup of training batches."""
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from skimage import data

from corruptions.utils.errors import UserError
from dataset import rand_augment
from dataset.batches import TrainBatches
from dataset.poisson import Split
from dataset.rand_augment import OPERATIONS, Operation

PHOTO = np.asarray(Image.fromarray(data.astronaut()).resize((224, 224)))


def applied(name, strength=1.0, sign=1, place=(0.5, 0.25)):
    return rand_augment.apply(PHOTO, [Operation(name, strength, sign, place)])


def test_strengths_are_the_published_ones():
    """tensorflow/models, `level_to_arg`: at magnitude 10 of 10, in images of 224 pixels."""
    picture = Image.fromarray(PHOTO)
    for name, expected in {
            "autocontrast": ImageOps.autocontrast(picture), "equalize": ImageOps.equalize(picture),
            "invert": Image.fromarray(255 - PHOTO), "posterize": Image.fromarray(PHOTO & 0xF0),
            "solarize": picture, "rotate": picture.rotate(30, fillcolor=(128, 128, 128)),
            "color": ImageEnhance.Color(picture).enhance(1.9), "contrast": ImageEnhance.Contrast(picture).enhance(1.9),
            "brightness": ImageEnhance.Brightness(picture).enhance(1.9),
            "sharpness": ImageEnhance.Sharpness(picture).enhance(1.9), "identity": picture}.items():
        np.testing.assert_array_equal(applied(name), np.asarray(expected), err_msg=name)
    assert len(OPERATIONS) == 17
    np.testing.assert_array_equal(applied("solarize", 0.5), np.where(PHOTO < 128, PHOTO, 255 - PHOTO))
    np.testing.assert_array_equal(applied("solarize_add"), np.where(
        PHOTO < 128, np.minimum(PHOTO.astype(int) + 110, 255), PHOTO))


def test_half_the_strength_is_as_published():
    """tensorflow/models, `level_to_arg` at magnitude 5 of 10: 1.8 * 0.5 + 0.1 for the enhancements."""
    picture = Image.fromarray(PHOTO)
    for name, sign, expected in [
            *((name, 1, picture) for name in ("color", "contrast", "brightness", "sharpness")),
            ("rotate", -1, picture.rotate(-15, fillcolor=(128, 128, 128))),
            ("posterize", 1, Image.fromarray(PHOTO & 0b11000000))]:
        np.testing.assert_array_equal(applied(name, 0.5, sign), np.asarray(expected), err_msg=name)
    np.testing.assert_array_equal(applied("translate_x", 0.5, -1)[:, 50:], PHOTO[:, :174])
    np.testing.assert_array_equal(applied("translate_y", 0.5)[:174], PHOTO[50:])
    np.testing.assert_array_equal(applied("shear_x", 0.5, -1)[110, 17:], PHOTO[110, :207])  # 0.15 * 110.5 = 16.6
    np.testing.assert_array_equal(applied("shear_y", 0.5, -1)[17:, 110], PHOTO[:207, 110])
    np.testing.assert_array_equal(applied("solarize_add", 0.5), np.where(PHOTO < 128, PHOTO + 55, PHOTO))
    assert (applied("cutout", 0.5) == 128).all(axis=2)[92:132, 36:76].all()


def test_operations_that_move_pixels():
    """Shifts of 100 pixels and shears of 0.3, grey from outside; a cutout of 80 pixels a side at its place."""
    np.testing.assert_array_equal(applied("translate_x")[:, :124], PHOTO[:, 100:])
    assert (applied("translate_x")[:, 124:] == 128).all()
    np.testing.assert_array_equal(applied("translate_y", sign=-1)[100:], PHOTO[:124])
    np.testing.assert_array_equal(applied("shear_x")[110, :191], PHOTO[110, 33:])  # 0.3 * 110.5 = 33.15
    np.testing.assert_array_equal(applied("shear_y")[:191, 110], PHOTO[33:, 110])
    cut = applied("cutout")
    assert (cut[72:152, 16:96] == 128).all() and (cut[:72] == PHOTO[:72]).all() and (cut[:, 96:] == PHOTO[:, 96:]).all()
    small = rand_augment.apply(PHOTO[:112, :112].copy(), [Operation("translate_x", 1.0, 1, (0, 0))])
    np.testing.assert_array_equal(small[:, :62], PHOTO[:112, 50:112])  # half the side, half the shift


def test_operations_are_drawn_alike_for_any_image():
    drawn = rand_augment.draw(np.random.default_rng(0), 4000, 2, 5)
    names = [operation.name for operations in drawn for operation in operations]
    counts = [names.count(name) for name in OPERATIONS]
    assert len(names) == 8000 and min(counts) > 380 and max(counts) < 560
    assert {operation.strength for operations in drawn for operation in operations} == {0.5}
    signs, places = zip(*((operation.sign, operation.place) for operations in drawn for operation in operations),
                        strict=True)
    assert set(signs) == {-1, 1} and abs(sum(signs)) < 400
    assert np.abs(np.mean(places, axis=0) - 0.5).max() < 0.02 and np.abs(np.var(places, axis=0) - 1 / 12).max() < 0.01
    assert rand_augment.draw(np.random.default_rng(0), 4000, 2, 5) == drawn


def batches(share=(0, 1), batch_size=8, **options):
    images = np.random.RandomState(0).randint(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    labels = np.arange(40, dtype=np.int32) % 7
    split = Split([np.arange(40)], np.empty(0, int))
    return TrainBatches([images], labels, split, (0.5,) * 3, (0.25,) * 3, batch_size, range(3), 0, share=share,
                        **options)


@pytest.mark.parametrize("options, message", [
    ({"sampler": "permutation", "sampling": "balanced"}, "sampler permutation: passes over every image once"),
    ({"sampler": "permutation", "repeats": np.ones(40, int)}, "sampler permutation: passes over every image once"),
    ({"sampler": "permutation", "batch_size": 41}, "batch_size 41: the training set has only 40 images"),
    ({"mixup": 0.9, "batch_size": 7}, "batch_size 7: mixup mixes pairs of images"),
    ({"crop": "random_resized"}, "crop random_resized: is for images that are read from files")])
def test_batches_that_cannot_be_drawn_are_an_error(options, message):
    with pytest.raises(UserError, match=message):
        batches(**options)


def test_mixup_mixes_with_the_neighbour():
    """Two devices together have the images and labels of one."""
    images, labels, groups, severities = batches()[1]
    mixed, pairs, mixed_groups, _ = batches(mixup=0.8)[1]
    others = [1, 0, 3, 2, 5, 4, 7, 6]
    np.testing.assert_allclose(mixed, 0.8 * images + 0.2 * images[others], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(pairs, np.stack([labels, labels[others]], axis=1))
    np.testing.assert_array_equal(mixed_groups, groups)
    parts = [batches(share=(rank, 2), mixup=0.8)[1] for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), mixed)
    assert all((part[1] == pairs).all() for part in parts)


@pytest.mark.parametrize("options", [{}, {"crop": "zero_pad"}])
def test_augmented_batches(options):
    """Each image has operations of its own; two devices together have the images of one."""
    plain, augmented = batches(**options)[2][0], batches(rand_augment=(2, 10), **options)[2][0]
    changed = [(one != other).any() for one, other in zip(plain, augmented, strict=True)]
    assert sum(changed) >= 4
    parts = [batches(share=(rank, 2), rand_augment=(2, 10), **options)[2][0] for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), augmented)
