"""C-bar: the fifteen corruptions against results of the published classes, and what those cannot do."""
import os
import threading

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from corruptions import ALIASES, CORRUPTIONS, SETS, Options, corrupt
from corruptions.__main__ import main
from corruptions.bar.places import between, framed, inner_random
from corruptions.bar.warps import rotation
from corruptions.bar_levels import BAR
from corruptions.rng import image_stream
from corruptions.severities import SEVERITY_CONSTANTS, nearest_preset
from corruptions.utils.errors import UserError
from tests.benchmarks import memory
from tests.corrupted_files import one_line
from tests.corruption_errors import compare_corruptions, is_tolerable

HERE = os.path.dirname(__file__)
GOLDEN = [os.path.join(HERE, "golden", "cbar_33.npz"),
          *(os.path.join(HERE, "..", "..", "shared", "golden", f"cbar_{size}.npz") for size in (32, 224))]


@pytest.mark.parametrize("path", GOLDEN, ids=["33", "32", "224"])
def test_equals_the_published_classes(path):
    if path != GOLDEN[0] and not os.path.exists(path):
        pytest.skip("this file is not part of the repository")
    results = compare_corruptions(path)
    assert set(results) <= set(BAR) and len(results) == (15 if path == GOLDEN[0] else 10)
    assert all(is_tolerable(name, *errors) for name, errors in results.items()), results


def test_the_sets():
    assert len(SETS["all"]) == 19 and len(BAR) == 15 and not set(SETS["all"]) & set(BAR)
    assert set(SETS["all+bar"]) == set(CORRUPTIONS) and set(ALIASES.values()) <= set(BAR)


def test_levels_are_there_for_both_sizes_and_for_no_other():
    assert set(BAR) <= set(SEVERITY_CONSTANTS[32]) and set(BAR) <= set(SEVERITY_CONSTANTS[224])
    assert not set(BAR) & set(SEVERITY_CONSTANTS[64])
    assert (nearest_preset("ripple", 64, 90), nearest_preset("fog", 64, 90)) == (32, 64)
    assert nearest_preset("ripple", 300, 129) == 224
    assert nearest_preset("fog", 200, 40) == nearest_preset("fog", 40, 200) == 32  # the shorter side counts
    with pytest.raises(UserError, match="preset 64: has no constants of ripple"):
        corrupt(np.zeros((64, 64, 3), np.uint8), "ripple", 1, options=Options(preset=64))


def test_the_usual_spelling(tmp_path):
    image = data.astronaut()[100:140, 200:240]
    for usual, published in ALIASES.items():
        np.testing.assert_array_equal(corrupt(image, usual, 2), corrupt(image, published, 2))
    np.save(tmp_path / "images.npy", image[None])
    main(["array", str(tmp_path / "images.npy"), str(tmp_path / "out"), "--severity", "1", "--workers", "1",
          "-c", "concentric_sine_waves", "transverse_chromatic_aberration"])
    assert sorted(path.name for path in (tmp_path / "out" / "1").glob("*.npy")) == [
        "cocentric_sine_waves.npy", "transverse_chromatic_abberation.npy"]


def test_bar_is_a_family_of_its_own(tmp_path):
    np.save(tmp_path / "images.npy", data.astronaut()[None, 100:116, 200:216])
    for word, count in (("bar", 15), ("all", 19), ("all+bar", 34)):
        out = tmp_path / word
        main(["array", str(tmp_path / "images.npy"), str(out), "--severity", "3", "--workers", "1", "-c", word])
        assert len(list((out / "3").glob("*.npy"))) == count


def test_a_preset_without_constants_is_one_line(tmp_path, capsys):
    np.save(tmp_path / "images.npy", np.zeros((1, 64, 64, 3), np.uint8))
    argv = ["array", str(tmp_path / "images.npy"), str(tmp_path / "out"), "-c", "fog", "lines", "ripple"]
    line = one_line(capsys, [*argv, "--preset", "64"])
    assert "--preset 64: has no constants of lines, ripple" in line and not os.path.exists(tmp_path / "out")


@pytest.mark.parametrize("angle", [0, 1.5, -9, 37.25, 90])
@pytest.mark.parametrize("shape", [(32, 32), (9, 23), (40, 16)])
def test_rotation_is_that_of_scipy(shape, angle):
    image = np.random.RandomState(0).random_sample(shape)
    splines = ndimage.spline_filter(image, mode="constant").ravel()
    parts = [rotation(*shape, angle, *rows) @ splines for rows in ((0, 5), (5, shape[0]))]
    expected = ndimage.rotate(image, angle, reshape=False)
    np.testing.assert_allclose(np.concatenate(parts).reshape(shape), expected, rtol=0, atol=1e-12)


def test_between_pixels():
    image = np.random.RandomState(0).randint(0, 256, (7, 9, 2)).astype(np.uint8)
    rows, columns = np.mgrid[-2:8:0.3, -2:10:0.7]
    expected = np.stack([ndimage.map_coordinates(np.pad(image[..., c].astype(float), 3), (rows + 3, columns + 3),
                                                 order=1) for c in range(2)], axis=-1)
    np.testing.assert_allclose(between(framed(image), rows, columns), expected, rtol=0, atol=1e-9)
    assert between(framed(image.astype(np.float32)), rows, columns).dtype == np.float32


@pytest.mark.parametrize("name, rows", [("perlin_noise", 3), ("plasma_noise", 1), ("caustic_refraction", 2),
                                        ("pinch_and_twirl", 5), ("circular_motion_blur", 7), ("sparkles", 4)])
def test_by_strips_is_the_whole_image(name, rows, monkeypatch):
    image = np.ascontiguousarray(data.astronaut()[100:137, 200:241])
    whole = corrupt(image, name, 4)
    monkeypatch.setattr("corruptions.bar.places.PIXELS_AT_ONCE", rows * image.shape[1])
    np.testing.assert_array_equal(corrupt(image, name, 4), whole)


@pytest.mark.parametrize("name, shape", [("caustic_refraction", (1000, 1500)), ("blue_noise_sample", (2000, 3000)),
                                         ("brownish_noise", (16, 20000, 3)), ("checkerboard_cutout", (20000, 16)),
                                         ("circular_motion_blur", (500, 1000))])
def test_memory_stays_within_ten_times_the_image(name, shape):
    peak, _ = memory.measure(name, shape, 5)
    assert peak <= memory.limit(shape)


def test_a_square_says_how_wide_images_look():
    """On an image three times as wide, shapes have the size that they have on a square of its height."""
    square, wide = np.zeros((64, 64, 1), np.uint8), np.zeros((64, 192, 1), np.uint8)
    shares = [np.mean([(corrupt(image, "checkerboard_cutout", 5, seed) > 0).mean() for seed in range(40)])
              for image in (square, wide)]
    assert abs(shares[0] - 0.25) < 0.03 and abs(shares[1] - 0.25) < 0.03  # half of the fields of one colour
    photo = np.random.RandomState(0).randint(0, 256, (30, 90, 1)).astype(np.uint8)
    moved = np.any(corrupt(photo, "pinch_and_twirl", 5) != photo, axis=2)
    cells = [moved[10 * row:10 * row + 10, 10 * column:10 * column + 10] for row in range(3) for column in range(9)]
    assert all(cell[2:8, 2:8].mean() > 0.6 for cell in cells) and not moved[:, 0].any()


def test_threads_have_random_numbers_of_their_own():
    expected = {seed: inner_random(image_stream(seed, "lines", 1, 0)).uniform(size=1000) for seed in range(4)}
    result, barrier = {}, threading.Barrier(4)

    def draw(seed):
        random = inner_random(image_stream(seed, "lines", 1, 0))
        barrier.wait()
        result[seed] = np.array([random.uniform() for _ in range(1000)])
    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, numbers in expected.items():
        np.testing.assert_array_equal(result[seed], numbers)
