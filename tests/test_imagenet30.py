"""The file lists of ImageNet-30."""
import importlib.util
import os

import pytest

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "imagenet30_filelist",
                    "split_imagenet30.py")
SPEC = importlib.util.spec_from_file_location("split_imagenet30", PATH)
split_imagenet30 = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(split_imagenet30)


def test_lists_share_out_every_image_once(tmp_path, capsys):
    for part, count in (("train", 30), ("test", 3)):
        for name in ("acorn", "barn"):
            folder = tmp_path / "ImageNet-30-64" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{name}_{i}.JPEG").touch()
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
