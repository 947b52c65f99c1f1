"""The commands of `python -m corruptions` for one file, for .npz files, and without a word; severities between two."""
import csv
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from corruptions import CORRUPTIONS, __version__, corrupt
from corruptions.__main__ import main
from corruptions.images import read_image
from corruptions.severities import SEVERITY_CONSTANTS
from corruptions.utils import cli

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PIXELS = np.random.RandomState(0).randint(0, 256, (40, 50, 3)).astype(np.uint8)
GREY = np.random.RandomState(1).randint(0, 256, (6, 28, 28)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a photograph."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save("photo.png")
    return tmp_path


def line_of(capsys, *argv):
    """The line on stderr of a command that fails."""
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    captured = capsys.readouterr()
    [line] = captured.err.splitlines()
    assert stop.value.code == 2 and captured.out == ""
    return line


def test_no_command_prints_examples(capsys):
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines[:4]] == ["photo.jpg", "folder", "array", "list"] and len(lines) == 6


@pytest.mark.parametrize("words, made", [
    (["-c", "gaussian_noise", "--severity", "2"], {"severity": 2}),
    (["-c", "gaussian_noise"], {"severity": 3}), (["-c", "gaussian_noise", "--severity", "2.5"], {"severity": 2.5}),
    (["-c", "gaussian_noise", "--constants", "0.3", "--seed", "4"], {"constants": 0.3, "seed": 4})])
@pytest.mark.parametrize("command", [[], ["image"]])
def test_one_file_in_one_file_out(folder, capsys, words, made, command):
    main([*command, "photo.png", "noisy.png", *words])
    assert capsys.readouterr().out == "written to noisy.png\n"
    np.testing.assert_array_equal(read_image("noisy.png"), corrupt(PIXELS, "gaussian_noise", key="photo.png", **made))


def test_one_file_is_what_the_folder_command_makes_of_it(folder):
    os.mkdir("photos")
    os.rename("photo.png", "photos/photo.png")
    main(["folder", "photos", "out", "-c", "snow", "--severity", "2", "3.5", "--format", "png", "--workers", "1"])
    for severity in ("2", "3.5"):
        main(["photos/photo.png", "one.png", "-c", "snow", "--severity", severity])
        np.testing.assert_array_equal(read_image("one.png"), read_image(f"out/snow/{severity}/photo.png"))


@pytest.mark.parametrize("suffix, kind", [(".jpg", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP"), (".TIFF", "TIFF")])
def test_the_suffix_is_the_format(folder, suffix, kind):
    main(["photo.png", f"out/made{suffix}", "-c", "contrast"])
    with Image.open(f"out/made{suffix}") as image:
        assert image.format == kind and image.size == (50, 40)


@pytest.mark.parametrize("words, message", [
    (["photo.png", "photo.png", "-c", "fog"], "TARGET photo.png: is the image itself"),
    (["photo.png", "out.xyz", "-c", "fog"], "'out.xyz' has no suffix of an image file"),
    (["nothing.png", "out.png", "-c", "fog"], "not a readable image (No such file or directory); name an image file"),
    (["foldr", "a", "b", "-c", "fog"],
     "unknown command 'foldr'; choose from list, image, folder, array, sequence, preview"),
    (["photo.png", "out.png"], "required: -c"), (["photo.png", "out.png", "-c", "smoke"], "unknown name 'smoke'"),
    (["photo.png", "out.png", "-c", "all"], "unknown name 'all'"),
    (["photo.png", "out.png", "-c", "fog", "--severity", "0.9"], "'0.9' is not a number from 1 to 5"),
    (["photo.png", "out.png", "-c", "fog", "--severity", "nan"], "'nan' is not a number from 1 to 5"),
    (["photo.png", "out.png", "-c", "spatter", "--severity", "3.5"], "spatter has another effect at 3 than at 4"),
    (["photo.png", "out.png", "-c", "fog", "--constants", "1"], "fog has 2: thickness, decay"),
    (["photo.png", "out.png", "-c", "fog", "--constants", "1", "2", "--severity", "2"], "not allowed with argument"),
    (["photo.png", "out.png", "-c", "fog", "--constants", "1", "2", "--preset", "64"], "--preset: has no effect"),
    (["folder", ".", "../out", "-c", "fog", "spatter", "--severity", "3.5"], "spatter has another effect at 3"),
    (["folder", "photo.png", "out", "-c", "fog"], "photo.png: is a file; name a folder of images"),
    (["folder", "photos", "out", "-c", "fog"], "photos: no such folder; name a folder of images"),
    (["list", "smoke"], "unknown name 'smoke'")])
def test_a_mistake_is_one_line_and_writes_nothing(folder, capsys, words, message):
    assert message in line_of(capsys, *words)
    assert sorted(os.listdir(folder)) == ["photo.png"]
    np.testing.assert_array_equal(read_image("photo.png"), PIXELS)


@pytest.mark.parametrize("suffix", [".jpe", ".jfif"])
def test_every_jpeg_has_the_quality_of_the_published_images(folder, suffix):
    for name in ("made.jpg", f"made{suffix}"):
        main(["photo.png", name, "-c", "pixelate"])
    assert Image.open(f"made{suffix}").quantization == Image.open("made.jpg").quantization


@pytest.mark.parametrize("suffix, keeps", [(".webp", True), (".tiff", True), (".gif", False)])
def test_a_format_that_changes_the_pixels_gives_a_warning(folder, capsys, suffix, keeps):
    main(["photo.png", f"made{suffix}", "-c", "contrast"])
    main(["photo.png", "made.png", "-c", "contrast"])
    assert np.array_equal(read_image(f"made{suffix}"), read_image("made.png")) == keeps
    warning = f"warning: made{suffix}: {suffix[1:].upper()} has changed the pixels; .png keeps them\n"
    assert capsys.readouterr().err == ("" if keeps else warning)


def test_a_format_that_keeps_the_pixels_of_an_image_without_colours_gives_no_warning(folder, capsys):
    Image.fromarray(np.repeat(PIXELS[..., :1], 3, axis=2)).save("grey.png")
    main(["grey.png", "made.gif", "-c", "contrast"])
    assert capsys.readouterr().err == ""


def test_an_image_that_a_format_cannot_hold_is_one_line(folder, capsys):
    Image.fromarray(np.zeros((8, 65501, 3), np.uint8)).save("wide.png")
    assert "wide.jpg: JPEG has at most 65500 pixels a side; give another suffix, such as .png" in line_of(
        capsys, "wide.png", "wide.jpg", "-c", "contrast")
    Image.fromarray(PIXELS[..., 0]).save("grey.png")
    assert "made.qoi: cannot be written (Unsupported QOI image mode); give another" in line_of(
        capsys, "grey.png", "made.qoi", "-c", "contrast")
    assert sorted(os.listdir()) == ["grey.png", "photo.png", "wide.png"]


def test_too_little_memory_is_one_line(folder, capsys, monkeypatch):
    def fails(*args, **kwargs):
        raise MemoryError("Unable to allocate 206. MiB")
    monkeypatch.setattr("corruptions.commands.read_image", fails)
    with pytest.raises(SystemExit) as stop:
        main(["photo.png", "made.png", "-c", "contrast"])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and "error: not enough memory (Unable to allocate 206. MiB); give smaller" in line


def test_the_list_has_every_constant(capsys):
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        f"{name}: {corruption.summary}" for name, corruption in CORRUPTIONS.items()]
    main(["list", "fog", "jpeg_compression"])
    text = capsys.readouterr().out
    assert "  JPEG quality (whole)\n     32  80  |  65  |  58  |  50  |  40\n" in text
    for size in SEVERITY_CONSTANTS:
        row = "  |  ".join(f"{a:g} {b:g}" for a, b in SEVERITY_CONSTANTS[size]["fog"])
        assert f"  {size:5d}  {row}\n" in text


@pytest.mark.parametrize("names, part", [
    (("test_images", "test_labels"), None), (("val_images", "val_labels"), "val"), (("x_test", "y_test"), None),
    (("x_train", "y_train"), "train"), (("images", "labels"), None), (("x", "y"), None), (("data", "labels"), None),
    (("images", "y"), None), (("x_test", "targets"), None)])
def test_an_npz_file_has_images_and_labels(folder, names, part):
    more = {"train_images": GREY[:2], "train_labels": np.arange(2)} if names[0].endswith("_images") else {}
    np.savez_compressed("set.npz", **{names[0]: GREY, names[1]: np.arange(6)[:, None]}, **more)
    main(["array", "set.npz", "out", "-c", "contrast", "--layout", "stacked", "--workers", "1",
          *(["--part", part] if part else [])])
    made = np.load("out/contrast.npy")
    np.testing.assert_array_equal(made, np.concatenate([corrupt(GREY[..., None], "contrast", severity)[..., 0]
                                                        for severity in range(1, 6)]))
    assert np.load("out/labels.npy").tolist() == list(range(6)) * 5


def test_an_array_at_severities_between_two(folder):
    np.save("images.npy", PIXELS[None])
    np.save("labels.npy", np.array([3]))
    main(["array", "images.npy", "out", "-c", "fog", "--severity", "2", "2.5", "--labels", "labels.npy", "--workers",
          "1"])
    for severity in (2, 2.5):
        np.testing.assert_array_equal(np.load(f"out/{severity}/fog.npy"), corrupt(PIXELS[None], "fog", severity))
    np.save("labels.npy", np.array([4]))
    with pytest.raises(SystemExit):
        main(["array", "images.npy", "out", "-c", "snow", "--severity", "1.5", "--labels", "labels.npy"])
    assert sorted(os.listdir("out")) == ["2", "2.5", "settings.json"]


def test_labels_that_are_not_one_number_each_are_left_out_but_not_of_a_stacked_set(folder, capsys):
    np.savez("chest.npz", test_images=GREY, test_labels=np.ones((6, 14), int))
    assert "chest.npz: int64 of shape (6, 14), but 6 images need" in line_of(
        capsys, "array", "chest.npz", "out", "-c", "contrast", "--layout", "stacked")
    main(["array", "chest.npz", "out", "-c", "contrast", "--severity", "1", "--workers", "1"])
    assert "has 14 labels for each image, and labels.npy has one; they are left out" in capsys.readouterr().err
    assert "labels.npy" not in os.listdir("out/1")


@pytest.mark.parametrize("content, words, message", [
    ({"foo": GREY}, [], "has foo, and none of test_images, x_test, images"),
    ({"images": GREY}, ["--part", "val"], "has images, and none of val_images, x_val"),
    ({"images": GREY, "labels": np.arange(6)}, ["--labels", "labels.npy"], "set.npz has labels; leave one of them out"),
    ({"images": GREY.astype(float)}, [], "arrays of uint8"), (None, [], "not an .npz file of arrays"),
    ({"images": GREY, "labels": np.arange(5)}, [], "6 images need integers"),
    ({"images": GREY, "labels": np.arange(6) / 2}, [], "6 images need integers"),
    (b"\x93NUMPY", [], "not an .npz file of arrays"), ({"images": np.array(3)}, [], "arrays of uint8"),
    ({"images": GREY}, ["--layout", "stacked"], "has labels.npy beside the arrays")])
def test_an_npz_file_that_does_not_do_is_one_line(folder, capsys, content, words, message):
    np.save("labels.npy", np.arange(6))
    if isinstance(content, bytes):
        with open("set.npz", "wb") as file:
            np.save(file, GREY)
    elif content is None:
        np.savez("set.npz", images=GREY)
        os.truncate("set.npz", 1000)
    else:
        np.savez("set.npz", **content)
    assert message in line_of(capsys, "array", "set.npz", "out", "-c", "contrast", *words)
    assert not os.path.exists("out")


def test_members_of_an_npz_file_that_are_no_arrays(folder, capsys):
    with zipfile.ZipFile("set.npz", "w") as file:
        file.writestr("images", b"pixels")
    assert "set.npz: holds more than arrays" in line_of(capsys, "array", "set.npz", "out", "-c", "fog")


def test_labels_that_differ_from_those_in_the_target_are_an_error(folder, capsys):
    for labels in (np.arange(6), np.zeros(6, int)):
        np.savez("SET.NPZ", images=GREY, labels=labels)
        os.rename("SET.NPZ.npz", "SET.NPZ")
        command = ["array", "SET.NPZ", "out", "-c", "contrast", "--severity", "1.5", "--workers", "1"]
        if labels.any():
            main(command)
            capsys.readouterr()
    assert "has other labels than SET.NPZ" in line_of(capsys, *command)


def test_shards_at_severities_between_two(folder, capsys):
    os.mkdir("some")
    for name in "abcd":
        Image.fromarray(PIXELS).save(f"some/{name}.png")
    command = ["folder", "some", "out", "-c", "brightness", "--workers", "1", "--severity"]
    main([*command, "2.5", "--shard", "1/2"])
    assert "shards that have not ended: 2" in capsys.readouterr().out
    main([*command, "3"])
    assert "begun by other commands and not ended: brightness/2.5" in capsys.readouterr().out
    main([*command, "2.5", "--shard", "2/2"])
    assert capsys.readouterr().out.endswith("written to out\n") and len(os.listdir("out/brightness/2.5")) == 4


def test_options_may_come_before_the_image(folder):
    main(["-c", "contrast", "photo.png", "out.png"])
    np.testing.assert_array_equal(read_image("out.png"), corrupt(PIXELS, "contrast", 3))


def test_a_mistake_leaves_no_folder(folder, capsys):
    line_of(capsys, "photo.png", "new/dir/out.png", "-c", "fog", "--constants", "-1", "2")
    assert not os.path.exists("new")


def test_a_list_that_nobody_reads_to_the_end(folder):
    done = subprocess.run(f"{sys.executable} -m corruptions list | head -1", shell=True, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": ROOT}, timeout=60)
    assert done.stdout.startswith("gaussian_noise: ") and done.stderr == ""


def test_processors_are_counted_as_joblib_counts_them(monkeypatch):
    """A container may have a quota of fewer processors than the machine."""
    assert 1 <= cli.cpu_count() <= os.cpu_count()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert cli.cpu_count() == 1


def test_the_version_is_shown(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"{__version__}\n"


def test_a_preview_shows_the_pixels_of_the_command_image(folder, monkeypatch):
    main(["photo.png", "one.png", "-c", "snow", "--severity", "2"])
    shown = {}
    monkeypatch.setattr("corruptions.commands.plot_image_sheet", lambda path, images: shown.update(images))
    main(["preview", "photo.png", "-c", "snow", "--severity", "2"])
    np.testing.assert_array_equal(shown["snow"], read_image("one.png"))


@pytest.mark.parametrize("suffix", [".eps", ".ico", ".icns", ".xbm", ".h5", ".blp"])
def test_a_format_that_cannot_hold_any_image_is_no_target(folder, capsys, suffix):
    assert "no suffix of an image file" in line_of(capsys, "photo.png", f"made{suffix}", "-c", "contrast")
    assert not os.path.exists(f"made{suffix}")


def test_a_part_of_an_array_is_an_error(folder, capsys):
    np.save("images.npy", GREY)
    assert "--part val: only an .npz file has parts" in line_of(capsys, "array", "images.npy", "out", "-c", "fog",
                                                                "--part", "val")


def test_images_that_take_different_tables_give_a_warning(folder, capsys):
    os.mkdir("mixed")
    for name, side in (("a", 140), ("b", 150), ("c", 151)):
        Image.new("RGB", (side, side)).save(f"mixed/{name}.png")
    command = ["folder", "mixed", "out", "-c", "lines", "contrast", "--severity", "1", "--workers", "1"]
    main(command)
    assert capsys.readouterr().err.splitlines()[0] == (
        "warning: by their size, images take different constants of contrast: 1 those for 64x64, 2 those for 224x224; "
        "--preset takes one table for all")
    main(["folder", "mixed", "same", "--severity", "1", "--workers", "1", "-c", "contrast", "--preset", "299"])
    assert "warning" not in capsys.readouterr().err


def test_times_beside_other_libraries_are_measured(folder):
    """Libraries that are not installed are left out, with a warning."""
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "benchmarks", "libraries.py"), "-o", "times.csv",
                           "--size", "32", "--rounds", "1", "-c", "fog", "contrast"], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    with open("times.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["library"] == "here"]
    assert [(row["corruption"], row["size"]) for row in rows] == [("fog", "32"), ("contrast", "32")]
    assert all(0 < float(row["milliseconds"]) < 1000 for row in rows)
