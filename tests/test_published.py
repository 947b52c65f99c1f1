"""Corrupted test sets as others publish them: every layout, what is wrong with one, evaluations and a training on them.
"""
import csv
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import main
from corruptions.evaluation.metrics import CalibrationScores
from corruptions.evaluation.record import averages, to_dict
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, write_json
from dataset import load_source
from dataset.corrupted import load_corrupted, open_corrupted
from dataset.find_published import find_published
from dataset.fingerprints import joint_fingerprint
from dataset.stored import corrupted_path
from losses.evaluation.measure import TrainedRun
from tests.image_trees import TREES
from tests.published_files import (
    C_BAR,
    STRENGTHS,
    grey,
    make_by_severity,
    make_class_folders,
    make_stacked,
    same_files,
    stored_fingerprints,
)
from tests.test_evaluate import contents
from tests.test_main import arguments, only_run
from utils.records.evaluation import common_evaluations
from utils.records.reading import read_record, read_records
from utils.reports.summary import evaluation_table


@pytest.fixture(scope="module")
def cifar(cifar_dir):
    return load_source("cifar10", cifar_dir)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A data set of files for each layout of class folders."""
    folders = {name: str(tmp_path_factory.mktemp(name)) for name in ("tinyimagenet", "imagenet", "imagenet30")}
    for name, folder in folders.items():
        TREES[name](folder)
    ours = {"imagenet30": {"filelist_dir": os.path.join(folders["imagenet30"], "lists")}}
    return {name: load_source(name, folder, **ours.get(name, {})) for name, folder in folders.items()}


@pytest.mark.parametrize("names, label_type", [(("saturate", "fog", "gaussian_noise"), np.uint8), (C_BAR, np.int64)],
                         ids=["CIFAR-10-C", "CIFAR-10-C-bar"])
def test_severities_in_a_row(cifar, tmp_path, names, label_type):
    folder = str(tmp_path / "set")
    arrays = make_stacked(folder, cifar.labels["test"], names, label_type=label_type)
    (tmp_path / "set" / "._fog.npy").write_bytes(b"what macOS leaves")
    (tmp_path / "set" / "README.txt").write_text("CIFAR-C Dataset README")
    result = find_published(folder, cifar)
    assert list(result.places) == (["gaussian_noise", "fog", "saturate"] if "fog" in names else list(C_BAR))
    assert str(result).startswith(f"{folder}: arrays of 5 severities one after the other, as CIFAR-10-C")
    assert result.severities(list(names)) == [1, 2, 3, 4, 5]
    for name in names:
        for severity, images in zip((2, 5), result.images(name, (2, 5)), strict=True):
            assert isinstance(images, np.memmap)
            np.testing.assert_array_equal(images, arrays[name][50 * (severity - 1):50 * severity])


@pytest.mark.parametrize("times", [1, 2, 4])
def test_an_array_does_not_say_which_severities_it_has_if_not_all(cifar, tmp_path, times):
    """Images of severity 5 cut out of CIFAR-10-C are such an array. The error names the folder that has them."""
    folder = tmp_path / "set"
    arrays = make_stacked(str(folder), cifar.labels["test"], ["fog"], times=times)
    with pytest.raises(UserError, match=f"{times * 50} labels are those of {times} of five severities") as error:
        find_published(str(folder), cifar)
    assert f"{folder / 'test' / '5'}, and" in str(error.value)
    (folder / "test" / "5").mkdir(parents=True)
    for name, array in {"fog": arrays["fog"], "labels": cifar.labels["test"]}.items():
        np.save(folder / "test" / "5" / f"{name}.npy", array[:50])
        os.remove(folder / f"{name}.npy")
    result = find_published(str(folder), cifar)
    assert result.severities(["fog"]) == [5]
    np.testing.assert_array_equal(result.images("fog", [5])[0], arrays["fog"][:50])
    with pytest.raises(UserError, match="has no severity 1, 2, 3, 4 of fog, only 5; .* --num_severity"):
        result.images("fog", range(1, 6))


def test_a_stack_of_all_severities_with_labels_of_one(cifar, tmp_path):
    folder = tmp_path / "set"
    make_stacked(str(folder), cifar.labels["test"], ["fog"])
    np.save(folder / "labels.npy", cifar.labels["test"])
    with pytest.raises(UserError, match=r"labels.npy: 50 labels, .*; store 250, which np.tile\(labels, 5\) makes"):
        find_published(str(folder), cifar)
    np.save(folder / "labels.npy", np.tile(cifar.labels["test"], 5))
    assert find_published(str(folder), cifar).severities(["fog"]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("make", [make_stacked, make_by_severity])
def test_labels_may_stand_in_a_column(cifar, tmp_path, make):
    make(str(tmp_path / "set"), cifar.labels["test"], ["fog"])
    for path in (tmp_path / "set").rglob("labels.npy"):
        np.save(path, np.load(path)[:, None])
    assert find_published(str(tmp_path / "set"), cifar).severities(["fog"]) == [1, 2, 3, 4, 5]


def test_arrays_in_folders_of_severities(cifar, tmp_path):
    arrays = make_by_severity(str(tmp_path), cifar.labels["test"], ["fog", "my_own"], severities=(1, 3, 4))
    os.remove(tmp_path / "test" / "4" / "fog.npy")
    result = find_published(str(tmp_path), cifar)
    assert "folders of severities" in str(result)
    assert result.severities(["my_own"]) == [1, 3, 4] and result.severities(["my_own", "fog"]) == [1, 3]
    np.testing.assert_array_equal(result.images("my_own", [3])[0], arrays["my_own", 3])


def test_what_this_project_stores_is_read(cifar, tmp_path, cifar_dir):
    stored = load_corrupted(str(tmp_path), cifar, "fog", 6)["test"]
    result = find_published(str(tmp_path / "CIFAR-10-C"), cifar)
    for images, ours in zip(result.images("fog", range(1, 6)), stored[1:], strict=True):
        np.testing.assert_array_equal(images, ours)


def test_arrays_of_all_severities_come_before_those_in_test(cifar, tmp_path, capsys):
    """As where CIFAR-10-C is unpacked into the folder in which this project stores its own arrays."""
    folder = tmp_path / "CIFAR-10-C"
    arrays = make_stacked(str(folder), cifar.labels["test"], ["fog"])
    make_by_severity(str(folder), cifar.labels["test"], ["snow"])
    result = find_published(str(folder), cifar)
    assert list(result.places) == ["fog"] and "are left out; name" in capsys.readouterr().err
    np.testing.assert_array_equal(result.images("fog", [1])[0], arrays["fog"][:len(cifar.labels["test"])])
    assert list(find_published(str(folder / "test"), cifar).places) == ["snow"]


def test_arrays_of_severities_between_whole_numbers_are_left_out_with_a_warning(cifar, tmp_path, capsys):
    make_by_severity(str(tmp_path), cifar.labels["test"], ["fog"], severities=(2, 3))
    os.rename(tmp_path / "test" / "2", tmp_path / "test" / "2.5")
    assert find_published(str(tmp_path), cifar).severities(["fog"]) == [3]
    assert "severity 2.5 is between whole numbers and left out" in capsys.readouterr().err


def check_greys(source, several):
    for severity, images in enumerate(several, 1):
        assert images.shape == source.images["test"].shape and images.names == source.images["test"].names
        expected = [grey(severity, label, number) for label in range(3) for number in range(4)]
        np.testing.assert_allclose(images[:].mean((1, 2, 3)), expected, atol=1.1)


@pytest.mark.parametrize("name, above, corruptions, severities, layout", [
    ("tinyimagenet", "", ("fog", "zoom_blur"), "12345", "CORRUPTION/SEVERITY/CLASS, as ImageNet-C"),
    ("imagenet", "", ("fog",), "12345", "CORRUPTION/SEVERITY/CLASS, as ImageNet-C"),
    ("imagenet", "", ("noise/shot_noise", "blur/zoom_blur", "weather/fog", "digital/pixelate", "extra/spatter"),
     "12345", "GROUP/CORRUPTION/SEVERITY/CLASS"),
    ("imagenet", "", ("plasma_noise", "caustic_refraction"), "12345", "CORRUPTION/SEVERITY/CLASS"),
    ("imagenet", "", ("plasma_noise",), STRENGTHS, "CORRUPTION/SEVERITY/CLASS"),
    ("imagenet30", "test", ("fog",), "12345", "test/CORRUPTION/SEVERITY/CLASS, as ImageNet-30-64-C"),
], ids=["Tiny-ImageNet-C", "ImageNet-C", "groups", "ImageNet-C-bar", "ImageNet-C-bar by its code", "ImageNet-30-64-C"])
def test_class_folders(trees, tmp_path, name, above, corruptions, severities, layout):
    source = trees[name]
    side, files = source.images["test"].side, same_files(source)
    make_class_folders(str(tmp_path / above), corruptions, side, files, tuple(severities))
    if above:
        make_class_folders(str(tmp_path / "train"), corruptions, side, files, tuple(severities))
    result = find_published(str(tmp_path), source)
    assert f"class folders, {layout}" in str(result)
    assert set(result.places) == {os.path.basename(item) for item in corruptions}
    for item in result.places:
        several = result.images(item, result.severities([item]))
        assert all(images.paths is source.images["test"].names for images in several)
        check_greys(source, several)
        assert several[0].folder.startswith(str(tmp_path / above))


@pytest.mark.parametrize("rename", [lambda file: file.replace(".JPEG", ".png"),
                                    lambda file: "test_" + file.split("_")[1]], ids=["suffix", "name"])
def test_files_of_a_class_are_matched_in_the_order_of_their_names(trees, tmp_path, rename):
    source = trees["tinyimagenet"]
    files = {name: sorted(map(rename, members)) for name, members in same_files(source).items()}
    make_class_folders(str(tmp_path), ["fog"], 64, files)
    check_greys(source, find_published(str(tmp_path), source).images("fog", range(1, 6)))


def test_images_follow_the_order_of_the_test_images(trees, tmp_path):
    """A list of test images makes their order differ from the order of the files."""
    source = trees["imagenet30"]
    make_class_folders(str(tmp_path), ["fog"], 64, same_files(source), ("1",))
    order = np.array([7, 2, 11, 0, 5])
    chosen = {part: images.subset(order) if part == "test" else images for part, images in source.images.items()}
    few = type(source)(source.name, source.corrupted_folder, 3, chosen,
                       {**source.labels, "test": source.labels["test"][order]}, source.mean, source.std)
    with pytest.raises(UserError, match="barn: 4 images, but 2 test images of imagenet30 are of this class"):
        find_published(str(tmp_path), few).images("fog", [1])
    for place, name in enumerate(source.images["test"].names):
        if place not in order:
            os.remove(tmp_path / "fog" / "1" / name)
    [images] = find_published(str(tmp_path), few).images("fog", [1])
    expected = [grey(1, place // 4, place % 4) for place in order]
    np.testing.assert_allclose(images[:].mean((1, 2, 3)), expected, atol=1.1)


def cut(path):
    os.truncate(path, os.path.getsize(path) // 2)


def reverse(path):
    np.save(path, np.load(path)[::-1])


def halve(path):
    np.save(path, np.load(path)[:50])


def to_float(path):
    np.save(path, np.load(path) / 255)


def write_text(path):
    with open(path, "w") as file:
        file.write("version https://git-lfs.github.com/spec/v1")


def pack(path):
    with open(path, "wb") as file:
        np.savez(file, np.arange(3))


@pytest.mark.parametrize("layout, file, damage, message", [
    ("stacked", "labels.npy", os.remove, "not there"),
    ("stacked", "labels.npy", pack, "truncated or not a numpy array"),
    ("stacked", "fog.npy", pack, "truncated or not a numpy array"),
    ("stacked", "labels.npy", write_text, "truncated or not a numpy array"),
    ("stacked", "labels.npy", reverse, "not the labels of the test images of cifar10"),
    ("stacked", "fog.npy", cut, "truncated or not a numpy array"),
    ("stacked", "fog.npy", halve, r"shape \(50, 32, 32, 3\), but .* need uint8 of \(250, 32, 32, 3\)"),
    ("stacked", "fog.npy", to_float, "float64 of shape"),
    ("severities", "test/3/labels.npy", os.remove, "not there"),
    ("severities", "test/3/labels.npy", reverse, "not the labels"),
    ("severities", "test/3/fog.npy", cut, "truncated"),
])
def test_damaged_arrays_are_named(cifar, tmp_path, layout, file, damage, message):
    make = make_stacked if layout == "stacked" else make_by_severity
    make(str(tmp_path / "set"), cifar.labels["test"], ["fog", "snow"])
    path = str(tmp_path / "set" / file)
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        find_published(str(tmp_path / "set"), cifar).images("fog", range(1, 6))
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("labels, message", [
    (np.zeros(240), "240 labels, but cifar10 has 50 test images, one to five times"),
    (np.zeros(300), "300 labels, but cifar10 has 50"),
    (np.zeros((250, 10)), r"labels of shape \(250, 10\), which must be \(M,\) or \(M, 1\)"),
    (np.array(3), r"labels of shape \(\), which must"),
    (np.zeros(250), "not the labels of the test images of cifar10"),
])
def test_sets_of_other_data_are_named(cifar, tmp_path, labels, message):
    make_stacked(str(tmp_path / "set"), cifar.labels["test"], ["fog"])
    path = str(tmp_path / "set" / "labels.npy")
    np.save(path, labels)
    with pytest.raises(UserError, match=message) as error:
        find_published(str(tmp_path / "set"), cifar)
    assert str(error.value).startswith(f"{path}: ")


def remove_class(folder):
    shutil.rmtree(os.path.join(folder, "fog", "3", "barn"))
    return "fog/3/barn", "not there, though imagenet30 has test images of this class"


def remove_image(folder):
    os.remove(os.path.join(folder, "fog", "3", "barn", "barn_2.JPEG"))
    return "fog/3/barn", "3 images, but 4 test images of imagenet30 are of this class"


def empty_image(folder):
    os.truncate(os.path.join(folder, "fog", "3", "barn", "barn_2.JPEG"), 0)
    return "fog/3/barn/barn_2.JPEG", "is empty"


def empty_severity(folder):
    shutil.rmtree(os.path.join(folder, "fog", "3"))
    os.mkdir(os.path.join(folder, "fog", "3"))
    return "fog/3", "has no class folder"


def add_group(folder):
    shutil.copytree(os.path.join(folder, "fog"), os.path.join(folder, "weather", "fog"))
    return "weather/fog", "fog is there twice"


def name_by_strength(folder):
    os.rename(os.path.join(folder, "fog", "1"), os.path.join(folder, "fog", "0.50"))
    for severity in "2345":
        shutil.rmtree(os.path.join(folder, "fog", severity))
    return "fog", "has 0.50, and must have five strengths"


@pytest.mark.parametrize("damage", [remove_class, remove_image, empty_image, empty_severity, add_group,
                                    name_by_strength])
def test_damaged_class_folders_are_named(trees, tmp_path, damage):
    source = trees["imagenet30"]
    make_class_folders(str(tmp_path), ["fog"], 64, same_files(source))
    path, message = damage(str(tmp_path))
    with pytest.raises(UserError, match=message) as error:
        find_published(str(tmp_path), source).images("fog", range(1, 6))
    assert str(error.value).startswith(f"{tmp_path / path}: ") and "\n" not in str(error.value)


def test_classes_that_the_data_set_lacks_are_left_out(trees, tmp_path, capsys):
    """Frost of Tiny-ImageNet-C was distributed with a thousand classes instead of two hundred."""
    source = trees["imagenet30"]
    make_class_folders(str(tmp_path), ["fog"], 64, {**same_files(source), "zebra": ["a.JPEG"], "yak": ["b.JPEG"]})
    opened = find_published(str(tmp_path), source).images("fog", range(1, 6))
    assert [images.names for images in opened] == 5 * [source.images["test"].names]
    assert opened[2][3:4].mean().round() == grey(3, 0, 3)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path / 'fog'}: 2 classes, such as yak, are left out")


def test_an_image_of_another_size_is_named(trees, tmp_path):
    source = trees["imagenet30"]
    make_class_folders(str(tmp_path), ["fog"], 72, same_files(source), ("1",))
    with pytest.raises(UserError, match="acorn_0.JPEG: is 72x72 pixels and must be 64x64"):
        find_published(str(tmp_path), source).images("fog", [1])


def test_class_folders_may_lie_in_a_group_and_beside_it(trees, tmp_path):
    source = trees["imagenet30"]
    make_class_folders(str(tmp_path), ["fog", "weather/snow"], 64, same_files(source), ("1",))
    result = find_published(str(tmp_path), source)
    assert list(result.places) == ["snow", "fog"] and "as ImageNet-C" in result.layout
    for name in result.places:
        assert len(result.images(name, [1])[0]) == len(source.labels["test"])


def test_class_folders_of_two_forms_are_refused(trees, tmp_path):
    source = trees["imagenet30"]
    make_class_folders(str(tmp_path), ["fog", "test/snow"], 64, same_files(source), ("1",))
    with pytest.raises(UserError, match="has snow in test/, and fog beside it"):
        find_published(str(tmp_path), source)
    assert list(find_published(str(tmp_path / "test"), source).places) == ["snow"]


def test_what_is_none_of_the_layouts_is_refused(cifar, trees, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_published(str(tmp_path / "nowhere"), cifar)
    (tmp_path / "fog" / "train").mkdir(parents=True)
    np.save(tmp_path / "labels.npy", np.arange(3))
    with pytest.raises(UserError, match=f"--test_corrupted {tmp_path}: has neither arrays, .*, nor class folders"):
        find_published(str(tmp_path), cifar)
    make_class_folders(str(tmp_path), ["snow"], 32, same_files(trees["imagenet30"]), ("1",))
    with pytest.raises(UserError, match=f"--test_corrupted {tmp_path}: has class folders, .*, and cifar10 has none"):
        find_published(str(tmp_path), cifar)


def test_the_fingerprint_is_of_what_the_files_hold(cifar, trees, tmp_path):
    folder = str(tmp_path / "set")

    def pixels_of(images):
        return joint_fingerprint(images).pixels
    make_stacked(folder, cifar.labels["test"], ["fog", "snow"])
    first = {name: pixels_of(find_published(folder, cifar).images(name, range(1, 6))) for name in ("fog", "snow")}
    assert first["fog"] != first["snow"]
    shutil.move(folder, tmp_path / "moved")
    array = np.load(tmp_path / "moved" / "fog.npy")
    array[123, 4, 5, 1] ^= 1
    np.save(tmp_path / "moved" / "fog.npy", array)
    result = find_published(str(tmp_path / "moved"), cifar)
    again = {name: pixels_of(result.images(name, range(1, 6))) for name in first}
    assert again["snow"] == first["snow"] and again["fog"] != first["fog"]
    make_class_folders(str(tmp_path / "files"), ["fog"], 64, same_files(trees["imagenet30"]), ("1",))
    result = find_published(str(tmp_path / "files"), trees["imagenet30"])
    before = pixels_of(result.images("fog", [1]))
    with open(tmp_path / "files" / "fog" / "1" / "barn" / "barn_2.JPEG", "r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"other")  # as many bytes
    result = find_published(str(tmp_path / "files"), trees["imagenet30"])
    assert pixels_of(result.images("fog", [1])) != before


# Evaluations

@pytest.fixture(scope="module")
def trained(cifar_dir, tmp_path_factory):
    log_dir = str(tmp_path_factory.mktemp("logs"))
    main.main(arguments(cifar_dir, log_dir, "--method", "erm", "--save_last", "--total_epoch", "1", "-b", "120"))
    return only_run(log_dir)


@pytest.fixture
def run(trained, tmp_path):
    return str(shutil.copytree(trained, tmp_path / "run"))


def stack(folder, source, cifar_dir, names):
    """Our own images of some corruptions, laid out as CIFAR-10-C is; `names` maps their names there to ours."""
    os.makedirs(folder)
    np.save(os.path.join(folder, "labels.npy"), np.tile(source.labels["test"], 5))
    for name, ours in names.items():
        several = open_corrupted(cifar_dir, source, "test", ours)
        np.save(os.path.join(folder, f"{name}.npy"), np.concatenate([images[np.arange(50)] for images in several]))
    return folder


def test_names_in_the_usual_spelling_are_the_published_ones(cifar, tmp_path):
    folder = str(tmp_path / "set")
    make_stacked(folder, cifar.labels["test"], ["concentric_sine_waves", "fog"])
    result = find_published(folder, cifar)
    assert list(result.places) == ["fog", "cocentric_sine_waves"]
    assert len(result.images("cocentric_sine_waves", (1,))[0]) == len(cifar.labels["test"])


def test_an_evaluation_takes_all_that_are_there(run, cifar, cifar_dir, tmp_path, capsys):
    folder = stack(str(tmp_path / "CIFAR-10-C-Bar"), cifar, cifar_dir, {"ripple": "pixelate", "lines": "fog"})
    main.main(["--evaluate", run, "-c", "fog", "pixelate"])
    capsys.readouterr()
    main.main(["--evaluate", run, "--test_corrupted", folder])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{folder}: arrays of 5 severities") and lines[0].endswith("; ripple, lines")
    assert lines[2].startswith("CIFAR-10-C-Bar (2 corruptions) on cifar10, 50 test images: ")
    assert not any("evaluated before" in line for line in lines)
    result, ours = (read_json(f"{run}/evaluation_{tag}.json") for tag in ("CIFAR-10-C-Bar", "fog+pixelate"))
    assert result["corrupted"] == {"lines": ours["corrupted"]["fog"], "ripple": ours["corrupted"]["pixelate"]}
    assert (result["test_corrupted"], ours["test_corrupted"]) == ("CIFAR-10-C-Bar", None)
    assert set(result["fingerprints"]) == {"none", "lines", "ripple"}
    assert result["fingerprints"]["lines"]["made"] is None and ours["fingerprints"]["fog"]["pixels"] is None
    with open(f"{run}/evaluation_CIFAR-10-C-Bar.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["corruption"], row["severity"]) for row in rows[1:]] == [
        (name, str(severity)) for name in ("ripple", "lines") for severity in range(1, 6)]
    with open(f"{run}/report.html", encoding="utf-8") as file:
        assert "Evaluation: CIFAR-10-C-Bar (2 corruptions)" in file.read()


@pytest.mark.slow
def test_stored_evaluations_are_not_mistaken_for_others(run, cifar, cifar_dir, tmp_path, capsys):
    """The same names for our images, for those of one folder, and for those of another of the same name."""
    first = stack(str(tmp_path / "a" / "SET"), cifar, cifar_dir, {"fog": "contrast", "snow": "snow"})
    second = stack(str(tmp_path / "b" / "SET"), cifar, cifar_dir, {"fog": "fog", "snow": "snow"})

    def evaluate(*argv):
        capsys.readouterr()
        main.main(["--evaluate", run, *argv])
        return "evaluated before" in capsys.readouterr().out
    assert not evaluate("-c", "fog", "snow")
    assert not evaluate("--test_corrupted", first)
    assert evaluate("--test_corrupted", first) and evaluate("-c", "snow", "fog") and evaluate("-c", "snow")
    assert evaluate("--test_corrupted", first, "-c", "fog")  # which the wider one has
    name = "evaluation_fog-of-SET.json"
    assert read_json(os.path.join(run, name))["set"] == "fog of SET (1 corruption)"
    of_first = read_json(f"{run}/evaluation_SET.json")["corrupted"]
    assert read_json(os.path.join(run, name))["corrupted"]["fog"] == of_first["fog"]
    assert evaluate("--test_corrupted", second, "-c", "snow")  # the same images, as their hash says
    assert not evaluate("--test_corrupted", second)
    assert read_json(f"{run}/evaluation_SET.json")["corrupted"]["snow"] == of_first["snow"]


@pytest.mark.slow
def test_severities_that_are_there(run, cifar, tmp_path, capsys):
    folder = str(tmp_path / "mine")
    make_by_severity(folder, cifar.labels["test"], ["dust", "rain"], severities=(2, 4, 5))
    os.remove(os.path.join(folder, "test", "5", "rain.npy"))
    capsys.readouterr()
    main.main(["--evaluate", run, "--test_corrupted", folder])
    captured = capsys.readouterr()
    assert f"warning: {folder}: not all of these corruptions have severity 5, which is left out" in captured.err
    record = read_json(f"{run}/evaluation_mine.json")
    assert record["severities"] == [2, 4] and list(record["by_level"]) == ["none"]
    assert [len(values) for values in record["by_severity"].values()] == [3] * 3
    lines = captured.out.splitlines()
    table = next(k for k, line in enumerate(lines) if line.startswith("accuracy (%)"))
    assert lines[table].split()[2:4] == ["2", "4"]
    accuracies = [f"{100 * value:.2f}" for value in record["corrupted"]["dust"]["accuracy"]]
    assert lines[table + 2].split()[:3] == ["dust", *accuracies]
    assert next(line for line in lines if line.startswith("severity")).split() == ["severity", "0", "2", "4", "none"]
    with open(f"{run}/evaluation_mine.csv", newline="") as file:
        assert [row["severity"] for row in csv.DictReader(file)] == ["0", "2", "4", "2", "4"]
    main.main(["--evaluate", run, "--test_corrupted", folder, "-c", "dust", "--baseline", run])
    record = read_json(f"{run}/evaluation_dust-of-mine.json")
    assert record["severities"] == [2, 4, 5] and list(record["by_level"]) == ["none", "severe"]
    assert record["corruption_error"]["by_corruption"] == {"dust": 1}
    _, table = evaluation_table(record)
    assert table.header[1:4] == ["severity 2", "severity 4", "severity 5"]
    assert {len(row) for row in table.rows} == {len(table.header)}


@pytest.mark.slow
def test_a_baseline_is_of_the_same_images(run, cifar, cifar_dir, tmp_path, capsys):
    base = str(shutil.copytree(run, tmp_path / "base"))
    folder = stack(str(tmp_path / "SET"), cifar, cifar_dir, {"fog": "contrast"})
    main.main(["--evaluate", base, "-c", "fog"])
    with pytest.raises(SystemExit):
        main.main(["--evaluate", run, "--test_corrupted", folder, "--baseline", f"{base}/evaluation_fog.json"])
    assert "evaluation_fog.json: was evaluated on other images of fog" in capsys.readouterr().err
    main.main(["--evaluate", run, "--test_corrupted", folder, "--baseline", base])  # evaluated on them first
    assert read_json(f"{base}/evaluation_SET.json")["test_corrupted"] == "SET"
    assert read_json(f"{run}/evaluation_SET.json")["corruption_error"]["mean"] == 1


@pytest.mark.parametrize("argv, message", [
    (["--evaluate", "RUN", "--test_corrupted", "nowhere"], "nowhere: no such folder"),
    (["--evaluate", "RUN", "--test_corrupted", "SET", "--corrupted_from", "memory"],
     "--corrupted_from memory: has no effect with --test_corrupted"),
    (["--evaluate", "RUN", "--test_corrupted", "SET", "-c", "ripple", "haze"], "SET: has no haze; choose from fog, r"),
    (["--evaluate", "RUN", "--test_corrupted", "SET", "-c", "common"], "SET: has no gaussian_noise, shot_noise"),
    (["--evaluate", "RUN", "-c", "fish_eye"], "--corruption: unknown name 'fish_eye'; choose from common, all, b"),
    (["--test_corrupted", "SET", "-c", "fog", "fish_eye"], "--corruption: unknown name 'fish_eye'"),
    (["--test_corrupted", "SET", "-c", "snow"], "SET: has no snow; choose from fog, ripple"),
    (["--test_corrupted", "FEW", "-c", "fog"], "FEW/labels.npy: 100 labels are those of 2 of five"),
    (["--test_corrupted", "OTHER", "-c", "fog"], "OTHER/labels.npy: not the labels of the test images of cifar10"),
])
def test_bad_input_is_one_line(run, cifar, cifar_dir, tmp_path, capsys, argv, message):
    labels = cifar.labels["test"]
    places = {"RUN": run, **{name: str(tmp_path / name) for name in ("SET", "FEW", "OTHER")}}
    make_stacked(places["SET"], labels, ["fog", "ripple"])
    make_stacked(places["FEW"], labels, ["fog"], times=2)
    make_stacked(places["OTHER"], labels[::-1], ["fog"])
    before = contents(run)
    argv = [places.get(word, word) for word in argv]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main.main(argv if argv[0] == "--evaluate" else arguments(cifar_dir, tmp_path / "logs", *argv))
    assert stop.value.code == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning:")]
    assert line.startswith("main.py: error: ") and message in line
    assert contents(run) == before and (not os.path.exists(tmp_path / "logs") or not os.listdir(tmp_path / "logs"))


def test_records_of_different_images_have_no_table_in_common():
    def record(pixels="ours", severities=(1, 2, 3, 4, 5)):
        description = {"set": "x (1 corruption)", "severities": list(severities),
                       "fingerprints": stored_fingerprints(["fog"], pixels)}
        fog = [CalibrationScores(0.5, 1, 0)] * len(severities)
        return to_dict(description, CalibrationScores(1, 0, 0), {"fog": fog})
    ours, old, theirs, few = record(), record(), record("a"), record("a", (1, 2))
    del old["severities"]
    assert common_evaluations([[ours], [old]]) == [ours, old]
    for second in (theirs, few):
        assert common_evaluations([[ours], [second]]) is None
    assert common_evaluations([[theirs], [few]]) is None
    assert common_evaluations([[ours, theirs], [few, theirs]]) == [theirs, theirs]
    assert "mild: severities 1 to 3; severe: severities 4 to 5" in averages(ours)


def test_runs_that_were_tested_on_different_images_are_not_drawn_together(run, tmp_path):
    second = str(shutil.copytree(run, tmp_path / "other"))
    assert len(read_records([run, second])) == 2
    config = {**read_json(second + "/config.json"), "test_corrupted": "/data/CIFAR-10-C"}
    write_json(second + "/config.json", config)
    with pytest.raises(UserError, match=f"{second}: was tested on CIFAR-10-C, {run} on images made here; draw them"):
        read_records([run, second])


# Trainings

@pytest.mark.slow
def test_a_folder_of_test_images_that_has_moved_is_named(cifar_dir, tmp_path):
    """The figures have no option for it."""
    gone = str(tmp_path / "CIFAR-10-C")
    config = {"dataset": "cifar10", "model": "wideresnet10", "data_dir": cifar_dir, "corruption": "fog",
              "num_severity": 2, "test_corrupted": gone}
    with pytest.raises(UserError, match=f"^{gone}: the run was tested on the images in this folder; put it back"):
        TrainedRun(SimpleNamespace(path="RUN", name="erm", config=config), None)


def test_a_run_is_tested_on_published_images(cifar, cifar_dir, tmp_path, capsys):
    """Clean images at every severity: the accuracy is the same at all of them."""
    data = str(shutil.copytree(cifar_dir, tmp_path / "data", ignore=shutil.ignore_patterns("*-C")))
    folder = str(tmp_path / "SET")
    os.mkdir(folder)
    np.save(os.path.join(folder, "labels.npy"), np.tile(cifar.labels["test"], 5))
    np.save(os.path.join(folder, "contrast.npy"), np.tile(cifar.images["test"], (5, 1, 1, 1)))
    main.main(arguments(data, tmp_path / "logs", "-c", "contrast", "--test_corrupted", os.path.relpath(folder),
                        "--method", "erm", "--save_last", "--total_epoch", "1", "-b", "120", "--eval_batch_size", "25"))
    assert f"{folder}: arrays of 5 severities one after the other" in capsys.readouterr().out
    path = only_run(tmp_path / "logs")
    with open(os.path.join(path, "results.json")) as file:
        test = json.load(file)["test"]
    assert len(set(test["accuracy"])) == 1 and len(set(test["loss"])) == 1 and test["images"] == [50] * 6
    assert read_json(os.path.join(path, "config.json"))["test_corrupted"] == folder
    assert os.path.exists(corrupted_path(data, cifar, "train", 5, "contrast"))
    assert not os.path.exists(corrupted_path(data, cifar, "test", 5, "contrast"))
    measured = TrainedRun(read_record(path), None)
    assert len(measured.images) == 6
    np.testing.assert_array_equal(measured.images[5], cifar.images["test"])
    os.remove(os.path.join(path, "results.json"))
    main.main(["--resume", path])  # which has the option from its settings
    assert read_json(os.path.join(path, "results.json"))["test"] == test


@pytest.mark.slow
def test_a_run_and_an_evaluation_on_class_folders(trees, tmp_path):
    source = trees["imagenet30"]
    root = os.path.dirname(os.path.dirname(source.images["test"].folder))
    data = shutil.copytree(root, tmp_path / "data")
    make_class_folders(str(tmp_path / "SET" / "test"), ["contrast", "my_own"], 64, same_files(source))
    main.main(["-d", "imagenet30", "--data_dir", str(data), "--filelist_dir", str(data / "lists"), "-n", "24", "-c",
               "contrast", "-m", "wideresnet10", "--method", "erm", "--total_epoch", "1", "-b", "24", "--save_last",
               "--log_dir", str(tmp_path / "logs"), "--test_corrupted", str(tmp_path / "SET")])
    path = only_run(tmp_path / "logs")
    main.main(["--evaluate", path, "--test_corrupted", str(tmp_path / "SET"), "--num_workers", "1"])
    record, results = read_json(path + "/evaluation_SET.json"), read_json(path + "/results.json")["test"]
    assert list(record["corrupted"]) == ["contrast", "my_own"]
    assert record["corrupted"]["contrast"] == record["corrupted"]["my_own"]
    assert [record["clean"]["accuracy"], *record["corrupted"]["contrast"]["accuracy"]] == results["accuracy"]
    assert sorted(os.listdir(data)) == ["ImageNet-30-64", "lists"]  # nothing is stored
