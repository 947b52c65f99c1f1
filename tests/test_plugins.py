"""Libraries that MindSpore's plugins for other devices need: found in packages, or named. Libraries, drivers and whole
packages are stand-ins. A slow test installs the packages into a new environment (6 GB, removed at the end).
"""
import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import venv

import mindspore as ms
import numpy as np
import pytest
from packaging.requirements import Requirement

from utils.runtime.device import set_up_device
from corruptions.utils.errors import UserError
from utils.runtime import plugins

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIBRARIES = [(package, name) for package, names in plugins.CUDA_PACKAGES.items() for name in names]
ONE_GPU = "int cuInit(unsigned f) { return 0; } int cuDeviceGetCount(int *n) { *n = 1; return 0; }"
needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="stand-ins for drivers take a compiler")


def library(path):
    """Put a library there that loads."""
    os.makedirs(path.parent, exist_ok=True)
    path.symlink_to(np.core._multiarray_umath.__file__)


def driver(folder, code):
    """A stand-in for NVIDIA's driver, which is compiled; its path."""
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / plugins.DRIVER], input=code, text=True,
                   check=True)
    return str(folder / plugins.DRIVER)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder in which are MindSpore's plugins, all libraries of the packages, and no driver."""
    for package, name in LIBRARIES:
        library(tmp_path / "nvidia" / package / "lib" / name)
    for name in (plugins.GPU_PLUGIN, plugins.ASCEND_PLUGIN):
        library(tmp_path / "mindspore" / "lib" / "plugin" / name)
    monkeypatch.setattr(plugins, "folders", lambda package: [str(tmp_path / package)])
    monkeypatch.setattr(plugins, "DRIVER", "libcuda_of_nobody.so.1")
    monkeypatch.setattr(plugins, "CANN", "libascendcl_of_nobody.so")
    for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def file(machine, name):
    [path] = machine.rglob(name)
    return path


def test_the_packages_have_what_the_plugin_needs():
    path = plugins.find_in_package("mindspore", os.path.join("lib", "plugin", plugins.GPU_PLUGIN))
    if path is None:
        pytest.skip("this MindSpore has no plugin for GPUs")
    needed = set(re.findall(r"^\s*(lib(?:cu|nv)\S+)", subprocess.run(["ldd", path], capture_output=True, text=True,
                                                                     check=True).stdout, re.MULTILINE))
    ours = "libcuda_ops.so.11"
    assert needed | {"libcublasLt.so.11"} == {name for _, name in LIBRARIES} | {plugins.DRIVER, ours}
    with open(os.path.join(ROOT, plugins.REQUIREMENTS), encoding="utf-8") as lines:
        named = [Requirement(line.partition("#")[0].strip()) for line in lines if not line.startswith("#")]
    assert [item.name for item in named] == list(plugins.CUDA_PACKAGES)


def test_what_is_missing_for_a_gpu_is_named_one_thing_after_the_other(machine):
    path = file(machine, "libcufft.so.10")
    path.unlink()
    path.write_text("cut short")
    reason = plugins.why_no_gpu()
    assert "libcufft.so.10 does not load" in reason and reason.endswith("--no-deps nvidia-cufft-cu11")
    path.unlink()
    library(path)
    reason = plugins.why_no_gpu()
    assert reason.startswith("NVIDIA's driver is missing (libcuda_of_nobody.so.1); install it")
    assert "cu11" not in reason and "pip" not in reason
    file(machine, "libcudnn.so.8").unlink()
    assert plugins.why_no_gpu() == ("CUDA 11's nvidia-cudnn-cu11 is missing: pip install -r "
                                    "utils/requirements_gpu.txt")
    shutil.rmtree(machine / "nvidia")
    assert all(package in plugins.why_no_gpu() for package in plugins.CUDA_PACKAGES)
    file(machine, plugins.GPU_PLUGIN).unlink()
    assert f"has no plugin for GPUs ({plugins.GPU_PLUGIN})" in plugins.why_no_gpu()


@needs_compiler
@pytest.mark.parametrize("code, reason", [
    (ONE_GPU, None), (ONE_GPU.replace("1", "0"), "it says no device"),
    ("int cuInit(unsigned f) { return 100; }", "it says 100"),
    ("int none;", "it says nothing")])
def test_a_driver_without_a_gpu_is_no_gpu(machine, monkeypatch, code, reason):
    monkeypatch.setattr(plugins, "DRIVER", driver(machine, code))
    if reason is None:
        assert plugins.why_no_gpu() is None
    else:
        assert f"finds no GPU ({reason})" in plugins.why_no_gpu()


@pytest.mark.parametrize("before", [None, "/usr/local/cuda-12"])
def test_packages_are_offered_while_mindspore_is_imported(machine, monkeypatch, before):
    monkeypatch.setattr(plugins, "driver_problem", lambda: None)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/before")
    monkeypatch.setenv("CUDA_HOME", before or "")
    if before is None:
        monkeypatch.delenv("CUDA_HOME")
    for _ in range(2):
        with plugins.cuda_on_path():
            nvcc = os.path.join(os.environ["CUDA_HOME"], "bin", "nvcc")
            message = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
            assert f"Cuda compilation tools, release {plugins.CUDA}," in message
        assert os.environ.get("CUDA_HOME") == before
    places = os.environ["LD_LIBRARY_PATH"].split(":")
    assert places == [str(machine / "mindspore" / "lib" / "plugin" / "gpu11.6"),
                      *(str(machine / "nvidia" / package / "lib") for package in plugins.CUDA_PACKAGES), "/before"]


@pytest.mark.parametrize("lost", ["driver", "nvcc", plugins.GPU_PLUGIN, "libcublasLt.so.11", "broken"])
def test_nothing_changes_where_something_is_missing(machine, monkeypatch, lost):
    if lost != "driver":
        monkeypatch.setattr(plugins, "driver_problem", lambda: None)
    if lost == "nvcc":
        (machine / "nvcc").touch(mode=0o644)
        monkeypatch.setattr(plugins, "NVCC", str(machine / "nvcc"))
        assert plugins.why_no_gpu().endswith(f"cannot be executed: chmod +x {machine / 'nvcc'}")
    elif lost != "driver":
        path = file(machine, "libcurand.so.10" if lost == "broken" else lost)
        path.unlink()
        if lost == "broken":
            path.touch()
    before = dict(os.environ)
    with plugins.cuda_on_path():
        assert dict(os.environ) == before
    assert dict(os.environ) == before


def test_what_is_missing_for_ascend_is_named(machine, monkeypatch):
    versions = ["8.2", "8.5"]
    assert re.match(r"CANN is missing \(.*: install a version that goes with MindSpore [\d.]+ \(8.2, 8.5\), and source "
                    "its set_env.sh", plugins.why_no_ascend(versions))
    monkeypatch.setenv("ASCEND_HOME_PATH", "/opt/Ascend")
    assert "ASCEND_HOME_PATH is /opt/Ascend: source its set_env.sh" in plugins.why_no_ascend(versions)
    monkeypatch.setattr(plugins, "CANN", str(file(machine, "libcudnn.so.8")))
    assert plugins.why_no_ascend(versions) is None
    for missing, message in ((plugins.ASCEND_DRIVER, "the NPU's driver is missing (libascend_hal.so)"),
                             ("libmmpa.so", "does not load (libmmpa.so: cannot open")):
        def load(name, missing=missing):
            raise OSError(f"{missing}: cannot open shared object file: No such file or directory")
        monkeypatch.setattr(ctypes, "CDLL", load)
        assert message in plugins.why_no_ascend(versions)
    file(machine, plugins.ASCEND_PLUGIN).unlink()
    assert "has no plugin for Ascend" in plugins.why_no_ascend(versions)


def test_a_device_that_is_not_there_is_refused_with_the_reason(machine, monkeypatch):
    monkeypatch.setattr(ms.hal, "is_available", lambda target: target == "CPU")
    with pytest.raises(UserError, match=r"--device_target GPU: NVIDIA's driver is missing .*; or else choose CPU$"):
        set_up_device("GPU")
    with pytest.raises(UserError, match=r"--device_target Ascend: CANN is missing .*\(.*8\.\d.*\)"):
        set_up_device("Ascend")
    monkeypatch.setattr(plugins, "why_no_ascend", lambda _: None)  # the rest is for MindSpore to say
    with pytest.raises(UserError, match=r"--device_target Ascend: \S.*; or else choose CPU$") as error:
        set_up_device("Ascend")
    assert "libmindspore_ascend.so" in str(error.value) or "does not say why" in str(error.value)


@pytest.mark.slow
@needs_compiler
def test_in_a_new_environment_the_driver_is_all_that_is_missing():
    with contextlib.suppress(OSError):
        ctypes.CDLL(plugins.DRIVER)
        pytest.skip("there is a driver")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(os.path.join(folder, "new"), with_pip=True, symlinks=True)
        python = os.path.join(folder, "new", "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-cache-dir", "-r", "requirements.txt", "-r",
                        plugins.REQUIREMENTS], cwd=ROOT, check=True)
        done = subprocess.run([python, "main.py", "--device_target", "GPU"], cwd=ROOT, capture_output=True, text=True)
        print(done.stderr)
        [line] = done.stderr.splitlines()
        assert done.returncode == 2
        assert line.startswith("main.py: error: --device_target GPU: NVIDIA's driver is missing (libcuda.so.1)")
        assert "cu11" not in line
        # With functions of the names that the plugin knows in the driver's place, MindSpore loads the plugin.
        driver(pathlib.Path(folder), ONE_GPU + "".join(f"int {name}(void) {{ return 100; }}" for name in (
            "cuDeviceGetAttribute", "cuGetErrorName", "cuLaunchKernel", "cuModuleGetFunction", "cuModuleLoadDataEx",
            "cuModuleUnload", "cuStreamSynchronize")))
        code = "from utils.runtime.device import available_targets as targets; print(targets())"
        done = subprocess.run([python, "-c", code],
                              cwd=ROOT, capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": folder})
        print(done.stdout, done.stderr)
        assert done.stdout == "['GPU', 'CPU']\n" and done.stderr == ""
