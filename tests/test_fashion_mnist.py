"""Fashion-MNIST: every place where its files may lie, damage of every kind, and a run."""
import gzip
import hashlib
import json
import os

import numpy as np
import pytest

import main
from corruptions.utils.errors import UserError
from dataset import SOURCES
from dataset.inputs import input_format
from dataset.sources.fashion_mnist import FILES, load_fashion_mnist
from dataset.stored import corrupted_path
from tests.fashion_files import NAMES, idx, make_fashion, write_idx
from tests.test_main import arguments, only_run, read_csv


@pytest.fixture(autouse=True)
def no_other_places(monkeypatch, tmp_path):
    """Neither Debian's package, whether it is installed or not, nor a server."""
    monkeypatch.setattr("dataset.sources.fashion_mnist.DEBIAN_FOLDER", str(tmp_path / "usr"))
    monkeypatch.setattr("dataset.sources.fashion_mnist.URL", "http://127.0.0.1:9/")  # nothing listens there


def check(source, expected):
    form = input_format("fashion_mnist")
    assert (form.side, form.mean, form.std) == (source.image_size[0], source.mean, source.std)
    assert source.class_names[:4] == ("T-shirt/top", "trouser", "pullover", "dress")
    assert source.class_names[4:] == ("coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    for part, (images, labels) in expected.items():
        result = source.images[part]
        assert result.shape == (len(images), 32, 32, 3) and result.dtype == np.uint8
        for channel in range(3):
            np.testing.assert_array_equal(result[:, 2:30, 2:30, channel], images)
        assert result.sum(dtype=int) == 3 * images.sum(dtype=int)  # nothing but zeros around them
        np.testing.assert_array_equal(source.labels[part], labels)
        assert source.labels[part].dtype == np.int32


@pytest.mark.parametrize("pack", [True, False], ids=["gz", "unpacked"])
@pytest.mark.parametrize("place", ["data", "data/fashion-mnist", "data/FashionMNIST/raw", "usr"])
def test_every_place_is_found(tmp_path, place, pack):
    expected = make_fashion(str(tmp_path / place), (3, 2), pack)
    source = SOURCES["fashion_mnist"](str(tmp_path / "data"))
    check(source, expected)
    assert (source.name, source.classes, source.corrupted_folder) == ("fashion_mnist", 10, "Fashion-MNIST-C")


def test_what_may_be_mnist_is_said(tmp_path, capsys):
    make_fashion(str(tmp_path), (3, 2))
    load_fashion_mnist(str(tmp_path))
    assert capsys.readouterr().err == ""
    path = write_idx(str(tmp_path), NAMES["test"][1], idx(np.arange(20) % 9), True)
    load_fashion_mnist(str(tmp_path))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {path}: has more images of one class than of another, as MNIST has")


def test_packed_and_unpacked_side_by_side_as_torchvision_leaves_them(tmp_path):
    folder = str(tmp_path / "FashionMNIST" / "raw")
    make_fashion(folder, (3, 2), pack=False)
    check(load_fashion_mnist(str(tmp_path)), make_fashion(folder, (3, 2)))


def test_what_is_missing_is_downloaded_with_its_checksum(tmp_path, monkeypatch):
    """The rest of a download that was broken off, from a server that a function stands for."""
    expected = make_fashion(str(tmp_path / "server"), (3, 2))
    fetched = []

    def downloader(*_, **__):
        def copy(url, output, pooch):
            fetched.append(os.path.basename(url))
            with open(output, "wb") as file:
                file.write((tmp_path / "server" / fetched[-1]).read_bytes())
        return copy
    monkeypatch.setattr("pooch.HTTPDownloader", downloader)
    ours = tmp_path / "data" / "fashion-mnist"
    ours.mkdir(parents=True)
    name = "t10k-images-idx3-ubyte.gz"
    (ours / name).write_bytes((tmp_path / "server" / name).read_bytes())
    with pytest.raises(UserError, match="train-images.*could not be downloaded"):  # not what was published
        load_fashion_mnist(str(tmp_path / "data"))
    assert os.listdir(ours) == [name]
    for files in FILES.values():
        for file in files:
            md5 = hashlib.md5((tmp_path / "server" / f"{file}.gz").read_bytes()).hexdigest()
            monkeypatch.setitem(files, file, md5)
    fetched.clear()
    check(load_fashion_mnist(str(tmp_path / "data")), expected)
    assert sorted(fetched) == sorted(f"{item}.gz" for names in NAMES.values() for item in names if f"{item}.gz" != name)
    fetched.clear()
    load_fashion_mnist(str(tmp_path / "data"))
    assert fetched == []


def test_where_there_is_none_the_ways_out_are_named(tmp_path):
    with pytest.raises(UserError, match="dataset-fashion-mnist") as error:
        load_fashion_mnist(str(tmp_path / "data"))
    assert str(error.value).startswith("fashion_mnist: train-images-idx3-ubyte.gz is not in ")
    assert "t10k-labels-idx1-ubyte.gz from " in str(error.value) and "\n" not in str(error.value)
    assert not os.path.exists(tmp_path / "data")  # a name with a typing error


DAMAGES = {
    "cut": ("train-images-idx3-ubyte", lambda path: os.truncate(path, os.path.getsize(path) // 2)),
    "empty": ("t10k-labels-idx1-ubyte", lambda path: os.truncate(path, 0)),
    "gone": ("t10k-images-idx3-ubyte", os.remove),
}


@pytest.mark.parametrize("pack", [True, False], ids=["gz", "unpacked"])
@pytest.mark.parametrize("name, damage, message", [
    (*DAMAGES["cut"], None),
    (*DAMAGES["empty"], "begins with nothing, not with 00000801 as idx files of labels do"),
    (*DAMAGES["gone"], "not there, though others of the four files are"),
])
def test_a_damaged_file_is_named(tmp_path, name, damage, message, pack):
    make_fashion(str(tmp_path), (3, 2), pack)
    damage(str(tmp_path / (name + ".gz" * pack)))
    with pytest.raises(UserError, match=message or ("cut short" if pack else "which its shape")) as error:
        load_fashion_mnist(str(tmp_path))
    assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)


def flip_a_bit(path):
    with open(path, "r+b") as file:
        content = bytearray(file.read())
        content[len(content) // 2] ^= 16
        file.seek(0)
        file.write(content)


def make_web_page(path):
    with open(path, "wb") as file:
        file.write(b"<!doctype html>" * 30)


@pytest.mark.parametrize("damage", [flip_a_bit, make_web_page])
def test_a_file_that_gzip_refuses_is_named(tmp_path, damage):
    make_fashion(str(tmp_path), (3, 2))
    path = str(tmp_path / "train-images-idx3-ubyte.gz")
    damage(path)
    with pytest.raises(UserError, match="damaged or cut short") as error:
        load_fashion_mnist(str(tmp_path))
    assert str(error.value).startswith(path)


@pytest.mark.parametrize("name, array, message", [
    ("train-images-idx3-ubyte", np.zeros(30), "begins with 00000801, not with 00000803 as idx files of images do"),
    ("train-images-idx3-ubyte", np.zeros((30, 32, 32)), r"shape \(30, 32, 32\), not of 28x28 pixels"),
    ("train-images-idx3-ubyte", np.zeros((0, 28, 28)), "not of 28x28"),
    ("train-labels-idx1-ubyte", np.arange(29) % 10, "29 labels for the 30 images of .*train-images-idx3-ubyte.gz"),
    ("t10k-labels-idx1-ubyte", np.arange(20) % 11, "has the label 10, and labels are 0 to 9"),
])
def test_files_that_do_not_fit_are_named(tmp_path, name, array, message):
    make_fashion(str(tmp_path), (3, 2))
    path = write_idx(str(tmp_path), name, idx(array), True)
    with pytest.raises(UserError, match=message) as error:
        load_fashion_mnist(str(tmp_path))
    assert str(error.value).startswith(path)


def test_an_unpacked_header_that_is_cut_is_named(tmp_path):
    make_fashion(str(tmp_path), (3, 2), pack=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((30, 28, 28)))[:7])
    with pytest.raises(UserError, match="has 7 bytes, which its shape"):
        load_fashion_mnist(str(tmp_path))


@pytest.mark.slow
def test_two_steps_of_training(tmp_path):
    data, logs = tmp_path / "data", tmp_path / "logs"
    make_fashion(str(data))
    main.main(arguments(str(data), logs, "-d", "fashion_mnist", "-c", "contrast", "--method", "erm", "--total_epoch",
                        "1", "-b", "60", "--log_train", "1"))
    folder = only_run(logs)
    assert len(read_csv(os.path.join(folder, "train.csv"))) == 2
    with open(os.path.join(folder, "results.json")) as file:
        assert json.load(file)["test"]["images"] == [50] * 6
    source = load_fashion_mnist(str(data))
    stored = np.load(corrupted_path(str(data), source, "train", 5, "contrast"))
    assert stored.shape == (200, 32, 32, 3) and stored.std() < source.images["train"].std()


def test_the_published_checksums_are_of_the_files_that_debian_packs_anew():
    """If Debian's package is installed, its bytes behind the published header, a name and a time, have the MD5s."""
    folder, times = "/usr/share/datasets/fashion-mnist", {"train": 1504176606, "t10k": 1504176627}
    if not os.path.isdir(folder):
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    for files in FILES.values():
        for name, md5 in files.items():
            with open(os.path.join(folder, f"{name}.gz"), "rb") as file:
                stream = file.read()[10:]
            time = times[name.partition("-")[0]].to_bytes(4, "little")
            header = b"\x1f\x8b\x08\x08" + time + b"\x00\x03" + name.encode() + b"\0"
            assert hashlib.md5(header + stream).hexdigest() == md5
            assert gzip.decompress(header + stream)[:3] == b"\0\0\x08"
