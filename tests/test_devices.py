"""Several workers that train together under `msrun`, against one worker. Those of two real processes that take longer
are slow, and so are four: `pytest -n 0 -m slow tests/test_devices.py`.
"""
import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import mindspore as ms
import numpy as np
import psutil
import pytest

from utils.runtime.device import max_steps_in_flight, set_up_device, synchronize
from corruptions.utils.errors import UserError
from dataset.batches import EvaluationBatches, TrainBatches
from dataset.poisson import Split
from losses.config.checks import check_world_size
from losses.config.resolve import resolve
from losses.perturbations import CounterBasedNormal
from tests.processes import wait_until
from tests.together import APART, EQUAL, HALF, OUTPUTS, SYNCHRONISED, train
from utils.runtime.distributed import rank_slice

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOGETHER = os.path.join(ROOT, "tests", "together.py")
# For every change; the others are slow.
FIRST = ("sharpdro", "sharpdro_agnostic", "sam, own ascents", "damp, sync_bn")


@contextlib.contextmanager
def started(count, folder, *arguments):
    """`tests/together.py` with these arguments as so many workers; whatever is left of them in the end is killed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    binaries = os.path.dirname(sys.executable)
    process = subprocess.Popen(
        [os.path.join(binaries, "msrun"), f"--worker_num={count}", f"--local_worker_num={count}", "--join=True",
         f"--master_port={port}", f"--log_dir={folder}", TOGETHER, *map(str, arguments)], cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PATH": binaries + os.pathsep + os.environ["PATH"]})
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def trained(count, folder, *names):
    """The results of the cases that this number of workers trains, and whether they are equal on all workers."""
    with started(count, folder, folder / "found.npz", *names) as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-2000:]
    result = dict(np.load(folder / "found.npz"))
    return result, result.pop("alike")


def assert_equal(result, wanted, tolerance=1e-5):
    """All weights, statistics, what objectives and optimisers remember, and all losses and logits of the batches."""
    for name, value in wanted.items():
        np.testing.assert_allclose(result[name], value, rtol=0, atol=tolerance, err_msg=name, equal_nan=False)


def show_differences(result, wanted):
    """Print, for every case, the largest difference of what lasts: weights, statistics, and what objectives and
    optimisers remember."""
    largest = {}
    for name, value in wanted.items():
        title, _, quantity = name.partition("/")
        if quantity not in OUTPUTS:
            largest[title] = max(largest.get(title, 0), np.abs(result[name] - value).max())
    print("\n".join(f"{title}: {difference:.0e}" for title, difference in largest.items()))


def alone(*names):
    """The results of the cases that one worker trains."""
    result = {}
    for name in names:
        result.update(train(name, {**EQUAL, **SYNCHRONISED, **APART, **HALF}[name]))
    return result


def test_two_workers_are_one(tmp_path):
    result, alike = trained(2, tmp_path, *FIRST, *HALF)
    assert alike
    assert_equal(result, alone(*HALF), 2e-3)
    assert_equal(result, alone(*(name for name in FIRST if name in EQUAL)))
    sub_batches = alone("sam in two sub-batches")  # what two own ascents are
    assert_equal(result, {name.replace("in two sub-batches", "own ascents").replace("sam ", "sam, "): value
                          for name, value in sub_batches.items()})


def test_the_scheduler_of_one_worker_does_not_train(monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_SCHED")
    monkeypatch.setenv("MS_WORKER_NUM", "1")
    with pytest.raises(SystemExit) as stop:
        set_up_device("CPU")
    assert stop.value.code == 0


@pytest.mark.parametrize("target, waits, ahead", [("CPU", 0, 1), ("GPU", 1, 50), ("Ascend", 1, 50)])
def test_only_a_device_that_computes_meanwhile_is_waited_for(monkeypatch, target, waits, ahead):
    waited = []
    monkeypatch.setattr("utils.runtime.device.device", lambda: target)
    monkeypatch.setattr(ms.runtime, "synchronize", lambda: waited.append(target))
    synchronize()
    assert len(waited) == waits and max_steps_in_flight() == ahead


@pytest.fixture
def other_device(monkeypatch):
    """Have MindSpore find two devices of a kind, and write down what they are told; call it with the kind."""
    messages = []

    def find(target):
        for module in ("op_precision", "op_tuning"):
            place = getattr(getattr(ms.device_context, target.lower()), module)
            for name in [name for name in vars(place) if "allow" in name or "algo" in name or name == "precision_mode"]:
                monkeypatch.setattr(place, name, lambda value, name=name: messages.append((name, value)))
        monkeypatch.setattr(ms.hal, "is_available", lambda name: name in (target, "CPU"))
        monkeypatch.setattr(ms.hal, "device_count", lambda _: 2)
        monkeypatch.setattr(ms, "set_device", lambda *words: messages.append(words))
        return messages
    return find


@pytest.mark.parametrize("target, full, rest", [
    ("GPU", {("conv_allow_tf32", False), ("matmul_allow_tf32", False)},
     {("conv_dgrad_algo", "algo_1"), ("conv_wgrad_algo", "algo_1")}),
    ("Ascend", {("conv_allow_hf32", False), ("matmul_allow_hf32", False), ("precision_mode", "must_keep_origin_dtype")},
     set())])
def test_a_device_computes_in_full_float32_unless_fast_math(other_device, target, full, rest):
    messages = other_device(target)
    assert set_up_device("auto") == target
    assert messages[0] == (target,) and set(messages[1:]) == full | rest
    messages.clear()
    assert set_up_device(target, device_id=1, fast_math=True) == target
    assert messages[0] == (target, 1) and set(messages[1:]) == rest


def test_the_best_device_is_one_that_is_there(monkeypatch, other_device):
    other_device("GPU")
    monkeypatch.setattr(ms.hal, "device_count", lambda _: 0)
    assert set_up_device() == "CPU"


@pytest.mark.parametrize("options, culprit", [
    ({"device_target": "CPU", "fast_math": True}, "--fast_math: CPU computes in full float32 anyway"),
    ({"device_target": "CPU", "device_id": 0}, "--device_id: CPU has no numbers"),
    ({"device_target": "GPU", "device_id": 2}, "--device_id 2: GPU has 2 here; the first is 0"),
    ({"device_target": "Ascend"}, "--device_target Ascend: .*; or else choose GPU or CPU")])
def test_device_options_that_mean_nothing_are_refused(other_device, options, culprit):
    other_device("GPU")
    with pytest.raises(UserError, match=culprit):
        set_up_device(**options)


def test_workers_have_devices_of_their_own(monkeypatch, other_device):
    other_device("GPU")
    monkeypatch.setattr("utils.runtime.distributed.world_size", lambda: 2)
    with pytest.raises(UserError, match="under msrun each worker has a device of its own"):
        set_up_device("GPU", device_id=1)


def test_each_worker_has_the_device_that_msrun_gives_it_and_its_scheduler_none(monkeypatch, other_device):
    messages = other_device("GPU")
    monkeypatch.setattr("utils.runtime.distributed.world_size", lambda: 2)
    monkeypatch.setattr("utils.runtime.device.init_process_group", lambda: None)
    monkeypatch.setenv("DEVICE_ID", "3")
    set_up_device()
    assert messages[0] == ("GPU", 3)
    messages.clear()
    monkeypatch.setenv("MS_ROLE", "MS_SCHED")
    monkeypatch.delenv("DEVICE_ID")
    set_up_device()
    assert messages[0] == ("GPU",)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_all_that_is_equal(count, tmp_path):
    names = (*EQUAL, *SYNCHRONISED)
    result, alike = trained(count, tmp_path, *names)
    assert alike
    wanted = alone(*names)
    show_differences(result, wanted)
    assert_equal(result, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_batch_norm_of_each_device_leaves_the_same_on_all(count, tmp_path):
    result, alike = trained(count, tmp_path, "sharpdro, batch_norm")
    assert alike
    wanted = alone("sharpdro, batch_norm")
    show_differences(result, wanted)
    assert any(np.abs(result[name] - value).max() > 1e-3 for name, value in wanted.items())


RUN = ("main", "-d", "photos", "-m", "plain", "-n", "30", "--num_val", "10", "-b", "12", "--log_train", "4", "--seed",
       "3", "--lr", "0.05", "--save_last", "--total_epoch", "2", "--method", "sharpdro", "--record_norm")


def run_of(path):
    """The folder of the run, its last weights, and the numbers in its tables."""
    [folder] = [folder for folder in path.iterdir() if (folder / "config.json").exists()]
    weights = {name: value.asnumpy() for name, value in ms.load_checkpoint(str(folder / "last_model.ckpt")).items()}
    tables = {}
    for file in (file for file in folder.glob("*.csv") if file.name != "split.csv"):
        with open(file, newline="", encoding="utf-8") as lines:
            tables[file.name] = np.array([[float(x or "nan") for x in row] for row in list(csv.reader(lines))[1:]])
    return folder, weights, tables


@pytest.fixture(scope="module")
def one_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("one")
    subprocess.run([sys.executable, TOGETHER, *RUN, "--data_dir", str(path / "data"), "--log_dir", str(path / "logs")],
                   check=True, capture_output=True, timeout=600)
    return path


@pytest.mark.slow
def test_a_run_of_two_workers_is_that_of_one(one_run, tmp_path):
    _, wanted, tables = run_of(one_run / "logs")
    with started(2, tmp_path, *RUN, "--data_dir", one_run / "data", "--log_dir", tmp_path / "logs") as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-2000:]
    folder, weights, result = run_of(tmp_path / "logs")
    assert_equal(weights, wanted)
    assert result.keys() == tables.keys()
    for name, table in tables.items():
        np.testing.assert_allclose(result[name], table, rtol=1e-4, atol=1e-4, err_msg=name)
    assert json.loads((folder / "config.json").read_text())["world_size"] == 2
    assert output.count("report: ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("dies, goes_on", [(1, 1), (0, 2)])
def test_when_one_worker_dies_the_others_say_so_and_the_run_goes_on(dies, goes_on, one_run, tmp_path):
    _, wanted, _ = run_of(one_run / "logs")
    data = ("--data_dir", one_run / "data")
    with started(2, tmp_path, *RUN, *data, "--log_dir", tmp_path / "logs") as process:
        # until the second epoch has begun
        wait_until(lambda: list(tmp_path.glob("logs/*/last_model.ckpt")), process, seconds=600)
        workers = [child for child in psutil.Process(process.pid).children() if "together.py" in " ".join(
            child.cmdline()) and child.environ().get("MS_ROLE") == "MS_WORKER"]
        [victim] = [worker for worker in workers if worker.environ()["RANK_ID"] == str(dies)]
        [second] = [worker for worker in workers if worker != victim]
        killed = time.monotonic()
        victim.send_signal(signal.SIGKILL)
        while second.is_running() and second.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.1)
        seconds = time.monotonic() - killed
        process.communicate(timeout=120)
    print(f"the other worker ended after {seconds:.1f} s, msrun after {time.monotonic() - killed:.1f} s")
    assert seconds < 60 and process.returncode != 0
    message = (tmp_path / f"worker_{1 - dies}.log").read_text()
    assert message.count(f"error: worker {dies} of 2 has died, and so all end; --resume ") == 1
    [folder] = (tmp_path / "logs").iterdir()
    arguments = ("main", "--resume", str(folder), *map(str, data))
    if goes_on == 1:
        subprocess.run([sys.executable, TOGETHER, *arguments], check=True, capture_output=True, timeout=600)
    else:
        with started(goes_on, tmp_path, *arguments) as process:
            output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output[-2000:]
    assert_equal(run_of(tmp_path / "logs")[1], wanted)


@pytest.mark.slow
def test_a_signal_to_all_stops_them_after_a_step_and_the_run_goes_on(one_run, tmp_path):
    data = ("--data_dir", one_run / "data")
    with started(2, tmp_path, *RUN, *data, "--log_dir", tmp_path / "logs") as process:
        wait_until(lambda: list(tmp_path.glob("logs/*/last_model.ckpt")), process, seconds=600)
        for worker in psutil.Process(process.pid).children():
            if worker.environ().get("MS_ROLE") == "MS_WORKER":
                worker.terminate()
        output, _ = process.communicate(timeout=120)
    message = (tmp_path / "worker_0.log").read_text() + (tmp_path / "worker_1.log").read_text()
    assert message.count("stopped by SIGTERM; --resume ") == 1 and "has died" not in message, output[-4000:]
    [folder] = (tmp_path / "logs").iterdir()
    assert "stopped after" in (folder / "log.txt").read_text()
    subprocess.run([sys.executable, TOGETHER, "main", "--resume", str(folder), *map(str, data)], check=True,
                   capture_output=True, timeout=600)
    assert_equal(run_of(tmp_path / "logs")[1], run_of(one_run / "logs")[1])


@pytest.fixture
def several(monkeypatch):
    """Have this process be one of several workers, as far as the environment says."""
    def be(count, rank=0):
        for name, value in {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": count, "RANK_ID": rank}.items():
            monkeypatch.setenv(name, str(value))
    return be


@pytest.mark.parametrize("options, words", [
    ({"method": "erm", "batch_size": 31}, "-b 31: is the batch of all workers, and 2"),
    ({"method": "damp", "num_sub_batches": 1}, "give --num_sub_batches 2"),
    ({"method": "sam", "num_sub_batches": 3, "batch_size": 30}, "--num_sub_batches 3: cannot be shared by 2 workers"),
    ({"method": "erm", "sync_perturbation": True}, "--perturbation none has none"),
    ({"method": "sam", "sync_perturbation": False}, "each of 8 sub-batches has an ascent of its own")])
def test_what_workers_cannot_share_is_refused(options, words, several):
    several(2)
    with pytest.raises(UserError, match=words):
        check_world_size(resolve(**options), options.get("batch_size"))


def test_ascents_of_workers_are_sub_batches(several):
    with pytest.raises(UserError, match="has no effect on one worker"):
        resolve("sharpdro", sync_perturbation=True)
    several(4)
    assert resolve("sharpdro", sync_perturbation=False).num_sub_batches == 4
    assert resolve("sharpdro", sync_perturbation=True).num_sub_batches == 1


@pytest.mark.parametrize("number, count", [(12, 1), (12, 3), (7, 3), (2, 4), (0, 2)])
def test_parts_are_disjoint_and_complete(number, count):
    parts = [np.arange(number)[rank_slice(number, (kind, count))] for kind in range(count)]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(number))


@pytest.mark.parametrize("how", [{}, {"crop": "reflect_pad"}, {"crop": "zero_pad", "sampler": "permutation"},
                                 {"corruption": "gaussian_noise"}, {"sampling": "balanced"}], ids=str)
@pytest.mark.parametrize("count", [2, 4])
def test_workers_have_the_images_of_one(how, count):
    rng = np.random.default_rng(0)
    images = [rng.integers(256, size=(40, 8, 8, 3), dtype=np.uint8) for _ in range(3)]
    labels = np.arange(40, dtype=np.int32)
    split = Split([np.arange(0, 20), np.arange(20, 30), np.arange(30, 36)], np.arange(36, 40))

    def source(share):
        return TrainBatches(images, labels, split, (0.5,) * 3, (0.25,) * 3, 12, range(4), 5, share=share, **how)
    for k in range(4):
        whole, *rest = source((0, 1))[k]
        parts = [source((kind, count))[k] for kind in range(count)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), whole)
        for part in parts:
            for ours, theirs in zip(part[1:], rest, strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("number, count", [(11, 2), (5, 4), (1, 3)])
def test_workers_evaluate_every_image_once_in_as_many_batches(number, count):
    images = np.arange(12, dtype=np.uint8).repeat(12).reshape(12, 2, 2, 3)
    result, lengths = [], set()
    for kind in range(count):
        source = EvaluationBatches(images, np.arange(12, dtype=np.int32), np.arange(number), (0,) * 3, (1 / 255,) * 3,
                                   2, (kind, count))
        lengths.add(len(source))
        for k in range(len(source)):
            values, labels, real = source[k]
            assert len(values) == 2
            np.testing.assert_array_equal(values[:real, 0, 0, 0], labels[:real])
            result += labels[:real].tolist()
    assert result == list(range(number)) and len(lengths) == 1


def test_a_sub_batch_has_the_same_noise_on_any_worker():
    def calls(numbers, count):
        return [numbers().asnumpy() for _ in range(count)], int(numbers.calls.asnumpy())
    wanted, after = calls(CounterBasedNormal(10, 3, 4), 8)
    for kind in range(2):
        result, end = calls(CounterBasedNormal(10, 3, 4, (kind, 2)), 4)
        assert end == after
        np.testing.assert_array_equal(result, [wanted[k] for k in (2 * kind, 2 * kind + 1, 4 + 2 * kind,
                                                                   5 + 2 * kind)])
