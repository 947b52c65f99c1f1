"""The corruption functions against results of the published code."""
import io
import math
import os

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import color

from corruptions import CORRUPTIONS, SETS, Options, corrupt
from corruptions.blur import line_blur, to_pil, zoom_operator
from corruptions.clouds import clouds
from corruptions.digital import hsv_to_rgb, interpolated, jpeg_compression, rgb_to_hsv, warp
from corruptions.generate import corrupt_range
from corruptions.rng import ImageRng, image_stream
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json
from corruptions.weather import enlarged_piece, zoom_about_centre
from tests import corruption_errors, crosscheck
from tests.benchmarks import corruptions as corruption_times
from tests.benchmarks import memory

HERE = os.path.dirname(__file__)
GOLDEN = os.path.join(HERE, "golden", "corruptions_32.npz")
PUBLISHED_CONSTANTS = read_json(os.path.join(HERE, "golden", "constants.json"))
LARGER = [os.path.join(HERE, "..", "..", "shared", "golden", f"corruptions_{size}.npz") for size in (64, 224)]


@pytest.mark.parametrize("path", [GOLDEN, *LARGER], ids=["32", "64", "224"])
def test_equals_published_code(path):
    if path != GOLDEN and not os.path.exists(path):
        pytest.skip("this file is not part of the repository")
    results = corruption_errors.compare_corruptions(path)
    assert set(results) == set(SETS["all"]) - {"impulse_noise"}
    assert all(corruption_errors.is_tolerable(name, *errors) for name, errors in results.items()), results


def test_crosscheck_sees_a_wrong_pixel(tmp_path, capsys):
    with np.load(GOLDEN) as golden:
        content = {key: golden[key] for key in ("image-0", "seed_offset", "fog-2-0", "contrast-2-0")}
    content["fog-2-0"][5, 5] ^= 1
    np.savez(tmp_path / "wrong.npz", **content)
    assert crosscheck.main(["corruptions", str(tmp_path / "wrong.npz")]) == 1
    out = capsys.readouterr().out
    assert "fog" in out and out.count("TOO MUCH") == 1


@pytest.mark.parametrize("change, culprit", [
    (lambda content: content[:len(content) // 2], "damaged"),
    (lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:], "damaged"),
    (lambda content: b"\x93NUMPY", "damaged"), (None, "fog-2-0 is float64")])
def test_crosscheck_of_a_damaged_file_is_one_line(tmp_path, capsys, change, culprit):
    path = tmp_path / "some.npz"
    with np.load(GOLDEN) as golden:
        content = {name: golden[name] for name in ("image-0", "seed_offset", "fog-2-0")}
    if change is None:
        content["fog-2-0"] = np.full((32, 32, 3), np.nan)
    np.savez(path, **content)
    if change is not None:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SystemExit) as stop:
        crosscheck.main(["corruptions", str(path)])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and "some.npz" in line and culprit in line


@pytest.mark.parametrize("names, culprit", [(("image-0", "seed_offset", "fog-2-0", "smog-2-0"), "smog-2-0"),
                                            (("image-0", "seed_offset"), "has no corrupted images")])
def test_crosscheck_leaves_nothing_out(tmp_path, capsys, names, culprit):
    with np.load(GOLDEN) as golden:
        np.savez(tmp_path / "some.npz", **{name: golden[name.replace("smog", "fog")] for name in names})
    with pytest.raises(SystemExit) as stop:
        crosscheck.main(["corruptions", str(tmp_path / "some.npz")])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and "some.npz" in line and culprit in line


@pytest.mark.parametrize("preset", [32, 64, 224, 299])
def test_impulse_noise_draws_as_scikit_image_did(preset):
    """Before version 0.20, `random_noise` drew which values change, and which of these become white, by `choice`."""
    image = np.random.RandomState(0).randint(0, 256, (12, 15, 3)).astype(np.uint8)
    for severity, [share] in enumerate(PUBLISHED_CONSTANTS[str(preset)]["impulse_noise"], 1):
        made = CORRUPTIONS["impulse_noise"](image, severity, np.random.RandomState(7), Options(preset=preset))
        rng = np.random.RandomState(7)
        changed = rng.choice([True, False], size=image.shape, p=[share, 1 - share])
        white = rng.choice([True, False], size=image.shape, p=[0.5, 0.5])
        np.testing.assert_array_equal(made, np.where(changed, np.where(white, 255, 0), image))


@pytest.mark.parametrize("severity, share", [(1, 0.01), (5, 0.07)])
def test_impulse_noise_hits_its_share_of_the_values(severity, share):
    image = np.full((256, 256, 3), 100, np.uint8)
    out = CORRUPTIONS["impulse_noise"](image, severity, np.random.RandomState(0), Options(preset=32))
    deviation = np.sqrt(share * (1 - share) / image.size)
    assert abs((out != 100).mean() - share) < 4 * deviation
    assert set(np.unique(out)) == {0, 100, 255}
    hit = out[out != 100]
    assert abs((hit == 255).mean() - 0.5) < 4 * 0.5 / np.sqrt(hit.size)


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8), (28, 28, 1), (9, 40, 3), (50, 17, 3), (70, 130), (300, 240, 3)])
@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_every_size_and_grey_images(name, shape):
    for value in (None, 0, 255):
        if value is None:
            image = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
        else:
            image = np.full(shape, value, np.uint8)
        before = image.copy()
        out = corrupt(image, name, 4)
        assert out.shape == image.shape and out.dtype == np.uint8
        np.testing.assert_array_equal(image, before)
        # Grey has no saturation to change, and a disk of 2 pixels nothing to turn.
        if value is None and name != "saturate" and (name, shape[0]) != ("pinch_and_twirl", 8):
            assert not np.array_equal(out, image)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize("count", [1, 2])
def test_results_can_be_written(name, count):
    images = np.random.RandomState(0).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    assert CORRUPTIONS[name].batch(images, 3, [np.random.RandomState(k) for k in range(count)]).flags.writeable


def test_grey_image_is_the_channel_of_an_equal_colour_image():
    image = np.random.RandomState(0).randint(0, 256, (32, 32)).astype(np.uint8)
    for name in ("brightness", "snow", "fog", "defocus_blur", "zoom_blur", "elastic_transform"):
        colour = corrupt(np.repeat(image[..., None], 3, axis=2), name, 3)
        np.testing.assert_array_equal(corrupt(image, name, 3), colour[..., 1], err_msg=name)


@pytest.mark.parametrize("name", ["frost", "spatter", "plasma_noise", "transverse_chromatic_abberation"])
def test_grey_image_is_the_grey_of_a_coloured_result(name):
    image = np.random.RandomState(0).randint(0, 256, (32, 32)).astype(np.uint8)
    colour = corrupt(np.repeat(image[..., None], 3, axis=2), name, 3)
    np.testing.assert_array_equal(corrupt(image, name, 3), cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))


def test_other_sizes_have_the_pixels_of_earlier_versions():
    results = corruption_errors.compare_corruptions(os.path.join(HERE, "golden", "other_sizes.npz"))
    assert results.keys() == CORRUPTIONS.keys()
    assert {name: errors for name, errors in results.items()
            if not corruption_errors.is_tolerable(name, *errors)} == {}


def test_a_batch_is_its_images_each_with_its_own_stream():
    images = np.random.RandomState(0).randint(0, 256, (40, 32, 32, 3)).astype(np.uint8)
    for name in CORRUPTIONS:
        batch = corrupt(images, name, 3, seed=5)
        np.testing.assert_array_equal(batch[0], corrupt(images[0], name, 3, seed=5), err_msg=name)
        np.testing.assert_array_equal(batch[17:20], corrupt_range(images[17:20], name, 3, 5, 17), err_msg=name)
    same = np.repeat(images[:1], 40, axis=0)
    assert len({image.tobytes() for image in corrupt(same, "glass_blur", 3)}) == 40
    assert not np.array_equal(corrupt(same, "fog", 3, seed=0), corrupt(same, "fog", 3, seed=1))


@pytest.mark.parametrize("angle", [-120, -90, -45, -10, 0, 33.3, 45])
def test_motion_blur_is_imagemagicks(angle):
    pytest.importorskip("wand.image", reason="Wand or ImageMagick is not installed", exc_type=ImportError)
    for shape in ((32, 32, 3), (40, 56, 1)):
        image = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
        ours, magick = (line_blur(image, 10, 2.5, angle, backend).astype(int) for backend in ("numpy", "wand"))
        assert np.abs(ours - magick).max() <= 1 and (ours != magick).mean() <= 0.01


@pytest.mark.parametrize("image, name, severity, culprit", [
    (np.zeros((32, 32, 3)), "fog", 1, "float64"),
    ([[0, 1], [2, 3]], "fog", 1, "int64"),
    (np.zeros((32, 32, 4), np.uint8), "fog", 1, "(32, 32, 4)"),
    (np.zeros((7, 32, 3), np.uint8), "fog", 1, "7x32"),
    (np.zeros(64, np.uint8), "fog", 1, "must have shape (H, W)"),
    (np.zeros((32, 32, 3), np.uint8), "fog", 0, "severity 0"),
    (np.zeros((32, 32, 3), np.uint8), "fog", 6, "severity 6"),
    (np.zeros((32, 32, 3), np.uint8), "fog", 0.5, "severity 0.5"),
    (np.zeros((32, 32, 3), np.uint8), "fog", True, "severity True"),
    (np.zeros((32, 32, 3), np.uint8), "smog", 1, "gaussian_noise"),
])
def test_bad_input_is_named(image, name, severity, culprit):
    with pytest.raises(UserError) as error:
        corrupt(image, name, severity)
    assert culprit in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("options, culprit", [({"preset": 100}, "preset 100: must be 32, 64, 224, 299 or None"),
                                              ({"backend": "wnd"}, "backend wnd: must be numpy or wand")])
def test_options_that_there_are_not_are_named(options, culprit):
    with pytest.raises(UserError, match=culprit):
        Options(**options)


def test_one_source_of_random_numbers_for_several_images_is_the_published_one():
    """The published code draws for all images from one state, also what it then does not need."""
    rng, draws = np.random.RandomState(0), np.random.RandomState(0)
    corrupt_one = CORRUPTIONS["elastic_transform"]
    corrupt_one(np.zeros((32, 32, 3), np.uint8), 1, rng)
    draws.uniform(size=(3, 2)), draws.uniform(size=(2, 32, 32))
    assert rng.uniform() == draws.uniform()


def test_missing_frost_texture_is_named(tmp_path):
    with pytest.raises(UserError, match="frost1.png.* as frost_dir"):
        corrupt(np.zeros((32, 32, 3), np.uint8), "frost", 1, options=Options(frost_dir=str(tmp_path)))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_generator_of_numpy_draws_as_one_with_the_old_names(name):
    image = np.random.RandomState(0).randint(0, 256, (16, 18, 3)).astype(np.uint8)
    np.testing.assert_array_equal(CORRUPTIONS[name](image, 3, np.random.default_rng(5)),
                                  CORRUPTIONS[name](image, 3, ImageRng(np.random.PCG64(5))))


@pytest.mark.parametrize("source", [np.random.RandomState, lambda seed: image_stream(seed, "fog", 1, "0")])
@pytest.mark.parametrize("shape", [(8, 500), (500, 8), (130, 60), (256, 256)])
@pytest.mark.parametrize("decay", [3, 1.75, 1.1])
def test_a_cloud_made_in_parts_is_the_one_made_whole(monkeypatch, source, shape, decay):
    monkeypatch.setattr("corruptions.clouds.REFINED_AT_ONCE", 1)
    results = []
    for side in (1024, 1, 8, 64):
        monkeypatch.setattr("corruptions.clouds.WHOLE_SIDE", side)
        sources = [source(seed) for seed in range(3)]
        results.append((clouds(*shape, decay, sources), [rng.uniform() for rng in sources]))
    for corner, following in results[1:]:
        np.testing.assert_array_equal(corner, results[0][0])
        assert following == results[0][1]


def test_of_a_large_cloud_few_numbers_are_drawn():
    drawn = []

    class Counting(ImageRng):
        def uniform(self, size):
            drawn.append(size)
            return super().uniform(size=size)
    stream = Counting(np.random.PCG64(0))
    stream.reseed(0, "fog", 1, "0")
    clouds(8, 20000, 1.75, [stream])
    assert 1024 ** 2 + 8 * 20000 <= sum(drawn) < 4 * 1024 ** 2 < 32768 ** 2


@pytest.mark.parametrize("size", [8, 31, 32, 65, 300])
def test_interpolation_is_that_of_a_zoomed_identity(size):
    for factor in np.arange(1, 1.35, 0.03):
        crop = math.ceil(size / factor)
        zoomed = ndimage.zoom(np.eye(crop), (factor, 1), order=1)
        expected = np.zeros((size, size))
        expected[:, (size - crop) // 2:][:, :crop] = zoomed[(len(zoomed) - size) // 2:][:size]
        operator, near = zoom_operator(size, factor, 0, size)
        np.testing.assert_array_equal(operator.toarray(), expected[:, near])
        assert expected[:, near].sum() == expected.sum()


def test_zoom_blur_by_rows_is_that_of_the_whole_image(monkeypatch):
    image = np.random.RandomState(0).randint(0, 256, (50, 40, 3)).astype(np.uint8)
    whole = corrupt(image, "zoom_blur", 5)
    monkeypatch.setattr("corruptions.blur.ZOOMED_AT_ONCE", 7 * image[0].size)
    np.testing.assert_array_equal(corrupt(image, "zoom_blur", 5), whole)


@pytest.mark.parametrize("factor", [1, 1.25, 1.75, 2.5, 4.5])
def test_enlarged_layers_are_scipys(factor):
    layers = np.random.RandomState(0).normal(size=(3, 31, 40))
    (height, top), (width, left) = ((math.ceil(size / factor), (size - math.ceil(size / factor)) // 2)
                                    for size in (31, 40))
    for layer, zoomed in zip(layers, zoom_about_centre(layers, factor), strict=True):
        expected = ndimage.zoom(layer[top:top + height, left:left + width], factor, order=1)
        top_trim, left_trim = (expected.shape[0] - 31) // 2, (expected.shape[1] - 40) // 2
        np.testing.assert_array_equal(zoomed, expected[top_trim:top_trim + 31, left_trim:left_trim + 40])


@pytest.mark.parametrize("reach", [0.3, 5, 500])
def test_interpolated_values_are_scipys(reach):
    rng = np.random.RandomState(0)
    images = rng.uniform(size=(3, 9, 40, 2)).astype(np.float32)
    rows, columns = rng.uniform(-reach, reach, (2, 3, 9, 40))
    rows += np.arange(9)[:, None]
    columns = np.round(columns) + np.arange(40)  # whole numbers, on the edges, too
    for image, out, *places in zip(images, interpolated(images, rows, columns), rows, columns, strict=True):
        for channel in range(2):
            expected = ndimage.map_coordinates(image[..., channel], places, order=1, mode="reflect")
            np.testing.assert_array_equal(out[..., channel], expected)


def test_hue_and_saturation_are_scikit_images():
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    pixels = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    hue, saturation, value = rgb_to_hsv(pixels)
    np.testing.assert_array_equal(np.stack((hue, saturation, value), axis=1), color.rgb2hsv(pixels / 255.0))
    expected = color.hsv2rgb(np.stack((hue, saturation / 2, value), axis=1))
    np.testing.assert_array_equal(hsv_to_rgb(hue, saturation / 2, value), (expected * 255).astype(np.uint8))


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (9, 41, 3), (50, 17, 1), (224, 200, 3)])
def test_jpeg_images_are_pils(shape):
    images = np.random.RandomState(0).randint(0, 256, (3, *shape)).astype(np.uint8)
    images[1:] = [cv2.GaussianBlur(image, (9, 9), 3).reshape(shape) for image in images[1:]]
    for quality in (80, 40, 7):
        for image, out in zip(images, jpeg_compression.function(images, quality, [], Options()), strict=True):
            buffer = io.BytesIO()
            to_pil(image).save(buffer, "JPEG", quality=quality)
            np.testing.assert_array_equal(out, np.asarray(Image.open(buffer)).reshape(shape))


@pytest.mark.parametrize("shape, size", [((44, 79), (155, 300)), ((44, 79), (45, 80)), ((100, 60), (900, 541))])
def test_a_piece_of_an_enlarged_texture_is_opencvs(shape, size):
    texture = np.random.RandomState(0).randint(0, 256, (*shape, 3)).astype(np.uint8)
    whole = cv2.resize(texture, size[::-1])
    np.testing.assert_array_equal(enlarged_piece(texture, size, 0, 0, *size), whole)
    np.testing.assert_array_equal(enlarged_piece(texture, size, 7, 11, 30, 20), whole[7:37, 11:31])


@pytest.mark.parametrize("shape, shift", [((9, 14, 3), 48), ((40, 31, 1), 2), ((200, 150, 3), 48)])
def test_warped_images_are_those_of_opencv_4(shape, shift):
    rng = np.random.RandomState(0)
    images = rng.random_sample((30, *shape)).astype(np.float32)
    affines = rng.normal(np.eye(2, 3), (0.3, 0.3, shift), (30, 2, 3))
    affines[:2, 1] = affines[:2, 0] * [[1], [1 + 1e-7]]  # these squeeze an image into a line, or nearly
    expected = [cv2.warpAffine(image, affine, shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
                for image, affine in zip(images, affines, strict=True)]
    warp(images, affines)
    np.testing.assert_array_equal(images, np.reshape(expected, images.shape))


@pytest.mark.parametrize("name, shape", [("fog", (16, 5000, 3)), ("zoom_blur", (16, 5000, 3)), ("frost", (5000, 16)),
                                         ("brightness", (1500, 2000)), ("snow", (1500, 2000))])
def test_memory_stays_within_ten_times_the_image(name, shape):
    peak, _ = memory.measure(name, shape, 3)
    assert peak <= memory.limit(shape)


def test_elastic_transform_of_a_long_image_and_jpeg_of_a_longer_one(monkeypatch):
    image = np.random.RandomState(0).randint(0, 256, (8, 33000)).astype(np.uint8)
    out = corrupt(image, "elastic_transform", 5)
    assert out.shape == image.shape and not np.array_equal(out, image)
    with pytest.raises(UserError, match="65500 pixels a side, not 65501"):
        corrupt(np.zeros((8, 65501), np.uint8), "jpeg_compression", 1)
    image = cv2.GaussianBlur(np.random.RandomState(0).randint(0, 256, (90, 120, 3)).astype(np.uint8), (9, 9), 3)
    short = corrupt(image, "elastic_transform", 3).astype(int)
    monkeypatch.setattr("corruptions.digital.LONGEST_IN_OPENCV", 0)
    assert np.abs(corrupt(image, "elastic_transform", 3) - short).max() <= 2  # OpenCV rounds places to 1/32


def test_the_hours_on_a_cluster_are_measured(capsys):
    """The command of DETAILS.md with one image. Hours on two cores are half of the hours on one."""
    threads = cv2.getNumThreads()
    try:
        corruption_times.main(["--cores", "1", "2", "--images", "1"])
    finally:
        cv2.setNumThreads(threads)  # which the benchmark has set to 1
    lines = capsys.readouterr().out.splitlines()
    lines = lines[[line[:10] for line in lines].index("ms to read"):]  # after the lines of the job
    assert lines[0].startswith("ms to read an image of 500x375 and crop it: ")
    for line in lines[2:]:
        one, two = map(float, line.split()[-2:])
        assert one > 0 and two == pytest.approx(one / 2, abs=0.001)
    assert len(lines) == 4


def test_channels_come_last():
    for images in (np.zeros((3, 32, 32), np.uint8), np.zeros((2, 3, 32, 32), np.uint8)):
        with pytest.raises(UserError, match=r"not \(3, 32, 32\); channels come last: numpy.moveaxis"):
            corrupt(images, "fog", 1)
