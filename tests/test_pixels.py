"""Images in files, and images that `corrupt` and the corruptions are given."""
import io
import multiprocessing
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from corruptions import CORRUPTIONS, Options, corrupt
from corruptions.__main__ import main
from corruptions.images import read_image
from corruptions.utils.errors import UserError

COLOUR = np.random.RandomState(0).randint(0, 256, (16, 20, 3)).astype(np.uint8)
GREY = (COLOUR[..., 0] // 64 * 60).astype(np.uint8)  # 0, 60, 120, 180
ALPHA = COLOUR[::-1, :, 1].copy()
ALPHA[0], ALPHA[1] = 0, 255


def on_white(pixels, alpha):
    """Pixels (..., C) over white, rounded."""
    share = alpha[..., None] / 255
    return np.rint(pixels * share + 255 * (1 - share))


@pytest.mark.parametrize("mode, error", [
    ("RGB", 0), ("L", 0), ("1", 0), ("LA", 0), ("RGBA", 0), ("RGBX", 0), ("CMYK", 0), ("PA", 0), ("P", 0),
    ("YCbCr", 2), ("HSV", 2)])
def test_pil_images_of_any_mode_are_the_picture(mode, error):
    """The picture is the one before PIL converts it to the mode, or what PIL makes of a palette and of 1 bit."""
    image = Image.fromarray(COLOUR).convert(mode)
    before = image if mode[0] in "P1" else Image.fromarray(COLOUR)
    expected = np.asarray(before.convert("L" if mode in ("L", "LA", "1") else "RGB"))
    out = corrupt(image, "contrast", 1)
    assert out.dtype == np.uint8 and out.shape == expected.shape
    assert np.abs(out - corrupt(expected, "contrast", 1).astype(int)).mean() <= error
    np.testing.assert_array_equal(CORRUPTIONS["contrast"](image, 1, None), out)
    if out.ndim == 3:
        np.testing.assert_array_equal(corrupt([image, image], "contrast", 1), [out, out])


@pytest.mark.parametrize("mode", ["I", "I;16", "F"])
def test_pil_images_that_cannot_be_read_are_named(mode):
    image = Image.new(mode, (16, 16))
    with pytest.raises(UserError, match=f"mode {mode} "):
        corrupt(image, "fog", 1)


@pytest.mark.parametrize("seed", [None, -1, 1.0, "abc", [1], True, np.bool_(True), np.array([1, 2]), float("nan")])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(UserError, match="seed .*whole number of 0 or more") as error:
        corrupt(COLOUR, "fog", 1, seed=seed)
    assert "\n" not in str(error.value)
    for whole in (np.int64(3), np.uint8(3)):
        np.testing.assert_array_equal(corrupt(COLOUR, "fog", 1, seed=whole), corrupt(COLOUR, "fog", 1, seed=3))


@pytest.mark.parametrize("arguments, culprit", [
    ((COLOUR, ["fog"], 1), "corruption of type list"), ((COLOUR, None, 1), "corruption of type NoneType"),
    ((COLOUR, "fog", 1, 0, {"preset": 32}), "options of type dict"), ((COLOUR, "fog", 1, 0, None), "options"),
    (([COLOUR, COLOUR[:8]], "fog", 1), r"\(16, 20, 3\) and \(8, 20, 3\)"),
    (([Image.fromarray(COLOUR), Image.fromarray(GREY)], "fog", 1), r"\(16, 20, 3\) and \(16, 20\)"),
    (([[1, 2], [3]], "fog", 1), "images cannot become an array"), (([COLOUR, COLOUR[:9].tolist()], "fog", 1),
                                                                       "images")])
def test_other_arguments_are_named(arguments, culprit):
    with pytest.raises(UserError, match=culprit) as error:
        corrupt(*arguments)
    assert "\n" not in str(error.value)


def test_the_options_of_one_corruption_are_looked_at():
    with pytest.raises(UserError, match="options of type dict"):
        CORRUPTIONS["fog"](COLOUR, 1, np.random.RandomState(0), {"preset": 32})
    CORRUPTIONS["fog"](COLOUR, 1, np.random.RandomState(0), Options(preset=32))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_are_pickled_by_name(name):
    assert pickle.loads(pickle.dumps(CORRUPTIONS[name])) is CORRUPTIONS[name]


def test_a_corruption_reaches_a_process_that_has_imported_nothing():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        out = pool.apply(CORRUPTIONS["contrast"], (COLOUR, 2, None))
    np.testing.assert_array_equal(out, corrupt(COLOUR, "contrast", 2))


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_a_palette_of_greys_is_grey_and_one_of_colours_is_not(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    image = Image.fromarray(GREY).quantize(4) if suffix == "png" else Image.fromarray(GREY)
    image.save(path)
    assert Image.open(path).mode == "P"
    np.testing.assert_array_equal(read_image(path), GREY)
    colours = Image.fromarray(COLOUR).quantize(16)
    colours.save(path)
    np.testing.assert_array_equal(read_image(path), np.asarray(colours.convert("RGB")))


def test_transparency_shows_white(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.dstack((COLOUR, ALPHA))).save(path)
    np.testing.assert_array_equal(read_image(path), on_white(COLOUR, ALPHA))
    np.testing.assert_array_equal(read_image(path)[1], COLOUR[1])
    Image.fromarray(np.dstack((GREY, ALPHA))).save(path)
    np.testing.assert_array_equal(read_image(path), on_white(GREY[..., None], ALPHA)[..., 0])


@pytest.mark.parametrize("suffix, transparency", [("gif", 3), ("png", 3), ("png", bytes(range(0, 160, 10)))])
def test_transparent_entries_of_a_palette_show_white(tmp_path, suffix, transparency):
    image = Image.fromarray(COLOUR).quantize(16)
    image.save(tmp_path / f"image.{suffix}", transparency=transparency)
    alphas = np.full(256, 255)
    if transparency == 3:
        alphas[3] = 0
    else:
        alphas[:16] = list(transparency)
    expected = on_white(np.asarray(image.convert("RGB")), alphas[np.asarray(image)])
    np.testing.assert_array_equal(read_image(tmp_path / f"image.{suffix}"), expected)


def test_a_transparent_grey_and_a_transparent_colour_show_white(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(GREY).save(path, transparency=60)
    np.testing.assert_array_equal(read_image(path), np.where(GREY == 60, 255, GREY))
    Image.fromarray(COLOUR).save(path, transparency=tuple(map(int, COLOUR[3, 4])))
    expected = COLOUR.copy()
    expected[3, 4] = 255
    np.testing.assert_array_equal(read_image(path), expected)


def test_an_animated_file_gives_its_first_image(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "film.gif", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    np.testing.assert_array_equal(read_image(tmp_path / "film.gif"), GREY)


def test_an_image_with_too_many_pixels_is_to_be_made_smaller(tmp_path, monkeypatch):
    """PIL's own error speaks of an attack; the image is whole."""
    Image.fromarray(COLOUR).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", COLOUR[..., 0].size // 2 - 1)
    with pytest.raises(UserError, match=r"large.png: has more than \d+ pixels, the most that PIL reads"):
        read_image(tmp_path / "large.png")


def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    for name, argv in (("pipe.png", ["preview", "pipe.png"]), ("pipe.npy", ["array", "pipe.npy", "out", "-c", "fog"])):
        os.mkfifo(tmp_path / name)
        with pytest.raises(SystemExit) as stop:
            main([str(tmp_path / word) if "pipe" in word else word for word in argv])
        assert stop.value.code == 2 and name in capsys.readouterr().err


def test_what_cannot_be_read_is_named():
    cut = Image.open(io.BytesIO(png(COLOUR)[:-60]))
    bare = Image.fromarray(GREY).convert("P")
    bare.palette = None
    for image in (cut, bare):
        with pytest.raises(UserError, match="a PIL image of mode .* cannot be read"):
            corrupt(image, "contrast", 1)
    for options in ({"frost_dir": 5}, {"preset": np.array([32, 64])}, {"preset": 32.0}):
        with pytest.raises(UserError, match=next(iter(options))):
            Options(**options)


def test_premultiplied_grey_is_read():
    image = Image.fromarray(GREY).convert("LA").convert("La")
    np.testing.assert_array_equal(corrupt(image, "contrast", 1), corrupt(GREY, "contrast", 1))


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
