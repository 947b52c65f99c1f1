"""Corruption jobs cut into shards, sent to a Dask cluster, interrupted; the truth are the bytes of one process."""
import contextlib
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import joblib
import numpy as np
import psutil
import pytest
from PIL import Image

import corruptions.jobs.arrays
import corruptions.jobs.folders
from corruptions import Options, corrupt
from corruptions.__main__ import main
from corruptions.images import read_image
from corruptions.jobs.cluster import check_workers, packages, worker_info
from corruptions.jobs.folders import _corrupt_files
from corruptions.jobs.parallel import get_executor, parallel_map
from corruptions.jobs.shards import Shard, lock_target, shard_lock
from corruptions.jobs.sources import read_sources
from corruptions.utils.errors import UserError
from corruptions.utils.locks import file_lock
from corruptions.utils.signals import Interrupted, block_signals, sigterm_interrupts
from dataset import load_source
from dataset.corrupted import load_corrupted
from dataset.stored import is_stored
from tests.cifar_files import make_cifar
from tests.corrupted_files import contents, files_below, make_images, one_line, with_records
from tests.image_trees import make_imagenet30
from tests.processes import terminate_self, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMMAND = [sys.executable, "-m", "corruptions"]


@pytest.fixture
def folder(tmp_path):
    return make_images(tmp_path / "in", 23, lambda k: ((16, 20, 3), "png"))


@pytest.fixture
def array(tmp_path):
    path = str(tmp_path / "images.npy")
    np.save(path, np.random.RandomState(0).randint(0, 256, (300, 16, 16, 3)).astype(np.uint8))
    return path


def shards_of(argv, order, count):
    for number in order:
        main([*argv, "--shard", f"{number}/{count}"])


def test_shards_of_a_folder_make_what_one_job_makes(folder, tmp_path, capsys):
    rest = ["-c", "snow", "contrast", "--severity", "2", "5", "--workers", "1"]
    main(["folder", folder, str(tmp_path / "whole"), *rest])
    out = tmp_path / "out"
    argv = ["folder", folder, str(out), *rest]
    capsys.readouterr()
    shards_of(argv, (3, 1), 3)
    assert "shard 1/3 written to" in (message := capsys.readouterr().out) and message.endswith("have not ended: 2\n")
    assert (out / "snow" / ".unfinished").exists() and not (out / "sources.csv").exists()
    shards_of(argv, (3, 2), 3)
    assert "shard 3/3 had nothing to make in" in (message := capsys.readouterr().out) and "have not ended: 2" in message
    assert contents(out) == contents(tmp_path / "whole")
    main(argv)
    assert capsys.readouterr().out == f"images read: 23\nwas all made before in {out}\n"
    assert contents(out) == contents(tmp_path / "whole")


def test_shards_of_other_names_do_not_complete_a_job(tmp_path, capsys):
    """An image that is renamed between two shards moves all shares, though their number stays."""
    images = make_images(tmp_path / "images", 4, lambda k: ((16, 20, 3), "png"))  # bee/0, ant/1, bee/2, ant/3
    argv = ["folder", images, str(tmp_path / "out"), "-c", "contrast", "--severity", "1", "--workers", "1"]
    shards_of(argv, (1,), 2)
    os.rename(tmp_path / "images" / "bee" / "2.png", tmp_path / "images" / "ant" / "0.png")
    shards_of(argv, (2,), 2)
    assert capsys.readouterr().out.endswith("have not ended: 1\n")
    shards_of(argv, (1,), 2)
    made = {os.path.splitext(name)[0] for name in files_below(tmp_path / "out" / "contrast")}
    assert made == {"1/ant/0", "1/ant/1", "1/ant/3", "1/bee/0"}


def test_a_repeated_shard_leaves_a_finished_job_finished(folder, tmp_path, capsys):
    """A requeue does this. It holds while another severity of the corruption is being made, too."""
    out = tmp_path / "out"
    argv = ["folder", folder, str(out), "-c", "contrast", "--workers", "1", "--severity"]
    shards_of([*argv, "1"], (1, 2, 3), 3)
    before = contents(out)
    capsys.readouterr()
    shards_of([*argv, "1"], (2,), 3)
    shards_of([*argv, "1"], (30,), 30)  # which has no image
    assert capsys.readouterr().out.splitlines() == [
        "images read: 8 of 23", f"shard 2/3 had nothing to make in {out}",
        "images read: 0 of 23", f"shard 30/30 had nothing to make in {out}"]
    assert contents(out) == before
    shards_of([*argv, "2"], (1,), 2)
    shards_of([*argv, "1"], (3,), 3)
    assert capsys.readouterr().out.endswith(f"shard 3/3 had nothing to make in {out}; begun by other commands and not "
                                            "ended: contrast/2\n")
    shards_of([*argv, "2"], (2,), 2)
    main(["folder", folder, str(tmp_path / "whole"), *argv[3:], "1", "2"])
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
def test_a_finished_job_gets_images_that_were_added(folder, tmp_path, capsys, order):
    """The shards that have none of them need not be repeated."""
    rest = ["-c", "contrast", "--workers", "1", "--severity", "1"]
    late = os.path.join(folder, "bee", "6.png")  # of the shares it is one more image of one alone
    os.rename(late, tmp_path / "late.png")
    shards_of(["folder", folder, str(tmp_path / "out"), *rest], (1, 2, 3), 3)
    os.rename(tmp_path / "late.png", late)
    capsys.readouterr()
    shards_of(["folder", folder, str(tmp_path / "out"), *rest], order, 3)
    assert capsys.readouterr().out.count("written to") == 1
    main(["folder", folder, str(tmp_path / "whole"), *rest])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_whole_job_completes_what_shards_began(folder, tmp_path):
    rest = ["-c", "contrast", "--severity", "2", "--workers", "1"]
    main(["folder", folder, str(tmp_path / "whole"), *rest])
    shards_of(["folder", folder, str(tmp_path / "out"), *rest], (2,), 4)
    open(tmp_path / "out" / "contrast" / "2" / "bee" / ".1234.partial.0.jpg", "wb").close()
    main(["folder", folder, str(tmp_path / "out"), *rest])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    shards_of(["folder", folder, str(tmp_path / "out"), *rest], range(1, 31), 30)  # more than there are images
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_shards_of_other_severities_or_corruptions_do_not_complete_a_job(folder, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["folder", folder, str(out), "--workers", "1", "-c"]
    shards_of([*argv, "contrast", "--severity", "1"], (1,), 2)
    shards_of([*argv, "contrast", "--severity", "1", "2"], (2,), 2)
    assert capsys.readouterr().out.endswith("shards that have not ended: 1\n")
    assert (out / "contrast" / ".unfinished").exists() and not (out / "sources.csv").exists()
    shards_of([*argv, "brightness", "contrast", "--severity", "2"], (1,), 2)
    shards_of([*argv, "contrast", "--severity", "1"], (1, 2), 2)  # which was complete, and is said to be again
    assert capsys.readouterr().out.endswith(
        f"shard 2/2 had nothing to make in {out}; begun by other commands and not ended: brightness/2\n")
    assert not (out / "contrast" / ".unfinished").exists() and (out / "brightness" / ".unfinished").exists()
    main([*argv, "brightness", "--severity", "2"])
    for rest in (["contrast", "--severity", "1", "2"], ["brightness", "--severity", "2"]):
        main(["folder", folder, str(tmp_path / "whole"), "--workers", "1", "-c", *rest])
    assert contents(out) == contents(tmp_path / "whole")


def test_a_severity_is_added_by_another_job(folder, tmp_path, capsys):
    rest = ["-c", "contrast", "--workers", "1", "--severity"]
    argv = ["folder", folder, str(tmp_path / "out"), *rest]
    shards_of([*argv, "1"], (1, 2), 2)
    shards_of([*argv, "2"], (3, 1), 3)
    assert capsys.readouterr().out.endswith("have not ended: 2\n")
    assert (tmp_path / "out" / "contrast" / ".unfinished").exists()
    shards_of([*argv, "2"], (2,), 3)
    assert capsys.readouterr().out.endswith(f"\nshard 2/3 written to {tmp_path / 'out'}\n")
    main(["folder", folder, str(tmp_path / "whole"), *rest, "1", "2"])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_whole_job_of_one_severity_does_not_complete_another(folder, tmp_path, capsys):
    argv = ["folder", folder, str(tmp_path / "out"), "-c", "contrast", "--workers", "1", "--severity"]
    shards_of([*argv, "1", "2"], (1,), 2)
    main([*argv, "1"])
    assert capsys.readouterr().out.endswith("not ended: contrast/2\n")
    assert (tmp_path / "out" / "contrast" / ".unfinished").exists()


@pytest.mark.parametrize("damage", [
    "", "[1]", "5", '{"contrast": 5}', '{"contrast/1": {"shards": 2, "images": 23, "ended": null}}',
    '{"contrast/1": {"shards": 2, "images": 23, "ended": [1, 2, 5]}}',
    '{"contrast/1": {"shards": 2, "images": 23, "ended": "12"}}', '{"contrast/1": {"shards": null, "ended": []}}',
    '{"contrast": {"shards": 2, "images": 23, "ended": [1]}}', '{"fog": 3}',
    '{"fog/1": {"shards": 2, "images": 23, "ended": []}}', '{"contrast/x": {"shards": 2, "images": 3, "ended": []}}'])
def test_a_damaged_record_of_shards_counts_as_none(folder, tmp_path, capsys, damage):
    """Also one of an earlier version, which had no severities, and of a corruption that was removed since."""
    out = tmp_path / "out"
    argv = ["folder", folder, str(out), "-c", "contrast", "--severity", "1", "--workers", "1"]
    shards_of(argv, (1,), 2)
    (out / ".shards.json").write_text(damage)
    shards_of(argv, (2,), 2)
    assert capsys.readouterr().out.endswith("not ended: 1\n") and (out / "contrast" / ".unfinished").exists()
    shards_of(argv, (1,), 2)
    main(["folder", folder, str(tmp_path / "whole"), *argv[3:]])
    assert contents(out) == contents(tmp_path / "whole")


def test_a_shard_refuses_images_that_have_changed(folder, tmp_path, capsys):
    argv = ["folder", folder, str(tmp_path / "out"), "-c", "contrast", "--severity", "2", "--workers", "1", "--shard"]
    main([*argv, "1/2"])
    first = os.path.join(folder, "ant", "1.png")
    Image.fromarray(np.zeros((16, 20), np.uint8)).save(first)
    assert f"{first}: has changed" in one_line(capsys, [*argv, "1/3"])
    main([*argv, "2/2"])  # which has nothing to do with it
    os.remove(first)
    assert f"{first}: is gone" in one_line(capsys, [*argv, "2/2"])
    assert "(seed" in one_line(capsys, [*argv, "2/2", "--seed", "4"])


def test_shards_look_at_no_image_while_others_wait(folder, tmp_path, monkeypatch):
    """Listing a large folder on NFS would take longer than they wait."""
    out, looked, real = tmp_path / "out", [], os.stat

    def stat(path, *args, **options):
        if str(path).startswith(folder) and (out / ".lock").exists():
            looked.append(path)
        return real(path, *args, **options)
    monkeypatch.setattr(os, "stat", stat)
    shards_of(["folder", folder, str(out), "-c", "contrast", "--severity", "2", "--workers", "1"], (1, 2), 2)
    assert looked == []
    rows = (out / "sources.csv").read_text().splitlines()[1:]
    assert len(rows) == 23 and all(int(row.split(",")[2]) == os.path.getsize(os.path.join(folder, row.split(",")[0]))
                                   for row in rows)


def test_lists_of_images_that_become_one_while_they_are_read(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shards_of(["folder", folder, str(out), "-c", "contrast", "--severity", "2", "--workers", "1"], (1, 2), 2)
    real, result = corruptions.jobs.sources.shards_lists, [str(out / ".sources-1-of-2.csv")]
    monkeypatch.setattr(corruptions.jobs.sources, "shards_lists",
                        lambda target: [result.pop()] if result else real(target))
    assert len(read_sources(str(out))) == 23 and not result


def test_shards_that_run_at_the_same_time(folder, tmp_path):
    rest = ["-c", "frost", "contrast", "--severity", "1", "4", "--workers", "1"]
    argv = ["folder", folder, str(tmp_path / "out"), *rest, "--shard"]
    second = subprocess.Popen([*COMMAND, *argv, "1/2"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_until((tmp_path / "out").exists, second)
    main([*argv, "2/2"])
    assert (second.communicate()[1], second.returncode) == ("", 0)
    main(["folder", folder, str(tmp_path / "whole"), *rest])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_who_may_fill_a_folder_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.jobs.shards.LOCK_SECONDS", 0.2)
    target = str(tmp_path)
    with lock_target(target, Shard(1, 3)):
        assert os.path.exists(shard_lock(target, Shard(1, 3)))
        with lock_target(target, Shard(2, 3)):
            pass
        for second in (Shard(), Shard(1, 3), Shard(2, 4)):
            with pytest.raises(UserError, match=f"process {os.getpid()}"), lock_target(target, second):
                pass
    is_held = pytest.raises(UserError, match="is writing this")
    with lock_target(target, Shard()), is_held, lock_target(target, Shard(1, 3)):
        pass
    assert os.listdir(target) == []


def test_a_lock_is_waited_for(tmp_path):
    path, held = str(tmp_path / ".lock"), threading.Event()

    def hold():
        with file_lock(path, "results"):
            held.set()
            time.sleep(0.3)
    owner = threading.Thread(target=hold)
    owner.start()
    held.wait()
    with file_lock(path, "results", 30):
        assert os.path.exists(path)
    owner.join()
    assert os.listdir(tmp_path) == []


def test_shards_of_an_array(array, tmp_path, capsys):
    rest = ["-c", "fog", "contrast", "--severity", "1", "3", "4", "--workers", "1"]
    main(["array", array, str(tmp_path / "whole"), *rest])
    out = str(tmp_path / "out")
    shards_of(["array", array, out, *rest], (4,), 4)
    assert files_below(out) == with_records(["1/contrast.npy"], "settings.json")  # the fourth of six
    assert "not there yet: 5 of 6" in capsys.readouterr().out
    shards_of(["array", array, out, *rest], (1, 2, 3), 4)
    assert contents(out) == contents(tmp_path / "whole")
    capsys.readouterr()
    main(["array", array, out, *rest])
    shards_of(["array", array, out, *rest], (7,), 7)
    assert capsys.readouterr().out == f"was all made before in {out}\nshard 7/7 had nothing to make in {out}\n"


def test_a_shard_without_a_share_does_not_say_that_it_was_made(array, tmp_path, capsys):
    out, photos = tmp_path / "out", tmp_path / "photos"
    main(["array", array, str(out), "-c", "fog", "--severity", "1", "--shard", "3/4"])
    assert capsys.readouterr().out == (f"shard 3/4 had nothing to make in {out}; arrays of other shards that are not "
                                       "there yet: 1 of 1\n")
    main(["dataset", "photos", "-c", "contrast", "--data_dir", str(photos), "--shard", "3/4"])  # train, test
    assert capsys.readouterr().out.startswith(f"shard 3/4 had nothing to make in {photos}") and not photos.exists()


def test_shards_of_a_data_set_in_an_array(tmp_path):
    for place in ("shards", "whole"):
        make_cifar(str(tmp_path / place))
    argv = ["dataset", "cifar10", "-c", "contrast", "brightness", "--workers", "1", "--data_dir"]
    for number in (3, 1, 2):
        main([*argv, str(tmp_path / "shards"), "--shard", f"{number}/3"])
    main([*argv, str(tmp_path / "whole")])
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_shards_of_a_data_set_in_files(tmp_path, capsys):
    for place in ("shards", "whole"):
        make_imagenet30(tmp_path / place, (5, 3))
    argv = ["dataset", "imagenet30", "-c", "contrast", "--workers", "1", "--data_dir"]
    for number in (1, 2):
        main([*argv, str(tmp_path / "shards"), "--shard", f"{number}/2"])
    main([*argv, str(tmp_path / "whole")])
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")
    capsys.readouterr()
    main([*argv, str(tmp_path / "shards"), "--shard", "2/2"])
    made = os.path.join(str(tmp_path / "shards"), "ImageNet-30-64-C")
    assert capsys.readouterr().out == f"shard 2/2 had nothing to make in {made}\n"
    assert is_stored(str(tmp_path / "shards"), load_source("imagenet30", str(tmp_path / "shards")), "train", "contrast")


def test_images_that_were_added_to_a_data_set_are_those_of_some_shards(tmp_path, capsys):
    data_dir = str(tmp_path)
    make_imagenet30(data_dir, (4, 1))
    argv = ["dataset", "imagenet30", "-c", "contrast", "--workers", "1", "--data_dir", data_dir, "--shard"]
    folder = tmp_path / "ImageNet-30-64" / "train" / "canoe"  # the last class: image 12 of the list, so of shard 1
    for number in ("1/2", "2/2"):
        main([*argv, number])
    shutil.copy(folder / "canoe_0.JPEG", folder / "canoe_9.JPEG")
    capsys.readouterr()
    message = []
    for number in ("2/2", "1/2"):
        main([*argv, number])
        message.append(capsys.readouterr().out.partition(f" {tmp_path}")[0])
    assert message == ["shard 2/2 had nothing to make in", "shard 1/2 written to"]
    main([*argv[:-1]])
    assert capsys.readouterr().out.startswith("was all made before in")


@pytest.mark.parametrize("name, make", [("cifar10", make_cifar),
                                        ("imagenet30", partial(make_imagenet30, counts=(3, 1)))])
def test_a_data_set_that_was_made_before_is_said_to_be(tmp_path, capsys, name, make):
    make(str(tmp_path))
    argv = ["dataset", name, "--workers", "1", "--data_dir", str(tmp_path), "-c"]
    message = []
    for words in (["contrast"], ["contrast"], ["contrast", "brightness"], ["brightness", "--shard", "1/2"]):
        main([*argv, *words])
        message.append(capsys.readouterr().out.partition(f" {tmp_path}")[0])
    assert message == ["written to", "was all made before in", "written to", "shard 1/2 had nothing to make in"]


@pytest.mark.parametrize("option, culprit", [
    (["--shard", "0/4"], "'0/4' is not I/N"), (["--shard", "5/4"], "'5/4' is not I/N"), (["--shard", "x"], "--shard"),
    (["--scheduler", "10.0.0.5"], "is not HOST:PORT"), (["--scheduler", "h:70000"], "is not HOST:PORT"),
    (["--scheduler", "h:1", "--workers", str(min(2, os.cpu_count()))], "not allowed with argument --scheduler")])
def test_malformed_jobs_are_one_line(array, tmp_path, capsys, option, culprit):
    for command, source in (("array", array), ("folder", str(tmp_path))):
        assert culprit in one_line(capsys, [command, source, str(tmp_path / "out"), "-c", "fog", *option])
    assert not (tmp_path / "out").exists()


def test_a_missing_package_or_scheduler_is_one_line(array, tmp_path, capsys, monkeypatch):
    argv = ["array", array, str(tmp_path / "out"), "-c", "fog", "--scheduler", "127.0.0.1:1"]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "distributed", None)
        assert "pip install dask distributed" in one_line(capsys, argv)
    pytest.importorskip("distributed")
    monkeypatch.setattr("corruptions.jobs.cluster.CONNECT_SECONDS", 0.3)
    assert "--scheduler 127.0.0.1:1: no Dask scheduler answers" in one_line(capsys, argv)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def scheduler():
    """The address of a Dask scheduler with two workers, processes that are started again when they die."""
    distributed = pytest.importorskip("distributed", reason="needs pip install dask distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def worker_ids(scheduler):
    """The process numbers of the workers."""
    with distributed_client(scheduler) as client:
        return list(client.run(os.getpid).values())


def distributed_client(scheduler):
    from distributed import Client
    return Client(scheduler, set_as_default=False)


def kill_when_begun(victim, folder):
    """Kill a process as soon as a corrupted image is in a folder."""
    wait_until(lambda: [name for name in files_below(folder) if ".npy.partial" in name or "glass_blur/1" in name])
    os.kill(victim, signal.SIGKILL)


@pytest.mark.parametrize("command, source", [("array", "images.npy"), ("folder", "in")])
def test_a_worker_that_dies_loses_nothing(scheduler, folder, array, tmp_path, monkeypatch, command, source):
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 20 * 16 * 16)
    monkeypatch.setattr("corruptions.jobs.folders.FILES_AT_A_TIME", 2)
    monkeypatch.chdir(tmp_path)  # the workers are in another folder
    argv = ["-c", "glass_blur", "snow", "--severity", "1", "4"]
    victim = worker_ids(scheduler)[0]
    killer = threading.Thread(target=kill_when_begun, args=(victim, str(tmp_path / "cluster")), daemon=True)
    killer.start()
    main([command, source, "cluster", *argv, "--scheduler", scheduler])
    killer.join()
    main([command, source, "alone", *argv, "--workers", "1"])
    assert contents("cluster") == contents("alone")
    with distributed_client(scheduler) as client:
        client.wait_for_workers(2, timeout=30)
    assert victim not in worker_ids(scheduler)


def stop_after_two_chunks(monkeypatch, argv):
    """Run a command that makes an array, and interrupt it when two of the chunks are done."""
    real = corruptions.jobs.arrays.parallel_map

    def stops_early(workers, function, arguments):
        for done, result in enumerate(real(workers, function, arguments)):
            if done == 2:
                raise KeyboardInterrupt
            yield result
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("corruptions.jobs.arrays.parallel_map", stops_early)
        main(argv)


def test_an_array_whose_header_is_damaged_begins_anew(array, tmp_path, monkeypatch):
    """Its journal counts images as done, but the file could not be read when the last image is."""
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 70 * 16 * 16)
    argv = ["array", array, str(tmp_path / "out"), "-c", "snow", "--severity", "3", "--workers", "1"]
    stop_after_two_chunks(monkeypatch, argv)
    with open(tmp_path / "out" / "3" / ".snow.npy.partial", "r+b") as file:
        file.write(b"?")
    main(argv)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "3" / "snow.npy"), corrupt(np.load(array), "snow", 3))


def test_a_job_goes_on_with_or_without_a_cluster(scheduler, array, tmp_path, monkeypatch):
    monkeypatch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 70 * 16 * 16)
    crews = (["--scheduler", scheduler], ["--workers", "1"])
    for first, then in (crews, crews[::-1]):
        out = tmp_path / first[0]
        argv = ["array", array, str(out), "-c", "snow", "--severity", "3"]
        stop_after_two_chunks(monkeypatch, [*argv, *first])
        assert json.loads((out / "3" / ".snow.npy.partial.json").read_text())["done"] == 140
        main([*argv, *then])
        np.testing.assert_array_equal(np.load(out / "3" / "snow.npy"), corrupt(np.load(array), "snow", 3))


def test_pixels_that_lie_in_no_file_are_sent(scheduler, tmp_path):
    main(["dataset", "cifar10", "-c", "contrast", "--data_dir", small_cifar(tmp_path / "a"), "--scheduler", scheduler])
    main(["dataset", "cifar10", "-c", "contrast", "--data_dir", small_cifar(tmp_path / "b"), "--workers", "1"])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def small_cifar(folder):
    make_cifar(str(folder))
    return str(folder)


def test_workers_that_cannot_do_the_job_are_refused():
    there = packages()
    for answer, reason in ((ModuleNotFoundError("No module named 'cv2'"), "cannot run this program"),
                           ((["/data/in"], there), "w1 does not see /data/in"),
                           (([], {**there, "numpy": "1.0"}), "w1 has numpy 1.0, and here it is")):
        with pytest.raises(UserError, match=f"--scheduler a:1: the worker .*{reason}"):
            client = SimpleNamespace(run=Mock(return_value={"w0": ([], there), "w1": answer}))
            check_workers(client, "--scheduler a:1", [])
    assert worker_info([ROOT, "/nowhere"]) == (["/nowhere"], there)


def test_a_worker_with_another_folder_of_the_same_name_writes_nothing(tmp_path):
    with pytest.raises(UserError, match="is another folder on"):
        _corrupt_files(str(tmp_path), [("a.png", "a.png")], read_image, ["fog/1"], 0, Options(), "png")
    assert os.listdir(tmp_path) == []


def test_ctrl_c_waits_for_the_end_of_what_must_be_whole():
    ended = []
    with pytest.raises(KeyboardInterrupt), block_signals():
        signal.raise_signal(signal.SIGINT)
        ended.append(True)
    assert ended and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loop_that_is_left_leaves_no_process():
    results = parallel_map(2, os.getpid, [()] * 100)
    worker = psutil.Process(next(results))
    results.close()
    assert not worker.is_running()


INTERRUPTED = "python -m corruptions: stopped by SIGINT; the same command resumes it"


def interrupt(command, begun, seconds, send=os.killpg, number=signal.SIGINT, message=INTERRUPTED):
    """Send a signal to a command and its processes, as a terminal does, or to it alone, `seconds` after there is a file
    like `begun`, and check what it says and leaves."""
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_until(lambda: glob.glob(begun), process)
        time.sleep(seconds)
        send(process.pid, number)
        assert process.communicate(timeout=30)[1] == message + "\n", f"{seconds} seconds after the beginning"
        assert process.returncode == 128 + number
        assert left_in(process.pid) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert not [name for folder in ("/dev/shm", tempfile.gettempdir()) for name in os.listdir(folder)
                if re.search(rf"(joblib|loky).*[_-]{process.pid}[_-]", name)]


def left_in(session):
    """Like `running_in`, after some time for processes that watch over others."""
    deadline = time.monotonic() + 5
    while (left := running_in(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def running_in(session):
    """The command lines of a session's processes."""
    result = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                result.append(process.cmdline())
    return result


@pytest.mark.parametrize("tries", [1, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", ["array", "folder"])
def test_ctrl_c_leaves_nothing_behind(tmp_path, command, tries):
    images = np.random.RandomState(0).randint(0, 256, (4000, 32, 32, 3)).astype(np.uint8)
    np.save(tmp_path / "array", images)
    os.mkdir(tmp_path / "folder")
    for k in range(100):
        Image.fromarray(images[k]).save(tmp_path / "folder" / f"{k}.png")
    source = str(tmp_path / {"array": "array.npy", "folder": "folder"}[command])
    for k in range(tries):
        out = str(tmp_path / f"{k}")
        interrupt([*COMMAND, command, source, out, "-c", "all", "--workers", "2"],
                  os.path.join(out, "*", ".*"), random.Random(k).uniform(0, 2))


@pytest.mark.parametrize("send", [os.kill, os.killpg])  # as `kill` does, and as Slurm
@pytest.mark.parametrize("tries", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_sigterm_leaves_nothing_behind_and_the_same_command_goes_on(tmp_path, send, tries):
    images = np.random.RandomState(0).randint(0, 256, (4000, 32, 32, 3)).astype(np.uint8)
    np.save(tmp_path / "images", images)
    for k in range(tries):
        out = str(tmp_path / f"{k}")
        argv = ["array", str(tmp_path / "images.npy"), out, "-c", "impulse_noise", "--severity", "1", "4",
                "--workers", "2"]
        interrupt([*COMMAND, *argv], os.path.join(out, "*", ".*"), random.Random(k).uniform(0, 0.5), send,
                  signal.SIGTERM, "python -m corruptions: stopped by SIGTERM; the same command resumes it")
        journals = {path: json.loads(content) for path, content in contents(out).items() if path.endswith(".json")}
        assert any("done" in journal for journal in journals.values())
        main(argv)
        np.testing.assert_array_equal(np.load(os.path.join(out, "4", "impulse_noise.npy")),
                                      corrupt(images, "impulse_noise", 4))


JOB = "from corruptions.__main__ import main; main(['folder', 'in', 'out', '-c', 'glass_blur', '--workers', '2'])"
READING = """
import time
from dataset.pipeline import reading_processes
processes = reading_processes(2)
processes.submit(abs, 1).result()
open("begun", "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize("script, begun", [(JOB, "out/glass_blur/1/*/.*"), (READING, "begun")])
def test_sigkill_of_the_command_ends_its_processes(tmp_path, script, begun):
    """They would go on for minutes, and a target that is removed would come back."""
    make_images(tmp_path / "in", 40, lambda _: ((300, 300, 3), "png"))
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, start_new_session=True,
                               env={**os.environ, "PYTHONPATH": ROOT})
    wait_until(lambda: glob.glob(str(tmp_path / begun)), process)
    assert len(running_in(process.pid)) >= 3
    process.kill()
    process.wait()
    assert left_in(process.pid) == []


def test_sigterm_ends_prepare_dataset(tmp_path):
    make_cifar(str(tmp_path), per_class=(200, 2))
    command = [sys.executable, os.path.join("dataset", "prepare_dataset.py"), "-d", "cifar10", "-c", "snow", "-o",
               str(tmp_path / "split.csv"), "--data_dir", str(tmp_path), "--num_workers", "2", "--num_severity", "2"]
    interrupt(command, str(tmp_path / "CIFAR-10-C" / "train" / "1" / ".snow*"), 0, os.kill, signal.SIGTERM,
              "prepare_dataset.py: stopped by SIGTERM; the same command resumes it")


def test_sigterm_stops_a_run_that_makes_its_images(tmp_path, monkeypatch):
    make_cifar(str(tmp_path))
    monkeypatch.setattr("corruptions.jobs.arrays.corrupt_range", terminate_self)
    with pytest.raises(Interrupted):
        load_corrupted(str(tmp_path), load_source("cifar10", str(tmp_path)), "contrast", 6)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_waits_for_the_end_of_what_must_be_whole():
    ended = []
    with pytest.raises(Interrupted, match="15"), sigterm_interrupts("again"), block_signals():
        signal.raise_signal(signal.SIGTERM)
        ended.append(True)
    assert ended and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
def test_a_process_takes_little_memory(tmp_path):
    """Less than 300 MB, with two of the corruptions that take most."""
    np.save(tmp_path / "images", np.random.RandomState(0).randint(0, 256, (4, 224, 224, 3)).astype(np.uint8))
    job = psutil.Popen([*COMMAND, "array", "images.npy", "out", "--severity", "5", "--workers", "2", "-c", "zoom_blur",
                        "elastic_transform"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT})
    peaks = {}
    while job.poll() is None:
        with contextlib.suppress(psutil.Error):
            for item in (job, *job.children(recursive=True)):
                peaks[item.pid] = max(peaks.get(item.pid, 0), item.memory_info().rss)
        time.sleep(0.2)
    assert job.returncode == 0 and len(peaks) >= 3 and 50e6 < max(peaks.values()) < 300e6


def test_joblib_works_beside_a_job():
    arguments = [(k,) for k in range(4)]
    assert list(parallel_map(2, abs, arguments)) == joblib.Parallel(2)(joblib.delayed(abs)(*a) for a in arguments)
    assert list(parallel_map(2, abs, arguments)) == list(range(4))


@pytest.mark.parametrize("begun", [False, True])
def test_a_worker_that_was_killed_is_one_line_and_new_workers_follow(begun):
    """Killed between two jobs, or while the caller works on a result: loky then raises its error for new work."""
    arguments = [(k,) for k in range(20)]
    results = parallel_map(2, abs, arguments)
    assert next(results) == 0
    executor = get_executor(2, os.getpid())
    if not begun:
        assert list(results) == list(range(1, 20))
    os.kill(next(iter(executor._processes)), signal.SIGKILL)
    wait_until(lambda: executor._flags.broken is not None)
    with pytest.raises(UserError, match="was killed, perhaps because memory was full"):
        list(results if begun else parallel_map(2, abs, arguments))
    assert list(parallel_map(2, abs, arguments)) == list(range(20))
