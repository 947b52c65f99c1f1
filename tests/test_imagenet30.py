"""The file lists of ImageNet-30."""
import importlib.util
import os

import pytest

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "imagenet30_filelist",
                    "split_imagenet30.py")
SPEC = importlib.util.spec_from_file_location("split_imagenet30", PATH)
split_imagenet30 = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(split_imagenet30)


def make_images(data_dir, part, classes, count):
    for name in classes:
        folder = data_dir / "ImageNet-30-64" / part / name
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{name}_{i}.JPEG").write_bytes(b"an image")


def test_lists_share_out_every_image_once(tmp_path, capsys):
    make_images(tmp_path, "train", ("acorn", "barn"), 30)
    make_images(tmp_path, "test", ("acorn", "barn"), 3)
    (tmp_path / "ImageNet-30-64" / "train" / ".ipynb_checkpoints").mkdir()
    split_imagenet30.main(["--data_dir", str(tmp_path), "-n", "20", "-o", str(tmp_path / "lists")])
    assert "severity 0: 14 images" in capsys.readouterr().out
    lists = {file.name: file.read_text().splitlines() for file in (tmp_path / "lists").iterdir()}
    counts = [len(lists[f"imagenet30_distribution_{s}.txt"]) for s in range(6)]
    assert counts == [14, 14, 6, 2, 0, 0] and len(lists["imagenet30_val.txt"]) == 24
    training = [line for name, lines in lists.items() if name != "imagenet30_test.txt" for line in lines]
    assert len(set(training)) == 60 and "acorn/acorn_3.JPEG 0" in training and "barn/barn_3.JPEG 1" in training
    assert len(lists["imagenet30_test.txt"]) == 6


def test_missing_images_are_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        split_imagenet30.main(["--data_dir", str(tmp_path)])
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--data_dir" in line


def test_labels_are_those_of_the_training_classes(tmp_path, capsys):
    make_images(tmp_path, "train", ("acorn", "barn", "canoe"), 30)
    make_images(tmp_path, "test", ("barn", "canoe"), 1)
    argv = ["--data_dir", str(tmp_path), "-n", "20", "-o", str(tmp_path / "lists")]
    split_imagenet30.main(argv)
    assert (tmp_path / "lists" / "imagenet30_test.txt").read_text() == "barn/barn_0.JPEG 1\ncanoe/canoe_0.JPEG 2\n"
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning:") and line.endswith("has no images of acorn")
    make_images(tmp_path, "test", ("bran",), 1)
    with pytest.raises(SystemExit) as stop:
        split_imagenet30.main(argv)
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and os.path.join("test", "bran") in line and "training" in line


def test_lists_of_more_severities_do_not_stay(tmp_path):
    make_images(tmp_path, "train", ("acorn", "barn"), 30)
    make_images(tmp_path, "test", ("acorn", "barn"), 1)
    argv = ["--data_dir", str(tmp_path), "-n", "20", "-o", str(tmp_path / "lists")]
    split_imagenet30.main(argv)
    (tmp_path / "lists" / "imagenet30_distribution_9.txt.old").touch()
    split_imagenet30.main([*argv, "--num_severity", "3"])
    assert sorted(os.listdir(tmp_path / "lists")) == [
        *(f"imagenet30_distribution_{s}.txt" for s in range(3)), "imagenet30_distribution_9.txt.old",
        "imagenet30_test.txt", "imagenet30_val.txt"]
