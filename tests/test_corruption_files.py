"""python -m corruptions: what it writes, how it resumes, what it says to bad input."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import corruptions.files
from corruptions import Options, corrupt
from corruptions.__main__ import main
from corruptions.files import partial_path, write_arrays

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture
def array(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (300, 16, 16, 3)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    return images


@pytest.fixture
def folder(tmp_path):
    """Ten images of two classes: colour PNGs of two sizes and grey JPEGs."""
    rng = np.random.RandomState(0)
    for k in range(10):
        path = tmp_path / "in" / ("ant" if k % 2 else "bee")
        path.mkdir(parents=True, exist_ok=True)
        shape = (20, 30, 3) if k % 3 else (24, 24)
        suffix = "png" if k % 3 else "JPEG"
        Image.fromarray(rng.randint(0, 256, shape).astype(np.uint8)).save(path / f"{k}.{suffix}")
    return str(tmp_path / "in")


def files_below(path):
    return sorted(os.path.relpath(os.path.join(root, file), path) for root, _, files in os.walk(path) for file in files)


def contents(path):
    result = {}
    for name in files_below(path):
        with open(os.path.join(path, name), "rb") as file:
            result[name] = file.read()
    return result


def test_array(array, tmp_path, capsys):
    out = str(tmp_path / "out")
    main(["array", str(tmp_path / "images.npy"), out, "-c", "fog", "contrast", "--severity", "2", "5", "--seed", "3",
          "--workers", "2"])
    assert files_below(out) == ["2/contrast.npy", "2/fog.npy", "5/contrast.npy", "5/fog.npy", "settings.json"]
    np.testing.assert_array_equal(np.load(os.path.join(out, "5", "fog.npy")), corrupt(array, "fog", 5, 3))
    stamps = [os.stat(os.path.join(out, name)).st_mtime_ns for name in files_below(out)]
    main(["array", str(tmp_path / "images.npy"), out, "-c", "fog", "contrast", "--severity", "2", "5", "--seed", "3"])
    assert stamps == [os.stat(os.path.join(out, name)).st_mtime_ns for name in files_below(out)]


def test_array_does_not_depend_on_workers(array, tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.files.CHUNK_PIXELS", 37 * 16 * 16)
    for workers in (1, 2):
        path = str(tmp_path / f"{workers}.npy")
        write_arrays(array, {3: path}, "snow", 7, Options(), workers, False, "")
        np.testing.assert_array_equal(np.load(path), corrupt(array, "snow", 3, 7))


def test_array_resumes_where_it_was(array, tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.files.CHUNK_PIXELS", 70 * 16 * 16)
    paths = {severity: str(tmp_path / "out" / str(severity) / "snow.npy") for severity in (1, 2)}
    real, parts = corruptions.files.corrupt_range, []

    def stops_early(images, name, severity, seed, start, options):
        if (severity, start) == (2, 140) and (2, 140) not in parts:
            parts.append((severity, start))
            raise KeyboardInterrupt
        parts.append((severity, start))
        return real(images, name, severity, seed, start, options)
    monkeypatch.setattr("corruptions.files.corrupt_range", stops_early)
    with pytest.raises(KeyboardInterrupt):
        write_arrays(array, paths, "snow", 0, Options(), 1, False, "")
    assert not [name for name in files_below(tmp_path / "out") if name.endswith("snow.npy")]
    parts.remove((2, 140))
    before = len(parts)
    parts.append((2, 140))
    write_arrays(array, paths, "snow", 0, Options(), 1, False, "")
    assert parts[before + 1:] == [(2, 140), (2, 210), (2, 280)]
    assert files_below(tmp_path / "out") == ["1/snow.npy", "2/snow.npy"]
    for severity, path in paths.items():
        np.testing.assert_array_equal(np.load(path), corrupt(array, "snow", severity, 0))


def test_array_starts_anew_when_the_images_have_changed(array, tmp_path):
    path = str(tmp_path / "out" / "1" / "fog.npy")
    os.makedirs(os.path.dirname(path))
    with open(partial_path(path), "wb") as file:
        file.write(b"left over from other images" * 1000)
    write_arrays(array, {1: path}, "fog", 0, Options(), 1, False, "")
    np.testing.assert_array_equal(np.load(path), corrupt(array, "fog", 1, 0))


def test_array_starts_anew_when_only_its_journal_is_left(array, tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.files.CHUNK_PIXELS", 100 * 16 * 16)
    path = str(tmp_path / "fog.npy")
    real = corruptions.files.corrupt_range

    def stops_early(images, name, severity, seed, start, options):
        if start == 200:
            raise KeyboardInterrupt
        return real(images, name, severity, seed, start, options)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("corruptions.files.corrupt_range", stops_early)
        write_arrays(array, {1: path}, "fog", 0, Options(), 1, False, "")
    os.remove(partial_path(path))
    write_arrays(array, {1: path}, "fog", 0, Options(), 1, False, "")
    np.testing.assert_array_equal(np.load(path), corrupt(array, "fog", 1, 0))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_folder(folder, tmp_path, workers):
    out = str(tmp_path / "out")
    main(["folder", folder, out, "-c", "snow", "--severity", "3", "--format", "png", "--workers", workers])
    names = sorted(os.path.join(root[len(folder) + 1:], file) for root, _, files in os.walk(folder) for file in files)
    assert files_below(out) == sorted([f"snow/3/{os.path.splitext(name)[0]}.png" for name in names] + ["settings.json"])
    from corruptions import CORRUPTIONS
    from corruptions.generate import image_stream
    for index, name in enumerate(names):
        expected = CORRUPTIONS["snow"](np.asarray(Image.open(os.path.join(folder, name))), 3,
                                       image_stream(0, "snow", 3, index))
        stored = np.asarray(Image.open(os.path.join(out, "snow", "3", os.path.splitext(name)[0] + ".png")))
        np.testing.assert_array_equal(stored, expected)


def test_folder_that_was_killed_goes_on(folder, tmp_path):
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    command = [sys.executable, "-m", "corruptions", "folder", folder, killed, "-c", "all", "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.time() + 60
    while not os.path.isdir(os.path.join(killed, "gaussian_noise")) and time.time() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for name in files_below(killed):
        if not os.path.basename(name).startswith(".") and name != "settings.json":
            Image.open(os.path.join(killed, name)).load()
    open(os.path.join(killed, ".12345.partial.3.jpg"), "wb").close()
    for target in (whole, killed):
        main(["folder", folder, target, "-c", "all", "--workers", "1"])
    assert contents(whole) == contents(killed)
    assert len(contents(whole)) == 10 * 19 * 5 + 1


def test_jpeg_names_keep_their_suffix(folder, tmp_path):
    main(["folder", folder, str(tmp_path / "out"), "-c", "contrast", "--severity", "1", "--workers", "1"])
    assert "contrast/1/bee/0.JPEG" in files_below(tmp_path / "out")
    assert "contrast/1/ant/1.jpg" in files_below(tmp_path / "out")


def test_photos_lie_where_training_reads_them(tmp_path, capsys):
    main(["dataset", "photos", "-c", "contrast", "--data_dir", str(tmp_path), "--workers", "1"])
    names = files_below(tmp_path / "photos-C")
    assert names == sorted(f"{part}/{s}/{name}.npy" for part in ("train", "test") for s in range(1, 6)
                           for name in ("contrast", "labels"))
    assert "photos-C" in capsys.readouterr().out


def test_imagenet30_lies_in_the_releases_layout(tmp_path):
    for part in ("train", "test"):
        folder = tmp_path / "ImageNet-30-64" / part / "acorn"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "x.JPEG", "JPEG")
    main(["dataset", "imagenet30", "-c", "fog", "--data_dir", str(tmp_path), "--workers", "1"])
    assert "train/fog/3/acorn/x.JPEG" in files_below(tmp_path / "ImageNet-30-64-C")
    assert "test/fog/5/acorn/x.JPEG" in files_below(tmp_path / "ImageNet-30-64-C")


def test_preview(folder, tmp_path):
    main(["preview", os.path.join(folder, "ant", "1.png"), "-o", str(tmp_path / "p.png"), "-c", "fog", "snow"])
    with Image.open(tmp_path / "p.png") as image:
        assert image.width > image.height > 100


def one_line(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning:")]
    assert "error: " in line
    return line


def test_bad_image_stops_before_anything_is_written_or_is_skipped(folder, tmp_path, capsys):
    bad = os.path.join(folder, "bee", "0.JPEG")
    with open(bad, "r+b") as file:
        file.truncate(300)
    out = str(tmp_path / "out")
    argv = ["folder", folder, out, "-c", "contrast", "--severity", "1", "--workers", "1"]
    line = one_line(capsys, argv)
    assert bad in line and "--skip-bad (1 of 10 files)" in line
    assert not os.path.exists(out)
    main([*argv, "--skip-bad"])
    assert f"warning: skipped {bad}" in capsys.readouterr().err
    assert len(files_below(out)) == 10 and "contrast/1/bee/0.JPEG" not in files_below(out)


def test_other_settings_are_refused(folder, tmp_path, capsys):
    out = str(tmp_path / "out")
    argv = ["folder", folder, out, "-c", "contrast", "--severity", "1", "--workers", "1"]
    main(argv)
    assert "(seed" in one_line(capsys, [*argv, "--seed", "1"])
    os.makedirs(tmp_path / "mine")
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    assert "thesis" not in one_line(capsys, ["folder", folder, str(tmp_path / "mine"), "-c", "fog"])
    assert files_below(tmp_path / "mine") == ["thesis.txt"]


@pytest.mark.parametrize("argv, culprit", [
    (["array", "nowhere.npy", "out", "-c", "fog"], "nowhere.npy"),
    (["array", "float.npy", "out", "-c", "fog"], "float.npy"),
    (["array", "channels.npy", "out", "-c", "fog"], "channels.npy"),
    (["array", "broken.npy", "out", "-c", "fog"], "broken.npy"),
    (["array", "images.npy", "out", "-c", "fog", "--severity", "0"], "--severity"),
    (["array", "images.npy", "out", "-c", "fog", "--severity", "6"], "--severity"),
    (["array", "images.npy", "out", "-c", "smog"], "smog"),
    (["array", "images.npy", "images.npy/out", "-c", "fog"], "images.npy/out"),
    (["folder", "nowhere", "out", "-c", "fog"], "nowhere"),
    (["folder", ".", "out", "-c", "fog"], "out"),
    (["folder", "empty", "out", "-c", "fog"], "empty"),
    (["preview", "images.npy"], "images.npy"),
    (["preview", "nowhere.png"], "nowhere.png"),
    (["dataset", "mnist", "-c", "fog"], "mnist"),
])
def test_bad_input_is_one_line(array, tmp_path, capsys, monkeypatch, argv, culprit):
    monkeypatch.chdir(tmp_path)
    np.save("float.npy", np.zeros((2, 16, 16, 3)))
    np.save("channels.npy", np.zeros((2, 16, 16, 5), np.uint8))
    with open("broken.npy", "wb") as file:
        file.write(b"\x93NUMPY\x01\x00")
    os.mkdir("empty")
    assert culprit in one_line(capsys, argv)
    assert not os.path.exists("out")


def test_full_disk_is_one_line_and_leaves_no_final_name(array, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "out"))
    monkeypatch.setattr("corruptions.files.os.fsync", full)
    line = one_line(capsys, ["array", str(tmp_path / "images.npy"), str(tmp_path / "out"), "-c", "fog"])
    assert "No space left on device" in line
    assert not [name for name in files_below(tmp_path / "out") if os.path.basename(name) == "fog.npy"]
