"""The identity of images: what is reused or resumed is what was asked for."""
import os
import shutil
import sqlite3
import time

import numpy as np
import pytest
from PIL import Image

import main
from corruptions import Options, corrupt
from corruptions import __main__ as generator
from corruptions.jobs.provenance import record_path
from corruptions.utils import checksums
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, write_json
from corruptions.utils.signals import Interrupted
from corruptions.weather import FROST_FILES
from dataset import load_source
from dataset.corrupted import load_corrupted, open_corrupted
from dataset.fingerprints import joint_fingerprint
from dataset.stored import corrupted_path, severity_folder
from tests.cifar_files import make_cifar
from tests.image_trees import make_folder
from tests.test_main import arguments, only_run
from utils.fingerprint import Fingerprint, difference


@pytest.fixture
def data(tmp_path):
    """A data folder with a small CIFAR-10, of which fog is stored."""
    folder = str(tmp_path / "data")
    os.mkdir(folder)
    make_cifar(folder)
    load_corrupted(folder, load_source("cifar10", folder), "fog", 6)
    return folder


def replace_arrays(folder, name, part="test", pixels=0):
    """Put somebody else's arrays, all of one colour, in the place of those that were made."""
    for severity in range(1, 6):
        path = corrupted_path(folder, load_source("cifar10", folder), part, severity, name)
        np.save(path, np.full_like(np.load(path), pixels))


def change_clean_pixels(folder):
    path = os.path.join(folder, "cifar-10-batches-bin", "test_batch.bin")
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(bytes(200))


def fog(folder, where="auto"):
    return joint_fingerprint(open_corrupted(folder, load_source("cifar10", folder), "test", "fog", where))


# Fingerprints

@pytest.mark.parametrize("change, words", [
    ({}, None), ({"images": 4}, "3 images before, 4 now"), ({"labels": "x"}, "other labels"),
    ({"pixels": "x"}, "other pixels"),
    ({"pixels": None, "made": {"severity": 1}}, "of unknown origin before, made by this program now"),
    ({"made": {"severity": 1}}, None),  # a record that got lost meanwhile
])
def test_what_differs_is_said(change, words):
    before = Fingerprint(3, "labels", "pixels")
    assert difference(before, Fingerprint(**{**before.to_dict(), **change})) == words


def test_how_images_were_made_is_compared_and_survives_json():
    before = Fingerprint(3, made={"clean_images": "a", "corruption": "fog", "seed": 0})
    now = Fingerprint(3, made={"clean_images": "b", "corruption": "fog", "seed": 0})
    assert difference(before, before) is None and difference(before, now) == "another clean images"
    assert Fingerprint.from_dict(before.to_dict()) == before
    for damaged in (None, [], {"images": 3}, {**before.to_dict(), "made": "fog"}, {**before.to_dict(), "more": 1}):
        assert Fingerprint.from_dict(damaged) is None


def test_stored_images_are_those_that_would_be_made(data, capsys):
    assert difference(fog(data, "disk"), fog(data, "memory")) is None
    assert fog(data).made["severity"] == [1, 2, 3, 4, 5]
    capsys.readouterr()
    replace_arrays(data, "fog")
    assert difference(fog(data, "disk"), fog(data, "memory")) == "of unknown origin before, made by this program now"
    path = corrupted_path(data, load_source("cifar10", data), "test", 1, "fog")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5 and (f"warning: {path}: is not what {path}.json says, so it was damaged or replaced; delete "
                                "both so that it is made again, or fog.npy.json alone if it is meant") in lines
    black = fog(data)
    replace_arrays(data, "fog", pixels=1)
    assert difference(black, fog(data)) == "other pixels"


def test_arrays_without_a_record_are_known_by_their_pixels(data, tmp_path):
    shutil.copytree(data, tmp_path / "copy")
    for folder in (data, tmp_path / "copy"):
        for severity in range(1, 6):
            os.remove(record_path(corrupted_path(folder, load_source("cifar10", str(folder)), "test", severity, "fog")))
    assert fog(data).made is None and fog(data) == fog(str(tmp_path / "copy"))


def test_stored_files_are_those_that_would_be_made(tmp_path):
    folder = str(tmp_path / "data")
    make_folder(folder, (3, 2))
    source = load_source("folder", folder, image_size=16)
    memory = joint_fingerprint(open_corrupted(folder, source, "test", "fog", "memory"))
    load_corrupted(folder, source, "fog", 6, where="disk")
    assert difference(joint_fingerprint(open_corrupted(folder, source, "test", "fog", "disk")), memory) is None
    path = os.path.join(severity_folder(f"{folder}-C/test", "fog", 3), "barn", "barn_1.jpg")
    [path] = [path] if os.path.exists(path) else [path.replace(".jpg", ".JPEG")]
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    changed = joint_fingerprint(open_corrupted(folder, source, "test", "fog", "disk"))
    assert difference(memory, changed) == "made by this program before, of unknown origin now"


def make_in_shards(folder, number, name, shards):
    """Make a folder of images (`number` as in `make_folder`) and corrupt it shard by shard.

    Returns:
        list of str: words of the command without `--shard`.
    """
    make_folder(folder, number)
    command = ["dataset", "folder", "--data_dir", folder, "--image_size", "16", "-c", name, "--workers", "1"]
    for shard in shards:
        assert ends_with(generator.main, *command, "--shard", shard) == 0
    return command


def test_a_set_that_somebody_has_changed_gets_no_record(tmp_path):
    """Neither by a repeated shard nor by a command that makes one image that is missing."""
    folder = str(tmp_path / "data")
    command = make_in_shards(folder, (4, 3), "fog", ("1/2", "2/2"))
    source = load_source("folder", folder, image_size=16)
    memory = joint_fingerprint(open_corrupted(folder, source, "test", "fog", "memory"))
    assert difference(joint_fingerprint(open_corrupted(folder, source, "test", "fog", "disk")), memory) is None
    names = os.listdir(os.path.join(f"{folder}-C", "test", "fog", "1", "barn"))
    for severity in ("1", "2"):
        for name in names:
            path = os.path.join(f"{folder}-C", "test", "fog", severity, "barn", name)
            Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path, "JPEG")
    assert ends_with(generator.main, *command, "--shard", "2/2") == 0
    os.remove(os.path.join(f"{folder}-C", "test", "fog", "2", "acorn", os.listdir(f"{folder}-C/test/fog/2/acorn")[0]))
    assert ends_with(generator.main, *command) == 0
    changed = joint_fingerprint(open_corrupted(folder, source, "test", "fog", "disk"))
    assert difference(memory, changed) == "made by this program before, of unknown origin now"


def test_a_set_that_is_taken_for_another_is_named(data, capsys):
    """The array of a severity, with its record, in the place of another one."""
    source = load_source("cifar10", data)
    low, high = (corrupted_path(data, source, "test", severity, "fog") for severity in (1, 5))
    for path in (low, record_path(low)):
        shutil.copy(path.replace(low, high), path)
    with pytest.raises(UserError, match=f"{low}: was made with severity 5; delete it"):
        open_corrupted(data, source, "test", "fog")


def test_settings_that_cannot_be_read_are_named(data):
    source = load_source("cifar10", data)
    source.check_run({"fingerprints": {"test": source.test_fingerprint.to_dict()}}, "RUN")
    with pytest.raises(UserError, match="RUN: its entry about the test images is damaged"):
        source.check_run({"fingerprints": {"test": {**source.test_fingerprint.to_dict(), "more": 1}}}, "RUN")


def test_a_changed_picture_of_the_same_size_is_noticed(tmp_path):
    """A BMP has as many bytes whatever it shows."""
    folder = str(tmp_path / "data")
    make_folder(folder, (3, 2))
    path = os.path.join(folder, "test", "barn", "own.bmp")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    load_corrupted(folder, load_source("folder", folder, image_size=16), "contrast", 2, where="disk")
    Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(path)
    with pytest.raises(UserError, match="own.bmp: was another when .* was made"):
        load_corrupted(folder, load_source("folder", folder, image_size=16), "contrast", 2, where="disk")


# Checksums that are kept

def forget(monkeypatch):
    """Clear the caches, as a new process would."""
    monkeypatch.setattr(checksums, "_computed", {})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "FRESH_SECONDS", -10)
    forget(monkeypatch)
    read = []
    real = checksums.file_checksum
    monkeypatch.setattr(checksums, "file_checksum", lambda path: read.append(os.path.basename(path)) or real(path))
    return read


def test_a_file_is_read_once_and_again_when_it_has_changed(cache, tmp_path, monkeypatch):
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        with open(path, "wb") as file:
            file.write(b"content of " + path[-1].encode())
    first = checksums.file_checksums(paths)
    assert checksums.file_checksums(paths) == first and sorted(cache) == ["a", "b"]
    forget(monkeypatch)
    assert checksums.file_checksums(paths) == first and sorted(cache) == ["a", "b"]
    times = os.stat(paths[0])
    with open(paths[0], "r+b") as file:
        file.write(b"CONTENT")  # as many bytes, and the times that the file had
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    second = checksums.file_checksums(paths)
    assert second[0] != first[0] and second[1] == first[1] and cache[2:] == ["a"]


def test_a_file_that_has_just_changed_is_read_again(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "FRESH_SECONDS", 3600)
    (tmp_path / "a").write_bytes(b"content")
    for _ in range(2):
        checksums.file_checksums([str(tmp_path / "a")])
    assert cache == ["a", "a"]


@pytest.mark.parametrize("damage", ["file", "folder", "rows", "bytes"])
def test_without_its_cache_everything_is_read(cache, tmp_path, damage, monkeypatch, capsys):
    """One that is damaged is made anew; where there can be none, a line says so."""
    (tmp_path / "a").write_bytes(b"content")
    first = checksums.file_checksums([str(tmp_path / "a")])
    forget(monkeypatch)
    if damage == "bytes":
        with open(checksums.cache_path(), "wb") as file:
            file.write(b"no database" * 100)
    elif damage == "rows":
        with sqlite3.connect(checksums.cache_path()) as database:
            database.execute("DROP TABLE checksums")
            database.execute("CREATE TABLE checksums (something TEXT)")
    else:
        shutil.rmtree(tmp_path / "cache")
        os.makedirs(checksums.cache_path()) if damage == "folder" else (tmp_path / "cache").write_text("no folder")
    assert checksums.file_checksums([str(tmp_path / "a")]) == first and cache == ["a", "a"]
    is_usable = damage in ("rows", "bytes")
    assert capsys.readouterr().err.count("cannot be used") == (not is_usable)
    forget(monkeypatch)
    assert checksums.file_checksums([str(tmp_path / "a")]) == first and len(cache) == 3 - is_usable


def test_a_stop_keeps_what_was_read(cache, tmp_path, monkeypatch):
    paths = [str(tmp_path / f"{k}") for k in range(6)]
    for path in paths:
        with open(path, "w") as file:
            file.write(path)

    def stop():
        raise Interrupted(2)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(checksums, "FILES_AT_ONCE", 2)
        patch.setattr(checksums, "raise_if_interrupted", stop)
        checksums.file_checksums(paths)
    assert sorted(cache) == ["0", "1"]
    forget(monkeypatch)
    checksums.file_checksums(paths)
    assert sorted(cache) == ["0", "1", "2", "3", "4", "5"]


def test_a_part_of_a_mapped_array_has_a_hash_of_its_own(cache, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    for _ in range(2):
        mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
        for part in (slice(None), slice(2, 5), slice(5, 8), slice(0, 9, 3)):
            assert checksums.array_digest(mapped[part]) == checksums.array_digest(values[part])
    time.sleep(0.01)
    np.save(tmp_path / "a.npy", values[::-1])
    assert checksums.array_digest(np.load(tmp_path / "a.npy", mmap_mode="r")) == checksums.array_digest(values[::-1])


# Commands

def ends_with(command, *argv):
    try:
        command([*argv])
    except SystemExit as stop:
        return stop.code
    return 0


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_a_stored_set_of_other_images_is_an_error(data, capsys):
    command = ["dataset", "cifar10", "--data_dir", data, "-c", "fog"]
    assert ends_with(generator.main, *command) == 0
    change_clean_pixels(data)
    assert ends_with(generator.main, *command) == 2
    assert "fog.npy: was made from other images than there are now; delete it" in last_line(capsys)


@pytest.fixture
def begun(data, tmp_path, monkeypatch):
    """The folder of a run that has begun and not taken a step."""
    def stops(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("losses.training.run.run", stops)
    assert ends_with(main.main, *arguments(data, tmp_path / "logs", "-c", "fog", "--method", "erm")) == 130
    return only_run(tmp_path / "logs")


def test_a_run_goes_on_with_the_corrupted_images_that_it_had(begun, data, capsys):
    assert set(read_json(f"{begun}/config.json")["fingerprints"]) == {"train", "test", "train_corrupted",
                                                                      "test_corrupted"}
    assert ends_with(main.main, "--resume", begun, "--corrupted_from", "memory") == 130  # the same ones
    for part, word in (("test", "corrupted test"), ("train", "corrupted training")):
        replace_arrays(data, "fog", part)
        assert ends_with(main.main, "--resume", begun) == 2
        assert f"{begun}: had other {word} images than there are now (other pixels)" in last_line(capsys)
    assert ends_with(main.main, "--resume", begun, "--corrupted_from", "memory") == 130


def test_a_run_of_an_earlier_version_goes_on(begun, data):
    """Its settings have a hash of the clean images alone."""
    settings = read_json(f"{begun}/config.json")
    del settings["fingerprints"]
    source = load_source("cifar10", data)
    hashes = {part: source._sha256(part) for part in ("train", "test")}
    write_json(f"{begun}/config.json", {**settings, "images_sha256": hashes})
    replace_arrays(data, "fog")
    assert ends_with(main.main, "--resume", begun) == 130
    write_json(f"{begun}/config.json", {**settings, "images_sha256": {**hashes, "train": "0"}})
    assert ends_with(main.main, "--resume", begun) == 2


def test_published_images_may_move_and_not_change(data, tmp_path, monkeypatch, capsys):
    labels = load_source("cifar10", data).labels["test"]
    for place, pixels in (("x", 3), ("y", 4)):
        os.makedirs(tmp_path / place / "C")
        np.save(tmp_path / place / "C" / "labels.npy", np.tile(labels, 5))
        np.save(tmp_path / place / "C" / "fog.npy", np.full((5 * len(labels), 32, 32, 3), pixels, np.uint8))
    shutil.copytree(tmp_path / "x", tmp_path / "z")

    def stops(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("losses.training.run.run", stops)
    assert ends_with(main.main, *arguments(data, tmp_path / "logs", "-c", "fog", "--method", "erm", "--test_corrupted",
                                           str(tmp_path / "x" / "C"))) == 130
    run = only_run(tmp_path / "logs")
    assert ends_with(main.main, "--resume", run, "--test_corrupted", str(tmp_path / "z" / "C")) == 130
    assert ends_with(main.main, "--resume", run, "--test_corrupted", str(tmp_path / "y" / "C")) == 2
    assert "had other corrupted test images than there are now (other pixels)" in last_line(capsys)


def make_textures(folder, grey):
    os.makedirs(folder)
    for name in FROST_FILES:
        Image.fromarray(np.full((80, 80, 3), grey, np.uint8)).save(os.path.join(folder, name))


@pytest.mark.parametrize("kind", ["array", "folder"])
def test_frost_textures_are_known_by_what_they_show(kind, tmp_path, monkeypatch, capsys):
    make_textures(tmp_path / "one" / "frost", 200)
    make_textures(tmp_path / "two" / "frost", 90)
    np.save(tmp_path / "images.npy", np.full((3, 16, 16, 3), 50, np.uint8))
    os.mkdir(tmp_path / "images")
    Image.fromarray(np.full((16, 16, 3), 50, np.uint8)).save(tmp_path / "images" / "a.png")
    source = str(tmp_path / ("images.npy" if kind == "array" else "images"))

    def make(place, *more):
        monkeypatch.chdir(tmp_path / place)
        return ends_with(generator.main, kind, source, str(tmp_path / "out"), "--severity", "3", "--workers", "1",
                         *more)
    assert make("one", "-c", "frost", "--frost_dir", "frost") == 0
    assert make("one", "-c", "frost", "--frost_dir", "./frost") == 0
    assert make("two", "-c", "frost", "--frost_dir", "../one/frost") == 0
    assert make("two", "-c", "fog") == 0
    assert make("two", "-c", "frost", "--frost_dir", "frost") == 2
    assert "was made with other settings (frost_textures; see settings.json there)" in last_line(capsys)
    write_json(str(tmp_path / "out" / "settings.json"), {**{key: value for key, value in read_json(
        str(tmp_path / "out" / "settings.json")).items() if key != "frost_textures"}, "frost_dir": "frost"})
    assert make("two", "-c", "frost", "--frost_dir", "../one/frost") == 2  # an earlier version wrote the name alone
    assert make("one", "-c", "frost", "--frost_dir", "frost") == 0


def test_frost_textures_that_change_are_read_again(tmp_path):
    image, options = np.full((16, 16, 3), 50, np.uint8), Options(frost_dir=str(tmp_path / "frost"))
    make_textures(tmp_path / "frost", 50)
    dark = corrupt(image, "frost", 3, options=options)
    shutil.rmtree(tmp_path / "frost")
    make_textures(tmp_path / "frost", 250)
    assert corrupt(image, "frost", 3, options=options).min() > dark.max()


@pytest.mark.parametrize("mode, is_other", [("RGBA", True), ("P", True), ("RGB", False)])
def test_an_earlier_version_showed_transparency_otherwise(mode, is_other, tmp_path, capsys):
    """Its settings do not name the colour behind it."""
    os.mkdir(tmp_path / "in")
    Image.new("L" if mode == "P" else mode, (16, 16)).convert(mode).save(tmp_path / "in" / "a.png")
    command = ["folder", str(tmp_path / "in"), str(tmp_path / "out"), "-c", "contrast", "--workers", "1", "--severity"]
    assert ends_with(generator.main, *command, "1") == 0
    path = str(tmp_path / "out" / "settings.json")
    settings = read_json(path)
    assert settings.pop("transparency") == "white"
    write_json(path, settings)
    assert ends_with(generator.main, *command, "2") == (2 if is_other else 0)
    if is_other:
        assert "a.png: has transparency or a grey palette, which the earlier version" in last_line(capsys)
    else:
        assert read_json(path)["transparency"] == "white"


def test_the_record_of_a_set_is_of_the_images_that_it_was_made_of(tmp_path):
    """A repeated shard does not look at the images of the others, one of which has changed."""
    folder = str(tmp_path / "data")
    command = make_in_shards(folder, (4, 2), "contrast", ("2/2", "1/2"))
    record = record_path(severity_folder(f"{folder}-C/train", "contrast", 1))
    before, names = read_json(record), load_source("folder", folder).images["train"].names
    path = os.path.join(folder, "train", names[1])
    with open(path, "rb") as file:
        content = file.read()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    assert ends_with(generator.main, *command, "--shard", "1/2") == 0
    assert read_json(record) == before
    with open(path, "wb") as file:
        file.write(content)
    assert ends_with(generator.main, *command) == 0 and read_json(record) == before
