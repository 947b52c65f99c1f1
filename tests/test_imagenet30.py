"""The file lists of ImageNet-30."""
import importlib.util
import io
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import main
from corruptions.utils.errors import UserError
from dataset import load_source
from dataset.data import ExperimentData
from dataset.prepare_dataset import main as prepare
from dataset.sources.imagenet30 import begin_lists
from dataset.splits import make_split_for
from tests.image_trees import make_imagenet30

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "imagenet30_filelist",
                    "split_imagenet30.py")
SPEC = importlib.util.spec_from_file_location("split_imagenet30", PATH)
split_imagenet30 = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(split_imagenet30)
IMAGE = io.BytesIO()
Image.new("RGB", (64, 64)).save(IMAGE, "JPEG")


def make_images(data_dir, part, classes, count):
    for name in classes:
        folder = data_dir / "ImageNet-30-64" / part / name
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{name}_{i}.JPEG").write_bytes(IMAGE.getvalue())


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
    lists = tmp_path / "lists"
    os.rename(lists / "imagenet30_test.txt", lists / "Imagenet30_test.txt")  # the name in the authors' repository
    split_imagenet30.main(["--data_dir", str(tmp_path), "-n", "20", "-o", str(lists)])
    printed = capsys.readouterr()
    assert "test: the earlier list" in printed.out and "Imagenet30_test.txt: was there before" in printed.err


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
    with pytest.raises(SystemExit) as stop:
        split_imagenet30.main(argv)
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and f"{os.path.join('test', 'acorn')}: not there" in line
    make_images(tmp_path, "test", ("acorn",), 1)
    split_imagenet30.main(argv)
    assert (tmp_path / "lists" / "imagenet30_test.txt").read_text() == (
        "acorn/acorn_0.JPEG 0\nbarn/barn_0.JPEG 1\ncanoe/canoe_0.JPEG 2\n")
    assert capsys.readouterr().err == ""
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


def write_lists_of_the_release(folder, shares=((0, 3, 6), (1, 4), (2,)), validation=(5, 7), test="Imagenet30_test.txt"):
    """Lists over images acorn_0.JPEG ... of three classes, `shares` being their numbers for each severity."""
    folder.mkdir()
    for name, numbers in [*((f"imagenet30_distribution_{s}.txt", share) for s, share in enumerate(shares)),
                          ("imagenet30_val.txt", validation), (test, (1,))]:
        (folder / name).write_text("".join(f"{image}/{image}_{i}.JPEG {label}\n" for i in numbers
                                           for label, image in enumerate(("acorn", "barn", "canoe"))))


def load_listed(tmp_path, num_severity=3, **options):
    source = load_source("imagenet30", str(tmp_path), filelist_dir=str(tmp_path / "lists"))
    return source, make_split_for(source, num_severity, seed=0, **options)


@pytest.mark.parametrize("test", ["Imagenet30_test.txt", "imagenet30_test.txt"])
def test_the_split_is_that_of_the_lists(tmp_path, test, capsys):
    make_imagenet30(str(tmp_path), (8, 3))
    write_lists_of_the_release(tmp_path / "lists", test=test)
    source, split = load_listed(tmp_path)
    names = source.images["train"].names
    assert [[names[i] for i in indices] for indices in split.train] == [
        [f"{image}/{image}_{i}.JPEG" for i in share for image in ("acorn", "barn", "canoe")]
        for share in ((0, 3, 6), (1, 4), (2,))]
    assert {names[i].rsplit("_")[-1] for i in split.validation} == {"5.JPEG", "7.JPEG"} and len(split.validation) == 6
    assert source.images["test"].names == ["acorn/acorn_1.JPEG", "barn/barn_1.JPEG", "canoe/canoe_1.JPEG"]
    np.testing.assert_array_equal(source.labels["test"], [0, 1, 2])
    assert str(tmp_path / "lists") in capsys.readouterr().out
    _, fewer = load_listed(tmp_path, 2)
    assert fewer.counts == [9, 6] and len(fewer.validation) == 6


def test_a_run_notices_that_its_list_of_test_images_is_gone(tmp_path):
    make_imagenet30(str(tmp_path), (8, 3))
    write_lists_of_the_release(tmp_path / "lists")
    source, _ = load_listed(tmp_path)
    config = {"fingerprints": {"test": source.test_fingerprint.to_dict()}}
    os.rename(tmp_path / "lists", tmp_path / "moved")
    without = load_source("imagenet30", str(tmp_path), filelist_dir=str(tmp_path / "lists"))
    with pytest.raises(UserError, match="had other test images .* --data_dir and --filelist_dir"):
        without.check_run(config, "RUN")
    load_source("imagenet30", str(tmp_path), filelist_dir=str(tmp_path / "moved")).check_run(config, "RUN")


def test_a_split_is_drawn_once(tmp_path, capsys):
    make_imagenet30(str(tmp_path), (30, 1))
    drawn, first = load_listed(tmp_path, 6, num_per_class=20)
    assert not (tmp_path / "lists").exists()  # before a run begins
    ExperimentData(drawn, first, {}).write_split(str(tmp_path / "split.csv"))
    _, late = load_listed(tmp_path, 6, num_per_class=20)
    assert late.filelist_dir is None and str(tmp_path / "lists") in capsys.readouterr().out
    begin_lists(drawn, first)  # of another run that was loaded before, with the same draw: no effect
    with pytest.raises(UserError, match="another run has written other lists in the meantime"):
        begin_lists(drawn, replace(first, validation=first.train[0]))
    source = load_source("imagenet30", str(tmp_path), filelist_dir=str(tmp_path / "lists"))
    again = make_split_for(source, 6, seed=1, num_per_class=20)
    assert first.counts == [21, 21, 9, 3, 0, 0]
    for item, second in zip([*first.train, first.validation], [*again.train, again.validation], strict=True):
        np.testing.assert_array_equal(item, second)
    with pytest.raises(UserError, match="-n 12: the lists in"):
        make_split_for(source, 6, seed=1, num_per_class=12)
    assert capsys.readouterr().err == ""
    make_split_for(source, 6, seed=1)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: the lists in {tmp_path / 'lists'} have 21, 21, 9, 3, 0, 0 images of the "
                           "severities, where 1000 images a class make 1101, 1101, 549, ")


def test_no_list_is_written_by_a_command_that_fails_or_draws_for_itself(tmp_path, capsys):
    make_imagenet30(str(tmp_path), (8, 1))
    where = ["-d", "imagenet30", "--data_dir", str(tmp_path), "--filelist_dir", str(tmp_path / "lists"), "-n", "6"]
    with pytest.raises(SystemExit) as stop:
        main.main([*where, "-m", "wideresnet10", "--log_dir", str(tmp_path / "logs")])
    assert stop.value.code == 2 and "-b 100" in capsys.readouterr().err
    prepare([*where, "-o", str(tmp_path / "split.csv")])
    assert (tmp_path / "split.csv").exists() and not (tmp_path / "lists").exists()


@pytest.mark.parametrize("name, text, culprit", [
    ("imagenet30_distribution_1.txt", "acorn/acorn_99.JPEG 0\n", "acorn/acorn_99.JPEG, which is not there"),
    ("imagenet30_distribution_1.txt", "acorn/acorn_1.JPEG 2\n", "the label 2, but .* is 0"),
    ("imagenet30_distribution_1.txt", "acorn/acorn_1.JPEG\n", "line 1: not of the form"),
    ("imagenet30_distribution_1.txt", "\nacorn/acorn_1.JPEG 4294967296\n", "line 2: not of the form"),
    ("imagenet30_distribution_1.txt", "acorn/acorn_1.JPEG 0\nacorn/acorn_1.JPEG 0\n", "names an image twice"),
    ("imagenet30_distribution_1.txt", "acorn/acorn_0.JPEG 0\n", "two lists name acorn/acorn_0.JPEG"),
    ("imagenet30_distribution_1.txt", None, "imagenet30_distribution_1.txt: cannot be read"),
    ("imagenet30_val.txt", None, "imagenet30_val.txt: cannot be read"),
    ("Imagenet30_test.txt", "acorn/acorn_7.JPEG 0\n", "acorn/acorn_7.JPEG, which is not there"),
])
def test_lists_that_do_not_fit_are_named(tmp_path, name, text, culprit):
    make_imagenet30(str(tmp_path), (8, 3))
    write_lists_of_the_release(tmp_path / "lists")
    path = tmp_path / "lists" / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(UserError, match=culprit) as error:
        load_listed(tmp_path)
    assert "\n" not in str(error.value)


def test_lists_from_the_index_of_the_release(tmp_path, capsys, monkeypatch):
    index = tmp_path / "imagenet30.txt"
    index.write_text("".join(f"./data/ImageNet-30/train/{name}/n0_{i}.JPEG {label}\n"
                             for label, name in enumerate(("acorn", "barn")) for i in range(30)))
    argv = ["--index", str(index), "-n", "20", "-o", str(tmp_path / "lists")]
    split_imagenet30.main(argv)
    assert sorted(os.listdir(tmp_path / "lists")) == [*(f"imagenet30_distribution_{s}.txt" for s in range(6)),
                                                      "imagenet30_val.txt"]
    lines = (tmp_path / "lists" / "imagenet30_distribution_0.txt").read_text().splitlines()
    assert len(lines) == 14 and all(line.startswith(("acorn/n0_", "barn/n0_")) for line in lines)
    assert capsys.readouterr().err == ""
    (tmp_path / "lists" / "imagenet30_test.txt").write_text("acorn/x.JPEG 0\n")
    split_imagenet30.main(argv)
    assert "imagenet30_test.txt: was there before and is kept" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        split_imagenet30.main([*argv, "--data_dir", "./data"])
    assert stop.value.code == 2 and "--data_dir ./data: has no effect with --index" in capsys.readouterr().err
    monkeypatch.setattr(split_imagenet30, "LISTS", str(tmp_path / "lists"))
    with pytest.raises(SystemExit) as stop:
        split_imagenet30.main(argv[:-2])
    assert stop.value.code == 2 and "--output_dir: there are lists in" in capsys.readouterr().err
    index.write_text("acorn/a.JPEG 0\ncanoe/c.JPEG 2\n")
    with pytest.raises(SystemExit) as stop:
        split_imagenet30.main(argv)
    assert stop.value.code == 2 and str(index) in capsys.readouterr().err
