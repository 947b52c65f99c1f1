"""Compiled graphs that are kept for the next process."""
import functools
import glob
import os
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest

import losses.training.step_cache
import main
from corruptions.utils.files import TMP_MARK
from losses.config.resolve import resolve
from losses.config.settings import RunConfig
from losses.step.train_step import TrainStep
from losses.training.step_cache import StepCache
from tests.test_cli import ROOT
from tests.test_main import arguments
from utils.runtime import compile_cache

# A process that takes two steps, of a cell that is compiled or taken from the folder if there is one.
PROGRAM = """
import hashlib, sys
import utils.runtime.device, mindspore as ms, numpy as np
from losses import create_step
from models.wideresnet import WideResNet
from utils.runtime.compile_cache import compile_cached
ms.set_seed(0)
step = create_step(WideResNet(10, 1, 4), "sharpdro", perturbation="multiplicative", sigma=0.2, num_groups=2,
                   recipe="sharpdro")
if sys.argv[1:]:
    compile_cached(step.graph, step.example_inputs(4, (3, 8, 8)), sys.argv[1], "key", print)
x = ms.Tensor(np.random.RandomState(0).standard_normal((4, 3, 8, 8)), ms.float32)
y = ms.Tensor([0, 1, 0, 1], ms.int32)
for _ in range(2):
    step.train_batch(x, y, y)
content = b"".join(p.asnumpy().tobytes() for p in step.get_parameters())
print(hashlib.sha256(content).hexdigest(), len(step.graph.compile_cache))
"""


def steps(program, *argv):
    program.write_text(PROGRAM)  # a file, because MindSpore reads the program that is compiled
    return subprocess.run([sys.executable, program, *map(str, argv)], check=True, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": ROOT}).stdout


def written(folder):
    """Every file to when it was written."""
    return {os.path.join(path, file): os.stat(os.path.join(path, file)).st_mtime_ns
            for path, _, files in os.walk(folder) for file in files}


@pytest.mark.slow
def test_a_kept_graph_computes_the_same_bytes(tmp_path):
    program = tmp_path / "program.py"
    first = steps(program, tmp_path / "kept")
    files = written(tmp_path / "kept")
    assert any(file.endswith(".mindir") for file in files)
    assert steps(program, tmp_path / "kept") == first == steps(program)
    assert written(tmp_path / "kept") == files


class Cell:
    """Is compiled as MindSpore does it: into the folder of the context, or out of it."""

    def __init__(self):
        self.compiled = self.taken = 0

    def compile(self, *inputs):
        assert ms.get_context("enable_compile_cache")
        path = os.path.join(ms.get_context("compile_cache_path"), "rank_0", "graph.mindir")
        if os.path.exists(path):
            self.taken += 1
            return
        os.makedirs(os.path.dirname(path))
        with open(path, "w") as file:
            file.write("graph")
        self.compiled += 1


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Compile a cell as another process would; how often it was compiled, and taken."""
    context, message = {}, []
    monkeypatch.setattr(ms, "set_context", lambda **values: context.update(values))
    monkeypatch.setattr(ms, "get_context", lambda name: "CPU" if name == "device_target" else context[name])

    def compile_one(key="key", shape=(2, 3), folder=tmp_path):
        cell = Cell()
        compile_cache.is_used = False
        compile_cache.compile_cached(cell, (ms.Tensor(np.zeros(shape), ms.float32),), str(folder), key, message.append)
        assert not context.get("enable_compile_cache")
        assert not glob.glob(os.path.join(glob.escape(str(folder)), ".*"))
        return cell.compiled, cell.taken
    compile_one.said = message
    yield compile_one
    compile_cache.is_used = False


@pytest.mark.parametrize("name", ["kept", "kept[1]"])
def test_other_settings_shapes_or_code_are_compiled_anew(compiled, tmp_path, monkeypatch, name):
    compiled = functools.partial(compiled, folder=tmp_path / name)
    assert compiled() == (1, 0) and compiled() == (0, 1)
    assert compiled(key="other") == (1, 0) and compiled(shape=(4, 3)) == (1, 0)
    monkeypatch.setattr(compile_cache, "code", lambda: "changed")
    assert compiled() == (1, 0) and compiled() == (0, 1)


def test_code_is_all_that_graphs_are_made_of(monkeypatch, tmp_path):
    monkeypatch.setattr(compile_cache, "ROOT", str(tmp_path))
    hashes = set()
    for room in compile_cache.CODE_FOLDERS:
        os.makedirs(tmp_path / room / "inner")
    inside = [f"{room}/{file}" for room in compile_cache.CODE_FOLDERS for file in ("one.py", "inner/two.py")]
    for name in ("main.py", *inside):
        for text in ("a = 1\n", "a = 2\n"):
            (tmp_path / name).write_text(text)
            hashes.add(compile_cache.code.__wrapped__())
    assert len(hashes) == 2 + 4 * len(compile_cache.CODE_FOLDERS)


def settings(folder="folder", fast_math=False, model="wideresnet10", seed=0, **options):
    method = resolve(recipe="sharpdro", batch_size=4, **options)
    return RunConfig(method, model=model, seed=seed, compile_cache=folder, fast_math=fast_math)


@pytest.mark.slow
def test_what_goes_into_a_graph_names_it(monkeypatch):
    requested = []
    monkeypatch.setattr(losses.training.step_cache, "compile_cached",
                        lambda cell, inputs, folder, key, _: requested.append((folder, key)))

    def key(classes=4, groups=3, **options):
        cells, ours = StepCache(), settings(**options)
        cells.get(ours, classes, [2] * groups)
        cells.compile(ours, (3, 8, 8), print)
        return repr(requested[-1])
    first = key()
    assert requested[0][0] == "folder" and key() == key(lr=0.2) == key(seed=1) == first
    assert len({first, key(classes=5), key(groups=2), key(model="wideresnet16-1"), key(rho=0.1), key(method="erm"),
                key(fast_math=True), key(weight_decay=0.1), key(worst_case="argmax"), key(method="damp"),
                key(method="damp", seed=1), key(method="damp", num_sub_batches=2)}) == 12
    number = len(requested)
    key(folder=None)
    assert len(requested) == number


def test_a_damaged_graph_is_compiled_anew(compiled, tmp_path):
    compiled()
    [graph] = [file for file in written(tmp_path) if file.endswith(".mindir")]
    for damage in (os.remove, lambda path: os.truncate(path, 2)):
        damage(graph)
        assert compiled() == (1, 0) and compiled() == (0, 1)


def test_a_run_has_its_step_kept(cifar_dir, tmp_path, monkeypatch):
    requested = []
    monkeypatch.setattr(losses.training.step_cache, "compile_cached",
                        lambda cell, inputs, folder, *_: requested.append((inputs, folder)))
    launch = TrainStep.train_batch_async
    monkeypatch.setattr(TrainStep, "train_batch_async",
                        lambda step, *batch: [requested.append(batch), launch(step, *batch)][1])
    monkeypatch.chdir(tmp_path)
    words = ("--method", "erm", "--total_epoch", "1", "--compile_cache", "kept")
    main.main(arguments(cifar_dir, tmp_path / "logs", *words))
    (inputs, folder), batch, *_ = requested
    assert folder == str(tmp_path / "kept")
    assert [(t.shape, t.dtype) for t in inputs] == [(t.shape, t.dtype) for t in batch]


def test_only_the_first_graph_of_a_process_is_kept(compiled, tmp_path):
    compiled()
    cell = Cell()
    compile_cache.compile_cached(cell, (), str(tmp_path), "second", print)
    assert not cell.compiled and len(os.listdir(tmp_path)) == 1


def test_trouble_with_the_folder_is_said_and_leaves_the_step_as_it_is(compiled, tmp_path):
    (tmp_path / "file").write_text("")
    assert compiled(folder=tmp_path / "file") == (0, 0)  # it is compiled when it is called
    [line] = compiled.said
    assert line.startswith(f"warning: --compile_cache {tmp_path / 'file'}: ") and line.endswith("step is not kept")


def test_what_killed_processes_have_left_is_removed_after_an_hour(compiled, tmp_path):
    compiled()
    [graph] = os.listdir(tmp_path)
    old = tmp_path / f".0{TMP_MARK}.{graph}"
    os.mkdir(old)
    os.utime(old, (0, 0))
    assert compiled() == (0, 1) and os.listdir(tmp_path) == [graph]
