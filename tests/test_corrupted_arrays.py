"""python -m corruptions array with labels, in both layouts: what --test_corrupted reads."""
import json
import os

import numpy as np
import pytest

import corruptions.jobs.arrays
from corruptions import corrupt
from corruptions.__main__ import main
from corruptions.utils.errors import UserError
from dataset import SOURCES
from dataset.find_published import find_published
from tests.cifar_files import make_cifar
from tests.corrupted_files import contents, files_below, one_line


@pytest.fixture
def source(tmp_path):
    """CIFAR-10 in small; its test images and labels are stored as arrays, too."""
    make_cifar(str(tmp_path / "data"))
    source = SOURCES["cifar10"](str(tmp_path / "data"))
    np.save(tmp_path / "images.npy", source.images["test"])
    np.save(tmp_path / "labels.npy", source.labels["test"])
    return source


def command(tmp_path, *more, target="out", labels=("--labels", "labels.npy")):
    labels = [part if part.startswith("--") else str(tmp_path / part) for part in labels]
    return ["array", str(tmp_path / "images.npy"), str(tmp_path / target), *labels, *more]


STACKED = ("-c", "contrast", "fog", "--layout", "stacked")


@pytest.mark.parametrize("layout, severities", [
    ("folders", (1, 2, 3, 4, 5)), ("folders", (2, 1)), ("stacked", (1, 2, 3, 4, 5)), ("stacked", (5, 4, 3, 2, 1))])
def test_what_is_made_with_labels_is_a_published_test_set(source, tmp_path, layout, severities):
    main(command(tmp_path, "-c", "contrast", "fog", "--layout", layout, "--severity", *map(str, severities)))
    published = find_published(str(tmp_path / "out"), source)
    assert published.severities(["contrast", "fog"]) == sorted(severities)
    for name in ("contrast", "fog"):
        for severity, images in zip(sorted(severities), published.images(name, sorted(severities)), strict=True):
            np.testing.assert_array_equal(images, corrupt(source.images["test"], name, severity))


def test_stacked_arrays_are_the_form_of_cifar_10_c(source, tmp_path):
    main(command(tmp_path, *STACKED))
    assert files_below(tmp_path / "out") == ["contrast.npy", "contrast.npy.json", "fog.npy", "fog.npy.json",
                                             "labels.npy", "settings.json"]
    number = len(source.labels["test"])
    assert np.load(tmp_path / "out" / "fog.npy", "r").shape == (5 * number, 32, 32, 3)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "labels.npy"), np.tile(source.labels["test"], 5))


def test_stacked_arrays_do_not_depend_on_workers_and_shards(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 7 * 32 * 32)
    main(command(tmp_path, *STACKED, "--workers", "1"))
    main(command(tmp_path, *STACKED, "--workers", "2", target="two"))
    capsys.readouterr()
    main(command(tmp_path, *STACKED, "--shard", "2/2", target="shards"))
    assert "not there yet: 1 of 2" in capsys.readouterr().out
    assert "contrast.npy" not in files_below(tmp_path / "shards")
    main(command(tmp_path, *STACKED, "--shard", "1/2", target="shards"))
    assert contents(tmp_path / "out") == contents(tmp_path / "two") == contents(tmp_path / "shards")
    main(command(tmp_path, *STACKED))
    assert "was all made before" in capsys.readouterr().out


def test_a_stacked_array_resumes_where_it_was(source, tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 20 * 32 * 32)
    real, calls = corruptions.jobs.arrays.corrupt_range, []

    def stops_once(images, name, severity, seed, start, options):
        calls.append((severity, start))
        if calls.count((2, 20)) == 1 and calls[-1] == (2, 20):
            raise KeyboardInterrupt
        return real(images, name, severity, seed, start, options)
    monkeypatch.setattr("corruptions.jobs.arrays.corrupt_range", stops_once)
    argv = command(tmp_path, "-c", "fog", "--layout", "stacked", "--workers", "1")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        main(argv)
    assert not os.path.exists(tmp_path / "out" / "fog.npy") and calls[-1] == (2, 20)
    before = len(calls)
    main(argv)
    assert calls[before:] == [(2, 20), (2, 40), *((severity, start) for severity in (3, 4, 5) for start in (0, 20, 40))]
    expected = [corrupt(source.images["test"], "fog", severity) for severity in range(1, 6)]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "fog.npy"), np.concatenate(expected))


@pytest.mark.parametrize("more, culprit", [
    (("-c", "fog", "--layout", "folders"), "layout"),
    ((*STACKED, "--seed", "1"), "seed")])
def test_other_settings_are_refused(source, tmp_path, capsys, more, culprit):
    main(command(tmp_path, *STACKED))
    before = contents(tmp_path / "out")
    line = one_line(capsys, command(tmp_path, *more))
    assert "was made with other settings" in line and culprit in line
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("layout", ["folders", "stacked"])
def test_other_labels_are_refused(source, tmp_path, capsys, layout):
    main(command(tmp_path, "-c", "contrast", "--layout", layout))
    before = contents(tmp_path / "out")
    np.save(tmp_path / "labels.npy", source.labels["test"][::-1])
    assert "has other labels" in one_line(capsys, command(tmp_path, "-c", "fog", "--layout", layout))
    assert contents(tmp_path / "out") == before


def test_a_folder_has_one_labelling(source, tmp_path, capsys):
    """Also where the new severities have no labels yet, and the arrays are stacked."""
    def refuse(target, *more):
        before = contents(tmp_path / target)
        assert "has other labels" in one_line(capsys, command(tmp_path, "-c", "contrast", *more, target=target))
        assert contents(tmp_path / target) == before
    main(command(tmp_path, "-c", "contrast", "--severity", "3"))
    main(command(tmp_path, *STACKED, target="stacked"))
    np.save(tmp_path / "labels.npy", source.labels["test"][::-1])
    refuse("out", "--severity", "4", "3")
    refuse("out", "--severity", "5")
    refuse("stacked", "--layout", "stacked")
    np.save(tmp_path / "labels.npy", source.labels["test"])
    main(command(tmp_path, "-c", "contrast", "--severity", "4", "3"))
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "4" / "labels.npy"), source.labels["test"])


def test_labels_may_come_later_and_change_no_settings(source, tmp_path, capsys):
    main(command(tmp_path, "-c", "contrast", labels=()))
    before = contents(tmp_path / "out")
    capsys.readouterr()
    main(command(tmp_path, "-c", "contrast"))
    assert capsys.readouterr().out == f"written to {tmp_path / 'out'}\n"
    after = contents(tmp_path / "out")
    assert {name for name in after if name not in before} == {f"{severity}/labels.npy" for severity in range(1, 6)}
    assert {name: after[name] for name in before} == before
    assert "layout" not in json.loads(after["settings.json"])


@pytest.mark.parametrize("labels, culprit", [
    (np.zeros((50, 2), int), "shape (50, 2)"), (np.zeros(49, int), "shape (49,)"), (np.zeros(50), "float64"),
    (np.zeros(50, bool), "bool"), (None, "truncated or not a numpy array")])
def test_labels_that_are_none_are_named(source, tmp_path, capsys, labels, culprit):
    if labels is None:
        os.truncate(tmp_path / "labels.npy", 100)
    else:
        np.save(tmp_path / "labels.npy", labels)
    line = one_line(capsys, command(tmp_path, *STACKED))
    assert culprit in line and "labels.npy" in line and not os.path.exists(tmp_path / "out")


@pytest.mark.parametrize("more, culprit", [
    (("--labels", "labels.npy", "--severity", "5"), "--severity 5: --layout stacked has all five"),
    (("--labels", "labels.npy", "--severity", "1", "3"), "--severity 1 3: "), ((), "--labels FILE")])
def test_a_stack_needs_labels_and_all_severities(source, tmp_path, capsys, monkeypatch, more, culprit):
    monkeypatch.chdir(tmp_path)
    assert culprit in one_line(capsys, ["array", "images.npy", "out", *STACKED, *more])
    assert not os.path.exists("out")


@pytest.mark.parametrize("shape", [(50, 40, 3), (50, 40, 1), (50, 40)])
def test_one_image_is_told_from_several(tmp_path, capsys, shape):
    np.save(tmp_path / "image.npy", np.zeros(shape, np.uint8))
    line = one_line(capsys, ["array", str(tmp_path / "image.npy"), str(tmp_path / "out"), "-c", "fog"])
    assert "image.npy" in line and f"x[None], of shape {(1, *shape)}" in line


def test_arrays_in_two_places_are_refused(source, tmp_path):
    main(command(tmp_path, "-c", "contrast", "--severity", "1"))
    main(command(tmp_path, "-c", "contrast", "--severity", "2", target="out/test"))
    with pytest.raises(UserError, match="has arrays in test/, and others beside it"):
        find_published(str(tmp_path / "out"), source)
    assert find_published(str(tmp_path / "out" / "test"), source).severities(["contrast"]) == [2]
