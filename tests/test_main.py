"""The main job from the command line: what it writes, and what it says to bad input."""
import csv
import errno
import json
import math
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import mindspore as ms
import mindspore.ops as ops
import numpy as np
import pytest

import losses.training.loop
import losses.training.run
import main
from corruptions.utils.errors import UserError
from corruptions.utils.files import write_json
from dataset import SOURCES
from dataset.corrupted import load_corrupted
from dataset.data import ExperimentData
from dataset.poisson import Split
from dataset.splits import write_split
from dataset.stored import corrupted_path
from losses import create_step
from losses.config.resolve import resolve
from losses.schedules import SCHEDULES, Schedule, create_schedule
from losses.training.data_strategy import apply_data_strategy
from losses.training.loop import require_finite_losses
from losses.training.validation_weights import ValidationReweighter
from models import create_model
from tests import crosscheck
from tests.cifar_files import make_cifar
from utils.errors import NotFiniteError
from utils.metrics import SeverityResult
from utils.records.checkpoint import Checkpoints, Progress, newest_checkpoint
from utils.records.cost import peak_memory
from utils.records.logs import RunFolder, TrainLog
from utils.records.reading import read_record
from utils.records.run import RunRecorder
from utils.records.settings import path_independent, resumed_settings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def arguments(cifar_dir, log_dir, *more):
    return ["-m", "wideresnet10", "--total_epoch", "2", "-b", "40", "--data_dir", cifar_dir, "--log_dir", str(log_dir),
            "--num_workers", "1", "--eval_batch_size", "80", *more]  # as many images as there are; less to compute


def only_run(log_dir):
    [name] = os.listdir(log_dir)
    return os.path.join(log_dir, name)


def read_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(cifar_dir, tmp_path_factory):
    """A run as a user starts it; its process and its folder."""
    log_dir = str(tmp_path_factory.mktemp("logs"))
    command = [sys.executable, os.path.join(ROOT, "main.py"),
               *arguments(cifar_dir, log_dir, "--save_last", "--save_best", "--log_train", "2", "--show_progress")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process, only_run(log_dir)


def test_run_ends_with_a_table(run):
    process, folder = run
    lines = process.stdout.splitlines()
    start = lines.index("severity  training images  test accuracy")
    rows = [line.split() for line in lines[start + 1:start + 7]]
    with open(os.path.join(folder, "results.json")) as file:
        results = json.load(file)
    assert [row[:2] for row in rows] == [[str(s), str(n)] for s, n in enumerate(results["train_images"])]
    assert [float(row[2]) for row in rows] == [round(100 * a, 2) for a in results["test"]["accuracy"]]
    assert results["test"]["images"] == [50] * 6


@pytest.mark.slow
def test_the_best_checkpoint_by_the_worst_severity(cifar_dir, tmp_path, monkeypatch):
    """The epochs have made-up validation accuracies; a resumed run knows the best of the epochs before."""
    accuracies = [[0.9, 0.2], [0.5, 0.5], [0.99, 0.4], [0.6, 0.55], [0.9, 0.1]]
    log_dir, epochs, evaluate = str(tmp_path / "logs"), iter(accuracies), losses.training.run.evaluate

    def made_up(*args, **more):
        results = evaluate(*args, **more)
        values = next(epochs) if args[2] == "val" else [0.5, 0.5]
        return [result._replace(accuracy=value) for result, value in zip(results, values, strict=True)]
    monkeypatch.setattr(losses.training.run, "evaluate", made_up)
    options = ["--method", "erm", "--save_best", "--best_by", "worst", "--save_step", "1", "--num_severity", "2"]
    main.main(arguments(cifar_dir, log_dir, *options, "--total_epoch", "3"))
    folder = only_run(log_dir)

    def best():
        with open(f"{folder}/best_model.ckpt", "rb") as file:
            content = file.read()
        return [epoch for epoch in range(5) if os.path.exists(f"{folder}/{epoch}_model.ckpt")
                and open(f"{folder}/{epoch}_model.ckpt", "rb").read() == content]
    assert best() == [1]
    main.main(["--resume", folder, "--total_epoch", "5"])
    assert best() == [3]


def test_run_shows_progress_and_no_warnings_of_mindspore(run):
    process, _ = run
    assert "steps/s" in process.stderr or "s/ steps" in process.stderr
    assert "loss=" in process.stderr and "gaussian_noise" in process.stderr
    assert "WARNING" not in process.stderr


def test_run_writes_its_records(run):
    _, folder = run
    assert os.path.basename(folder).startswith("none_dsetcifar10_sever6_corrgaussian_noise_sharpdro")
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    assert config["rho"] == 0.05 and config["device"] == "CPU" and config["dataset"] == "cifar10"
    rows = read_csv(os.path.join(folder, "train.csv"))
    assert [(row["epoch"], row["batch"]) for row in rows] == [("0", "0"), ("0", "2"), ("1", "0"), ("1", "2")]
    for row in rows:
        counts = [int(row[f"processed_distribution_counts_{s}"]) for s in range(6)]
        assert sum(counts) == 40
        losses = [float(row[f"distribution_loss_{s}"]) for s in range(6)]
        assert float(row["avg_loss"]) == pytest.approx(np.dot(counts, losses) / 40, rel=1e-5)
        hits = np.multiply(counts, [float(row[f"distribution_acc_{s}"]) for s in range(6)])
        np.testing.assert_allclose(hits, hits.round(), atol=1e-4)
        assert float(row["avg_acc"]) == pytest.approx(hits.sum() / 40, rel=1e-5)
        assert sum(float(row[f"adv_prob_{s}"]) for s in range(6)) == pytest.approx(1, rel=1e-5)
        assert float(row["reg_loss"]) == pytest.approx(2.5e-4 * float(row["model_norm_sq"]))
    with open(os.path.join(folder, "results.json")) as file:
        results = json.load(file)
    for name, part, s in (("val_clean", "val", 0), ("test_robust_3", "test", 3)):
        last = read_csv(os.path.join(folder, f"{name}.csv"))[-1]
        row = {column: float(value or "nan") for column, value in last.items()}
        assert row["avg_loss"] == row["distribution_loss_0"] == pytest.approx(results[part]["loss"][s])
        assert row["avg_acc"] == row["distribution_acc_0"] == pytest.approx(results[part]["accuracy"][s])
    for name in ("val_clean", "val_robust_5", "test_clean", "test_robust_1"):
        assert [row["epoch"] for row in read_csv(os.path.join(folder, f"{name}.csv"))] == ["0", "1"]
    with open(os.path.join(folder, "accuracy_by_severity.png"), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert len(read_csv(os.path.join(folder, "split.csv"))) == 200
    for name in ("0_model.ckpt", "last_model.ckpt", "best_model.ckpt"):
        assert "init_conv.weight" in ms.load_checkpoint(os.path.join(folder, name))


def checkpoint_bytes(folder):
    stored = ms.load_checkpoint(os.path.join(folder, "last_model.ckpt"))
    return {name: parameter.asnumpy().tobytes() for name, parameter in stored.items()}


def test_same_seed_same_weights_for_any_number_of_workers(run, cifar_dir, tmp_path):
    main.main(arguments(cifar_dir, tmp_path / "logs", "--save_last", "--num_workers", "2", "--eval_every", "2"))
    again = checkpoint_bytes(only_run(tmp_path / "logs"))
    assert again == checkpoint_bytes(run[1])


@pytest.mark.slow
def test_erm_reuses_a_split_and_a_second_run_gets_its_own_folder(run, cifar_dir, tmp_path):
    more = ["--method", "erm", "--total_epoch", "1", "--split", os.path.join(run[1], "split.csv"), "--augment_data"]
    for _ in range(2):
        main.main(arguments(cifar_dir, tmp_path, *more))
    first, second = sorted(os.listdir(tmp_path))
    assert second == first + "_2"
    for name in (first, second):
        assert read_csv(tmp_path / name / "split.csv") == read_csv(os.path.join(run[1], "split.csv"))
        assert (tmp_path / name / "results.json").exists()
        with open(tmp_path / name / "config.json") as file:
            assert json.load(file)["crop"] == "reflect_pad"
    assert read_csv(tmp_path / first / "train.csv")[0]["adv_prob_0"] == ""


def files(folder, *names):
    contents = {}
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            contents[name] = file.read()
    return contents


def stop_at(monkeypatch, method, stop_epoch):
    """Have the next run stop as by a kill in the middle of an epoch of the training with `method`."""
    train_epoch, train = losses.training.loop.train_epoch, losses.training.run.train
    methods = []

    def noted(settings, *args, **treated):
        methods.append(settings.method.method)
        train(settings, *args, **treated)
        methods.pop()

    def killed(step, loader, batches, start, *args, **options):
        if start.epochs == stop_epoch and methods[-1] == method:
            train_epoch(step, loader, batches - 1, start, *args, **options)
            raise KeyboardInterrupt
        return train_epoch(step, loader, batches, start, *args, **options)
    monkeypatch.setattr(losses.training.run, "train", noted)
    monkeypatch.setattr(losses.training.loop, "train_epoch", killed)


RECORDS = ("train.csv", "val_clean.csv", "val_robust_3.csv", "test_clean.csv", "split.csv")


@pytest.mark.slow
def test_a_resumed_run_equals_one_that_was_not_stopped(cifar_dir, tmp_path, monkeypatch):
    """The run has all that has a state: noise, weights over distributions, last losses, sub-batches, sampling."""
    options = ["--objective", "group_dro", "--perturbation", "multiplicative", "--sampling", "balanced", "--group_loss",
               "last_seen", "--num_sub_batches", "2", "--nesterov", "--save_last", "--save_best", "--total_epoch", "4",
               "--log_train", "1"]
    main.main(arguments(cifar_dir, tmp_path / "whole", *options))
    with monkeypatch.context() as patch:
        stop_at(patch, "sharpdro", 2)
        with pytest.raises(SystemExit) as stop:
            main.main(arguments(cifar_dir, tmp_path / "cut", *options))
    assert stop.value.code == 130
    whole, cut = only_run(tmp_path / "whole"), only_run(tmp_path / "cut")
    assert "group_dro-multiplicative" in cut and not os.path.exists(os.path.join(cut, "results.json"))
    main.main(["--resume", cut, "--num_workers", "2"])
    assert checkpoint_bytes(cut) == checkpoint_bytes(whole)
    assert files(cut, *RECORDS) == files(whole, *RECORDS)
    assert os.path.exists(os.path.join(cut, "results.json")) and os.listdir(tmp_path / "cut") == [os.path.basename(cut)]
    row = read_csv(os.path.join(cut, "train.csv"))[0]
    assert sum(int(row[f"processed_distribution_counts_{s}"]) for s in range(6)) == 40
    assert int(row["processed_distribution_counts_2"]) > 5  # 20 of 120 images, but a third of a balanced batch
    stored = ms.load_checkpoint(os.path.join(cut, "last_model.ckpt"))
    assert any(name.endswith("last_losses") for name in stored) and not any("saved" in name for name in stored)


@pytest.mark.slow
def test_training_on_clean_images_as_the_damp_paper_is_resumed(cifar_dir, tmp_path, monkeypatch, capsys):
    """Nine tenths of 200 images in batches of 40: four an epoch, which no image has part in twice."""
    options = ["--method", "corrupt_aug", "--save_last", "--log_train", "1"]
    main.main(arguments(cifar_dir, tmp_path / "whole", *options))
    captured = capsys.readouterr()
    assert "no training image has" not in captured.out and "reduce to the mean" not in captured.out
    with monkeypatch.context() as patch:
        stop_at(patch, "corrupt_aug", 1)
        with pytest.raises(SystemExit):
            main.main(arguments(cifar_dir, tmp_path / "cut", *options))
    whole, cut = only_run(tmp_path / "whole"), only_run(tmp_path / "cut")
    main.main(["--resume", cut, "--num_workers", "2", "--method", "corrupt_aug"])
    assert checkpoint_bytes(cut) == checkpoint_bytes(whole) and files(cut, *RECORDS) == files(whole, *RECORDS)
    with open(os.path.join(whole, "results.json")) as file:
        results = json.load(file)
    assert results["train_images"] == [180, 0, 0, 0, 0, 0]
    assert results["val"]["images"] == [20] * 6 and results["test"]["images"] == [50] * 6
    with open(os.path.join(whole, "config.json")) as file:
        config = json.load(file)
    assert (config["train_on"], config["sampler"], config["crop"]) == ("clean", "permutation", "zero_pad")
    rows = read_csv(os.path.join(whole, "train.csv"))
    assert [row["processed_distribution_counts_0"] for row in rows] == ["40"] * 8


@pytest.mark.slow
def test_a_group_objective_on_clean_images_says_that_it_is_the_mean(run, cifar_dir, tmp_path, capsys):
    """Here as a table has them, which the settings then tell."""
    labels = SOURCES["cifar10"](cifar_dir).labels["train"]
    write_split(str(tmp_path / "clean.csv"), Split([np.arange(120)] + [np.arange(0)] * 5, np.arange(150, 200)), labels)
    main.main(arguments(cifar_dir, tmp_path / "logs", "--split", str(tmp_path / "clean.csv"), "--total_epoch", "1",
                        "--log_train", "1"))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "reduce to the mean" in line] == [
        "only severity 0 has training images: sharpdro has no distributions to tell apart, and its averages over them "
        "reduce to the mean over the batch"]
    assert "reduce to the mean" not in run[0].stdout and not [line for line in lines if "no training image" in line]
    folder = only_run(tmp_path / "logs")
    for row in read_csv(os.path.join(folder, "train.csv")):
        assert [row[f"adv_prob_{s}"] for s in range(6)] == ["1.0"] + ["0.0"] * 5
    with open(os.path.join(folder, "config.json")) as file:
        assert json.load(file)["train_on"] == "clean"
    with open(os.path.join(folder, "log.txt")) as file:
        log = file.read()
    assert "--train_on clean" in log and "--train_on poisson" not in log


LATER_OPTIONS = {"crop_area": [0.1, 1], "rand_augment": [2, 5], "mixup": 0.8, "label_smoothing": 0.1, "accumulate": 2,
                 "amp": True}


def make_old(folder, **settings):
    """Take from a run's settings what there was not before, and leave its first epoch alone."""
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    for option in ("train_on", "sampler", "crop", "num_val", "val_fraction", "optimizer", "clip_norm",
                   "weight_decay_on", "warmup", "final_lr", *LATER_OPTIONS):
        del config[option]
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({**config, "val_per_class": None, **settings}, file)


def test_a_run_from_before_there_was_a_choice_of_images_goes_on_as_it_began(run, tmp_path):
    folder = shutil.copytree(run[1], tmp_path / "run")
    make_old(folder)
    for name in ("results.json", "last_model.ckpt", "best_model.ckpt"):  # epoch 0 has left 0_model.ckpt
        os.remove(folder / name)
    main.main(["--resume", str(folder)])
    assert checkpoint_bytes(folder) == checkpoint_bytes(run[1]) and files(folder, *RECORDS) == files(run[1], *RECORDS)


@pytest.mark.parametrize("augmented, crop", [(False, "none"), (True, "reflect_pad")])
def test_options_that_came_later_are_what_runs_did_before(run, tmp_path, augmented, crop):
    folder = str(shutil.copytree(run[1], tmp_path / "run"))
    make_old(folder, augment_data=augmented, num_per_class=12)
    rest = {"train_on": "clean", "sampler": "permutation", "crop": "zero_pad", "val_fraction": 0.3, "num_val": 3,
            "optimizer": "adamw", "clip_norm": 1.0, "weight_decay_on": "kernels", "warmup": "1epoch", "final_lr": 0.1,
            "sync_bn": True, **LATER_OPTIONS}
    settings = resumed_settings(folder, rest, {"crop": crop})
    assert [settings[option] for option in rest] == ["poisson", "replacement", crop, None, None,
                                                     "sgd", 0.0, "all", None, None, False,
                                                     *[None] * len(LATER_OPTIONS)]
    with pytest.raises(UserError, match=f"--crop: the run in .* has {crop}"):
        resumed_settings(folder, rest, {"crop": "zero_pad"})


def test_folders_that_results_depend_on_may_be_moved(run, tmp_path):
    folder = str(shutil.copytree(run[1], tmp_path / "run"))
    make_old(folder, test_corrupted="/old/CIFAR-10-C")
    moved = {"test_corrupted": "/new/CIFAR-10-C"}
    assert resumed_settings(folder, {}, moved)["test_corrupted"] == "/new/CIFAR-10-C"
    for second in ({"test_corrupted": "/new/CIFAR-10-C-bar"}, {"filelist_dir": "/new/lists"}):
        with pytest.raises(UserError, match="leave the option out"):
            resumed_settings(folder, {}, second)
    # A comparison knows its runs by the folders' names, too.
    assert path_independent({**moved, "data_dir": "/data"}) == path_independent({"test_corrupted": "/old/CIFAR-10-C"})


@pytest.mark.slow
def test_a_run_that_validation_images_guide_is_resumed(cifar_dir, tmp_path, monkeypatch):
    """It moves q after every second batch; what it evaluates on is the third that is left of 80 validation images.

    Here with an optimiser that has a state of its own, and a learning rate that is another in every step.
    """
    options = ["--group_loss", "validation", "--group_update_every", "2", "--group_adjustment", "0.5", "--save_last",
               "--log_train", "1", "--optimizer", "adamw", "--clip_norm", "1", "--schedule", "cosine", "--warmup",
               "4steps", "--final_lr", "1e-5"]
    main.main(arguments(cifar_dir, tmp_path / "whole", *options))
    with monkeypatch.context() as patch:
        stop_at(patch, "sharpdro", 1)
        with pytest.raises(SystemExit):
            main.main(arguments(cifar_dir, tmp_path / "cut", *options))
    whole, cut = only_run(tmp_path / "whole"), only_run(tmp_path / "cut")
    main.main(["--resume", cut, "--num_workers", "2"])
    assert checkpoint_bytes(cut) == checkpoint_bytes(whole) and files(cut, *RECORDS) == files(whole, *RECORDS)
    q = [row["adv_prob_2"] for row in read_csv(os.path.join(whole, "train.csv"))]
    assert q[0] == q[1] and q[2] == q[3] and q[4] == q[5] and len(set(q)) == 3
    assert read_csv(os.path.join(whole, "val_clean.csv"))[0]["processed_distribution_counts_0"] == "26"
    rate = create_schedule("cosine", 0.001, 2, 3, warmup="4steps", final_lr=1e-5)
    for folder in (whole, cut):  # the log tells the rate of an epoch's last step
        with open(os.path.join(folder, "log.txt")) as file:
            lines = [line for line in file.read().splitlines() if line.startswith("epoch ")]
        assert [line.split()[:4] for line in lines] == [
            ["epoch", str(epoch), "lr", f"{rate(epoch, 2):.4g}"] for epoch in range(2)]
    stored = ms.load_checkpoint(os.path.join(whole, "last_model.ckpt"))
    np.testing.assert_allclose(stored["learning_rate"].asnumpy(), rate(1, 2), rtol=1e-6)
    assert stored["global_step"].asnumpy() == 6 and np.any(stored["moment2.init_conv.weight"].asnumpy())
    row = read_csv(os.path.join(whole, "train.csv"))[0]
    assert 0 < float(row["reg_loss"]) < 0.05 * float(row["model_norm_sq"])  # of the kernels alone


def test_resuming_a_finished_run_reports_again(run, cifar_dir, tmp_path):
    folder = shutil.copytree(run[1], tmp_path / "run")
    os.remove(folder / "results.json")
    main.main(["--resume", str(folder), "-m", "wideresnet10", "--save_last"])
    with open(folder / "results.json") as file, open(os.path.join(run[1], "results.json")) as original:
        assert json.load(file)["test"] == json.load(original)["test"]
    assert files(folder, *RECORDS) == files(run[1], *RECORDS)


@pytest.mark.parametrize("options, culprit", [
    (["--resume", "nowhere"], "--resume nowhere"),
    (["--resume", "RUN", "--lr", "0.3"], "--lr: the run in"),
    (["--resume", "RUN", "-c", "fog"], "--corruption: the run in"),
])
def test_bad_resume_is_one_line(run, tmp_path, capsys, options, culprit):
    folder = str(shutil.copytree(run[1], tmp_path / "run"))
    with pytest.raises(SystemExit) as stop:
        main.main([folder if option == "RUN" else option for option in options])
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning:")]
    assert stop.value.code == 2 and len(errors) == 1 and culprit in errors[0]


def epochs_of(folder):
    return {name: int(ms.load_checkpoint(os.path.join(folder, name))["epochs"].asnumpy())
            for name in sorted(os.listdir(folder)) if name.endswith(".ckpt")}


@pytest.mark.slow
def test_a_kill_between_two_checkpoints_of_an_epoch(cifar_dir, tmp_path, monkeypatch):
    """The last epoch of stage one, and the second of the run: what is missing then is made when the run goes on."""
    options = ["--method", "jtt", "--stage_one_epochs", "1", "--save_last", "--save_best", "--save_step", "1"]
    main.main(arguments(cifar_dir, tmp_path / "whole", *options))
    whole = only_run(tmp_path / "whole")

    def killed(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr("utils.records.checkpoint.Checkpoints.finish_and_prune", killed)
        with pytest.raises(SystemExit):
            main.main(arguments(cifar_dir, tmp_path / "cut", *options))
    cut = only_run(tmp_path / "cut")
    assert list(epochs_of(os.path.join(cut, "stage_one"))) == ["0_model.ckpt"]
    with monkeypatch.context() as patch:
        stop_at(patch, "jtt", 1)
        with pytest.raises(SystemExit):
            main.main(["--resume", cut])
    os.remove(os.path.join(cut, "best_model.ckpt"))  # as if the kill had come before it
    os.remove(os.path.join(cut, "0_model.ckpt"))
    main.main(["--resume", cut])
    for name in ("", "stage_one"):
        assert epochs_of(os.path.join(cut, name)) == epochs_of(os.path.join(whole, name))
    assert set(epochs_of(cut)) == {"0_model.ckpt", "1_model.ckpt", "best_model.ckpt", "last_model.ckpt"}
    assert checkpoint_bytes(cut) == checkpoint_bytes(whole)
    assert files(cut, *RECORDS) == files(whole, *RECORDS)


def flip_a_bit(path):
    with open(path, "r+b") as file:
        file.seek(50000)
        byte = file.read(1)[0]
        file.seek(50000)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("damage", [
    pytest.param(lambda path: os.truncate(path, 0), marks=pytest.mark.slow), flip_a_bit], ids=["empty", "a bit"])
def test_a_damaged_checkpoint_is_passed_over(run, tmp_path, capsys, damage):
    folder = shutil.copytree(run[1], tmp_path / "run")
    last = str(folder / "last_model.ckpt")
    for name in [name for name, epochs in epochs_of(folder).items() if epochs == 2 and name != "last_model.ckpt"]:
        os.remove(folder / name)
    before = files(folder, *RECORDS)
    os.chmod(last, 0o644)
    damage(last)
    os.remove(folder / "results.json")
    main.main(["--resume", str(folder)])
    captured = capsys.readouterr()
    assert [line for line in captured.err.splitlines() if "damaged" in line] == [
        f"warning: {last}: damaged; it is passed over"]
    assert "resumed after epoch 0" in captured.out
    assert checkpoint_bytes(folder) == checkpoint_bytes(run[1]) and files(folder, *RECORDS) == before


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(run, tmp_path, capsys):
    folder = shutil.copytree(run[1], tmp_path / "run")
    os.remove(folder / "results.json")
    for name in epochs_of(folder):
        os.chmod(folder / name, 0o644)
        os.truncate(folder / name, 0)
    before = files(folder, *RECORDS)
    with pytest.raises(SystemExit) as stop:
        main.main(["--resume", str(folder)])
    assert stop.value.code == 2 and "all its checkpoints are damaged; put one back" in capsys.readouterr().err
    assert files(folder, *RECORDS) == before


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_a_checkpoint_that_cannot_be_read_now_is_not_damaged(run, monkeypatch, error):
    def load(*_, **__):
        try:
            raise error
        except (OSError, MemoryError) as cause:
            raise ValueError("as MindSpore does") from cause
    monkeypatch.setattr("mindspore.load_checkpoint", load)
    with pytest.raises(type(error)):
        newest_checkpoint(run[1])


def test_checkpoints_within_an_epoch_take_no_place_of_others(tmp_path):
    checkpoints = Checkpoints(str(tmp_path), keep_last=2, save_step=100)
    kept = []
    for progress in (Progress(1), Progress(2), Progress(3), Progress(3, 10), Progress(3, 20), Progress(3, 30),
                     Progress(4)):
        (tmp_path / progress.name).touch()
        checkpoints.finish_and_prune(str(tmp_path / progress.name), progress)
        kept.append(sorted(os.listdir(tmp_path)))
    assert kept[-2:] == [["0_model.ckpt", "2_model.ckpt", "3_20_model.ckpt", "3_30_model.ckpt"],
                         ["0_model.ckpt", "2_model.ckpt", "3_model.ckpt"]]


def test_damaged_records_are_begun_anew_with_a_warning(run, tmp_path, capsys):
    folder = shutil.copytree(run[1], tmp_path / "run")
    (folder / "results.json").write_text("")  # as an interrupted copy may leave it
    (folder / "val_robust_3.csv").unlink()
    (folder / "train.csv").write_text("epo")
    main.main(["--resume", str(folder)])
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2 and all("missing or damaged" in line for line in warnings)
    with open(folder / "results.json") as file, open(os.path.join(run[1], "results.json")) as original:
        assert json.load(file)["test"] == json.load(original)["test"]


def test_a_run_that_another_process_has_open_is_left_alone(run, tmp_path, capsys):
    folder = str(shutil.copytree(run[1], tmp_path / "run"))
    os.remove(os.path.join(folder, "results.json"))
    before = files(folder, *RECORDS, "log.txt")
    with RunFolder(folder), pytest.raises(SystemExit) as stop:
        main.main(["--resume", folder])
    assert stop.value.code == 2 and f"{folder}: process {os.getpid()} on" in capsys.readouterr().err
    assert files(folder, *RECORDS, "log.txt") == before and not os.path.exists(os.path.join(folder, ".lock"))


def test_resuming_a_finished_run_leaves_its_results(run, tmp_path, capsys):
    folder = shutil.copytree(run[1], tmp_path / "run")
    before = files(folder, *RECORDS, "results.json", "config.json")
    main.main(["--resume", str(folder)])
    assert "all epochs are done" in capsys.readouterr().out
    assert files(folder, *RECORDS, "results.json", "config.json") == before


@pytest.mark.slow
def test_a_run_is_resumed_with_its_own_command_line_and_from_another_folder(run, cifar_dir, tmp_path, monkeypatch,
                                                                            capsys):
    """Also where options were rewritten (adaptive ascent) or name a file relative to the first folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(os.path.join(run[1], "last_model.ckpt"), "first.ckpt")
    argv = arguments(os.path.relpath(cifar_dir), "logs", "--method", "jtt", "--stage_one", "first.ckpt",
                     "--perturbation", "l2", "--is_adaptive", "-n", "18", "--save_last", "--checkpoint_every", "9")
    with monkeypatch.context() as patch:
        stop_at(patch, "jtt", 1)
        with pytest.raises(SystemExit):
            main.main(argv)
    cut = os.path.abspath(only_run("logs"))
    shutil.move("first.ckpt", "kept.ckpt")
    shutil.copy(os.path.join(run[1], "0_model.ckpt"), "first.ckpt")
    with pytest.raises(SystemExit):
        main.main(["--resume", cut])
    assert f"--stage_one {os.path.abspath('first.ckpt')}: has changed since this run began" in (
        capsys.readouterr().err)
    os.replace("kept.ckpt", "first.ckpt")
    with monkeypatch.context() as patch:
        stop_at(patch, "jtt", 1)
        with pytest.raises(SystemExit) as stop:
            main.main(["--resume", cut, *argv])
    assert stop.value.code == 130  # it went on
    log = files(cut, "log.txt")["log.txt"].decode()
    assert "an epoch has 4 batches, so that --checkpoint_every 9 adds no checkpoint" in log
    os.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    main.main(["--resume", cut])
    with open(os.path.join(cut, "results.json")) as file:
        results = json.load(file)
    with open(os.path.join(cut, "cost.json")) as file:
        cost = json.load(file)
    assert sum(results["train_images"]) == 160 and 0 < cost["seconds"] <= results["seconds"]


@pytest.mark.slow
def test_weights_over_environments_and_gradient_norms_have_columns_of_their_own(run, cifar_dir, tmp_path):
    first = os.path.join(run[1], "last_model.ckpt")
    main.main(arguments(cifar_dir, tmp_path, "--method", "eiil", "--objective", "group_dro", "--stage_one", first,
                        "--record_norm", "--total_epoch", "1", "--log_train", "1"))
    folder = only_run(tmp_path)
    for row in read_csv(os.path.join(folder, "train.csv")):
        assert "adv_prob_0" not in row
        assert sum(float(row[f"adv_prob_environment_{e}"]) for e in range(2)) == pytest.approx(1)
        for s in range(6):
            assert (row[f"gradnorm_{s}"] != "") == (row[f"processed_distribution_counts_{s}"] != "0")
            assert row[f"gradnorm_{s}"] == "" or float(row[f"gradnorm_{s}"]) > 0
    source, split = SOURCES["cifar10"](cifar_dir), read_csv(os.path.join(folder, "split.csv"))
    network = create_model("wideresnet10", 10)
    ms.load_param_into_net(network, ms.load_checkpoint(os.path.join(folder, "0_model.ckpt")))
    network.set_train(False)
    chosen = [int(row["index"]) for row in split if row["severity"] == "validation"]
    images = source.images["train"][chosen] / 255
    images = ms.Tensor(((images - source.mean) / source.std).transpose(0, 3, 1, 2).astype(np.float32))
    labels = ms.Tensor(source.labels["train"][chosen])

    def mean_loss(images):
        return ops.cross_entropy(network(images), labels)
    gradients = ms.grad(mean_loss, None, network.trainable_params())(images)
    norm = np.sqrt(sum(np.square(gradient.asnumpy(), dtype=float).sum() for gradient in gradients))
    assert float(read_csv(os.path.join(folder, "val_clean.csv"))[0]["gradnorm_0"]) == pytest.approx(norm, rel=1e-4)


def check_found(folder, name, column, test):
    rows = read_csv(os.path.join(folder, f"{name}.csv"))
    assert len(rows) == 120 and {row["severity"] for row in rows} == {"0", "1", "2"}
    for row in rows:
        assert test(row) == bool(int(row[column]))
    for row in read_csv(os.path.join(folder, f"{name}_by_severity.csv")):
        ours = [int(second[column]) for second in rows if second["severity"] == row["severity"]]
        assert int(row["images"]) == len(ours) and int(row[column]) == sum(ours)


def test_stage_one_has_synchronised_statistics_where_the_run_has(cifar_dir, tmp_path, monkeypatch):
    """Several workers have the statistics of the whole batch, too."""
    trained = []

    def stopped(settings, *_, **__):
        trained.append(settings.method)
        raise KeyboardInterrupt
    monkeypatch.setattr(losses.training.run, "train", stopped)
    with pytest.raises(SystemExit):
        main.main(arguments(cifar_dir, tmp_path, "--method", "jtt", "--perturbation", "l2", "--num_sub_batches", "2",
                            "--sync_bn"))
    assert [(method.method, method.sync_bn, method.num_sub_batches) for method in trained] == [("erm", True, 1)]


@pytest.mark.slow
def test_eiil_stopped_after_stage_one_does_not_train_it_again(cifar_dir, tmp_path, monkeypatch):
    options = ["--method", "eiil", "--save_last", "--total_epoch", "2", "--stage_one_epochs", "2", "--irm_lambda", "10",
               "--irm_anneal", "1"]
    main.main(arguments(cifar_dir, tmp_path / "whole", *options))
    whole = only_run(tmp_path / "whole")
    check_found(whole, "environments", "environment_1", lambda row: float(row["probability"]) > 0.5)
    with monkeypatch.context() as patch:
        stop_at(patch, "eiil", 0)
        with pytest.raises(SystemExit):
            main.main(arguments(cifar_dir, tmp_path / "cut", *options))
    cut = only_run(tmp_path / "cut")
    flip_a_bit(os.path.join(cut, "stage_one", "last_model.ckpt"))  # a copy of 1_model.ckpt
    with monkeypatch.context() as patch:
        stop_at(patch, "erm", 0)
        main.main(["--resume", cut])
    assert checkpoint_bytes(cut) == checkpoint_bytes(whole)
    assert files(cut, *RECORDS, "environments.csv") == files(whole, *RECORDS, "environments.csv")
    assert "erm" not in os.path.basename(cut) and "eiil" in os.path.basename(cut)
    assert os.path.exists(os.path.join(cut, "stage_one", "results.json"))


def test_jtt_takes_a_first_model_and_draws_its_errors_more_often(run, cifar_dir, tmp_path, capsys, monkeypatch):
    first = os.path.join(run[1], "last_model.ckpt")
    repeats, real = [], ExperimentData.train_batches

    def record(*args, **how):
        repeats.append(how["repeats"])
        return real(*args, **how)
    monkeypatch.setattr(ExperimentData, "train_batches", record)
    main.main(arguments(cifar_dir, tmp_path, "--method", "jtt", "--stage_one", first, "--jtt_lambda", "1000",
                        "--total_epoch", "1"))
    folder = only_run(tmp_path)
    assert not os.path.exists(os.path.join(folder, "stage_one"))
    source = SOURCES["cifar10"](cifar_dir)
    network = create_model("wideresnet10", 10)
    ms.load_param_into_net(network, ms.load_checkpoint(first))
    network.set_train(False)
    images = load_corrupted(cifar_dir, source, "gaussian_noise", 6)["train"]

    def wrong(row):
        image = images[int(row["severity"])][int(row["index"])][None] / 255
        image = ((image - source.mean) / source.std).transpose(0, 3, 1, 2).astype(np.float32)
        return network(ms.Tensor(image)).asnumpy().argmax() != int(row["label"])
    check_found(folder, "error_set", "error", wrong)
    [drawn] = repeats
    assert drawn.tolist() == [1000 if row["error"] == "1" else 1 for row in read_csv(f"{folder}/error_set.csv")]
    assert {*drawn} == {1, 1000}
    assert "severity  training images  error" in capsys.readouterr().out
    for more in (["--seed", "1"], ["-n", "12"]):
        with pytest.raises(SystemExit) as stop:
            main.main(arguments(cifar_dir, tmp_path, "--method", "jtt", "--stage_one", first, *more))
        assert stop.value.code == 2
        assert f"--stage_one {first}: trained on other images or severities" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main.main(arguments(cifar_dir, tmp_path, "--method", "jtt", "--stage_one", first, "--mean", "0.5"))
    assert f"--stage_one {first}: trained with another --mean, its data set's own; give" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main.main(arguments(cifar_dir, tmp_path, "--method", "jtt", "--stage_one", first, "-c", "fog"))
    assert f"--stage_one {first}: trained with another --corruption, gaussian_noise; give" in capsys.readouterr().err
    errors = [int(row["error"]) for row in read_csv(os.path.join(folder, "error_set.csv"))]
    assert 0 < sum(errors) < 120


def test_agnostic_steps_are_not_told_the_distributions():
    data = SimpleNamespace(split=Split([np.arange(3), np.arange(3, 5)], np.arange(0)))
    treated = apply_data_strategy(resolve("sharpdro", distribution_agnostic=True), data, "fog", 0, None, None)
    np.testing.assert_array_equal(treated["groups"], np.zeros(5, np.int32))
    assert apply_data_strategy(resolve("sharpdro"), data, "fog", 0, None, None) == {}


def test_stage_one_decides_what_is_drawn_and_how_it_is_grouped(monkeypatch):
    """JTT repeats the images that the first model gets wrong; EIIL's groups part those that it fits too well."""
    monkeypatch.setattr("losses.training.data_strategy.report_stage_one", lambda *args, **more: None)
    logits = np.array([[2, 0, 0], [0, 1, 0], [0, 0.5, 0], [3, 0, 0]], np.float32)
    data = SimpleNamespace(split=Split([np.arange(2), np.arange(2, 4)], np.arange(0)),
                           train_labels=np.array([1, 1, 1, 2]))
    treated = apply_data_strategy(resolve("jtt", jtt_lambda=7), data, "fog", 0, None, lambda: logits)
    np.testing.assert_array_equal(treated["repeats"], [7, 1, 1, 7])
    np.testing.assert_array_equal(treated["groups"], np.zeros(4))  # erm reads no severities
    # The loss of a wrong image rises with a factor on the logits, and the loss of a right one falls.
    groups = apply_data_strategy(resolve("eiil"), data, "fog", 0, None, lambda: 9 * logits)["groups"]
    assert set(groups) == {0, 1} and groups[0] == groups[3]


class Recorded(Exception):
    """A test has what it wants to know."""


@pytest.mark.parametrize("words, expected", [
    (["--method", "erm", "--crop", "zero_pad", "--rand_augment", "2", "5", "--sampling", "balanced", "--mixup", "0.7"],
     {"crop": "zero_pad", "rand_augment": [2, 5], "sampling": "balanced", "sampler": "replacement", "mixup": 0.7}),
    (["--method", "corrupt_aug", "--aug_corruption", "contrast"],
     {"crop": "zero_pad", "sampler": "permutation", "corruption": "contrast", "sampling": "uniform"}),
    (["--method", "rare_aug", "--augment_data"],
     {"crop": "reflect_pad", "sampler": "replacement", "corruption": "gaussian_noise"})])
def test_a_run_draws_its_batches_as_its_options_say(cifar_dir, tmp_path, monkeypatch, words, expected):
    recorded = {}

    def record(data, batch_size, steps, seed, workers, **how):
        recorded.update(how, batch_size=batch_size, steps=steps, seed=seed)
        raise Recorded
    monkeypatch.setattr(ExperimentData, "train_batches", record)
    with pytest.raises(Recorded):
        main.main(arguments(cifar_dir, tmp_path, "--seed", "3", *words))
    expected = {"batch_size": 40, "seed": 3, **expected}
    assert {option: recorded[option] for option in expected} == expected
    assert ("probabilities" in recorded) == ("rare_aug" in words) and recorded["steps"].start == 0


def test_a_run_hands_what_validation_images_say_to_its_loop(cifar_dir, tmp_path, monkeypatch):
    """And evaluates on the third of these images that does not move the weights."""
    recorded = {}

    def record(step, loader, steps_per_epoch, epochs, schedule, records, evaluate, *intervals, **how):
        recorded.update(how)
        results = evaluate()
        recorded["validation"] = [result.images for result in results["val"]]
        raise Recorded
    monkeypatch.setattr(losses.training.run, "fit", record)
    with pytest.raises(Recorded):
        main.main(arguments(cifar_dir, tmp_path, "--group_loss", "validation", "--group_update_every", "2"))
    assert isinstance(recorded["reweighter"], ValidationReweighter) and recorded["validation"] == [26] * 6


def test_the_time_of_a_run_has_the_time_of_its_stage_one(tmp_path):
    """Also after the run was stopped and resumed, but once."""
    step = create_step(crosscheck.Dense(np.eye(6, 4), np.zeros(4)), "erm", 2, recipe="sharpdro")
    os.mkdir(tmp_path / "stage_one")
    write_json(tmp_path / "stage_one" / "results.json", {"seconds": 10000.0, "peak_memory_gib": 500.0})
    for _ in range(2):
        with RunFolder(str(tmp_path)) as folder:
            records = RunRecorder(folder, step, 2, steps_per_epoch=5, keep_last=1, save_step=100)
            totals = records.cost.totals()
            assert 10000 <= totals["seconds"] < 10100 and totals["peak_memory_gib"] == 500
            assert 0.05 < peak_memory() < 100
            records.end_epoch(records.start.epochs, 4, 0.1, 1.0, {})
            records.close()


def test_a_row_has_the_squared_norm_of_the_weights(tmp_path):
    step = create_step(crosscheck.Dense(3 * np.eye(6, 4), np.zeros(4)), "erm", 2, recipe="sharpdro")
    log = TrainLog(str(tmp_path / "train.csv"), 2, Progress(0), weight_decay=0.1)
    log.write_batch(0, 0, np.ones(4), np.ones(4), np.arange(4) % 2, 1.0, {}, step)
    log.close()
    [row] = read_csv(tmp_path / "train.csv")
    assert (float(row["model_norm_sq"]), float(row["reg_loss"])) == (36, pytest.approx(1.8))


def test_an_error_of_the_program_leaves_its_traceback_in_the_log(tmp_path):
    """A comparison prints one line of it, and continues."""
    with pytest.raises(RuntimeError), RunFolder(str(tmp_path)) as folder, losses.training.run.marking_failure(folder):
        raise RuntimeError("the graph of this network")
    log = (tmp_path / "log.txt").read_text()
    assert "test_main.py" in log and log.endswith("RuntimeError: the graph of this network\n\n")


def test_checkpoints_that_are_asked_for_are_kept(tmp_path):
    step = create_step(crosscheck.Dense(np.eye(6, 4), np.zeros(4)), "erm", 2, recipe="sharpdro")
    checkpoints = Checkpoints(str(tmp_path), keep_last=1, save_step=3, keep_epochs=[1])
    for epochs in range(1, 7):
        checkpoints.save(step, Progress(epochs))
    assert sorted(os.listdir(tmp_path)) == ["0_model.ckpt", "1_model.ckpt", "3_model.ckpt", "5_model.ckpt"]


@pytest.mark.parametrize("best_by, expected", [("mean", [0, 1, 3]), ("worst", [0])])
def test_the_best_checkpoint_is_chosen_by_validation_images(tmp_path, best_by, expected):
    """By the mean over severities or by the worst severity; the test images say the opposite."""
    step = create_step(crosscheck.Dense(np.eye(6, 4), np.zeros(4)), "erm", 2, recipe="sharpdro")
    best = []
    with RunFolder(str(tmp_path)) as folder:
        records = RunRecorder(folder, step, 2, steps_per_epoch=5, best_by=best_by, keep_last=1, save_step=100)
        for epoch, accuracies in enumerate(([0.4, 0.5], [0.9, 0.2], [0.3, 0.6], [0.9, 0.3])):
            results = {"val": accuracies, "test": [1 - accuracy for accuracy in accuracies]}
            best_before = os.path.getmtime(tmp_path / "best_model.ckpt") if best else None
            records.end_epoch(epoch, 4, 0.1, 1.0, {part: [SeverityResult(value, 1.0, 10, None) for value in values]
                                                   for part, values in results.items()})
            if best_before != os.path.getmtime(tmp_path / "best_model.ckpt"):
                best.append(epoch)
        records.close()
    assert best == expected


def test_corrupt_aug_can_prefer_rare_severities():
    split = Split([np.arange(60), np.arange(40), np.arange(10), np.arange(5), np.arange(0)], np.arange(0))
    data = SimpleNamespace(split=split)
    for settings in (resolve("corrupt_aug", aug_severity="rare"), resolve("rare_aug"),
                     resolve("rare_aug", objective="group_dro", perturbation="l2")):
        treated = apply_data_strategy(settings, data, "fog", 0, None, None)
        assert treated["corruption"] == "fog"
        # Of 1/40, 1/10, 1/5 and, without images, 1.
        np.testing.assert_allclose(treated["probabilities"], np.array([1, 4, 8, 40]) / 53)
    assert resolve("rare_aug").train_on == "poisson"
    assert "probabilities" not in apply_data_strategy(resolve("corrupt_aug"), data, "fog", 0, None, None)


@pytest.mark.slow
def test_corrupt_aug_changes_the_training_images(cifar_dir, tmp_path):
    for name, more in (("plain", []), ("half", ["--method", "corrupt_aug", "--aug_corruption", "contrast"])):
        main.main(arguments(cifar_dir, tmp_path / name, "--method", "erm", "--total_epoch", "1", "--recipe", "sharpdro",
                            "--log_train", "1", *more))
    plain, half = (read_csv(os.path.join(only_run(tmp_path / name), "train.csv")) for name in ("plain", "half"))
    assert [row["processed_distribution_counts_1"] for row in plain] == [
        row["processed_distribution_counts_1"] for row in half]
    assert plain[0]["avg_loss"] != half[0]["avg_loss"]


@pytest.mark.parametrize("options, culprit", [
    (["--num_severity", "7"], "--num_severity"),
    (["--num_severity", "1"], "--num_severity"),
    (["-c", "fog_of_war"], "gaussian_noise"),
    (["-m", "alexnet"], "wideresnet10"),
    (["-d", "mnist"], "photos"),
    (["--method", "sgd"], "group_dro"),
    (["-n", "21"], "-n 21"),
    (["--lr", "nan"], "--lr"),
    (["--rho", "-0.1"], "--rho"),
    (["-b", "0"], "--batch_size"),
    (["--num_sub_batches", "7"], "--num_sub_batches 7"),
    (["--method", "damp", "--is_adaptive"], "--is_adaptive"),
    (["--objective", "median"], "group_dro"),
    (["-b", "5000"], "-b 5000"),
    (["--aug_corruption", "rain"], "gaussian_noise"),
    (["--method", "rare_aug", "--aug_severity", "uniform", "--num_severity", "2"], "--aug_severity uniform: with"),
    (["--method", "jtt", "--stage_one", "model.ckpt"], "model.ckpt"),
    (["--method", "jtt", "--stage_one", os.path.join(ROOT, "main.py")], "main.py: the name of a file"),
    (["--stage_one", os.path.join(ROOT, "main.py")], "--stage_one"),
    (["--method", "jtt", "--jtt_lambda", "0"], "--jtt_lambda"),
    (["-n", "1"], "-n 1: leaves no training image"), (["-n", "3"], "-b 40"),
    (["--best_by", "worst"], "--best_by worst: needs --save_best; give that, too"),
    (["--split", "SPLIT", "--save_best"], "--save_best: no image is left for validation"),
    (["--split", "SPLIT", "-n", "10"], "-n 10: the table "),
    (["--split", "SPLIT", "--num_val", "10"], "--num_val 10: the table "),
    (["--train_on", "clean", "--split", "split.csv"], "split.csv lists the training images and their severities"),
    (["-n", "18", "--num_val", "6"], "--num_val 6: only"),
    (["--val_fraction", "0.2"], "--val_fraction 0.2: needs --train_on clean; with poisson"),
    (["--train_on", "clean", "--val_fraction", "0.2", "-n", "5"], "--val_fraction 0.2: -n 5"),
    (["--train_on", "clean", "--val_fraction", "1"], "--val_fraction"),
    (["--train_on", "clean", "--val_fraction", "0", "--save_best"], "--save_best: no image is left for validation"),
    (["--train_on", "clean", "--group_loss", "validation"], "--group_loss validation: only severity 0"),
    (["--group_loss", "validation", "--group_update_every", "6"], "--group_update_every 6: the run has 6 batches"),
    (["--group_loss", "validation"], "--group_update_every 50: the run has 6 batches"),
    (["--train_on", "clean", "--sampling", "balanced"], "--sampling balanced: only severity 0"),
    (["--train_on", "clean", "--step_size", "5"], "--step_size 5.0: only severity 0"),
    (["--train_on", "clean", "--method", "group_dro", "--group_loss", "last_seen"], "--group_loss last_seen: only"),
    (["--train_on", "clean", "--worst_case", "argmax"], "--worst_case argmax: only severity 0"),
    (["--train_on", "clean", "--group_adjustment", "3"], "--group_adjustment 3.0: only severity 0"),
    (["--train_on", "clean", "--method", "rex", "--rex_beta", "9"], "--rex_beta 9.0: only severity 0"),
    (["--train_on", "clean", "-d", "imagenet30", "--filelist_dir", "/nowhere"], "has no list of test images"),
    (["--method", "corrupt_aug", "--aug_severity", "rare"], "--aug_severity rare: only severity 0"),
    (["--method", "rare_aug", "--train_on", "clean"], "so no severity is rarer; give --aug_severity uniform"),
    (["--augment_data", "--crop", "zero_pad"], "--augment_data: means --crop reflect_pad, and --crop is zero_pad"),
    (["--crop", "random_resized"], "--crop random_resized: needs clean training images that are read from files"),
    (["--sampler", "permutation", "--sampling", "balanced"], "--sampler permutation"),
    (["--method", "erm", "--rho", "0.1"], "--rho: erm does not use it, of the methods only sam, asam, sharpdro"),
    (["--distribution_agnostic", "--sampling", "balanced"], "--sampling balanced"),
    (["--method", "damp", "--momentum", "0", "--nesterov", "-b", "40"], "--nesterov"),
    (["--optimizer", "adamw", "--nesterov"], "--nesterov: --optimizer adamw does not use it, only sgd"),
    (["--schedule", "cosine", "--warmup", "2epochs"], "--warmup 2epochs: is not shorter than a training of 2 epochs"),
    (["--schedule", "cosine", "--warmup", "6steps"], "6steps: is not shorter than a training of 2 epochs of 3 steps"),
    (["--device_target", "Ascend"], "--device_target Ascend"),
    (["--split", "nowhere.csv"], "nowhere.csv"),
    (["--log_dir", os.path.join(ROOT, "main.py", "logs")], "--log_dir"),
    (["--data_dir", os.path.join(ROOT, "main.py", "data")], "cifar10"),
])
def test_bad_input_is_one_line(cifar_dir, tmp_path, capsys, monkeypatch, options, culprit):
    monkeypatch.setattr("dataset.sources.cifar.URL", "http://127.0.0.1:9/")  # nothing listens there
    if "SPLIT" in options:  # one that leaves nothing for validation
        options = ["--split", str(tmp_path / "split.csv"), *options[2:]]
        labels = SOURCES["cifar10"](cifar_dir).labels["train"]
        write_split(options[1], Split([np.arange(200)] + [np.arange(0)] * 5, np.arange(0)), labels)
    with pytest.raises(SystemExit) as stop:
        main.main(arguments(cifar_dir, tmp_path / "logs", *options))
    captured = capsys.readouterr()
    assert stop.value.code == 2
    errors = [line for line in captured.err.splitlines() if not line.startswith("warning:")]
    assert len(errors) == 1 and errors[0].startswith("main.py: error: ") and culprit in errors[0]
    assert not os.path.isdir(tmp_path / "logs") or os.listdir(tmp_path / "logs") == []


def test_options_are_checked_before_corrupted_images_are_made(cifar_dir, tmp_path, capsys):
    folder = tmp_path / "data"
    make_cifar(str(folder))
    before = sorted(os.listdir(folder))
    for options in (["--crop", "random_resized"], ["--crop", "none", "random_resized"], ["-b", "5000"]):
        with pytest.raises(SystemExit) as stop:
            main.main(arguments(str(folder), tmp_path / "logs", *options))
        assert stop.value.code == 2 and options[0] in capsys.readouterr().err
    assert sorted(os.listdir(folder)) == before


def test_damaged_corrupted_images_are_one_line(tmp_path, capsys):
    make_cifar(str(tmp_path))
    argv = arguments(str(tmp_path), tmp_path / "logs", "--total_epoch", "1", "-c", "contrast", "--method", "erm")
    main.main(argv)
    source = SOURCES["cifar10"](str(tmp_path))
    path = corrupted_path(str(tmp_path), source, "test", 4, "contrast")
    with open(path, "r+b") as file:
        file.truncate(1000)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main.main(argv)
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"main.py: error: {path}: truncated or not a numpy array; delete it so that it is made again")


def test_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(cifar_dir, tmp_path, capsys, monkeypatch):
    rates = {0: 0.1, 1: 1e30}
    monkeypatch.setitem(SCHEDULES, "step", Schedule(lambda base, epoch, total: rates[epoch], "for a test"))
    with pytest.raises(SystemExit) as stop:
        main.main(arguments(cifar_dir, tmp_path, "--save_last"))
    assert stop.value.code == 2
    assert "not finite at step 1 of epoch 1" in capsys.readouterr().err
    stored = ms.load_checkpoint(os.path.join(only_run(tmp_path), "last_model.ckpt"))
    assert all(np.isfinite(p.asnumpy()).all() for p in stored.values())


@pytest.mark.slow
def test_a_last_step_that_breaks_the_weights_is_no_success(cifar_dir, tmp_path, capsys):
    """One step an epoch: its own losses are those before it."""
    argv = arguments(cifar_dir, tmp_path, "--method", "erm", "-b", "120", "--total_epoch", "1", "--save_last")
    with pytest.raises(SystemExit) as stop:
        main.main([*argv, "--lr", "1e30"])
    assert stop.value.code == 2
    line, folder = capsys.readouterr().err.splitlines()[-1], only_run(tmp_path)
    assert line.startswith("main.py: error: ") and " is not finite after batch 0 of epoch 0; lower --lr" in line
    assert not {"results.json", "last_model.ckpt", "0_model.ckpt", "report.html"} & set(os.listdir(folder))
    assert f"failed: {line.removeprefix('main.py: error: ')}" in read_text(f"{folder}/log.txt")
    with pytest.raises(UserError, match="this run has failed .* is not finite after batch 0 of epoch 0"):
        read_record(folder)


@pytest.mark.parametrize("part, severity", [("val", 0), ("test", 5)])
def test_an_evaluation_that_gives_no_numbers_is_no_success(part, severity):
    results = {name: [SeverityResult(0.5, 1.0, 10)] * 6 for name in ("val", "test")}
    require_finite_losses(results, Progress(0, 3))
    results[part][severity:severity + 1] = [SeverityResult(0.1, math.inf, 10)]
    with pytest.raises(NotFiniteError, match=f"the {part} loss at severity {severity} is not finite after batch 2 of"):
        require_finite_losses(results, Progress(0, 3))
    results[part][severity] = SeverityResult(math.nan, math.nan, 0)  # no image has this severity
    require_finite_losses(results, Progress(0, 3))


def test_a_penalty_that_would_never_act_is_named(cifar_dir, tmp_path, capsys):
    for method in ("irm", "eiil"):
        with pytest.raises(SystemExit):
            main.main(arguments(cifar_dir, tmp_path, "--method", method, "--irm_lambda", "10"))
        assert "--irm_lambda 10.0: acts after --irm_anneal 500 batches, and the run has 6" in capsys.readouterr().err


@pytest.mark.parametrize("method", [pytest.param("jtt", marks=pytest.mark.slow), "eiil"])
def test_a_first_model_that_gives_no_numbers_is_named(method, run, cifar_dir, tmp_path, capsys):
    network = create_model("wideresnet10", 10)
    network.fc.weight.set_data(ms.Tensor(np.full(network.fc.weight.shape, 3e38, np.float32)))
    ms.save_checkpoint(network, str(tmp_path / "huge.ckpt"), crc_check=True)
    with pytest.raises(SystemExit) as stop:
        main.main(arguments(cifar_dir, tmp_path / "logs", "--method", method, "--stage_one",
                            str(tmp_path / "huge.ckpt")))
    assert stop.value.code == 2
    assert "huge.ckpt: gives logits that are not finite" in capsys.readouterr().err
