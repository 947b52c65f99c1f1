"""Data sets, Poisson severities, corrupted arrays on disk, batches."""
import contextlib
import errno
import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from corruptions import corrupt
from corruptions.utils.errors import UserError
from corruptions.utils.files import TMP_MARK
from dataset import SOURCES, load_source
from dataset.augmentation import PADDINGS
from dataset.batches import EvaluationBatches, TrainBatches, normalise
from dataset.corrupted import load_corrupted
from dataset.data import load_data
from dataset.pipeline import load_batches, prefetch
from dataset.poisson import Split, poisson_counts, poisson_split
from dataset.prepare_dataset import main as prepare
from dataset.sources.cifar import CIFAR, load_cifar, read_python
from dataset.splits import counts_table, make_split, make_split_for, read_split, write_split
from dataset.stored import corrupted_path
from tests.cifar_files import make_cifar, publish


def test_counts_are_the_releases():
    assert poisson_counts(4000, 6) == [1471, 1471, 735, 245, 61, 12]
    split = poisson_split(np.repeat(np.arange(10), 5000), 4000, 6, seed=0)
    assert split.counts == [14710, 14710, 7350, 2450, 610, 120]


def test_split_draws_what_the_release_draws():
    labels = np.random.RandomState(3).randint(0, 4, 2000)
    split = poisson_split(labels, 300, 6, seed=5)
    np.random.seed(5)
    bounds = [0, *np.cumsum(poisson_counts(300, 6))]
    expected = [[] for _ in range(6)]
    for label in range(4):
        chosen = np.random.choice(np.where(labels == label)[0], 300, False)
        for s in range(6):
            expected[s].extend(chosen[bounds[s]:bounds[s + 1]])
    for ours, theirs in zip(split.train, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    everything = np.concatenate([*split.train, split.validation])
    np.testing.assert_array_equal(np.sort(everything), np.arange(2000))


@pytest.mark.parametrize("option, value, message", [
    ("train_on", "cleen", "train_on 'cleen': unknown; choose from poisson, clean"),
    ("dataset", "phots", "'phots': unknown"),
    ("corrupted_from", "ram", "'ram': unknown; choose from auto"), ("corruption", "nois", "'nois': unknown"),
    ("num_severity", 7, "num_severity 7: must be a whole number from 2 to 6"), ("seed", -1, "seed -1: must be")])
def test_words_of_load_data_are_checked(tmp_path, option, value, message):
    given = {"dataset": "photos", "data_dir": str(tmp_path), "corruption": "fog", "num_severity": 6, "seed": 0}
    with pytest.raises(UserError, match=message):
        load_data(**{**given, option: value})
    assert os.listdir(tmp_path) == []


def test_split_is_read_back(tmp_path):
    labels = np.random.RandomState(3).randint(0, 4, 400)
    with pytest.raises(UserError, match="-n 1: leaves no training image at any severity"):
        poisson_split(labels, 1, 6, seed=5)
    with pytest.raises(UserError, match="--train_on poisson: 2 training images of a class are too few for any"):
        poisson_split(np.repeat([0, 1], 3), None, 6, seed=5)  # a training on clean images without a word
    split = poisson_split(labels, 60, 6, seed=5)
    path = str(tmp_path / "split.csv")
    write_split(path, split, labels)
    again = read_split(path, labels, 6)
    for ours, theirs in zip([*again.train, again.validation], [*split.train, split.validation], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match="other data"):
        read_split(path, 3 - labels, 6)
    with pytest.raises(UserError, match="--num_severity 4"):
        read_split(path, labels, 3)


def test_validation_can_be_capped(tmp_path):
    labels = np.random.RandomState(3).randint(0, 4, 400)
    whole, capped = poisson_split(labels, 60, 6, seed=5), poisson_split(labels, 60, 6, seed=5, num_val=7)
    np.testing.assert_array_equal(capped.indices, whole.indices)
    assert set(capped.validation) < set(whole.validation)
    assert np.bincount(labels[capped.validation]).tolist() == [7] * 4
    write_split(str(tmp_path / "split.csv"), capped, labels)
    again = read_split(str(tmp_path / "split.csv"), labels, 6)
    np.testing.assert_array_equal(again.validation, capped.validation)
    np.testing.assert_array_equal(again.indices, capped.indices)
    with pytest.raises(UserError, match="--num_val 400: only .* images of class . are left .* or -n below 60"):
        poisson_split(labels, 60, 6, seed=5, num_val=400)
    uneven = np.repeat([0, 1, 2], [100, 20, 50])  # of 20 are 5 + 5 + 2 trained on, floor(16 / (e s!))
    with pytest.raises(UserError, match="--num_val 9: only 8 images of class 1 are left for that; give at most that "
                                        "many, or add images of the class$"):
        make_split(uneven, 6, 5, num_val=9)


def test_validation_has_at_most_1000_images_of_a_class_unless_more_are_asked_for():
    labels = np.random.RandomState(3).permutation(np.repeat([0, 1, 2], [1200, 1110, 1010])).astype(np.int32)
    capped, more = poisson_split(labels, 30, 6, seed=5), poisson_split(labels, 30, 6, seed=5, num_val=7)
    used = sum(poisson_counts(30, 6))  # the rest of 30 is left over, too
    assert np.bincount(labels[capped.validation]).tolist() == [1000, 1000, 1010 - used]
    np.testing.assert_array_equal(capped.indices, more.indices)
    assert (np.diff(capped.validation) > 0).all() and not set(capped.indices) & set(capped.validation)
    requested = poisson_split(labels[labels < 2], 30, 6, seed=5, num_val=1050)
    assert np.bincount(labels[labels < 2][requested.validation]).tolist() == [1050, 1050]


@pytest.mark.parametrize("num_per_class, left", [(None, 1000), (60, 50), (240, 60), (4000, 1000)])
@pytest.mark.parametrize("train_on", ["poisson", "clean"])
def test_validation_is_in_proportion_to_the_training_images_that_are_asked_for(num_per_class, left, train_on, capsys):
    labels = np.random.RandomState(3).permutation(np.repeat([0, 1], 5000)).astype(np.int32)
    split, more = (make_split(labels, 6, 5, num_per_class, num_val=num_val, train_on=train_on)
                   for num_val in (None, 900))
    if num_per_class or train_on == "poisson":
        assert np.bincount(labels[split.validation]).tolist() == [left, left]
        np.testing.assert_array_equal(split.indices, more.indices)
    assert capsys.readouterr().out == ""
    message = f" images, at most {left} of a class, where up to " in counts_table(split, labels)
    assert message == (left < 1000) and "at most" not in counts_table(more, labels)
    assert np.bincount(labels[more.validation]).tolist() == [900, 900]


def test_each_class_has_shares_of_its_own_size():
    """No number is given. K is 4/5 of 200, 150, 12, 2 and 1 images, and a class has one image at least."""
    labels = np.random.RandomState(3).permutation(np.repeat(np.arange(5), [200, 150, 12, 2, 1])).astype(np.int32)
    split = make_split(labels, 6, 5)
    shares = [np.bincount(labels[indices], minlength=5).tolist() for indices in split.train]
    assert shares[:3] == [[58, 44, 3, 1, 1], [58, 44, 3, 0, 0], [29, 22, 1, 0, 0]]
    assert shares[3:] == [[9, 7, 0, 0, 0], [2, 1, 0, 0, 0], [0] * 5]
    np.testing.assert_array_equal(np.sort([*split.indices, *split.validation]), np.arange(365))
    assert counts_table(split, labels).splitlines()[-1] == "training images of a class: 1 to 156"
    with pytest.raises(UserError, match="-n 2: the smallest class has 1 training images"):
        make_split(labels, 6, 5, 2)


def test_classes_of_one_size_are_split_as_ever():
    labels = np.random.RandomState(3).permutation(np.repeat(np.arange(10), 500)).astype(np.int32)
    split, release = make_split(labels, 6, 5), poisson_split(labels, 400, 6, 5)
    for ours, theirs in zip([*split.train, split.validation], [*release.train, release.validation], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert counts_table(split, labels).splitlines()[-1] == "validation: 1020 images"


def test_clean_training_holds_out_the_same_share_of_every_class():
    """The share is a tenth of each class, rounded, for classes of any size, but never a whole class."""
    labels = np.random.RandomState(3).permutation(np.repeat([0, 1, 2, 3], [200, 47, 30, 1])).astype(np.int32)
    split = make_split(labels, 4, 5, train_on="clean")
    assert split.counts == [180 + 42 + 27 + 1, 0, 0, 0] and split.is_clean and split.nonempty_severities == [0]
    assert np.bincount(labels[split.validation]).tolist() == [20, 5, 3]
    assert np.bincount(labels[split.indices]).tolist() == [180, 42, 27, 1]
    np.testing.assert_array_equal(np.sort(np.concatenate([split.indices, split.validation])), np.arange(278))
    again, second = (make_split(labels, 6, seed, train_on="clean") for seed in (5, 6))
    np.testing.assert_array_equal(again.validation, split.validation)
    assert (second.validation != split.validation).any()
    assert not make_split(labels[labels < 3], 6, 5, num_per_class=20).is_clean
    assert np.bincount(labels[make_split(labels, 6, 5, train_on="clean", val_fraction=0.99).indices]).min() == 1
    assert len(make_split(labels, 6, 5, train_on="clean", val_fraction=0.0).validation) == 0


@pytest.mark.parametrize("numbers, train, validation", [
    ({"num_per_class": 30}, [30, 30, 30], [50, 50, 17]),
    ({"num_val": 40}, [1160, 80, 7], [40, 40, 40]),
    ({"num_per_class": 12, "num_val": 35}, [12, 12, 12], [35, 35, 35]),
    ({"num_per_class": 47}, [47, 47, 47], [50, 50]),
])
def test_numbers_of_clean_images(tmp_path, numbers, train, validation):
    labels = np.random.RandomState(3).permutation(np.repeat([0, 1, 2], [1200, 120, 47])).astype(np.int32)
    split = make_split(labels, 3, 5, train_on="clean", **numbers)
    assert np.bincount(labels[split.indices]).tolist() == train and split.is_clean
    assert np.bincount(labels[split.validation]).tolist() == validation
    assert not set(split.indices) & set(split.validation)
    assert set(split.indices) != set(make_split(labels, 3, 6, train_on="clean", **numbers).indices)
    write_split(str(tmp_path / "split.csv"), split, labels)
    again = read_split(str(tmp_path / "split.csv"), labels, 3)
    for ours, theirs in zip([*again.train, again.validation], [*split.train, split.validation], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("numbers, culprit", [
    ({"num_per_class": 48}, "-n 48: the smallest class has 47"), ({"num_val": 47}, "--num_val 47: the smallest class"),
    ({"num_per_class": 40, "num_val": 8}, "--num_val 8: only 7 images of class . are left"),
    ({"val_fraction": 0.2, "num_per_class": 5}, "--val_fraction 0.2: -n 5 says"),
    ({"val_fraction": 0.2, "num_val": 5}, "--val_fraction 0.2: --num_val 5 says"),
    ({"val_fraction": 0.2, "train_on": "poisson"}, "--val_fraction 0.2: needs --train_on clean"),
    ({"val_fraction": 0.2, "path": "a.csv"}, "--val_fraction 0.2: the table a.csv"),
    ({"num_val": 2, "path": "a.csv"}, "--num_val 2: the table a.csv"),
])
def test_numbers_that_cannot_be_had_are_refused(numbers, culprit):
    labels = np.repeat([0, 1], [200, 47]).astype(np.int32)
    with pytest.raises(UserError, match=culprit):
        make_split(labels, 6, 5, **{"train_on": "clean", **numbers})


def test_padding_is_an_eighth_of_the_side():
    assert PADDINGS["reflect_pad"](32, 64) == (4, 8, "reflect") and PADDINGS["zero_pad"](32, 64) == (4, 4, "constant")


def test_some_images_are_spread_over_all():
    """The test images of many data sets are in the order of their classes."""
    source = SimpleNamespace(labels={"test": np.arange(1000, dtype=np.int32)}, mean=(0,) * 3, std=(1,) * 3)
    [(_, labels, _)] = load_batches(np.zeros((1000, 2, 2, 3), np.uint8), source, 5, 5)
    assert labels.asnumpy().tolist() == [0, 250, 500, 749, 999]


def test_photos_have_no_pixel_in_train_and_test():
    source = SOURCES["photos"](None)
    assert source.images["train"].shape == (5000, 32, 32, 3)
    assert source.images["test"].shape == (1000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(source.labels["train"]), np.full(10, 500))
    np.testing.assert_array_equal(SOURCES["photos"](None).images["test"], source.images["test"])


def test_photos_are_cut_from_different_columns(monkeypatch):
    """Photographs whose pixels say their column: the left 70 % are for training, the others for the test."""
    columns = np.broadcast_to(np.arange(300).reshape(1, 300, 1), (200, 300, 1))
    photo = np.concatenate([columns // 256, columns % 256, np.zeros_like(columns)], axis=2).astype(np.uint8)
    monkeypatch.setattr("dataset.sources.photos.Image.open", lambda path: Image.fromarray(photo))
    images = SOURCES["photos"](None).images
    train, test = (256 * images[part][..., 0].astype(int) + images[part][..., 1] for part in ("train", "test"))
    assert (train.min(), train.max(), test.min(), test.max()) == (0, 209, 210, 299)


@pytest.mark.parametrize("layout", ["binary", "python"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("pack", [False, True])
def test_cifar_layouts(tmp_path, monkeypatch, name, layout, pack):
    expected = make_cifar(str(tmp_path), name, layout, per_class=(5, 2), pack=pack)
    if pack:
        publish(monkeypatch, str(tmp_path), name, layout)
    source = load_cifar(name, str(tmp_path))
    assert list(source.class_names) == sorted(source.class_names) and len(source.class_names) == source.classes
    for part, (images, labels) in expected.items():
        np.testing.assert_array_equal(source.images[part], images)
        np.testing.assert_array_equal(source.labels[part], labels)


@pytest.mark.parametrize("layout", ["binary", "python"])
def test_archive_that_is_not_the_published_one_is_refused(tmp_path, monkeypatch, layout):
    make_cifar(str(tmp_path), layout=layout, per_class=(5, 2), pack=True)
    archive = getattr(CIFAR["cifar10"], layout).archive
    with pytest.raises(UserError, match=rf"{archive}: damaged, or not the published.*unpack"):
        load_cifar("cifar10", str(tmp_path))
    path = publish(monkeypatch, str(tmp_path), layout=layout)
    with open(path, "r+b") as file:  # a bit in the middle of the pixels
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(UserError, match="damaged"):
        load_cifar("cifar10", str(tmp_path))
    assert os.listdir(tmp_path) == [archive]


def test_archive_without_one_of_its_files_leaves_no_folder(tmp_path, monkeypatch):
    make_cifar(str(tmp_path), per_class=(5, 2))
    os.remove(tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin")
    shutil.make_archive(str(tmp_path / "cifar-10-binary"), "gztar", tmp_path, "cifar-10-batches-bin")
    shutil.rmtree(tmp_path / "cifar-10-batches-bin")
    publish(monkeypatch, str(tmp_path))
    with pytest.raises(UserError, match="without all files"):
        load_cifar("cifar10", str(tmp_path))
    assert os.listdir(tmp_path) == ["cifar-10-binary.tar.gz"]


def test_an_archive_that_another_run_has_unpacked_meanwhile_is_read(tmp_path, monkeypatch):
    expected = make_cifar(str(tmp_path), per_class=(5, 2), pack=True)
    path = publish(monkeypatch, str(tmp_path))

    @contextlib.contextmanager
    def locked(*_):
        shutil.unpack_archive(path, tmp_path)  # by the run that had the lock before
        yield
    monkeypatch.setattr("dataset.sources.download.file_lock", locked)
    np.testing.assert_array_equal(load_cifar("cifar10", str(tmp_path)).images["train"], expected["train"][0])


def test_what_a_killed_unpacking_left_is_removed(tmp_path, monkeypatch):
    make_cifar(str(tmp_path), per_class=(5, 2), pack=True)
    publish(monkeypatch, str(tmp_path))
    leftover = tmp_path / f".4711{TMP_MARK}.cifar-10-batches-bin" / "cifar-10-batches-bin"
    leftover.mkdir(parents=True)
    (leftover / "data_batch_1.bin").write_bytes(b"the beginning")
    load_cifar("cifar10", str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["cifar-10-batches-bin", "cifar-10-binary.tar.gz"]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    """While an archive is downloaded, and while it is unpacked; nothing is left."""
    def write(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("pooch.HTTPDownloader", lambda *_, **__: write)
    with pytest.raises(OSError) as error:
        load_cifar("cifar10", str(tmp_path))
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(tmp_path)
    make_cifar(str(tmp_path), per_class=(5, 2), pack=True)
    publish(monkeypatch, str(tmp_path))
    monkeypatch.setattr("tarfile.TarFile.extractall", write)
    with pytest.raises(OSError) as error:
        load_cifar("cifar10", str(tmp_path))
    assert error.value.errno == errno.ENOSPC and error.value.filename.startswith(str(tmp_path))
    assert os.listdir(tmp_path) == ["cifar-10-binary.tar.gz"]


@pytest.mark.parametrize("part, word", [("train", "training"), ("test", "test")])
def test_a_class_without_images_is_named(tmp_path, part, word):
    make_cifar(str(tmp_path), per_class=(5, 2))
    for file in CIFAR["cifar10"].binary.files[part]:
        path = tmp_path / "cifar-10-batches-bin" / file
        records = np.fromfile(path, np.uint8).reshape(-1, 3073)
        records[records[:, 0] != 4].tofile(path)
    with pytest.raises(UserError, match=f"{tmp_path}: cifar10 has no {word} image of class deer"):
        load_source("cifar10", str(tmp_path))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_cifar(".", layout="python")
    with open("cifar-10-batches-py/data_batch_2", "wb") as file:
        pickle.dump({b"data": Evil(), b"labels": []}, file, protocol=2)
    with pytest.raises(UserError, match=r"data_batch_2.*posix\.mkdir"):
        load_cifar("cifar10", ".")
    assert not os.path.exists("pwned")


def test_damaged_cifar_is_named(tmp_path):
    make_cifar(str(tmp_path))
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="data_batch_4.bin.*whole number of records"):
        load_cifar("cifar10", str(tmp_path))
    path.unlink()
    with pytest.raises(UserError, match="data_batch_4.bin: not there"):
        load_cifar("cifar10", str(tmp_path))


def test_missing_cifar_says_what_to_put_where(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dataset.sources.cifar.URL", "http://127.0.0.1:9/")  # nothing listens there
    with pytest.raises(UserError, match="cifar-100-binary.tar.gz or cifar-100-python.tar.gz"):
        load_cifar("cifar100", str(tmp_path))
    assert os.listdir(tmp_path) == [] and capsys.readouterr().err == ""


def test_corrupted_arrays_that_are_there_are_used(tmp_path):
    make_cifar(str(tmp_path))
    source = load_cifar("cifar10", str(tmp_path))
    for part in ("train", "test"):
        for severity in range(1, 6):
            path = corrupted_path(str(tmp_path), source, part, severity, "gaussian_noise")
            os.makedirs(os.path.dirname(path))
            np.save(path, np.full(source.images[part].shape, severity, np.uint8))
            labels_path = corrupted_path(str(tmp_path), source, part, severity, "labels")
            np.save(labels_path, source.labels[part].astype(np.uint8))
    images = load_corrupted(str(tmp_path), source, "gaussian_noise", 6)
    assert [int(array[0, 0, 0, 0]) for array in images["train"][1:]] == [1, 2, 3, 4, 5]
    assert images["train"][0] is source.images["train"]
    assert all(isinstance(array, np.memmap) for array in images["test"][1:])


def test_corrupted_arrays_are_made_once_and_alike(tmp_path):
    make_cifar(str(tmp_path))
    source = load_cifar("cifar10", str(tmp_path))
    first = load_corrupted(str(tmp_path), source, "contrast", 3)
    assert len(first["train"]) == 3
    path = corrupted_path(str(tmp_path), source, "train", 5, "contrast")
    assert os.path.exists(path)  # all five severities, whatever this run needs
    stamp = os.stat(path).st_mtime_ns
    load_corrupted(str(tmp_path), source, "contrast", 6)
    assert os.stat(path).st_mtime_ns == stamp
    assert not [file for _, _, files in os.walk(tmp_path) for file in files if "partial" in file]


def damage_missing(path):
    os.remove(path)


def damage_truncated(path):
    with open(path, "r+b") as file:
        file.truncate(500)


def damage_shape(path):
    np.save(path, np.zeros((3, 32, 32, 3), np.uint8))


def damage_type(path):
    np.save(path, np.load(path).astype(np.float32))


def damage_labels(path):
    path = os.path.join(os.path.dirname(path), "labels.npy")
    np.save(path, np.load(path)[::-1])


@pytest.mark.parametrize("damage", [damage_missing, damage_truncated, damage_shape, damage_type, damage_labels])
def test_damaged_corrupted_array_is_named(tmp_path, damage):
    make_cifar(str(tmp_path))
    source = load_cifar("cifar10", str(tmp_path))
    load_corrupted(str(tmp_path), source, "contrast", 6)
    path = corrupted_path(str(tmp_path), source, "train", 2, "contrast")
    damage(path)
    with pytest.raises(UserError) as error:
        load_corrupted(str(tmp_path), source, "contrast", 6)
    assert os.path.dirname(path) in str(error.value) and "\n" not in str(error.value)


def example_batches(crop="none", size=8, **how):
    rng = np.random.RandomState(0)
    images = [rng.randint(0, 256, (60, size, size, 3)).astype(np.uint8) for _ in range(6)]
    labels = rng.randint(0, 3, 60).astype(np.int32)
    split = poisson_split(labels, 15, 6, seed=0)
    return images, labels, split, TrainBatches(images, labels, split, (0.5,) * 3, (0.25,) * 3, 16, range(50), 3, crop,
                                               **how)


@pytest.mark.parametrize("option, value", [("crop", "big"), ("sampling", "uneven"), ("sampler", "none")])
def test_an_unknown_way_of_making_batches_is_named(option, value):
    with pytest.raises(UserError, match=f"{option} {value}: unknown; choose from "):
        example_batches(**{option: value})


def test_the_earlier_name_of_a_crop_crops():
    batch, *_ = example_batches("zeros")[-1][0]
    np.testing.assert_array_equal(batch, example_batches("zero_pad")[-1][0][0])


def test_an_unknown_option_of_a_data_set_is_named(cifar_dir):
    with pytest.raises(UserError, match="corrupted: no data set has this option; choose from image_size, filelist_dir"):
        load_data("cifar10", cifar_dir, "fog", 6, 0, corrupted="memory")


def test_training_batches_hold_images_at_their_severity():
    images, labels, split, source = example_batches()
    seen = set()
    for batch, batch_labels, groups, severities in (source[k] for k in range(len(source))):
        np.testing.assert_array_equal(groups, severities)
        for image, label, group in zip(batch, batch_labels, groups, strict=True):
            candidates = [i for i in split.train[group] if labels[i] == label]
            clean = normalise(images[group][candidates], (0.5,) * 3, (0.25,) * 3)
            assert any(np.array_equal(image, c) or np.array_equal(image, c[:, :, ::-1]) for c in clean)
            seen.add(int(group))
    assert seen == {s for s, count in enumerate(split.counts) if count}


def test_balanced_sampling_draws_every_distribution_alike():
    images, labels, split, _ = example_batches()
    source = TrainBatches(images, labels, split, (0.5,) * 3, (0.25,) * 3, 16, range(400), 3, sampling="balanced")
    groups = np.concatenate([source[k][2] for k in range(len(source))])
    present = [s for s, count in enumerate(split.counts) if count]
    shares = np.bincount(groups, minlength=6)[present] / len(groups)
    assert len(present) >= 3 and np.abs(shares - 1 / len(present)).max() < 4 * np.sqrt(0.25 / len(groups))


def test_images_with_more_repeats_are_drawn_more_often():
    images, labels, split, _ = example_batches()
    repeats = np.where(np.arange(60) % 5 == 0, 7, 1)
    marked = [np.broadcast_to(np.arange(60, dtype=np.uint8).reshape(-1, 1, 1, 1), (60, 8, 8, 3))] * 6
    for sampling in ("uniform", "balanced"):
        source = TrainBatches(marked, labels, split, (0,) * 3, (1 / 255,) * 3, 16, range(400), 3, sampling=sampling,
                              repeats=repeats[split.indices])
        drawn = np.concatenate([source[k][0][:, 0, 0, 0] for k in range(len(source))]).round().astype(int)
        severities = np.concatenate([source[k][3] for k in range(len(source))])
        for s, indices in enumerate(split.train):
            if sampling == "uniform" or len(indices):
                expected = repeats[indices] / (repeats[np.concatenate(split.train)] if sampling == "uniform" else
                                               repeats[indices]).sum()
                total = len(drawn) if sampling == "uniform" else (severities == s).sum()
                shares = np.array([((drawn == i) & (severities == s)).sum() for i in indices]) / total
                assert (np.abs(shares - expected) < 5 * np.sqrt(expected / total)).all()


def test_a_step_is_told_other_groups_than_severities():
    images, labels, split, plain = example_batches()
    environments = (np.arange(60) % 2).astype(np.int32)
    source = TrainBatches(images, labels, split, (0.5,) * 3, (0.25,) * 3, 16, range(50), 3,
                          groups=environments[split.indices])
    for (batch, _, groups, severities), (same, _, known, _) in zip((source[k] for k in range(50)),
                                                                   (plain[k] for k in range(50)), strict=True):
        np.testing.assert_array_equal(batch, same)
        np.testing.assert_array_equal(severities, known)
        assert set(groups) == {0, 1}


@pytest.mark.parametrize("probabilities", [None, np.array([0, 0.1, 0.2, 0.3, 0.4])])
def test_half_of_a_batch_is_corrupted_at_random_severities(probabilities):
    *parts, plain = example_batches(size=16)
    source = TrainBatches(*parts, (0.5,) * 3, (0.25,) * 3, 16, range(50), 3, corruption="brightness",
                          probabilities=probabilities)
    brighter = []
    for k in range(50):
        batch, labels, groups, _ = source[k]
        same, same_labels, same_groups, _ = plain[k]
        np.testing.assert_array_equal(labels, same_labels)
        np.testing.assert_array_equal(groups, same_groups)
        gain = (batch - same).reshape(16, -1)
        changed = np.abs(gain).max(1) > 0
        assert changed.sum() == 8
        brighter += list(gain[changed].mean(1))
        np.testing.assert_array_equal(batch, source[k][0])
    clean = parts[0][0].astype(float)
    means = [(corrupt(parts[0][0], "brightness", s) - clean).mean() / 255 / 0.25 for s in range(1, 6)]
    counts = np.bincount(np.abs(np.subtract.outer(brighter, means)).argmin(1), minlength=5)
    expected = 400 * (np.full(5, 0.2) if probabilities is None else probabilities)
    assert (np.abs(counts - expected) <= 4 * np.sqrt(expected)).all()
    noisy = TrainBatches(*parts, (0.5,) * 3, (0.25,) * 3, 16, range(50), 3, corruption="gaussian_noise")
    item, two = ([batch[0].asnumpy() for batch in prefetch(noisy, workers)] for workers in (1, 2))
    np.testing.assert_array_equal(item, two)
    changed = item[0] - plain[0][0]
    assert np.corrcoef(*changed[np.abs(changed).reshape(16, -1).max(1) > 0][:2].reshape(2, -1))[0, 1] < 0.3


@pytest.mark.parametrize("crop, draw", [("none", "replacement"), ("reflect_pad", "replacement"),
                                        ("zero_pad", "replacement"), ("zero_pad", "permutation")])
def test_batches_do_not_depend_on_workers_or_on_where_the_stream_starts(crop, draw):
    *parts, source = example_batches(crop, sampler=draw)
    item = [[t.asnumpy() for t in batch] for batch in prefetch(source, 1)]
    two = [[t.asnumpy() for t in batch] for batch in prefetch(source, 2)]
    later = TrainBatches(*parts, (0.5,) * 3, (0.25,) * 3, 16, range(30, 50), 3, crop, sampler=draw)
    for a, b in zip(item, two, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    for k in (19, 0):
        for x, y in zip(item[30 + k], later[k], strict=True):
            np.testing.assert_array_equal(x, y)
    assert not np.array_equal(item[0][0], item[1][0])


def test_half_of_a_clean_batch_is_corrupted():
    """At every severity of the data, though no training image has one (DAMP paper, Algorithm 2)."""
    rng = np.random.RandomState(0)
    clean = rng.randint(0, 256, (20, 16, 16, 3)).astype(np.uint8)
    split = Split([np.arange(20)] + [np.arange(0)] * 5, np.arange(0))
    plain, source = (TrainBatches([clean] * 6, np.arange(20, dtype=np.int32), split, (0,) * 3, (1 / 255,) * 3, 10,
                                  range(20), 3, sampler="permutation", corruption=name)
                     for name in (None, "brightness"))
    result = []
    for k in range(20):
        images, labels, _, severities = source[k]
        changed = np.abs(images - plain[k][0]).reshape(10, -1).max(1) > 0
        assert changed.sum() == 5 and not severities.any()
        for image, label in zip(images[changed], labels[changed], strict=True):
            fits = [s for s in range(1, 6) for made in [corrupt(clean[label:label + 1], "brightness", s)[0]]
                    if any(np.array_equal(image.round(), item.transpose(2, 0, 1)) for item in (made, made[:, ::-1]))]
            result += fits
            assert len(fits) == 1
    assert set(result) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("crop, margin, mode", [("zero_pad", 4, "constant"), ("reflect_pad", 1, "reflect")])
def test_what_is_drawn_with_replacement_stays_what_it_was(crop, margin, mode):
    """So that runs that began with earlier versions go on alike: image, flip and corner from one generator a batch.

    The images have 8 pixels a side, so that mirrored padding by an eighth is one pixel.
    """
    images, labels, split, source = example_batches(crop)
    for k in (0, 7, 49):
        rng = np.random.default_rng((3, k))
        picks = rng.integers(len(split.indices), size=16)
        indices, severities = split.indices[picks], split.severities[picks]
        chosen = np.stack([images[s][i] for s, i in zip(severities, indices, strict=True)])
        flipped = rng.random(16) < 0.5
        chosen[flipped] = chosen[flipped, :, ::-1]
        padded = np.pad(chosen, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode)
        tops, lefts = rng.integers(2 * margin + 1, size=16), rng.integers(2 * margin + 1, size=16)
        chosen = np.stack([image[y:y + 8, x:x + 8] for image, y, x in zip(padded, tops, lefts, strict=True)])
        batch = source[k]
        np.testing.assert_array_equal(batch[0], normalise(chosen, (0.5,) * 3, (0.25,) * 3))
        np.testing.assert_array_equal(batch[1], labels[indices])
        np.testing.assert_array_equal(batch[3], severities)


def test_a_permutation_passes_over_every_image_once_an_epoch():
    """37 images in batches of 8: four batches an epoch, and five images left out, others each time."""
    marked = [np.broadcast_to(np.arange(60, dtype=np.uint8).reshape(-1, 1, 1, 1) + 100 * (s > 0), (60, 8, 8, 3))
              for s in range(2)]
    rng = np.random.default_rng(0)
    split = Split([rng.permutation(60)[:30], np.arange(7)], np.arange(0))
    labels = np.arange(60, dtype=np.int32)
    source = TrainBatches(marked, labels, split, (0,) * 3, (1 / 255,) * 3, 8, range(12), 3, sampler="permutation")
    known = set(zip(split.severities.tolist(), split.indices.tolist(), strict=True))
    epochs, left_out = [], []
    for epoch in range(3):
        batches = [source[4 * epoch + k] for k in range(4)]
        drawn = [(int(s), int(label)) for _, labels, _, severities in batches
                 for s, label in zip(severities, labels, strict=True)]
        shown = np.concatenate([batch[0][:, 0, 0, 0] for batch in batches]).round().astype(int)
        assert shown.tolist() == [label + 100 * s for s, label in drawn]
        assert len(drawn) == len(set(drawn)) == 32 and set(drawn) <= known
        epochs.append(drawn)
        left_out.append(known - set(drawn))
    assert epochs[0] != epochs[1] != epochs[2] and left_out[0] != left_out[1]
    for epoch, drawn in enumerate(epochs):  # not from the random numbers of a batch, whose seed is (3, number)
        order = np.random.default_rng((3, 0, epoch + 1)).permutation(37)[:32]
        assert drawn == list(zip(split.severities[order].tolist(), split.indices[order].tolist(), strict=True))
    assert np.mean([s for s, _ in epochs[0][:16]]) < 0.6  # mixed, not severity after severity
    second = TrainBatches(marked, labels, split, (0,) * 3, (1 / 255,) * 3, 8, range(12), 4, sampler="permutation")
    assert (second[0][1] != source[0][1]).any()


def test_evaluation_batches_cover_every_image_once():
    images = np.arange(7 * 12, dtype=np.uint8).reshape(7, 2, 2, 3)
    source = EvaluationBatches(images, np.arange(7, dtype=np.int32), np.arange(7), (0,) * 3, (1,) * 3, 3)
    seen = [label for _, labels, count in prefetch(source, 2) for label in labels.asnumpy()[:int(count)]]
    assert seen == list(range(7))
    assert len({batch[0].shape for batch in (source[k] for k in range(3))}) == 1
    empty = EvaluationBatches(images, np.arange(7, dtype=np.int32), np.arange(0), (0,) * 3, (1,) * 3, 3)
    assert list(prefetch(empty, 2)) == []


def test_prepare_dataset_prints_the_counts_and_writes_the_split(tmp_path, capsys):
    prepare(["-d", "photos", "-o", str(tmp_path / "split.csv"), "-n", "50"])
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[-2] == ("validation: 500 images, at most 50 of a class, where up to 452 are left over; --num_val N "
                         "takes N")
    assert [line.split() for line in lines[1:7]] == [
        ["0", "180"], ["1", "180"], ["2", "90"], ["3", "30"], ["4", "0"], ["5", "0"]]
    assert "severity 4, 5" in captured.err
    labels = SOURCES["photos"](None).labels["train"]
    assert read_split(str(tmp_path / "split.csv"), labels, 6).counts == [180, 180, 90, 30, 0, 0]


def test_prepare_dataset_draws_what_a_run_draws(cifar_dir, tmp_path, capsys):
    path = str(tmp_path / "split.csv")
    prepare(["--data_dir", cifar_dir, "-o", path, "--train_on", "clean", "--val_fraction", "0.25", "--seed", "3"])
    assert capsys.readouterr().err == ""
    source = SOURCES["cifar10"](cifar_dir)
    drawn = make_split_for(source, 6, 3, train_on="clean", val_fraction=0.25)
    written = make_split_for(source, 6, 3, path=path)
    assert drawn.counts == [150, 0, 0, 0, 0, 0] and len(drawn.validation) == 50
    for ours, theirs in zip([*drawn.train, drawn.validation], [*written.train, written.validation], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(SystemExit) as stop:
        prepare(["--data_dir", cifar_dir, "-o", path, "--train_on", "clean", "--val_fraction", "0.25", "-n", "3"])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and "--val_fraction 0.25: -n 3 says how many images there are" in line


def test_a_folder_that_cannot_be_written_says_what_to_give(cifar_dir, monkeypatch):
    def locked(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "data/CIFAR-10-C")
    monkeypatch.setattr("dataset.corrupted.generate", locked)
    with pytest.raises(UserError, match="data/CIFAR-10-C: Read-only file system; .* --corrupted_from memory"):
        load_corrupted(cifar_dir, load_source("cifar10", cifar_dir), "spatter", 2)


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_batch_in_the_python_layout_may_have_arrays_of_any_order(tmp_path, protocol, order):
    rng = np.random.default_rng(0)
    planes, labels = rng.integers(0, 256, (7, 3072), dtype=np.uint8), rng.integers(0, 100, 7).astype(">i4")
    content = {b"data": np.array(planes, order=order), b"fine_labels": labels, b"coarse_labels": labels // 5}
    (tmp_path / "train").write_bytes(pickle.dumps(content, protocol))
    images, read = read_python(str(tmp_path / "train"), CIFAR["cifar100"])
    np.testing.assert_array_equal(images.transpose(0, 3, 1, 2).reshape(7, -1), planes)
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize("content", [
    # An array of pointers, the first of which would be followed.
    b"cnumpy\nndarray\n(K\x01\x85cnumpy\ndtype\n(U\x01OtRU\x08\x41\x41\x41\x41\x41\x41\x41\x41tR",
    b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR", b"cnumpy\ndtype\n(U\x03V99tR",
    b"(" + b")" + b"\x85" * 100_000 + b"K\x01d", b"(" + b")" + b"2\x86" * 60 + b"K\x01d",
    b"(" + b")" + b"".join(b"q%ch%c\x86" % (k, k) for k in range(30)) + b"K\x01d",
    b"]q\x00" + b"".join(b"]q%c(h%ch%ch%ce" % (k, k - 1, k - 1, k - 1) for k in range(1, 100))])
def test_a_batch_in_the_python_layout_cannot_harm(tmp_path, content):
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}(U\x04data" + content + b"U\x06labels]u.")
    with pytest.raises(UserError, match="not a CIFAR batch in the python layout"):
        read_python(str(tmp_path / "data_batch_1"), CIFAR["cifar10"])
