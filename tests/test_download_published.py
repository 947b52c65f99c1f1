"""Published corrupted test sets, downloaded from a server that a function stands for."""
import hashlib
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dataset import download_published, load_source
from dataset.download_published import PUBLISHED
from dataset.find_published import find_published
from tests.cifar_files import make_cifar
from tests.image_trees import make_tinyimagenet
from tests.published_files import make_class_folders, make_stacked, same_files


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder of archives that a download finds, whatever the address, and the list of addresses that were asked."""
    folder, asked = tmp_path / "server", []
    folder.mkdir()

    def downloader(*_, **__):
        def copy(url, output, pooch):
            asked.append(url)
            with open(output, "wb") as file:
                file.write((folder / os.path.basename(url)).read_bytes())
        return copy
    monkeypatch.setattr("pooch.HTTPDownloader", downloader)
    return folder, asked


def publish(monkeypatch, name, server):
    """Let the archives of a test set have the checksums of those on the server."""
    archives = {archive: hashlib.md5((server / archive).read_bytes()).hexdigest()
                for archive in PUBLISHED[name].archives}
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], archives=archives))


def test_arrays_are_fetched_unpacked_and_found(server, tmp_path, monkeypatch, capsys):
    server, asked = server
    data_dir = str(tmp_path / "data")
    labels = make_cifar(data_dir, per_class=(5, 2))["test"][1]
    arrays = make_stacked(str(tmp_path / "made" / "CIFAR-10-C"), labels, ["fog", "snow"])
    shutil.make_archive(str(server / "CIFAR-10-C"), "tar", tmp_path / "made", "CIFAR-10-C")
    publish(monkeypatch, "CIFAR-10-C", server)
    download_published.main(["CIFAR-10-C", "--data_dir", data_dir])
    folder = os.path.join(data_dir, "published", "CIFAR-10-C")
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"CIFAR-10-C is in {folder}; --test_corrupted {folder} tests on it"
    assert asked == ["https://zenodo.org/records/2535967/files/CIFAR-10-C.tar"]
    assert os.listdir(os.path.dirname(folder)) == ["CIFAR-10-C"]  # no archive, no lock
    test_set = find_published(folder, load_source("cifar10", data_dir))
    np.testing.assert_array_equal(test_set.images("fog", [3])[0], arrays["fog"][2 * len(labels):3 * len(labels)])
    download_published.main(["CIFAR-10-C", "--data_dir", data_dir])
    assert len(asked) == 1
    # A process that was killed between unpacking and removing has left the archive.
    shutil.copy(server / "CIFAR-10-C.tar", os.path.dirname(folder))
    download_published.main(["CIFAR-10-C", "--data_dir", data_dir])
    assert os.listdir(os.path.dirname(folder)) == ["CIFAR-10-C"]


def test_class_folders_of_one_archive(server, tmp_path, monkeypatch):
    server, _ = server
    data_dir = tmp_path / "data"
    make_tinyimagenet(str(data_dir))
    source = load_source("tinyimagenet", str(data_dir))
    make_class_folders(str(tmp_path / "made" / "Tiny-ImageNet-C"), ["brightness"], 64, same_files(source))
    shutil.make_archive(str(server / "Tiny-ImageNet-C"), "tar", tmp_path / "made", "Tiny-ImageNet-C")
    publish(monkeypatch, "Tiny-ImageNet-C", server)
    folder = download_published.download_published("Tiny-ImageNet-C", str(data_dir))
    assert find_published(folder, source).severities(["brightness"]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("group", ["", "blur/"])
def test_several_archives_become_one_folder(server, tmp_path, monkeypatch, group):
    """As the archives of ImageNet-C, which hold the corruptions or the folders of their groups."""
    server, asked = server
    files = {"noise": "shot_noise", "blur": "zoom_blur", "weather": "fog", "digital": "contrast"}
    for archive, name in files.items():
        below = tmp_path / "made" / archive / (f"{archive}/{name}" if group else name) / "1" / "n01440764"
        below.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(below / "a.JPEG")
        shutil.make_archive(str(server / archive), "tar", tmp_path / "made" / archive)
    publish(monkeypatch, "ImageNet-C", server)
    folder = download_published.download_published("ImageNet-C", str(tmp_path / "data"))
    assert sorted(os.listdir(folder)) == sorted(files if group else files.values())
    assert len(asked) == 4


def test_one_corruption_alone_is_not_taken_for_the_folder_around_it(server, tmp_path, monkeypatch):
    server, _ = server
    (tmp_path / "made" / "spatter" / "1").mkdir(parents=True)
    shutil.make_archive(str(server / "extra"), "tar", tmp_path / "made")
    publish(monkeypatch, "ImageNet-C-extra", server)
    folder = download_published.download_published("ImageNet-C-extra", str(tmp_path / "data"))
    assert os.listdir(folder) == ["spatter"]


def test_an_archive_of_another_checksum_is_not_unpacked(server, tmp_path, capsys):
    server, _ = server
    (server / "CIFAR-10-C.tar").write_bytes(b"something else")
    with pytest.raises(SystemExit) as error:
        download_published.main(["CIFAR-10-C", "--data_dir", str(tmp_path / "data")])
    message = capsys.readouterr().err
    assert error.value.code == 2 and len(message.splitlines()) == 1 and "CIFAR-10-C.tar is not in" in message
    assert "put CIFAR-10-C.tar from https://zenodo.org/records/2535967 into" in message
    assert os.listdir(tmp_path / "data") == []


def test_what_is_interrupted_is_taken_up_with_the_archives_that_are_there(server, tmp_path, monkeypatch):
    """A process that was killed while it unpacked leaves its archives and a part of the folder."""
    server, asked = server
    labels = np.arange(10)
    make_stacked(str(tmp_path / "made" / "CIFAR-100-C"), labels, ["fog"])
    shutil.make_archive(str(server / "CIFAR-100-C"), "tar", tmp_path / "made", "CIFAR-100-C")
    publish(monkeypatch, "CIFAR-100-C", server)
    published = tmp_path / "data" / "published"
    published.mkdir(parents=True)
    shutil.copy(server / "CIFAR-100-C.tar", published)
    (published / ".4711.partial.CIFAR-100-C" / "CIFAR-100-C").mkdir(parents=True)
    folder = download_published.download_published("CIFAR-100-C", str(tmp_path / "data"))
    assert not asked and sorted(os.listdir(folder)) == ["fog.npy", "labels.npy"]
    assert os.listdir(published) == ["CIFAR-100-C"]


def test_an_archive_that_is_there_and_damaged_is_named(server, tmp_path, capsys):
    _, asked = server
    published = tmp_path / "data" / "published"
    published.mkdir(parents=True)
    (published / "CIFAR-10-C.tar").write_bytes(b"the beginning")
    with pytest.raises(SystemExit):
        download_published.main(["CIFAR-10-C", "--data_dir", str(tmp_path / "data")])
    assert f"{published / 'CIFAR-10-C.tar'}: damaged (its MD5 is not" in capsys.readouterr().err
    assert not asked and (published / "CIFAR-10-C.tar").read_bytes() == b"the beginning"


def test_a_folder_without_corruptions_is_not_the_test_set(server, tmp_path, monkeypatch, capsys):
    """Neither one that is there, nor what an archive holds."""
    server, _ = server
    folder = tmp_path / "data" / "published" / "CIFAR-10-C"
    folder.mkdir(parents=True)
    with pytest.raises(SystemExit):
        download_published.main(["CIFAR-10-C", "--data_dir", str(tmp_path / "data")])
    assert f"{folder}: holds no corruption; remove it" in capsys.readouterr().err
    folder.rmdir()
    (tmp_path / "made" / "CIFAR-10-C").mkdir(parents=True)
    (tmp_path / "made" / "CIFAR-10-C" / "readme.txt").write_text("nothing")
    shutil.make_archive(str(server / "CIFAR-10-C"), "tar", tmp_path / "made", "CIFAR-10-C")
    publish(monkeypatch, "CIFAR-10-C", server)
    with pytest.raises(SystemExit):
        download_published.main(["CIFAR-10-C", "--data_dir", str(tmp_path / "data")])
    assert "CIFAR-10-C.tar: damaged, or without all files of the folder CIFAR-10-C" in capsys.readouterr().err
    assert not folder.exists()
