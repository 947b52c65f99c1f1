"""What MindSpore's plugins for GPUs and for Ascend's NPUs need of a machine: CUDA's libraries out of packages are made
known to it before it is imported, and what is missing is named. This does not import MindSpore itself.

MindSpore 2.8 looks for a plugin when it is imported, and for that of GPUs only where `CUDA_HOME/bin/nvcc` says which
version of CUDA is there. PyPI's CUDA 11 packages have no nvcc, and their libraries lie where the dynamic linker does
not look, whose paths a running process cannot change for itself. So `cuda_on_path` loads the libraries, after which the
linker finds them by name, and has MindSpore ask the `nvcc` beside this file.
"""
import contextlib
import ctypes
import glob
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys

CUDA = "11.6"  # of the two plugins for GPUs the one that goes with the packages, as cuda/bin/nvcc says, too
GPU_PLUGIN, ASCEND_PLUGIN = f"libmindspore_gpu.so.{CUDA}", "libmindspore_ascend.so.2"
REQUIREMENTS = "utils/requirements_gpu.txt"
# What the plugin for GPUs needs, by package, each library after those that it needs itself.
PACKAGES = {
    "nvidia-cuda-runtime-cu11": ("libcudart.so.11.0",),
    "nvidia-cublas-cu11": ("libcublasLt.so.11", "libcublas.so.11"),
    "nvidia-cuda-nvrtc-cu11": ("libnvrtc.so.11.2",),
    "nvidia-cufft-cu11": ("libcufft.so.10",),
    "nvidia-curand-cu11": ("libcurand.so.10",),
    "nvidia-cusparse-cu11": ("libcusparse.so.11",),
    "nvidia-cusolver-cu11": ("libcusolver.so.11",),
    "nvidia-cudnn-cu11": ("libcudnn.so.8",),
}
NVCC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cuda", "bin", "nvcc")
DRIVER, CANN, ASCEND_DRIVER = "libcuda.so.1", "libascendcl.so", "libascend_hal.so"
# Prints the driver's status, 0 if it has a GPU; in a process of its own, so that this one may still fork as it likes.
ASK_DRIVER = """
import ctypes, sys
driver, count = ctypes.CDLL(sys.argv[1]), ctypes.c_int(0)
print(driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or (0 if count.value else "no device"))
"""


def folders(package):
    """Where an import package is, which may be in several places or in none; it is not imported."""
    spec = importlib.util.find_spec(package)
    return [] if spec is None else list(spec.submodule_search_locations)


def find_in_package(package, pattern):
    """The first file of an import package that goes with a pattern, or None."""
    return next((os.path.join(folder, path) for folder in folders(package)
                 for path in glob.glob(pattern, root_dir=folder)), None)


def cuda_libraries():
    """The libraries of `PACKAGES`: a dict from (package, name) to their paths, None for what is not installed."""
    return {(package, name): find_in_package("nvidia", os.path.join("*", "lib", name))
            for package, names in PACKAGES.items() for name in names}


def without_nvcc():
    """Why MindSpore cannot ask the `nvcc` here, or None where it can; it would wait for the answer for ever."""
    return None if os.access(NVCC, os.X_OK) else f"{NVCC} cannot be executed: chmod +x {NVCC}"


def driver_problem():
    """Why NVIDIA's driver gives no GPU, or None where it gives one."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return (f"NVIDIA's driver is missing ({DRIVER}); install it (on Debian: apt install nvidia-driver), or start "
                "the container with it (docker run --gpus all)")
    status = subprocess.run([sys.executable, "-I", "-c", ASK_DRIVER, DRIVER], capture_output=True, text=True).stdout
    if status.strip() != "0":
        return f"NVIDIA's driver finds no GPU (it says {status.strip() or 'nothing'}); nvidia-smi shows what it finds"
    return None


@contextlib.contextmanager
def cuda_on_path():
    """Within this, MindSpore's import finds the CUDA 11 packages. It does nothing unless there are all of them, the
    plugin and a GPU. A `CUDA_HOME` of another version does not matter then.
    """
    libraries, plugin = cuda_libraries(), find_in_package("mindspore", os.path.join("lib", "plugin", GPU_PLUGIN))
    if plugin is None or None in libraries.values() or without_nvcc() or driver_problem():
        yield
        return
    try:
        for path in libraries.values():
            ctypes.CDLL(path)
    except OSError:  # `why_no_gpu` says so to whoever wants a GPU
        yield
        return
    # For processes that MindSpore starts: ldd, which it asks where CUDA is, and the compiler of fused operators, whose
    # folder it names after the version in names such as libcudart.so.11.6.55; those of the packages lack it.
    places = [os.path.join(os.path.dirname(plugin), f"gpu{CUDA}"), *map(os.path.dirname, libraries.values()),
              *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(dict.fromkeys(filter(None, places)))
    before = os.environ.get("CUDA_HOME")
    os.environ["CUDA_HOME"] = os.path.dirname(os.path.dirname(NVCC))
    try:
        yield
    finally:
        del os.environ["CUDA_HOME"]
        if before is not None:
            os.environ["CUDA_HOME"] = before


def without_plugin(name, devices):
    """Why the installed MindSpore has no plugin of that name, or None where it has one."""
    if find_in_package("mindspore", os.path.join("lib", "plugin", name)) is not None:
        return None
    return (f"MindSpore {importlib.metadata.version('mindspore')} for {platform.machine()} has no plugin for {devices} "
            f"({name}); that of 2.8.0 for x86_64 has one: pip install mindspore==2.8.0")


def why_no_gpu():
    """What keeps the plugin for GPUs from being loaded, and the way out, in one line; None if there is all it needs."""
    libraries = cuda_libraries()
    missing = list(dict.fromkeys(package for (package, _), path in libraries.items() if path is None))
    if reason := without_plugin(GPU_PLUGIN, "GPUs"):
        return reason
    if missing:
        return f"CUDA 11's {', '.join(missing)} {'are' if missing[1:] else 'is'} missing: pip install -r {REQUIREMENTS}"
    for (package, name), path in libraries.items():
        try:
            ctypes.CDLL(path)
        except OSError as error:
            return f"{name} does not load ({error}): pip install --force-reinstall --no-deps {package}"
    return without_nvcc() or driver_problem()


def why_no_ascend(versions):
    """What keeps the plugin for Ascend from being loaded, and the way out, in one line; None if CANN is there.

    Args:
        versions (list of str): of CANN, that go with the installed MindSpore.
    """
    if reason := without_plugin(ASCEND_PLUGIN, "Ascend"):
        return reason
    try:
        ctypes.CDLL(CANN)
        return None
    except OSError as error:
        said = str(error)
    if ASCEND_DRIVER in said:
        return (f"the NPU's driver is missing ({ASCEND_DRIVER}); install it, or start the container with it (its "
                "/usr/local/Ascend/driver mounted, and that folder's lib64/driver on LD_LIBRARY_PATH)")
    if not said.startswith(f"{CANN}:"):
        return f"CANN's {CANN} does not load ({said}); source its set_env.sh, or install it anew"
    home = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME")
    if home:
        return f"CANN's {CANN} is not on LD_LIBRARY_PATH, though ASCEND_HOME_PATH is {home}: source its set_env.sh"
    return (f"CANN is missing ({CANN}; ASCEND_HOME_PATH is not set): install a version that goes with "
            f"MindSpore {importlib.metadata.version('mindspore')} ({', '.join(versions)}), and source its set_env.sh")
