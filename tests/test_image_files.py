"""Data sets of image files: layouts, sizes, corruption when they are read, and what is wrong with them in one line."""
import contextlib
import errno
import os
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

import main
from corruptions import __main__ as generator
from corruptions import corrupt
from corruptions.images import jpeg_roundtrip, read_image, write_image
from corruptions.utils.errors import UserError
from corruptions.utils.files import write_csv
from dataset import SOURCE_OPTIONS, load_source
from dataset.batches import EvaluationBatches, TrainBatches
from dataset.corrupted import load_corrupted, open_corrupted
from dataset.image_files import (
    FileImages,
    LazyCorruptedFiles,
    centre_crop,
    random_resized_crop,
    read_rgb,
    squash,
)
from dataset.inputs import input_format
from dataset.pipeline import prefetch
from dataset.poisson import Split, poisson_split
from dataset.prepare_dataset import main as prepare
from dataset.sources.base import ImageDataset
from dataset.sources.folder import draw, load_folder, split_test, split_test_for_good
from dataset.sources.imagenet30 import NUM_PER_CLASS
from losses.config.options import apply_recipe, parse_command_line
from losses.config.resolve import resolve, resolve_config
from losses.evaluation.trained_network import run_options
from tests.image_trees import CLASSES, TREES, make_classes, make_folder, make_imagenet30, picture, save
from tests.test_main import only_run, read_csv
from utils.fingerprint import difference
from utils.records.trained import TrainedNetwork

SIDES = {"tinyimagenet": 64, "imagenet": 224, "imagenet30": 64, "folder": 64}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A data folder for each data set of files."""
    folders = {name: str(tmp_path_factory.mktemp(name)) for name in TREES}
    for name, make in TREES.items():
        make(folders[name])
    return folders


def own_options(name, folder):
    return {"filelist_dir": os.path.join(folder, "lists")} if name == "imagenet30" else {}


def load(name, folder):
    return load_source(name, folder, **own_options(name, folder))


@pytest.mark.parametrize("name", TREES)
def test_every_layout_is_read(trees, name):
    source = load(name, trees[name])
    assert source.classes == 3
    form = input_format(name)
    assert (form.side, form.mean, form.std) == (source.image_size[0], source.mean, source.std)
    for part, count in (("train", 30), ("test", 4)):
        images, labels = source.images[part], source.labels[part]
        assert images.shape == (3 * count, SIDES[name], SIDES[name], 3) and labels.dtype == np.int32
        np.testing.assert_array_equal(labels, np.repeat(np.arange(3), count))
        assert [name.split("/")[0] for name in images.names] == list(np.repeat(CLASSES, count))
        pixels = images[np.array([0, 1, 3, 4, 5] if part == "train" else [0, 3])]
        assert pixels.dtype == np.uint8 and pixels.std() > 10
    if name == "tinyimagenet":  # the table says which class a validation image has
        assert source.images["test"].names[:2] == ["acorn/val_0.JPEG", "acorn/val_3.JPEG"]
        np.testing.assert_array_equal(source.images["test"][4:5][0], read_image(
            os.path.join(trees[name], "tiny-imagenet-200", "val", "images", "val_1.JPEG")))


def test_grey_palette_cmyk_and_turned_images_look_like_the_plain_one(tmp_path):
    pixels = picture(np.random.default_rng(0), 40, 60)
    for kind in ("rgb", "grey", "palette", "cmyk", "turned"):
        save(str(tmp_path / f"{kind}.JPEG"), pixels, kind)
        result = read_rgb(str(tmp_path / f"{kind}.JPEG"))
        expected = pixels if kind != "grey" else np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[..., None],
                                                           3, axis=2)
        assert result.shape == pixels.shape and np.abs(result.astype(int) - expected).mean() < 12, kind


def test_sizes_are_those_of_torchvision():
    pixels = picture(np.random.default_rng(0), 50, 80)
    crop = centre_crop(pixels, 24, 32)  # to 32 x 51, of which rows 4 .. 27 and columns 14 .. 37
    whole = np.asarray(Image.fromarray(pixels).resize((51, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(crop, whole[4:28, 14:38])
    np.testing.assert_array_equal(centre_crop(pixels.swapaxes(0, 1).copy(), 24, 32),
                                  np.asarray(Image.fromarray(pixels.swapaxes(0, 1).copy()).resize(
                                      (32, 51), Image.Resampling.BILINEAR))[14:38, 4:28])
    assert squash(pixels, 64).shape == (64, 64, 3)


def test_images_are_scaled_by_the_chosen_interpolation(tmp_path):
    """With bicubic, whole images and crops are what PIL makes; with the default, the name of the images is the old one.
    """
    make_folder(str(tmp_path / "own"), (3, 2))
    own = {name: load_folder(str(tmp_path / "own"), 24, name).images["train"] for name in ("bilinear", "bicubic")}
    assert own["bilinear"].pixels == load_folder(str(tmp_path / "own"), 24).images["train"].pixels
    assert own["bilinear"].pixels != own["bicubic"].pixels
    pixels = read_rgb(os.path.join(own["bicubic"].folder, own["bicubic"].paths[0]))
    whole = Image.fromarray(pixels).resize((38, 24), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(own["bicubic"][:1][0], np.asarray(whole.crop((7, 0, 31, 24))))
    first = own["bicubic"].subset([0])
    crop = random_resized_crop(pixels, 24, np.random.default_rng(0), interpolation="bicubic")
    np.testing.assert_array_equal(first.resized_crops(np.random.default_rng(0))[0], crop)
    assert (crop != random_resized_crop(pixels, 24, np.random.default_rng(0))).any()


def test_crops_have_the_chosen_area():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 200, 3)).copy()
    rng = np.random.default_rng(0)
    for _ in range(20):  # a quarter of the image, whose sides are 87 to 115 pixels
        crop = random_resized_crop(ramp, 100, rng, area=(0.25, 0.25))
        assert 84 <= int(crop.max()) - int(crop.min()) <= 116


def test_random_resized_crops_are_pieces_of_the_image():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 150, 3)).copy()
    rng, heights = np.random.default_rng(0), []
    for _ in range(300):
        crop = random_resized_crop(ramp, 32, rng)
        assert crop.shape == (32, 32, 3)
        heights.append((int(crop.max()) - int(crop.min())) * 32 / 31)  # from the middle of the first row to the last's
    # Area uniform in 8 to 100 %, width over height log-uniform in 3/4 to 4/3, and no larger than the image.
    draw = np.random.default_rng(1)
    area = 200 * 150 * draw.uniform(0.08, 1, 100000)
    ratio = np.exp(draw.uniform(np.log(3 / 4), np.log(4 / 3), 100000))
    expected = np.sqrt(area / ratio)[(np.sqrt(area * ratio) <= 150) & (np.sqrt(area / ratio) <= 200)]
    assert abs(np.mean(heights) - expected.mean()) < 3 * expected.std() / np.sqrt(300)
    assert abs(np.std(heights) / expected.std() - 1) < 0.15
    wide = picture(np.random.default_rng(0), 4, 150)  # too flat for any piece, so it is 5 pixels in the middle
    for pixels, piece in ((wide, wide[:, 72:77]), (wide.transpose(1, 0, 2), wide[:, 72:77].transpose(1, 0, 2))):
        crop = random_resized_crop(np.ascontiguousarray(pixels), 8, np.random.default_rng(0))
        np.testing.assert_array_equal(crop, squash(np.ascontiguousarray(piece), 8))


def test_a_random_resized_crop_is_made_of_its_own_pixels_alone():
    """Cut out and then scaled, as torchvision does."""
    class Middle:  # draws the piece of 60x60 pixels at (30, 30) of an image of 100x100
        uniform = staticmethod(lambda low, high: 0.36 if high == 1 else 0.0)  # the area; the logarithm of the ratio
        integers = staticmethod(lambda high: 30)
    pixels = picture(np.random.default_rng(0), 100, 100)
    for side in (20, 60, 90):  # smaller, as large, and larger
        crop = random_resized_crop(pixels, side, Middle)
        expected = Image.fromarray(pixels).crop((30, 30, 90, 90)).resize((side, side), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(crop, np.asarray(expected))


@pytest.mark.parametrize("height, width", [(8, 8), (9, 13), (64, 64), (224, 224), (225, 31)])
def test_a_trip_through_jpeg_is_that_of_a_stored_file(height, width, tmp_path):
    pixels = picture(np.random.default_rng(height), height, width)
    path = str(tmp_path / "stored.jpg")
    write_image(path, pixels, "jpeg")
    np.testing.assert_array_equal(jpeg_roundtrip(pixels), np.asarray(Image.open(path)))
    write_image(path, pixels[..., 0], "jpeg")
    for grey in (pixels[..., 0], pixels[..., :1]):
        result = jpeg_roundtrip(grey)
        assert result.shape == grey.shape
        np.testing.assert_array_equal(result.reshape(height, width), np.asarray(Image.open(path)))


@pytest.mark.parametrize("name", ["imagenet30", "tinyimagenet"])
def test_memory_and_disk_have_the_same_pixels(trees, name, tmp_path):
    folder = str(tmp_path / "data")
    shutil.copytree(trees[name], folder)
    source = load(name, folder)
    made = load_corrupted(folder, source, "gaussian_noise", 3)
    assert isinstance(made["train"][2], LazyCorruptedFiles)
    generator.main(["dataset", name, "-c", "gaussian_noise", "--data_dir", folder, "--workers", "1"])
    stored = load_corrupted(folder, load(name, folder), "gaussian_noise", 3)
    for part in ("train", "test"):
        for severity in (1, 2):
            assert isinstance(stored[part][severity], FileImages)
            np.testing.assert_array_equal(made[part][severity][:], stored[part][severity][:])
    # Kept out of the way, they are made again; a missing one is named.
    in_memory = load_corrupted(folder, source, "gaussian_noise", 3, where="memory")
    assert isinstance(in_memory["test"][1], LazyCorruptedFiles)
    path = os.path.join(folder, source.corrupted_folder, "test", "gaussian_noise", "2", source.images["test"].names[0])
    os.remove(path)
    with pytest.raises(UserError, match="--corrupted_from memory") as error:
        load_corrupted(folder, source, "gaussian_noise", 3)
    assert path in str(error.value)


def test_a_stored_set_that_is_not_finished_is_not_used(trees, tmp_path):
    folder = str(tmp_path / "data")
    shutil.copytree(trees["folder"], folder)
    source = load_source("folder", folder)
    images = load_corrupted(folder, source, "fog", 2, where="disk")
    assert isinstance(images["test"][1], FileImages) and os.path.isdir(f"{folder}-C/test/fog/5/acorn")
    os.remove(f"{folder}-C/test/fog/5/acorn/acorn_1.JPEG")  # as if it had been killed
    open(f"{folder}-C/test/fog/.unfinished", "wb").close()
    generator.main(["dataset", "folder", "-c", "contrast", "--data_dir", folder, "--workers", "1"])
    assert isinstance(load_corrupted(folder, source, "fog", 2)["test"][1], LazyCorruptedFiles)
    assert isinstance(load_corrupted(folder, source, "contrast", 2)["test"][1], FileImages)
    load_corrupted(folder, source, "fog", 2, where="disk")
    assert not os.path.exists(f"{folder}-C/test/fog/.unfinished")
    assert os.path.exists(f"{folder}-C/test/fog/5/acorn/acorn_1.JPEG")


def test_corrupted_images_of_images_that_are_added_are_added(tmp_path):
    folder = str(tmp_path / "data")
    make_folder(folder, (2, 1))
    command = ["dataset", "folder", "-c", "contrast", "--data_dir", folder, "--workers", "1"]
    generator.main(command)
    save(os.path.join(folder, "train", "barn", "late.JPEG"), np.zeros((64, 64, 3), np.uint8))
    grown = load_source("folder", folder)
    with pytest.raises(UserError, match="late.JPEG: was not there when .* have python -m corruptions dataset add it"):
        load_corrupted(folder, grown, "contrast", 2)
    generator.main(command)
    assert len(load_corrupted(folder, grown, "contrast", 2)["train"][1]) == 7
    os.remove(f"{folder}-C/train/contrast/3/barn/late.JPEG")
    load_corrupted(folder, grown, "contrast", 3)  # severities that are not needed need not be there
    with pytest.raises(UserError, match="late.JPEG: not there"):
        load_corrupted(folder, grown, "contrast", 4)
    load_corrupted(folder, grown, "contrast", 4, where="disk")  # which makes it again


def test_noise_comes_from_the_stream_of_the_name(trees):
    source = load("imagenet30", trees["imagenet30"])
    made = LazyCorruptedFiles(source.images["test"], "brightness", 3)  # which draws nothing
    subset = source.images["test"][np.array([2, 7])]
    near = made.subset([2, 7])[:].astype(int) - corrupt(subset, "brightness", 3)
    assert np.abs(near).mean() < 4  # JPEG
    noisy = LazyCorruptedFiles(source.images["test"], "gaussian_noise", 3)
    np.testing.assert_array_equal(noisy.subset([7])[:], noisy[np.array([2, 7])][1:])


def test_batches_of_files_do_not_depend_on_the_workers(trees):
    source = load("tinyimagenet", trees["tinyimagenet"])
    files = source.images["train"]
    images = [files, *(LazyCorruptedFiles(files, "gaussian_noise", s) for s in range(1, 6))]
    split = poisson_split(source.labels["train"], 20, 6, seed=0)
    clean = Split([split.indices], split.validation)
    for crop, corruption, severities, subset in (("none", None, split, images), ("zero_pad", "contrast", split, images),
                                                 ("random_resized", None, clean, images[:1])):
        parts = subset, source.labels["train"], severities, source.mean, source.std, 8
        every = TrainBatches(*parts, range(6), 3, crop, corruption=corruption)
        item, two = ([[t.asnumpy() for t in batch] for batch in prefetch(every, workers)] for workers in (1, 2))
        later = TrainBatches(*parts, range(4, 6), 3, crop, corruption=corruption)[0]
        for columns in zip(item, two, strict=True):
            for a, b in zip(*columns, strict=True):
                np.testing.assert_array_equal(a, b)
        for a, b in zip(item[4], later, strict=True):
            np.testing.assert_array_equal(a, b)
        assert item[0][0].shape == (8, 3, 64, 64) and not np.array_equal(item[0][0], item[1][0])
    test = EvaluationBatches(source.images["test"], source.labels["test"], np.arange(12), (0,) * 3, (1 / 255,) * 3, 5)
    seen = [batch for batch in prefetch(test, 2)]
    assert [int(count) for *_, count in seen] == [5, 5, 2]
    np.testing.assert_array_equal(np.concatenate([t[0].asnumpy() for t in seen])[:12].transpose(0, 2, 3, 1),
                                  source.images["test"][:])


@pytest.mark.parametrize("name", [name for name in TREES if name != "imagenet"] + [
    pytest.param("imagenet", marks=pytest.mark.slow)])
def test_training_on_files(trees, name, tmp_path):
    options = [word for option, value in own_options(name, trees[name]).items() for word in (f"--{option}", value)]
    main.main(["-d", name, "--data_dir", trees[name], "-m", "wideresnet10", "--method", "erm", "--recipe", "sharpdro",
               "-n", "24", "--total_epoch", "1", "-b", "20", "--num_severity", "3", "--num_workers", "2", "--log_train",
               "1", "--eval_batch_size", "20", "--log_dir", str(tmp_path), *options])
    folder = only_run(tmp_path)
    assert len(read_csv(os.path.join(folder, "train.csv"))) == 3  # 3 x (8 + 8 + 4) images in batches of 20
    assert read_csv(os.path.join(folder, "split.csv"))
    assert not os.path.exists(os.path.join(trees[name], "tiny-imagenet-200-C"))
    if name == "imagenet30":
        assert sorted(os.listdir(os.path.join(trees[name], "lists"))) == [
            *(f"imagenet30_distribution_{s}.txt" for s in range(3)), "imagenet30_test.txt", "imagenet30_val.txt"]


def test_a_folder_without_test_images_holds_some_out(tmp_path):
    make_folder(str(tmp_path / "data"), (30, 0))
    first, second = (load_source("folder", str(tmp_path / "data"), image_size=size) for size in (16, 24))
    assert first.images["train"].shape == (78, 16, 16, 3) and second.images["test"].shape == (12, 24, 24, 3)
    np.testing.assert_array_equal(first.labels["test"], np.repeat([0, 1, 2], [3, 4, 5]))
    assert first.images["test"].names == second.images["test"].names
    assert not set(first.images["test"].names) & set(first.images["train"].names)
    assert difference(first.test_fingerprint, second.test_fingerprint) == "other pixels"


def test_imagenet30_is_squashed_where_only_the_raw_images_are_there(tmp_path):
    make_imagenet30(str(tmp_path), (3, 1), "ImageNet-30", (50, 90))
    source = load_source("imagenet30", str(tmp_path), filelist_dir=str(tmp_path))
    pixels = read_image(str(tmp_path / "ImageNet-30" / "train" / "acorn" / "acorn_0.JPEG"))
    np.testing.assert_array_equal(source.images["train"][:1][0], np.asarray(
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR)))
    assert source.num_per_class == NUM_PER_CLASS


def empty(path):
    open(path, "wb").close()


def tear(path):
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)


def dangle(path):
    os.remove(path)
    os.symlink("nowhere.JPEG", path)


def shrink(path):
    save(path, np.zeros((7, 40, 3), np.uint8))


def scribble(path):
    with open(path, "wb") as file:
        file.write(b"not an image")


@pytest.mark.parametrize("damage, culprit", [(shrink, "too small"), (scribble, "not a readable image")])
def test_the_files_of_ones_own_folder_are_opened_before_the_training(damage, culprit, tmp_path):
    make_folder(str(tmp_path), (3, 1))
    path = str(tmp_path / "train" / "barn" / "barn_1.JPEG")
    damage(path)
    with pytest.raises(UserError, match=culprit) as error:
        load_source("folder", str(tmp_path))
    assert path in str(error.value)


def widen(path):
    save(path, np.zeros((64, 65, 3), np.uint8))


@pytest.mark.parametrize("damage, culprit", [(empty, "is empty"), (dangle, "leads nowhere")])
@pytest.mark.parametrize("name", ["imagenet30", "folder"])
def test_what_is_missing_is_found_before_the_training(name, damage, culprit, tmp_path):
    TREES[name](str(tmp_path), (3, 1))
    root = tmp_path / ("ImageNet-30-64" if name == "imagenet30" else "")
    path = str(root / "train" / "barn" / "barn_1.JPEG")
    damage(path)
    with pytest.raises(UserError, match=culprit) as error:
        load(name, str(tmp_path))
    assert path in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("damage, culprit", [
    (tear, "not a readable image"), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        (shrink, "too small"), (widen, "65x64 pixels and must be 64x64")))])
def test_a_bad_image_ends_a_training_in_one_line(damage, culprit, tmp_path, capsys):
    make_imagenet30(str(tmp_path), (8, 1))
    path = str(tmp_path / "ImageNet-30-64" / "train" / "barn" / "barn_1.JPEG")
    damage(path)
    with pytest.raises(SystemExit) as stop:
        main.main(["-d", "imagenet30", "--data_dir", str(tmp_path), "-m", "wideresnet10", "--method", "erm", "-n", "6",
                   "--total_epoch", "50", "-b", "4", "--num_severity", "2", "--filelist_dir", str(tmp_path / "lists"),
                   "--log_dir", str(tmp_path / "logs"), "--eval_every", "50"])
    [line] = [line for line in capsys.readouterr().err.splitlines() if line]
    assert stop.value.code == 2 and path in line and culprit in line


def annotate(root, change):
    path = root / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


@pytest.mark.parametrize("name, spoil, culprit", [
    ("folder", lambda root: shutil.rmtree(root / "test"), "test: no such folder"),
    ("folder", lambda root: shutil.rmtree(root / "train"), "train: no such folder"),
    ("folder", lambda root: make_classes(str(root / "test"), 1, classes=("dog",)), "no class of that name"),
    ("folder", lambda root: os.makedirs(root / "train" / "dog"), "dog: has no image"),
    ("imagenet", lambda root: shutil.rmtree(root / "imagenet" / "val"), "val: no such folder"),
    ("imagenet", lambda root: shutil.rmtree(root / "imagenet" / "val" / "barn"), "barn: not there"),
    ("imagenet", lambda root: shutil.rmtree(root / "imagenet"), "imagenet: no such folder"),
    ("imagenet30", lambda root: shutil.rmtree(root / "ImageNet-30-64"), "nor ImageNet-30 beside it"),
    ("tinyimagenet", lambda root: os.remove(root / "tiny-imagenet-200" / "val" / "val_annotations.txt"),
     "val_annotations.txt: missing"),
    ("tinyimagenet", lambda root: os.remove(root / "tiny-imagenet-200" / "val" / "images" / "val_2.JPEG"),
     "val_2.JPEG: missing"),
    ("tinyimagenet", lambda root: shutil.rmtree(root / "tiny-imagenet-200" / "train" / "barn"), "is of class barn"),
    ("tinyimagenet", lambda root: annotate(root, lambda lines: lines[:2]), "names no image of class canoe"),
    ("tinyimagenet", lambda root: annotate(root, lambda lines: [*lines, lines[1]]), "names an image twice"),
    ("tinyimagenet", lambda root: annotate(root, lambda lines: lines[1:]), "does not name val_0.JPEG"),
    ("folder", lambda root: shutil.rmtree(root / "test" / "barn"), "test/barn: not there, though other images"),
    ("imagenet30", lambda root: shutil.rmtree(root / "ImageNet-30-64" / "test" / "barn"), "test/barn: not there"),
])
def test_wrong_layouts_are_named(name, spoil, culprit, tmp_path):
    TREES[name](str(tmp_path), (2, 2))
    spoil(tmp_path)
    with pytest.raises(UserError, match=culprit) as error:
        load(name, str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["val", "valid"])
def test_validation_images_of_ones_own_are_said_not_to_be_read(name, tmp_path, capsys):
    make_folder(str(tmp_path), (2, 1))
    os.mkdir(tmp_path / name)
    load_source("folder", str(tmp_path))
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"warning: {tmp_path / name}: is not read; validation images are taken from {tmp_path / 'train'}"


def test_options_of_other_data_sets_are_refused():
    with pytest.raises(UserError, match="--image_size: has no effect on photos, only on folder; leave it"):
        load_source("photos", None, image_size=32)


def test_stored_images_of_other_pictures_are_not_used(trees, tmp_path):
    folder = str(tmp_path / "data")
    shutil.copytree(trees["folder"], folder)
    source = load_source("folder", folder)
    load_corrupted(folder, source, "fog", 2, where="disk")
    with pytest.raises(UserError, match="fitted otherwise .*--corrupted_from memory"):
        load_corrupted(folder, load_source("folder", folder, image_size=32), "fog", 2)
    path = os.path.join(folder, "test", "barn", "barn_1.JPEG")
    save(path, np.zeros((64, 64, 3), np.uint8))
    for where in ("auto", "disk"):
        with pytest.raises(UserError, match="was another when .* was made") as error:
            load_corrupted(folder, source, "fog", 2, where=where)
        assert path in str(error.value)
    assert isinstance(load_corrupted(folder, source, "fog", 2, where="memory")["test"][1], LazyCorruptedFiles)


def test_the_command_in_the_error_stores_what_is_missing(trees, tmp_path, monkeypatch):
    """It has the options of the data that the images depend on."""
    folder = str(tmp_path / "my data")
    shutil.copytree(trees["folder"], folder)
    source = load_source("folder", folder, image_size=32, interpolation="bicubic")
    with pytest.raises(UserError, match="--corrupted_from disk: .* has no fog, or not all; make it with ") as error:
        open_corrupted(folder, source, "test", "fog", "disk")
    command = re.search("make it with python -m corruptions (.*), or leave the option out", str(error.value))[1]
    generator.main([*shlex.split(command), "--workers", "1"])
    for images in open_corrupted(folder, source, "test", "fog", "disk"):
        assert isinstance(images, FileImages)


def link_class(root):
    os.symlink("/nowhere/dog", root / "train" / "dog")


def misname_class(root):
    os.makedirs(os.fsencode(root / "train") + b"/\xff")


def misname_file(root):
    with open(os.fsencode(root / "train" / "barn") + b"/\xff.JPEG", "wb") as file:
        file.write(b"an image")


@pytest.mark.parametrize("spoil, culprit", [(link_class, "dog: a link that leads nowhere"),
                                            (misname_class, "not in UTF-8"), (misname_file, "not in UTF-8")])
def test_entries_that_cannot_be_used_are_named(spoil, culprit, tmp_path):
    make_folder(str(tmp_path), (2, 1))
    spoil(tmp_path)
    with pytest.raises(UserError, match=culprit):
        load_source("folder", str(tmp_path))


def test_hidden_entries_are_not_read(tmp_path):
    make_folder(str(tmp_path), (2, 1))
    for place in ("train", "train/barn"):
        os.symlink("user@host.1234", tmp_path / place / ".#notes")  # as Emacs locks a file
    assert len(load_source("folder", str(tmp_path)).images["train"]) == 6


def test_one_class_is_not_enough_and_inner_folders_are_not_read(tmp_path, capsys):
    make_classes(str(tmp_path / "one"), 4, classes=("barn",))
    with pytest.raises(UserError, match="one class only, barn"):
        load_source("folder", str(tmp_path / "one"))
    make_folder(str(tmp_path / "two"), (4, 0))
    make_classes(str(tmp_path / "two" / "barn"), 2, classes=("more",))
    assert load_source("folder", str(tmp_path / "two")).images["train"].shape[0] == 12 - 3
    assert "more: a folder within a class is not read" in capsys.readouterr().err


@pytest.mark.parametrize("counts", [(4, 2), (6, 0)])
def test_other_files_of_all_classes_are_counted_in_one_line(counts, tmp_path, capsys):
    make_folder(str(tmp_path), counts)
    expected = load_source("folder", str(tmp_path))
    folders = [tmp_path / part for part in ("train", "test")] if counts[1] else [tmp_path]
    for k, name in enumerate(("barn/a.heic", "canoe/b.HEIC", "acorn/README")):
        (folders[k % len(folders)] / name).write_text("")
    os.mkfifo(folders[0] / "acorn" / "pipe.png")
    capsys.readouterr()
    images = load_source("folder", str(tmp_path)).images
    assert capsys.readouterr().err == (f"warning: {tmp_path}: other files left out: 2 .heic, 1 without a suffix, 1 not "
                                       "a regular file\n")
    assert all(images[part].names == expected.images[part].names for part in images)
    for file in os.listdir(folders[0] / "barn"):
        os.rename(folders[0] / "barn" / file, folders[0] / "barn" / f"{os.path.splitext(file)[0]}.heic")
    with pytest.raises(UserError, match="barn: has no image; other files left out: . .heic; fill the folder"):
        load_source("folder", str(tmp_path))


def test_an_image_that_is_added_changes_the_part_of_no_other():
    """Classes begin with two images or more; images are added in any order."""
    rng, count = np.random.default_rng(0), 0
    for _ in range(60):
        names = [f"{name}/{i}.png" for name in ("ant", "bee", "cow") for i in rng.choice(10 ** 6, 40, replace=False)]
        labels = np.repeat(np.arange(3, dtype=np.int32), 40)
        chosen, known, exceptions = np.isin(np.arange(120) % 40, (0, 1)), {}, {}
        while not chosen.all():
            subset = np.flatnonzero(chosen)
            train, test, exceptions = split_test([names[i] for i in subset], labels[subset], exceptions)
            parts = {**dict.fromkeys(subset[train], "train"), **dict.fromkeys(subset[test], "test")}
            assert {i: parts[i] for i in known} == known and len(parts) == len(subset)
            for part in (train, test):
                assert set(labels[subset[part]]) == {0, 1, 2}
            chosen, known = chosen | (rng.random(120) < 0.1), parts
        count += len(exceptions)
    assert count > 60  # the hash alone leaves two images on one side with a chance of 0.68


def test_a_fifth_of_each_class_is_held_out_and_one_image_is_not_enough():
    names = [f"{name}/{i}.png" for name in ("ant", "bee", "cow") for i in range(400)]
    labels = np.repeat(np.arange(3, dtype=np.int32), 400)
    train, test, exceptions = split_test(names, labels, {})
    assert exceptions == {} and all(60 <= count <= 100 for count in np.bincount(labels[test]))
    np.testing.assert_array_equal(np.sort([*train, *test]), np.arange(1200))
    with pytest.raises(UserError, match="bee/0.png: is the only image of its class"):
        split_test(["ant/0.png", "ant/1.png", "bee/0.png"], np.array([0, 0, 1], np.int32), {})


def add_images(folder, first, last):
    for name in ("ant", "bee"):
        for i in range(first, last):
            save(os.path.join(folder, name, f"{i}.png"), np.full((64, 64, 3), i, np.uint8))


def corrupt_small_folder(folder):
    """Corrupt a folder of three images a class; return the words of the command, and the images."""
    add_images(folder, 0, 3)
    command = ["dataset", "folder", "-c", "contrast", "--data_dir", folder, "--workers", "1"]
    generator.main(command)
    return command, load_source("folder", folder).images


def test_corrupted_images_of_a_growing_folder_stay(tmp_path):
    folder = str(tmp_path / "data")
    command, first = corrupt_small_folder(folder)
    with open(os.path.join(folder, "held_out.csv"), encoding="utf-8") as file:
        assert file.read().splitlines() == ["image,part", *(f"{name},test" for name in first["test"].names)]
    for count in (4, 8, 16):
        add_images(folder, count // 2, count)
        generator.main(command)
        grown = load_source("folder", folder).images
        assert all(set(first[part].names) <= set(grown[part].names) for part in first)
        first = grown
    assert sorted(os.listdir(folder)) == ["ant", "bee", "held_out.csv"]


@pytest.mark.parametrize("removed", [(), ("train",)])
def test_parts_that_an_earlier_version_stored_stay(removed, tmp_path):
    """It wrote no table of exceptions, so that the lists of the images that it corrupted are all that tells them."""
    folder = str(tmp_path / "data")
    command, first = corrupt_small_folder(folder)
    with open(os.path.join(folder, "held_out.csv"), encoding="utf-8") as file:
        table = file.read()
    os.remove(os.path.join(folder, "held_out.csv"))
    for part in removed:
        shutil.rmtree(f"{folder}-C/{part}")
    add_images(folder, 3, 16)
    generator.main(command)
    grown = load_source("folder", folder).images
    assert all(set(first[part].names) <= set(grown[part].names) for part in first)
    with open(os.path.join(folder, "held_out.csv"), encoding="utf-8") as file:
        assert sorted(file.read().splitlines()) == sorted(table.splitlines())


def test_of_two_runs_at_the_same_time_the_first_chooses(tmp_path, monkeypatch):
    folder = str(tmp_path)
    add_images(folder, 0, 3)
    [usual, *_] = load_source("folder", folder).images["test"].names
    path = os.path.join(folder, "held_out.csv")
    os.remove(path)

    @contextlib.contextmanager
    def locked(*_):
        write_csv(path, {"image": ["ant/2.png"], "part": ["test"]})  # of another run, which had the lock before
        yield
    assert usual != "ant/2.png"
    monkeypatch.setattr("dataset.sources.folder.file_lock", locked)
    assert load_source("folder", folder).images["test"].names[0] == "ant/2.png"
    assert load_source("folder", folder).images["test"].names[0] == "ant/2.png"


def test_a_folder_that_cannot_be_written_is_split_nevertheless(tmp_path, monkeypatch, capsys):
    folder = str(tmp_path)
    add_images(folder, 0, 3)
    expected = load_source("folder", folder).images["test"].names
    os.remove(tmp_path / "held_out.csv")

    def locked(path, *_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    monkeypatch.setattr("dataset.sources.folder.file_lock", locked)
    assert load_source("folder", folder).images["test"].names == expected
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path / 'held_out.csv'}: cannot be written (Read-only file system)")


def test_an_exception_that_is_gone_has_another_in_its_place(tmp_path, capsys):
    add_images(str(tmp_path), 0, 3)
    [gone, second] = load_source("folder", str(tmp_path)).images["test"].names
    os.rename(tmp_path / gone, tmp_path / "gone.png")
    capsys.readouterr()
    [instead, same] = load_source("folder", str(tmp_path)).images["test"].names
    assert instead.startswith("ant/") and same == second
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path / 'held_out.csv'}: {gone} is gone, so {instead} becomes a test image; "
                           "runs before trained on it, unless it is new;")
    os.rename(tmp_path / "gone.png", tmp_path / gone)
    assert set(load_source("folder", str(tmp_path)).images["test"].names) == {gone, instead, second}
    assert capsys.readouterr().err == ""


def test_a_test_image_takes_the_place_of_a_training_image_with_a_warning(tmp_path, capsys):
    write_csv(tmp_path / "held_out.csv", {"image": ["ant/gone.png"], "part": ["train"]})
    names = [name for name in (f"ant/{i}.png" for i in range(100)) if draw(name) < 0.2][:2]  # both for testing
    [train], _ = split_test_for_good(str(tmp_path), names, np.zeros(2, np.int32))
    [line] = capsys.readouterr().err.splitlines()
    assert f"ant/gone.png is gone, so {names[train]} becomes a training image; runs before tested with it" in line


@pytest.mark.parametrize("text", ["", "image\n", "image,part\nant/0.png\n", "image,part\nant/0.png,val\n", "\xff"])
def test_a_damaged_table_of_exceptions_is_named(text, tmp_path):
    add_images(str(tmp_path), 0, 3)
    (tmp_path / "held_out.csv").write_text(text, encoding="latin1")
    with pytest.raises(UserError, match="held_out.csv: not a table of image and part; put the old file back"):
        load_source("folder", str(tmp_path))


def test_other_classes_and_options_than_those_of_the_run_are_refused(trees):
    source = load("imagenet30", trees["imagenet30"])
    source.check_run({"classes": ["acorn", "barn", "canoe"]}, "RUN")
    source.check_run({}, "RUN")
    with pytest.raises(UserError, match="RUN: was trained on other classes than imagenet30 has now .see canoe"):
        source.check_run({"classes": ["acorn", "barn", "zebra"]}, "RUN")
    trained = TrainedNetwork("RUN", "RUN", None, "", {"dataset": "folder", "image_size": None})
    assert run_options(trained, "folder", {"image_size": 64})["image_size"] is None
    with pytest.raises(UserError, match="--image_size 32: RUN was trained with 64"):
        run_options(trained, "folder", {"image_size": 32})
    for option, value in {"image_size": 32, "filelist_dir": "/lists"}.items():
        with pytest.raises(UserError, match=f"--{option}: has no effect on photos"):
            run_options(trained, "photos", {option: value})
    listed = TrainedNetwork("RUN", "RUN", None, "", {"dataset": "imagenet30", "filelist_dir": "/old/lists"})
    assert run_options(listed, "imagenet30", {"filelist_dir": "/new/lists"})["filelist_dir"] == "/new/lists"
    with pytest.raises(UserError, match="--filelist_dir /new/others: RUN was trained with /old/lists"):
        run_options(listed, "imagenet30", {"filelist_dir": "/new/others"})
    stored = TrainedNetwork("RUN", "RUN", None, "", {"mean": [0.5], "std": [0.3, 0.4, 0.5]})
    assert {**run_options(stored, "photos", {}), "interpolation": None} == {
        **dict.fromkeys(SOURCE_OPTIONS), "mean": (0.5,), "std": (0.3, 0.4, 0.5)}
    with pytest.raises(UserError, match="--mean 0.4: RUN was trained with 0.5"):
        run_options(stored, "photos", {"mean": (0.4,)})
    bare = TrainedNetwork("some.ckpt", ".", "some.ckpt", "", {})
    assert run_options(bare, "folder", {"image_size": 32}) == {**dict.fromkeys(SOURCE_OPTIONS), "image_size": 32}


def test_other_images_than_those_of_the_run_are_refused(tmp_path):
    make_folder(str(tmp_path / "one"), (3, 1))
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    source = load_source("folder", str(tmp_path / "one"))
    config = {"fingerprints": {part: source.fingerprint(part).to_dict() for part in ("train", "test")}}
    copy = load_source("folder", str(tmp_path / "copy"))
    copy.check_run(config, "RUN", train=copy.train_fingerprint)
    save(str(tmp_path / "copy" / "train" / "barn" / "barn_0.JPEG"), np.zeros((50, 80, 3), np.uint8))
    changed = load_source("folder", str(tmp_path / "copy"))
    changed.check_run(config, "RUN")
    with pytest.raises(UserError, match="RUN: had other training images .* .other pixels.; .* --data_dir"):
        changed.check_run(config, "RUN", train=changed.train_fingerprint)
    with pytest.raises(UserError, match="RUN: had other test images than there are now"):
        load_source("folder", str(tmp_path / "one"), image_size=32).check_run(config, "RUN")


def test_images_of_another_size_are_found_before_the_training(tmp_path):
    make_imagenet30(str(tmp_path), (2, 1), size=(50, 64))
    with pytest.raises(UserError, match="acorn_0.JPEG: is 64x50 pixels and must be 64x64"):
        load("imagenet30", str(tmp_path))


def test_prepare_dataset_stores_the_corrupted_files(trees, tmp_path):
    folder = str(tmp_path / "data")
    shutil.copytree(trees["folder"], folder)
    prepare(["-d", "folder", "--data_dir", folder, "-c", "contrast", "-n", "20", "-o", str(tmp_path / "split.csv")])
    assert len(os.listdir(f"{folder}-C/train/contrast/5/barn")) == 30


def test_settings_of_the_data_are_those_of_the_published_experiment():
    """trungtrinh44/DAMP: its configurations train on all images; its loaders scale bicubically; that for ViT-S/16
    normalises with 0.5 and crops 0.05 to 1 of the area."""
    def settings(words):
        args, given = parse_command_line(words.split())
        apply_recipe(args, given)
        return args, resolve_config(args, given)
    args, config = settings("--recipe damp/imagenet-vit_s16 --method damp")
    assert (args.mean, args.std, args.interpolation, args.val_fraction) == ([0.5], [0.5], "bicubic", 0)
    assert config.method.crop_area == [0.05, 1.0] and config.mean == [0.5]
    args, config = settings("--recipe damp/imagenet --method damp")
    assert (args.mean, args.interpolation, config.method.crop_area) == (None, "bicubic", None)
    assert settings("--recipe damp/cifar10 --method damp")[0].val_fraction == 0
    assert settings("--recipe damp/cifar10 --method damp")[1].method.crop_area is None
    # The user's own words go first, and the options of other data are left alone.
    assert settings("--recipe damp/imagenet --method damp --mean 0.1 0.2 0.3 --val_fraction 0.1")[1].val_fraction == 0.1
    assert settings("--recipe damp/cifar10 --method damp -n 5")[0].val_fraction is None
    assert settings("--recipe damp/imagenet --method damp -d cifar10")[0].interpolation is None


@pytest.mark.parametrize("words, problem", [
    ("-d cifar10 --interpolation bicubic", "--interpolation: has no effect on cifar10, only on folder and imagenet"),
    ("--mean 0.5 0.5", "--mean 0.5 0.5: 2 numbers for red, green and blue; give one or three"),
    ("--crop_area 0.1 1", "--crop_area: needs --crop random_resized, and --crop is none"),
    ("-d imagenet --method damp --crop_area 0.5 0.1", "--crop_area 0.5 0.1: the first is above the second"),
    ("-d imagenet --method damp --crop_area 0.5 1 --split FILE", "--crop_area: needs --crop random_resized, which is"),
    ("--std 0", "'0' is not a number from 0.001 to 1"), ("--mean 124", "'124' is not a number from 0 to 1")])
def test_bad_settings_of_the_data(words, problem, cifar_dir, tmp_path, capsys):
    words = words.replace("FILE", os.path.abspath(__file__))
    with pytest.raises(SystemExit) as stop:
        main.main(["--data_dir", cifar_dir, "--log_dir", str(tmp_path), *words.split()])
    assert stop.value.code == 2 and problem in capsys.readouterr().err


def test_a_recipe_of_one_data_set_beside_several(capsys):
    """Its options of the data are left out with a warning; a variant with other data has no share of its own."""
    args, given = parse_command_line(["--recipe", "damp/cifar10", "--method", "damp", "-d", "cifar10", "cifar100"])
    apply_recipe(args, given)
    assert "val_fraction" not in given and "(--val_fraction 0.0) are for -d cifar10 alone" in capsys.readouterr().err
    args, given = parse_command_line(["--recipe", "damp/cifar10", "--variant", "a: --method damp --train_on poisson"])
    apply_recipe(args, given)
    assert "val_fraction" not in given and capsys.readouterr().err == ""
    for variant in ("a: --method damp --train_on clean", "no --train_on: --method damp --sigma 0.1"):
        args, given = parse_command_line(["--recipe", "damp/cifar10", "--method", "erm", "--variant", variant])
        apply_recipe(args, given)
        assert given["val_fraction"] == 0


def test_clean_imagenet_is_cropped_at_random():
    assert resolve("erm", "imagenet", train_on="clean").crop == "random_resized"
    assert resolve("damp", "imagenet").crop == "random_resized" and resolve("erm", "imagenet").crop == "none"
    assert resolve("damp", "imagenet", train_on="poisson").crop == "none" and resolve("damp").crop == "zero_pad"


def test_labels_above_a_byte_are_stored(tmp_path):
    images = {part: np.zeros((300, 8, 8, 3), np.uint8) for part in ("train", "test")}
    labels = {part: np.arange(300, dtype=np.int32) for part in ("train", "test")}
    source = ImageDataset("many", "many-C", 300, images, labels, (0,) * 3, (1,) * 3)
    for _ in range(2):
        assert load_corrupted(str(tmp_path), source, "contrast", 2)["test"][1].shape == (300, 8, 8, 3)


def test_arrays_are_corrupted_after_files_were_read(trees, tmp_path):
    source = load("imagenet30", trees["imagenet30"])
    test = EvaluationBatches(source.images["test"], source.labels["test"], np.arange(12), (0,) * 3, (1,) * 3, 5)
    assert len(list(prefetch(test, 2))) == 3
    np.save(tmp_path / "images.npy", np.zeros((600, 32, 32, 3), np.uint8))
    generator.main(["array", str(tmp_path / "images.npy"), str(tmp_path / "out"), "-c", "contrast", "--severity", "1",
                    "--workers", "2"])
    assert os.path.exists(tmp_path / "out" / "1" / "contrast.npy")
    assert len(list(prefetch(test, 2))) == 3
