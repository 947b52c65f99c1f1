"""Runs that are killed, stopped, or run out of what they need: what they leave goes on, and ends as a run that nobody
has touched.
"""
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

import losses.training.loop
import main
from corruptions.utils.files import TMP_MARK, read_json
from tests.cifar_files import make_cifar
from tests.image_trees import make_classes
from tests.processes import wait_until
from tests.test_main import ROOT, arguments, files, only_run, read_csv
from utils.records.checkpoint import Progress, newest_checkpoint, read_checkpoint
from utils.records.logs import RunFolder, TrainLog
from utils.records.run import RunRecorder

# Everything that has a state: noise, weights over distributions, last losses, sub-batches.
OPTIONS = ["--objective", "group_dro", "--perturbation", "multiplicative", "--group_loss", "last_seen",
           "--num_sub_batches", "2", "--total_epoch", "3", "--log_train", "1", "--checkpoint_every", "2", "--save_last"]


def kept(folder):
    """The things that have to be equal: weights and all else in every checkpoint, results, and the tables."""
    results = read_json(os.path.join(folder, "results.json"))
    checkpoints = {name: {key: value.asnumpy().tobytes() for key, value in
                          read_checkpoint(os.path.join(folder, name)).items()}
                   for name in os.listdir(folder) if name.endswith(".ckpt")}
    tables = files(folder, *(name for name in sorted(os.listdir(folder)) if name.endswith(".csv")))
    return checkpoints, tables, {part: results[part] for part in ("val", "test", "epochs", "train_images")}


def ends_with(argv):
    with pytest.raises(SystemExit) as stop:
        main.main(argv)
    return stop.value.code


def last_line(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning:")][-1]


@pytest.fixture(scope="module")
def whole(cifar_dir, tmp_path_factory):
    """A run that nobody touches."""
    log_dir = tmp_path_factory.mktemp("whole")
    main.main(arguments(cifar_dir, log_dir, *OPTIONS))
    return only_run(log_dir)


def test_the_newest_checkpoints_are_kept(whole):
    names = sorted(name for name in os.listdir(whole) if name.endswith(".ckpt"))
    assert names == ["0_model.ckpt", "1_model.ckpt", "2_model.ckpt", "last_model.ckpt"]  # the first is --save_step's


def start_killed(place, count, argv):
    process = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "killed_main.py"), place, str(count), *argv],
                             capture_output=True, text=True, timeout=300)
    assert process.returncode == -signal.SIGKILL, process.stderr


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_equals_one_that_is_not(whole, tmp_path):
    """The kills come in a .npy file, a row and a checkpoint."""
    make_cifar(str(tmp_path / "data"))  # which has no corrupted images yet
    argv = arguments(str(tmp_path / "data"), tmp_path / "logs", *OPTIONS, "--corrupted_from", "disk")
    start_killed("npy", 3, argv)
    start_killed("row", 6, argv)
    folder = only_run(tmp_path / "logs")
    start_killed("checkpoint", 1, ["--resume", folder])
    main.main(["--resume", folder])
    assert kept(folder) == kept(whole)


@pytest.mark.slow
@pytest.mark.parametrize("place, count", [("checkpoint", 0), ("checkpoint", 3), ("copy", 1), ("row", 0), ("row", 20),
                                          ("results", 0)])
def test_a_kill_at_a_place(place, count, whole, cifar_dir, tmp_path):
    argv = arguments(cifar_dir, tmp_path, *OPTIONS)
    start_killed(place, count, argv)
    main.main(["--resume", only_run(tmp_path)])
    assert kept(only_run(tmp_path)) == kept(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_a_kill_at_a_random_moment(number, whole, cifar_dir, tmp_path):
    argv = arguments(cifar_dir, tmp_path, *OPTIONS)
    process = subprocess.Popen([sys.executable, os.path.join(ROOT, "main.py"), *argv], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    wait_until(lambda: list(tmp_path.glob("*/config.json")), process)
    seconds = read_json(os.path.join(whole, "results.json"))["seconds"]
    time.sleep(random.Random(number).uniform(0, 1.2 * seconds))
    process.kill()
    process.wait()
    main.main(["--resume", only_run(tmp_path)])
    assert kept(only_run(tmp_path)) == kept(whole)


def test_ctrl_c_and_sigterm_end_a_step_and_save(whole, cifar_dir, tmp_path):
    """Real processes, because MindSpore has a handler of its own while a graph runs; and `--resume` alone."""
    argv = arguments(cifar_dir, tmp_path, *OPTIONS)
    for more, number, rows in (([], signal.SIGINT, 1), (["--resume"], signal.SIGTERM, 7)):
        process = subprocess.Popen([sys.executable, os.path.join(ROOT, "main.py"), *argv, *more], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        while process.poll() is None:
            if any(len(read_csv(table)) > rows for table in tmp_path.glob("*/train.csv")):
                os.killpg(process.pid, number)
                break
            time.sleep(0.01)
        _, errors = process.communicate(timeout=120)
        folder = only_run(tmp_path)
        assert process.returncode == 128 + number and errors.splitlines()[-1] == (
            f"main.py: stopped by {number.name}; --resume {folder} resumes it")
    main.main([*argv, "--resume"])
    assert kept(folder) == kept(whole)


def signal_once(monkeypatch, owner, name, number, when=lambda *_: True):
    """Have this process get a signal before a function is called for the first time with what `when` says; not SIGINT,
    which threads that MindSpore has started in other tests would get.
    """
    original, sent = getattr(owner, name), []

    def signalled(*args, **options):
        if when(*args) and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return original(*args, **options)
    monkeypatch.setattr(owner, name, signalled)


@pytest.mark.slow
def test_an_epoch_goes_on_where_it_was_stopped(whole, cifar_dir, tmp_path, monkeypatch, capsys):
    """Stopped within an epoch, then in its evaluation."""
    folder = tmp_path / "run"
    argv = arguments(cifar_dir, tmp_path, *OPTIONS)
    with monkeypatch.context() as patch:
        signal_once(patch, TrainLog, "write_batch", signal.SIGTERM, lambda log, *at: at[:2] == (1, 0))
        assert ends_with(argv) == 143
    folder = only_run(tmp_path)
    out = capsys.readouterr()
    assert out.err.splitlines()[-1] == f"main.py: stopped by SIGTERM; --resume {folder} resumes it"
    assert f"stopped after batch 0 of epoch 1, saved in {folder}/1_1_model.ckpt" in out.out
    progress = {name: Progress.from_path(name) for name in os.listdir(folder) if Progress.from_path(name)}
    assert sorted(progress) == ["0_model.ckpt", "1_1_model.ckpt"]
    with monkeypatch.context() as patch:
        signal_once(patch, losses.training.run, "evaluate", signal.SIGTERM)
        assert ends_with([*argv, "--resume"]) == 143
    assert newest_checkpoint(folder).endswith("1_3_model.ckpt") and "of epoch 1, from " in capsys.readouterr().out
    main.main([*argv, "--resume"])
    assert kept(folder) == kept(whole)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(whole, tmp_path, capsys):
    folder = str(shutil.copytree(whole, tmp_path / "run"))
    for name in ("results.json", "last_model.ckpt"):
        os.remove(os.path.join(folder, name))
    path = os.path.join(folder, "2_model.ckpt")
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 3)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    main.main(["--resume", folder])
    out = capsys.readouterr()
    assert f"warning: {path}: damaged; it is passed over" in out.err and "resumed after epoch 1" in out.out
    assert kept(folder) == kept(whole)


@pytest.mark.slow
def test_a_run_can_be_made_longer(whole, cifar_dir, tmp_path, capsys):
    argv = arguments(cifar_dir, tmp_path, *OPTIONS)
    assert ends_with([*argv, "--resume"]) == 2
    assert last_line(capsys).startswith(f"main.py: error: --resume: no run in {tmp_path} has these settings")
    folder = str(shutil.copytree(whole, tmp_path / "run"))
    main.main([*argv, "--resume"])
    assert "all epochs are done" in capsys.readouterr().out
    assert ends_with(["--resume", folder, "--total_epoch", "1"]) == 2 and "give more" in last_line(capsys)
    assert ends_with([*argv, "--lr", "0.2", "--resume"]) == 2
    main.main([*argv, "--total_epoch", "4", "--resume"])
    out = capsys.readouterr().out
    assert "4 epochs in place of 3" in out and "resumed after epoch 2" in out
    assert [row["epoch"] for row in read_csv(os.path.join(folder, "test_clean.csv"))] == ["0", "1", "2", "3"]
    assert read_json(os.path.join(folder, "results.json"))["epochs"] == 4
    os.remove(os.path.join(folder, "results.json"))
    main.main(["--resume", folder])  # has 4 epochs of its own now
    assert read_json(os.path.join(folder, "results.json"))["epochs"] == 4


def test_two_runs_in_one_folder(whole, capsys):
    with RunFolder(whole):
        assert ends_with(["--resume", whole]) == 2
    assert f"process {os.getpid()}" in last_line(capsys)


def after_epoch(monkeypatch, epoch, act):
    """Have something happen when the records of an epoch are written."""
    original = RunRecorder.end_epoch

    def ended(records, number, *args):
        original(records, number, *args)
        if number == epoch:
            act(records)
    monkeypatch.setattr(RunRecorder, "end_epoch", ended)


@pytest.mark.parametrize("name, size", [
    pytest.param("1_2_model.ckpt", 100_000, marks=pytest.mark.slow), pytest.param("train.csv", None,
                                                                                  marks=pytest.mark.slow)])
def test_a_full_disk_ends_a_run_that_can_go_on(name, size, whole, cifar_dir, tmp_path, monkeypatch, capsys):
    """A limit on the size of files makes writing fail in the same way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(records):
        full = size or os.path.getsize(records.folder.file(name))
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, before[1]))
    try:
        with monkeypatch.context() as patch:
            after_epoch(patch, 0, limit)
            assert ends_with(arguments(cifar_dir, tmp_path, *OPTIONS)) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    folder = only_run(tmp_path)
    [line] = capsys.readouterr().err.splitlines()
    assert line == (f"main.py: error: {folder}/{name}: File too large; the run has stopped, its checkpoints are "
                    f"intact: when this is mended, --resume {folder} resumes it")
    assert not [name for name in os.listdir(folder) if TMP_MARK in name]
    main.main(["--resume", folder])
    assert kept(folder) == kept(whole)


@pytest.mark.slow
def test_a_folder_that_vanishes_ends_a_run(cifar_dir, tmp_path, monkeypatch, capsys):
    after_epoch(monkeypatch, 0, lambda records: shutil.move(records.folder.path, tmp_path / "elsewhere"))
    assert ends_with(arguments(cifar_dir, tmp_path / "logs", *OPTIONS)) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "No such file or directory; the run has stopped" in line
    assert os.path.basename(newest_checkpoint(str(tmp_path / "elsewhere"))) == "last_model.ckpt"


def test_images_that_vanish_end_a_run(tmp_path, monkeypatch, capsys):
    make_classes(str(tmp_path / "images"), 60, (32, 32))
    after_epoch(monkeypatch, 0, lambda _: shutil.move(tmp_path / "images", tmp_path / "elsewhere"))
    assert ends_with(arguments(str(tmp_path / "images"), tmp_path / "logs", "-d", "folder", "--image_size", "32", "-n",
                               "30", "--method", "erm")) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "not a readable image (No such file or directory)" in line and "the run has stopped" in line
    assert newest_checkpoint(only_run(tmp_path / "logs")).endswith("0_model.ckpt")


@pytest.mark.slow
def test_memory_and_open_files_do_not_grow(cifar_dir, tmp_path):
    """A run of 2000 steps, with an evaluation and checkpoints at every hundredth epoch of five."""
    argv = arguments(cifar_dir, tmp_path, "--method", "sharpdro", "--total_epoch", "700", "--eval_every", "50",
                     "--log_train", "1", "--checkpoint_every", "2", "--num_workers", "2")
    process = subprocess.Popen([sys.executable, os.path.join(ROOT, "main.py"), *argv], stdout=subprocess.DEVNULL)

    def after(steps):
        wait_until(lambda: any(len(read_csv(table)) >= steps for table in tmp_path.glob("*/train.csv")), process,
                   seconds=3600)
        with open(f"/proc/{process.pid}/status") as file:
            memory = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        return memory, len(os.listdir(f"/proc/{process.pid}/fd"))
    try:
        (memory, files_open), (later, files_later) = after(200), after(2000)
    finally:
        process.kill()
        process.wait()
    print(f"{memory} KiB and {files_open} open files after 200 steps, {later} and {files_later} after 2000")
    assert later < 1.05 * memory and abs(files_later - files_open) <= 2  # a checkpoint may be open just then
