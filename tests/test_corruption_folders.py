"""python -m corruptions folder: what it writes, how it resumes, which files it takes, how it reads them."""
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

import corruptions.jobs.folders
from corruptions import CORRUPTIONS
from corruptions.__main__ import main
from corruptions.images import image_suffixes, list_images, read_image
from corruptions.jobs.folders import ignores_case
from corruptions.pictures import panel
from corruptions.rng import image_stream
from corruptions.utils.errors import UserError
from corruptions.utils.locks import file_lock
from tests.corrupted_files import acting_as_nobody, contents, files_below, make_images, needs_root, one_line
from tests.processes import wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture
def folder(tmp_path):
    """Colour PNGs and grey JPEGs of another size."""
    return make_images(tmp_path / "in", 10, lambda k: ((20, 30, 3), "png") if k % 3 else ((24, 24), "JPEG"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_folder(folder, tmp_path, workers):
    out = str(tmp_path / "out")
    main(["folder", folder, out, "-c", "snow", "--severity", "3", "--format", "png", "--workers", workers])
    names = sorted(os.path.join(root[len(folder) + 1:], file) for root, _, files in os.walk(folder) for file in files)
    assert files_below(out) == ["settings.json", *(f"snow/3/{os.path.splitext(name)[0]}.png" for name in names),
                                "sources.csv"]
    for name in names:
        expected = CORRUPTIONS["snow"](np.asarray(Image.open(os.path.join(folder, name))), 3,
                                       image_stream(0, "snow", 3, name))
        stored = np.asarray(Image.open(os.path.join(out, "snow", "3", os.path.splitext(name)[0] + ".png")))
        np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize("below, script", [(".", os.path.join(ROOT, "corruptions")), (ROOT, "corruptions")])
def test_the_room_itself_is_a_script(folder, tmp_path, below, script):
    """It runs from any working directory, like dataset/prepare_dataset.py."""
    rest = ["-c", "contrast", "--severity", "2", "--workers", "2"]
    done = subprocess.run([sys.executable, script, "folder", folder, str(tmp_path / "out"), *rest],
                          cwd=tmp_path / below, capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("", 0)
    main(["folder", folder, str(tmp_path / "module"), *rest])
    assert contents(tmp_path / "out") == contents(tmp_path / "module")


def test_folder_that_was_killed_goes_on(folder, tmp_path):
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    command = [sys.executable, "-m", "corruptions", "folder", folder, killed, "-c", "all", "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: os.path.isdir(os.path.join(killed, "gaussian_noise")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for name in files_below(killed):
        if not os.path.basename(name).startswith(".") and name not in ("settings.json", "sources.csv"):
            Image.open(os.path.join(killed, name)).load()
    open(os.path.join(killed, ".12345.partial.3.jpg"), "wb").close()
    for target in (whole, killed):
        main(["folder", folder, target, "-c", "all", "--workers", "1"])
    assert contents(whole) == contents(killed)
    assert len(contents(whole)) == 10 * 19 * 5 + 2


def test_jpeg_names_keep_their_suffix(folder, tmp_path):
    main(["folder", folder, str(tmp_path / "out"), "-c", "contrast", "--severity", "1", "--workers", "1"])
    assert "contrast/1/bee/0.JPEG" in files_below(tmp_path / "out")
    assert "contrast/1/ant/1.jpg" in files_below(tmp_path / "out")


@pytest.mark.parametrize("image_format, folder_name", [("jpeg", "ant.jpg"), ("png", "ant.png")])
def test_an_image_with_the_name_of_a_folder_is_refused(folder, tmp_path, capsys, image_format, folder_name):
    """The corrupted ant.bmp is called ant.jpg, or ant.png; it must not count as made because the folder is there."""
    out = tmp_path / "out"
    os.rename(os.path.join(folder, "ant"), os.path.join(folder, folder_name))
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(os.path.join(folder, "ant.bmp"))
    argv = ["folder", folder, str(out), "-c", "contrast", "--severity", "1", "--workers", "1", "--format", image_format]
    for more in ([], ["--shard", "2/2"]):
        line = one_line(capsys, [*argv, *more])
        assert f"{os.path.join(folder, 'ant.bmp')}: its corrupted image" in line and f"{folder_name}/1.png" in line
        assert not out.exists()


def test_imagenet30_lies_in_the_releases_layout(tmp_path):
    for part in ("train", "test"):
        folder = tmp_path / "ImageNet-30-64" / part / "acorn"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "x.JPEG", "JPEG")
    main(["dataset", "imagenet30", "-c", "fog", "--data_dir", str(tmp_path), "--workers", "1"])
    assert "train/fog/3/acorn/x.JPEG" in files_below(tmp_path / "ImageNet-30-64-C")
    assert "test/fog/5/acorn/x.JPEG" in files_below(tmp_path / "ImageNet-30-64-C")


@pytest.mark.parametrize("severities, drawn", [(["3"], "plot_image_sheet"), (["1", "5"], "plot_image_grid")])
def test_preview_keeps_panels_of_large_images(tmp_path, monkeypatch, severities, drawn):
    """Hundreds of results of a photograph's size would not fit into memory."""
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (500, 900, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    shapes = []

    def look(path, images, *columns):
        several = images.values() if drawn == "plot_image_sheet" else [item for row in images.values() for item in row]
        shapes.extend(image.shape for image in several)
    monkeypatch.setattr(f"corruptions.commands.{drawn}", look)
    main(["preview", str(tmp_path / "a.png"), "-c", "contrast", "lines", "--severity", *severities])
    assert shapes == [(100, 180, 3)] * (3 if drawn == "plot_image_sheet" else 4)
    small = np.zeros((90, 50), np.uint8)
    assert panel(small) is small and panel(np.zeros((8, 4000, 3), np.uint8)).shape == (1, 180, 3)


def test_preview(folder, tmp_path):
    main(["preview", os.path.join(folder, "ant", "1.png"), "-o", str(tmp_path / "p.png"), "-c", "fog", "snow"])
    with Image.open(tmp_path / "p.png") as image:
        assert image.width > image.height > 100


@pytest.mark.parametrize("spelling", ["./a.png", "link.png", "linked/a.png", "hard.png"])
def test_preview_does_not_overwrite_its_image(tmp_path, capsys, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save("a.png")
    os.symlink("a.png", "link.png")
    os.symlink(".", "linked")
    os.link("a.png", "hard.png")
    before = contents(".")
    for image, output in (("a.png", spelling), (spelling, "a.png")):
        line = one_line(capsys, ["preview", image, "-o", output, "-c", "fog"])
        assert f"--output {output}: is the image itself" in line
    assert contents(".") == before and os.path.islink("link.png")


@pytest.mark.parametrize("names, clash", [(("a/A.png", "a/a.PNG"), True), (("B/x.png", "b/x.png"), True),
                                          (("caf\u00e9.png", "cafe\u0301.png"), True), (("c.png", "d.png"), False)])
def test_names_that_the_target_does_not_tell_apart_are_named(tmp_path, capsys, monkeypatch, names, clash):
    """As on macOS, where the second image would be taken for the first."""
    for name in names:
        os.makedirs((tmp_path / "in" / name).parent, exist_ok=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "in" / name)
    argv = ["folder", str(tmp_path / "in"), str(tmp_path / "out"), "-c", "contrast", "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(corruptions.jobs.folders, "ignores_case", lambda folder: True)
        if clash:
            assert "its corrupted image would have the same name as that of" in one_line(capsys, argv)
            assert not os.path.exists(tmp_path / "out")
            patch.setattr(corruptions.jobs.folders, "ignores_case", lambda folder: False)
        main(argv)
    assert sum(name.startswith("contrast/") for name in files_below(str(tmp_path / "out"))) == 10
    assert not ignores_case(str(tmp_path))  # on Linux


@pytest.mark.parametrize("error, status", [(OSError(errno.EMFILE, "Too many open files"), 2), (MemoryError(), 1),
                                           (OSError(errno.ESTALE, "Stale file handle"), 2)])
def test_what_the_machine_lacks_is_no_bad_image(folder, tmp_path, capsys, monkeypatch, error, status):
    def fail(*_):
        raise error
    monkeypatch.setattr("PIL.Image.open", fail)
    with pytest.raises(SystemExit) as stop:
        main(["folder", folder, str(tmp_path / "out"), "-c", "contrast", "--skip_bad", "--workers", "1"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == status and "not a readable image" not in line and not os.path.exists(tmp_path / "out")


def test_a_target_that_is_a_file_is_named_before_images_are_read(folder, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    line = one_line(capsys, ["folder", folder, str(tmp_path / "out"), "-c", "contrast"])
    assert f"{tmp_path / 'out'}: is a file, or a link that leads nowhere; name a folder" in line
    assert (tmp_path / "out").read_text() == "mine"


def test_bad_image_stops_before_anything_is_written_or_is_skipped(folder, tmp_path, capsys):
    bad = os.path.join(folder, "bee", "0.JPEG")
    with open(bad, "r+b") as file:
        file.truncate(300)
    out = str(tmp_path / "out")
    argv = ["folder", folder, out, "-c", "contrast", "--severity", "1", "--workers", "1"]
    line = one_line(capsys, argv)
    assert bad in line and line.endswith("(1 of 10 files); or pass --skip_bad")
    assert not os.path.exists(out)
    main([*argv, "--skip-bad"])
    assert f"warning: skipped {bad}" in capsys.readouterr().err
    assert len(files_below(out)) == 11 and "contrast/1/bee/0.JPEG" not in files_below(out)


def test_a_folder_of_other_images_is_refused(folder, tmp_path, capsys):
    out = str(tmp_path / "out")
    argv = ["folder", folder, out, "-c", "contrast", "--severity", "1", "--workers", "1"]
    main(argv)
    before = contents(out)
    shutil.copy(os.path.join(folder, "ant", "3.JPEG"), tmp_path / "3.JPEG")
    Image.fromarray(np.zeros((24, 24), np.uint8)).save(os.path.join(folder, "ant", "3.JPEG"))
    assert os.path.join("ant", "3.JPEG") + ": has changed" in one_line(capsys, argv)
    os.remove(os.path.join(folder, "ant", "3.JPEG"))
    assert os.path.join("ant", "3.JPEG") + ": is gone" in one_line(capsys, argv)
    assert contents(out) == before
    shutil.move(tmp_path / "3.JPEG", os.path.join(folder, "ant", "3.JPEG"))
    main([*argv[:4], "fog", "--severity", "2", "--workers", "1"])
    os.remove(os.path.join(out, "sources.csv"))
    assert "earlier version" in one_line(capsys, argv)


def test_a_folder_killed_before_its_settings_were_written_goes_on(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "sources.csv").write_text("file,crc32\nant/old.png,1\n")
    main(["folder", folder, str(out), "-c", "contrast", "--severity", "1", "--workers", "1"])
    assert "old.png" not in (out / "sources.csv").read_text() and len(files_below(out)) == 12


def test_an_image_that_is_added_later_changes_no_other(folder, tmp_path):
    late = os.path.join(folder, "ant", "1.png")
    os.rename(late, tmp_path / "late.png")
    argv = ["-c", "snow", "--severity", "3", "--workers", "1"]
    main(["folder", folder, str(tmp_path / "grown"), *argv])
    os.remove(tmp_path / "grown" / "snow" / "3" / "bee" / "4.jpg")  # as if it had been stopped
    os.rename(tmp_path / "late.png", late)
    for target in ("grown", "whole"):
        main(["folder", folder, str(tmp_path / target), *argv])
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


def test_two_processes_do_not_make_one_folder(folder, tmp_path, capsys):
    argv = ["folder", folder, str(tmp_path / "out"), "-c", "contrast", "--severity", "1", "--workers", "1"]
    main(argv)
    with file_lock(str(tmp_path / "out" / ".lock"), "it"):
        assert f"process {os.getpid()}" in one_line(capsys, argv)


def test_links_to_folders_are_followed(folder, tmp_path, capsys):
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("cat", "cow"):
        os.symlink(os.path.join(folder, "ant"), linked / name)
    os.symlink(linked, linked / "cat" / "loop")
    assert list_images(str(linked))[0] == [f"{name}/{k}.{suffix}" for name in ("cat", "cow") for k, suffix in
                                           ((1, "png"), (3, "JPEG"), (5, "png"), (7, "png"), (9, "JPEG"))]
    inside = os.path.join(folder, "ant", "out")
    assert inside in one_line(capsys, ["folder", str(linked), inside, "-c", "fog"])
    assert not os.path.exists(inside)


@pytest.mark.parametrize("name, leads_to, reason", [("lost.jpg", "nowhere", "No such file or directory"),
                                                    ("lost_class", "nowhere", "No such file or directory"),
                                                    ("self.png", "self.png", "Too many levels of symbolic links")])
def test_a_link_that_leads_nowhere_is_a_bad_file(folder, tmp_path, capsys, name, leads_to, reason):
    os.symlink(leads_to, os.path.join(folder, name))
    argv = ["folder", folder, str(tmp_path / "out"), "-c", "contrast", "--severity", "1", "--workers", "1"]
    assert f"{os.path.join(folder, name)}: not a readable image ({reason})" in one_line(capsys, argv)
    main([*argv, "--skip-bad"])
    assert len(files_below(tmp_path / "out")) == 12


def test_only_files_that_can_be_images_are_taken(folder):
    for name in ("notes.txt", "paper.pdf", "figure.eps", "film.mpg", "table.h5", ".hidden.png"):
        open(os.path.join(folder, name), "wb").close()
    assert len(list_images(folder)[0]) == 10
    assert {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".gif", ".webp", ".ppm"} <= image_suffixes()


def test_what_is_left_out_of_a_folder_is_counted(folder, tmp_path, capsys):
    """Hidden folders are not read, as `-d folder` does not; other files are counted by their suffix."""
    shutil.copytree(os.path.join(folder, "ant"), os.path.join(folder, "bee", ".thumbs"))
    shutil.copy(os.path.join(folder, "ant", "1.png"), os.path.join(folder, ".1.png"))
    out = str(tmp_path / "out")
    argv = ["folder", folder, out, "-c", "contrast", "--severity", "1", "--workers", "1"]
    main(argv)
    assert capsys.readouterr().out == f"images read: 10\nwritten to {out}\n" and len(files_below(out)) == 12
    for name in ("a.HEIC", "ant/b.heic", "c.dng", "README"):
        open(os.path.join(folder, name), "wb").close()
    main([*argv, "--shard", "1/2"])
    assert capsys.readouterr().out.splitlines()[0] == (
        "images read: 5 of 10; other files left out: 2 .heic, 1 without a suffix, 1 .dng")
    for k in range(20):
        open(os.path.join(folder, f"log.{k}"), "wb").close()
    main(argv)
    assert (message := capsys.readouterr().out).startswith("images read: 10; other files left out: 2 .heic, 1 without")
    assert message.count(" 1 .") == 6 and message.splitlines()[0].endswith(", ...")
    os.makedirs(tmp_path / "raw")
    shutil.copy(os.path.join(folder, "c.dng"), tmp_path / "raw")
    assert "other files left out: 1 .dng; name" in one_line(capsys, ["folder", str(tmp_path / "raw"), out, "-c", "fog"])


def test_an_image_that_is_no_longer_read_is_named(folder, tmp_path, capsys):
    """Earlier versions read hidden folders."""
    argv = ["folder", folder, str(tmp_path / "out"), "-c", "contrast", "--severity", "1", "--workers", "1"]
    main(argv)
    os.rename(os.path.join(folder, "ant"), os.path.join(folder, ".ant"))
    with open(tmp_path / "out" / "sources.csv") as file:
        listed = file.read()
    (tmp_path / "out" / "sources.csv").write_text(listed.replace("ant/", ".ant/"))
    assert ".ant/1.png: is not read, and" in one_line(capsys, argv)


def test_a_folder_of_which_nothing_can_be_read_is_an_error(tmp_path, capsys):
    os.makedirs(tmp_path / "in")
    for name in ("a.png", "b.jpg"):
        (tmp_path / "in" / name).write_text("no image")
    argv = ["folder", str(tmp_path / "in"), str(tmp_path / "out"), "-c", "fog", "--workers", "1", "--skip-bad"]
    assert "in: none of its 2 images can be read" in one_line(capsys, argv)
    assert not (tmp_path / "out").exists()
    for _ in range(2):  # of shards the last one says so, and the job is not at its end
        main([*argv, "--shard", "2/3"])
        main([*argv, "--shard", "3/3"])
        assert "in: none of its 2 images can be read" in one_line(capsys, [*argv, "--shard", "1/3"])
        assert (tmp_path / "out" / "fog" / ".unfinished").exists() and not (tmp_path / "out" / "sources.csv").exists()
    make_images(tmp_path / "in", 2, lambda k: ((16, 20, 3), "png"))
    for name in ("a.png", "b.jpg"):
        shutil.copy(tmp_path / "in" / "bee" / "0.png", tmp_path / "in" / name)
    for number, message in (("1/3", ": 2, 3\n"), ("2/3", ": 3\n"), ("3/3", "out\n")):
        main([*argv, "--shard", number])
        assert capsys.readouterr().out.endswith(message)
    main(["folder", str(tmp_path / "in"), str(tmp_path / "whole"), "-c", "fog", "--workers", "1"])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@needs_root
def test_a_folder_that_may_not_be_read_is_a_bad_one(open_folder, capsys):
    make_images(pathlib.Path(open_folder, "in"), 4, lambda k: ((16, 20, 3), "png"))
    os.chmod(os.path.join(open_folder, "in", "bee"), 0)
    os.mkdir(os.path.join(open_folder, "out"))
    os.chmod(os.path.join(open_folder, "out"), 0o777)
    argv = ["folder", os.path.join(open_folder, "in"), os.path.join(open_folder, "out"), "-c", "contrast",
            "--severity", "1", "--workers", "1"]
    with acting_as_nobody():
        line = one_line(capsys, argv)
        assert line.endswith("in/bee: a folder that cannot be read (Permission denied); let it be read, or remove it; "
                             "or pass --skip_bad")
        main([*argv, "--skip-bad"])
    message = capsys.readouterr()
    assert message.out.startswith("images read: 2\n")
    [line] = message.err.splitlines()
    assert line.startswith("warning: skipped ") and "in/bee: a folder that cannot be read" in line
    assert len(files_below(os.path.join(open_folder, "out", "contrast"))) == 2


@needs_root
@pytest.mark.parametrize("shard", [(), ("--shard", "2/2")])
def test_a_folder_that_is_complete_need_not_be_written(open_folder, capsys, shard):
    folder, out = (os.path.join(open_folder, name) for name in ("in", "out"))
    make_images(pathlib.Path(folder), 4, lambda k: ((16, 20, 3), "png"))
    argv = ["folder", folder, out, "-c", "contrast", "--workers", "1", "--severity", "1"]
    main(argv)
    before = contents(out)
    capsys.readouterr()
    with acting_as_nobody():
        main([*argv, *shard])
        message = "shard 2/2 had nothing to make in" if shard else "was all made before in"
        assert capsys.readouterr().out.splitlines()[-1] == f"{message} {out}"
        cannot = f"{out}: cannot be written, and lacks some of the images; let it be written"
        assert cannot in one_line(capsys, [*argv, "2", *shard])
        assert "seed" in one_line(capsys, [*argv, "--seed", "1", *shard])
    os.remove(os.path.join(out, "contrast", "1", "ant", "3.jpg"))
    with acting_as_nobody():
        assert cannot in one_line(capsys, [*argv, *shard])
    assert before.pop("contrast/1/ant/3.jpg") and contents(out) == before


def test_a_name_that_becomes_too_long_is_found_before_anything_is_written(tmp_path, capsys):
    """The name is what file systems allow; that of the corrupted image, with .jpg in place of .im, is not."""
    make_images(tmp_path / "in", 2, lambda k: ((16, 20, 3), "png"))
    long = tmp_path / "in" / ("m" * 252 + ".im")
    os.rename(tmp_path / "in" / "bee" / "0.png", long)
    argv = ["folder", str(tmp_path / "in"), str(tmp_path / "out"), "-c", "contrast", "--severity", "1"]
    line = one_line(capsys, argv)
    assert f"{long}: the name of its corrupted image would have more than 255 bytes" in line
    assert not (tmp_path / "out").exists()
    main([*argv, "--skip-bad"])
    assert files_below(tmp_path / "out" / "contrast") == ["1/ant/1.jpg"]
    os.rename(long, tmp_path / "in" / ("m" * 251 + ".im"))
    main([*argv[:2], str(tmp_path / "fits"), *argv[3:]])


def test_only_regular_files_are_read(folder, tmp_path, capsys):
    """Opening a FIFO would wait for ever."""
    fifo = os.path.join(folder, "fifo.jpg")
    os.mkfifo(fifo)
    os.symlink(fifo, os.path.join(folder, "link.jpg"))
    main(["folder", folder, str(tmp_path / "out"), "-c", "contrast", "--severity", "1", "--workers", "1"])
    message = capsys.readouterr()
    assert message.out.startswith("images read: 10\n")
    assert sorted(message.err.splitlines()) == [f"warning: {os.path.join(folder, name)}: is not a regular file; it is "
                                                "not read" for name in ("fifo.jpg", "link.jpg")]


def test_an_image_that_is_too_large_for_jpeg_is_named(tmp_path, capsys):
    """libjpeg's JPEG_MAX_DIMENSION is 65500."""
    os.makedirs(tmp_path / "in")
    Image.fromarray(np.zeros((8, 65500), np.uint8)).save(tmp_path / "in" / "fits.png")
    Image.fromarray(np.zeros((65501, 8), np.uint8)).save(tmp_path / "in" / "long.png")
    argv = ["folder", str(tmp_path / "in"), str(tmp_path / "out"), "-c", "contrast", "--severity", "1"]
    assert "long.png: an image of 65501x8 is too large for JPEG" in (line := one_line(capsys, argv))
    assert "65500" in line and "--format png" in line and not (tmp_path / "out").exists()
    main([*argv, "--skip-bad"])
    main(["folder", str(tmp_path / "in"), str(tmp_path / "png"), *argv[3:], "--format", "png"])
    assert "contrast/1/fits.jpg" in files_below(tmp_path / "out")
    assert "contrast/1/long.png" in files_below(tmp_path / "png")


def test_imagenet30_names_no_option_that_it_lacks(tmp_path, capsys):
    for part in ("train", "test"):
        (tmp_path / "ImageNet-30-64" / part / "acorn").mkdir(parents=True)
        (tmp_path / "ImageNet-30-64" / part / "acorn" / "x.JPEG").touch()
    line = one_line(capsys, ["dataset", "imagenet30", "-c", "fog", "--data_dir", str(tmp_path)])
    assert "x.JPEG" in line and "--skip_bad" not in line


def test_other_settings_are_refused(folder, tmp_path, capsys):
    out = str(tmp_path / "out")
    argv = ["folder", folder, out, "-c", "contrast", "--severity", "1", "--workers", "1"]
    main(argv)
    assert "(seed" in one_line(capsys, [*argv, "--seed", "1"])
    os.makedirs(tmp_path / "mine")
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    assert "thesis" not in one_line(capsys, ["folder", folder, str(tmp_path / "mine"), "-c", "fog"])
    assert files_below(tmp_path / "mine") == ["thesis.txt"]


def test_an_image_is_turned_as_its_exif_data_say(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (10, 20, 3)).astype(np.uint8)
    for orientation, turns in ((1, 0), (3, 2), (6, -1), (8, 1)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
        np.testing.assert_array_equal(read_image(str(tmp_path / "turned.png")), np.rot90(pixels, turns))


def test_grey_with_alpha_and_black_and_white_are_grey(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 2, (10, 20)).astype(np.uint8) * 255
    Image.fromarray(pixels).convert("1").save(tmp_path / "1.png")
    Image.merge("LA", [Image.fromarray(pixels), Image.fromarray(255 - pixels)]).save(tmp_path / "LA.png")
    for name in ("1.png", "LA.png"):
        np.testing.assert_array_equal(read_image(str(tmp_path / name)), pixels)


@pytest.mark.parametrize("suffix, channels", [("png", 1), ("png", 3), ("png", 4), ("tif", 1), ("tif", 3), ("tif", 4),
                                              ("pgm", 1), ("ppm", 3)])
def test_16_bits_are_refused(tmp_path, suffix, channels):
    path = str(tmp_path / f"deep.{suffix}")
    cv2.imwrite(path, np.full((10, 20, channels), 40000, np.uint16))
    with pytest.raises(UserError, match=f"deep.{suffix}: has more than 8 bits"):
        read_image(path)
