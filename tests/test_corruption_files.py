"""python -m corruptions array, and what all commands say to bad input."""
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import corruptions.jobs.arrays
from corruptions import Options, corrupt
from corruptions.__main__ import main
from corruptions.jobs.arrays import is_partial, journal_path, partial_path, write_arrays
from corruptions.jobs.provenance import options_identity
from corruptions.utils.checksums import array_digest
from corruptions.utils.errors import UserError
from corruptions.utils.locks import file_lock
from tests.corrupted_files import acting_as_nobody, contents, files_below, needs_root, one_line, with_records

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture
def array(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (300, 16, 16, 3)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    return images


def test_array(array, tmp_path, capsys):
    out = str(tmp_path / "out")
    main(["array", str(tmp_path / "images.npy"), out, "-c", "fog", "contrast", "--severity", "2", "5", "--seed", "3",
          "--workers", "2"])
    arrays = ["2/contrast.npy", "2/fog.npy", "5/contrast.npy", "5/fog.npy"]
    assert files_below(out) == with_records(arrays, "settings.json")
    np.testing.assert_array_equal(np.load(os.path.join(out, "5", "fog.npy")), corrupt(array, "fog", 5, 3))
    stamps = [os.stat(os.path.join(out, name)).st_mtime_ns for name in files_below(out)]
    main(["array", str(tmp_path / "images.npy"), out, "-c", "fog", "contrast", "--severity", "2", "5", "--seed", "3"])
    assert stamps == [os.stat(os.path.join(out, name)).st_mtime_ns for name in files_below(out)]


def test_array_does_not_depend_on_workers(array, tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 37 * 16 * 16)
    for workers in (1, 2):
        path = str(tmp_path / f"{workers}.npy")
        write_arrays(array, {3: path}, "snow", 7, Options(), workers, False, "")
        np.testing.assert_array_equal(np.load(path), corrupt(array, "snow", 3, 7))


def test_severities_are_one_queue_of_work(array, tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 70 * 16 * 16)
    real, queues = corruptions.jobs.arrays.parallel_map, []

    def record(workers, function, tasks):
        tasks = list(tasks)
        queues.append([task[4] for task in tasks])
        return real(workers, function, tasks)
    monkeypatch.setattr("corruptions.jobs.arrays.parallel_map", record)
    paths = {severity: str(tmp_path / f"{severity}.npy") for severity in (1, 4)}
    write_arrays(array, paths, "fog", 0, Options(), 2, False, "")
    assert queues == [[1] * 5 + [4] * 5]
    for severity, path in paths.items():
        np.testing.assert_array_equal(np.load(path), corrupt(array, "fog", severity))


def test_array_resumes_where_it_was(array, tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 70 * 16 * 16)
    paths = {severity: str(tmp_path / "out" / str(severity) / "snow.npy") for severity in (1, 2)}
    real, parts = corruptions.jobs.arrays.corrupt_range, []

    def stops_early(images, name, severity, seed, start, options):
        if (severity, start) == (2, 140) and (2, 140) not in parts:
            parts.append((severity, start))
            raise KeyboardInterrupt
        parts.append((severity, start))
        return real(images, name, severity, seed, start, options)
    monkeypatch.setattr("corruptions.jobs.arrays.corrupt_range", stops_early)
    with pytest.raises(KeyboardInterrupt):
        write_arrays(array, paths, "snow", 0, Options(), 1, False, "")
    assert not [name for name in files_below(tmp_path / "out") if name.endswith("snow.npy")]
    parts.remove((2, 140))
    before = len(parts)
    parts.append((2, 140))
    write_arrays(array, paths, "snow", 0, Options(), 1, False, "")
    assert parts[before + 1:] == [(2, 140), (2, 210), (2, 280)]
    assert files_below(tmp_path / "out") == with_records(["1/snow.npy", "2/snow.npy"])
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
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 100 * 16 * 16)
    path = str(tmp_path / "fog.npy")
    real = corruptions.jobs.arrays.corrupt_range

    def stops_early(images, name, severity, seed, start, options):
        if start == 200:
            raise KeyboardInterrupt
        return real(images, name, severity, seed, start, options)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("corruptions.jobs.arrays.corrupt_range", stops_early)
        write_arrays(array, {1: path}, "fog", 0, Options(), 1, False, "")
    os.remove(partial_path(path))
    write_arrays(array, {1: path}, "fog", 0, Options(), 1, False, "")
    np.testing.assert_array_equal(np.load(path), corrupt(array, "fog", 1, 0))


@pytest.mark.parametrize("damage", [b"", b"[1]", b"5", b"{}", b'"done"', None, -70, 70.0, True, 10 ** 30, 301, [70], 0])
def test_array_starts_anew_when_its_journal_is_damaged(array, tmp_path, damage):
    path = str(tmp_path / "fog.npy")
    with open(partial_path(path), "wb") as file:
        file.write(bytes(2 * array.nbytes))
    settings = {"name": "fog", "seed": 0, **options_identity(Options(), ["fog"]), "images": array_digest(array)}
    with open(journal_path(path), "wb") as file:
        file.write(damage if isinstance(damage, bytes) else json.dumps({**settings, "done": damage}).encode())
    write_arrays(array, {1: path}, "fog", 0, Options(), 1, False, "")
    np.testing.assert_array_equal(np.load(path), corrupt(array, "fog", 1, 0))


@pytest.mark.parametrize("damage", [
    lambda path: os.truncate(path, os.path.getsize(path) - 9), lambda path: os.truncate(path, 3),
    lambda path: np.save(path, np.load(path)[::-1])])
def test_a_finished_array_that_was_damaged_is_not_taken_as_made(array, tmp_path, capsys, damage):
    argv = ["array", str(tmp_path / "images.npy"), str(tmp_path / "out"), "-c", "contrast", "--severity", "1"]
    main(argv)
    path = tmp_path / "out" / "1" / "contrast.npy"
    whole = path.read_bytes()
    damage(path)
    line = one_line(capsys, argv)
    assert f"{path}: is damaged or something else; remove it, and the same command makes it again" in line
    path.unlink()
    main(argv)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_array_that_is_cut_off_meanwhile_is_one_line(array, tmp_path, capsys, monkeypatch, workers):
    real = corruptions.jobs.arrays.write_arrays

    def cut_off(*args):
        os.truncate(tmp_path / "images.npy", 5000)
        return real(*args)
    monkeypatch.setattr("corruptions.commands.write_arrays", cut_off)
    argv = ["array", str(tmp_path / "images.npy"), str(tmp_path / "out"), "-c", "fog", "--workers", workers]
    assert "images.npy: has become shorter" in one_line(capsys, argv)
    monkeypatch.undo()
    np.save(tmp_path / "images.npy", array)
    main([*argv, "--severity", "1"])
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "1" / "fog.npy"), corrupt(array, "fog", 1))


def test_an_array_of_other_images_is_refused(array, tmp_path, capsys):
    argv = ["array", str(tmp_path / "images.npy"), str(tmp_path / "out"), "-c", "contrast", "--severity", "1"]
    main(argv)
    before = contents(tmp_path / "out")
    array[-1, 0, 0, 0] ^= 1
    np.save(tmp_path / "images.npy", array)
    assert "was made from other images" in one_line(capsys, argv)
    assert contents(tmp_path / "out") == before
    array[-1, 0, 0, 0] ^= 1
    np.save(tmp_path / "renamed.npy", array)
    main(["array", str(tmp_path / "renamed.npy"), str(tmp_path / "out"), "-c", "fog", "--severity", "2"])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_array_in_fortrans_order(array, tmp_path, monkeypatch, workers):
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 70 * 16 * 16)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(array))
    for name in ("images", "fortran"):
        main(["array", str(tmp_path / f"{name}.npy"), str(tmp_path / name), "-c", "contrast", "snow", "--severity", "3",
              "--workers", workers])
    assert contents(tmp_path / "images") == contents(tmp_path / "fortran")


def test_a_digest_knows_every_byte_and_the_shape(monkeypatch):
    images = np.random.RandomState(0).randint(0, 256, (10, 8, 9)).astype(np.uint8)
    whole = array_digest(images)
    monkeypatch.setattr("corruptions.utils.checksums.BLOCK_BYTES", 3 * 8 * 9)
    assert array_digest(images) == array_digest(np.asfortranarray(images)) == whole
    assert whole != array_digest(images.reshape(10, 9, 8))
    for k in range(0, images.size, 53):
        images.flat[k] ^= 4
        assert array_digest(images) != whole
        images.flat[k] ^= 4


def test_an_array_that_another_process_ends_meanwhile_is_left_alone(array, tmp_path, monkeypatch):
    path = str(tmp_path / "out" / "fog.npy")

    def late(lock, guarded):
        with open(path, "wb") as file:
            file.write(b"finished by the other process")
        with open(partial_path(path) + ".json", "w") as file:
            file.write("its journal, which it was killed before it could remove")
        return file_lock(lock, guarded)
    monkeypatch.setattr("corruptions.jobs.arrays.file_lock", late)
    write_arrays(array, {1: path}, "fog", 0, Options(), 1, False, "")
    assert contents(tmp_path / "out") == {"fog.npy": b"finished by the other process"}


def test_an_array_that_another_process_is_making_is_left_alone(array, tmp_path, capsys):
    argv = ["array", str(tmp_path / "images.npy"), str(tmp_path / "out"), "-c", "fog", "--severity", "1"]
    main([*argv[:-1], "2"])
    os.makedirs(tmp_path / "out" / "1")
    path = str(tmp_path / "out" / "1" / "fog.npy")
    with file_lock(str(tmp_path / "out" / "1" / ".fog.npy.lock"), path):
        assert f"process {os.getpid()}" in one_line(capsys, argv)
        assert not is_partial(path)
    main(argv)
    assert files_below(tmp_path / "out") == with_records(["1/fog.npy", "2/fog.npy"], "settings.json")


def test_what_killed_processes_left_is_removed(array, tmp_path):
    """Locks, and journals and settings that were being written. What others may be writing stays."""
    out = tmp_path / "out"
    argv = ["array", str(tmp_path / "images.npy"), str(out), "--severity", "1", "--workers", "1", "-c"]
    main([*argv, "fog"])
    before = contents(out)
    for name in (".lock", ".0123abcd.partial.settings.json", "1/.fog.npy.lock", "1/.pixelate.npy.lock",
                 "1/.0123abcd.partial..pixelate.npy.partial.json"):
        (out / name).touch()
    main([*argv, "fog", "pixelate"])
    for name in with_records(["1/pixelate.npy"]):
        os.remove(out / name)
    (out / "1" / ".0123abcd.partial..contrast.npy.partial.json").touch()
    main([*argv, "fog"])
    assert contents(out) == {**before, "1/.0123abcd.partial..contrast.npy.partial.json": b""}


def test_locks_are_taken_in_one_order(array, tmp_path, monkeypatch):
    taken = []

    def record(lock, guarded):
        taken.append(os.path.basename(guarded))
        return file_lock(lock, guarded)
    monkeypatch.setattr("corruptions.jobs.arrays.file_lock", record)
    write_arrays(array, {s: str(tmp_path / f"{s}.npy") for s in (3, 1, 2)}, "contrast", 0, Options(), 1, False, "")
    assert taken == ["1.npy", "2.npy", "3.npy"]


def test_the_journal_never_knows_more_than_the_disk(array, tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 70 * 16 * 16)
    monkeypatch.setattr("corruptions.jobs.arrays.JOURNAL_SECONDS", -1)
    events, real = [], corruptions.jobs.arrays.write_json

    def write_journal(path, record):
        with monkeypatch.context() as patch:
            patch.setattr("corruptions.utils.files.os.fsync", lambda _: None)
            real(path, record)
        events.append(record["done"])
    monkeypatch.setattr("corruptions.jobs.arrays.write_json", write_journal)
    monkeypatch.setattr("corruptions.jobs.arrays.os.fsync", lambda _: events.append("disk"))
    write_arrays(array, {1: str(tmp_path / "fog.npy")}, "fog", 0, Options(), 1, False, "")
    journalled = [k for k, event in enumerate(events) if event != "disk"]
    assert [events[k] for k in journalled] == [0, 70, 140, 210, 280, 300, 300]
    assert all(events[k - 1] == "disk" for k in journalled[1:])


def test_photos_lie_where_training_reads_them(tmp_path, capsys):
    main(["dataset", "photos", "-c", "contrast", "--data_dir", str(tmp_path), "--workers", "1"])
    names = files_below(tmp_path / "photos-C")
    folders = [f"{part}/{s}" for part in ("train", "test") for s in range(1, 6)]
    assert names == with_records([f"{folder}/contrast.npy" for folder in folders],
                                 *(f"{folder}/labels.npy" for folder in folders))
    assert "photos-C" in capsys.readouterr().out


def test_the_test_images_of_a_data_set_can_be_stored_alone(tmp_path):
    argv = ["dataset", "photos", "-c", "contrast", "--workers", "1", "--data_dir"]
    main([*argv, str(tmp_path / "test"), "--part", "test"])
    main([*argv, str(tmp_path / "both")])
    assert contents(tmp_path / "test" / "photos-C" / "test") == contents(tmp_path / "both" / "photos-C" / "test")
    assert os.listdir(tmp_path / "test" / "photos-C") == ["test"]
    main([*argv, str(tmp_path / "test"), "--part", "train"])
    assert contents(tmp_path / "test") == contents(tmp_path / "both")


@pytest.mark.parametrize("argv, culprit", [
    (["array", "nowhere.npy", "out", "-c", "fog"], "nowhere.npy"),
    (["array", "float.npy", "out", "-c", "fog"], "float.npy"),
    (["array", "channels.npy", "out", "-c", "fog"], "channels.npy"),
    (["array", "broken.npy", "out", "-c", "fog"], "broken.npy"),
    (["array", "none.npy", "out", "-c", "fog"], "none.npy"),
    (["array", "flat.npy", "out", "-c", "fog"], "flat.npy"),
    (["array", "images.npy", "out", "-c", "fog", "--severity", "0"], "--severity"),
    (["array", "images.npy", "out", "-c", "fog", "--severity", "6"], "--severity"),
    (["array", "images.npy", "out", "-c", "smog"], "smog"),
    (["array", "images.npy", "images.npy/out", "-c", "fog"], "images.npy/out"),
    (["folder", "nowhere", "out", "-c", "fog"], "nowhere"),
    (["folder", ".", "out", "-c", "fog"], "out"),
    (["folder", "empty", "out", "-c", "fog"], "empty"),
    (["preview", "images.npy"], "images.npy"),
    (["preview", "nowhere.png"], "nowhere.png"),
    (["preview", "images.npy", "-o", "picture"], "png"),
    (["preview", "images.npy", "-o", "picture.bmp"], "png"),
    (["dataset", "mnist", "-c", "fog"], "mnist"),
])
def test_bad_input_is_one_line(array, tmp_path, capsys, monkeypatch, argv, culprit):
    monkeypatch.chdir(tmp_path)
    np.save("float.npy", np.zeros((2, 16, 16, 3)))
    np.save("none.npy", np.zeros((0, 16, 16, 3), np.uint8))
    np.save("flat.npy", np.zeros((4, 0, 16), np.uint8))
    np.save("channels.npy", np.zeros((2, 16, 16, 5), np.uint8))
    with open("broken.npy", "wb") as file:
        file.write(b"\x93NUMPY\x01\x00")
    os.mkdir("empty")
    assert culprit in one_line(capsys, argv)
    assert not os.path.exists("out")


def test_full_disk_is_one_line_and_leaves_no_final_name(array, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "out"))
    monkeypatch.setattr("corruptions.utils.files.os.fsync", full)
    line = one_line(capsys, ["array", str(tmp_path / "images.npy"), str(tmp_path / "out"), "-c", "fog"], 1)
    assert "No space left on device" in line
    assert not [name for name in files_below(tmp_path / "out") if os.path.basename(name) == "fog.npy"]


@pytest.mark.parametrize("argv", [["folder", "photos", "out", "-c", "contrast", "--workers", "1"],
                                  ["photos/a.png", "out/a.jpg", "-c", "contrast"],
                                  ["preview", "photos/a.png", "-o", "out/a.jpg", "-c", "contrast"]])
def test_an_image_that_a_full_disk_cuts_short_keeps_no_name(tmp_path, argv):
    """PIL's encoder of JPEG does not notice that its last bytes were not written."""
    os.makedirs(tmp_path / "photos")
    os.mkdir(tmp_path / "out")
    noise = np.random.RandomState(0).randint(0, 256, (120, 120, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "photos" / "a.png")
    command = f"ulimit -f 4; {shlex.join([sys.executable, '-m', 'corruptions', *argv])}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": ROOT, "MPLCONFIGDIR": str(tmp_path)})
    assert done.returncode == 1 and "File too large" in done.stderr and "Traceback" not in done.stderr
    assert not [name for name in files_below(tmp_path / "out") if name.endswith((".jpg", ".jpeg", ".png"))]


@pytest.mark.parametrize("more, culprit", [
    (["-c", "fog", "--frost_dir", "nowhere"], "--frost_dir: only frost uses it"),
    (["-c", "frost", "--frost_dir", "nowhere"], "frost1.png"),
    (["-c", "fog", "--backend", "wand"], "--backend wand: only motion_blur and snow")])
def test_options_are_looked_at_before_anything_is_written(array, tmp_path, capsys, more, culprit):
    out = str(tmp_path / "out")
    assert culprit in one_line(capsys, ["array", str(tmp_path / "images.npy"), out, *more])
    assert not os.path.exists(out)


def test_settings_are_written_by_one_process_at_a_time(tmp_path, monkeypatch):
    """A second command that comes between the look and the writing is turned away."""
    real = corruptions.jobs.settings.has_settings

    def look(folder, settings):
        result = real(folder, settings)
        if settings["images"] == "a":
            with pytest.raises(UserError, match="is writing this"):
                corruptions.jobs.settings.use_settings(folder, {"images": "b"})
        return result
    monkeypatch.setattr(corruptions.jobs.settings, "has_settings", look)
    monkeypatch.setattr(corruptions.jobs.settings, "SETTINGS_SECONDS", 0.1)
    corruptions.jobs.settings.use_settings(str(tmp_path / "out"), {"images": "a"})
    with pytest.raises(UserError, match="made from other images"):
        corruptions.jobs.settings.use_settings(str(tmp_path / "out"), {"images": "b"})
    (tmp_path / "out" / "settings.json").write_text("[]")
    with pytest.raises(UserError, match="says how they were made"):
        corruptions.jobs.settings.use_settings(str(tmp_path / "out"), {"images": "a"})


@needs_root
def test_arrays_that_are_complete_need_not_be_written(open_folder, capsys):
    path, labels, out = (os.path.join(open_folder, name) for name in ("images.npy", "labels.npy", "out"))
    np.save(path, np.zeros((2, 8, 8, 3), np.uint8))
    argv = ["array", path, out, "-c", "contrast", "--labels", labels, "--severity", "1"]
    np.save(labels, np.arange(2))
    main(argv)
    before = contents(out)
    os.mkdir(os.path.join(open_folder, "empty"))
    capsys.readouterr()
    with acting_as_nobody():
        main(argv)
        assert capsys.readouterr().out == f"was all made before in {out}\n"
        assert f"{out}/2: Permission denied" in one_line(capsys, [*argv, "2"])
        assert "seed" in one_line(capsys, [*argv, "--seed", "1"])
        argv[2] = os.path.join(open_folder, "empty")
        assert "empty: cannot be written; let it be written, or name another" in one_line(capsys, argv)
    assert contents(out) == before
