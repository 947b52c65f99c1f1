"""The requirements of MindSpore's plugins for GPUs and for Ascend's NPUs. This module does not import MindSpore.

It loads the CUDA libraries of packages before MindSpore is imported, and names missing requirements.

MindSpore 2.8 looks for a plugin when it is imported. It looks for the GPU plugin only if `CUDA_HOME/bin/nvcc` prints
the CUDA version. PyPI's CUDA 11 packages have no nvcc. Their libraries lie in folders that the dynamic linker does not
search, and a running process cannot change its own search paths. `cuda_on_path` therefore loads the libraries, after
which the linker finds them by name. It also makes MindSpore run the `nvcc` beside this file.
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

TARGETS = ("Ascend", "GPU", "CPU")  # device targets of MindSpore, best first

CUDA = "11.6"  # of the two GPU plugins, this one fits the packages; cuda/bin/nvcc prints the same version
GPU_PLUGIN, ASCEND_PLUGIN = f"libmindspore_gpu.so.{CUDA}", "libmindspore_ascend.so.2"
REQUIREMENTS = "utils/requirements_gpu.txt"
# The libraries that the GPU plugin needs, by package. A library comes after the libraries that it depends on.
CUDA_PACKAGES = {
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
# A program that prints the driver's status, 0 if it has a GPU. It runs in a separate process, so that this process may
# still fork.
ASK_DRIVER = """
import ctypes, sys
driver, count = ctypes.CDLL(sys.argv[1]), ctypes.c_int(0)
print(driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or (0 if count.value else "no device"))
"""


def folders(package):
    """Return the folders of an import package, several or none, without importing it."""
    spec = importlib.util.find_spec(package)
    return [] if spec is None else list(spec.submodule_search_locations)


def find_in_package(package, pattern):
    """Return the first file of an import package that matches a glob pattern, or None."""
    return next((os.path.join(folder, path) for folder in folders(package)
                 for path in glob.glob(pattern, root_dir=folder)), None)


def cuda_libraries():
    """Return the libraries of `CUDA_PACKAGES`, a dict of (package, name) to path. The path of a library that is not
    installed is None.
    """
    return {(package, name): find_in_package("nvidia", os.path.join("*", "lib", name))
            for package, names in CUDA_PACKAGES.items() for name in names}


def without_nvcc():
    """Return why MindSpore cannot run the `nvcc` beside this file, or None if it can.

    MindSpore would wait for the output for ever.
    """
    return None if os.access(NVCC, os.X_OK) else f"{NVCC} cannot be executed: chmod +x {NVCC}"


def driver_problem():
    """Return why NVIDIA's driver provides no GPU, or None if it provides one."""
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
    """Let an import of MindSpore in the body find the CUDA 11 packages.

    This does nothing unless all of the packages, the plugin and a GPU are there. If they are, a `CUDA_HOME` of another
    version does not matter.
    """
    libraries, plugin = cuda_libraries(), find_in_package("mindspore", os.path.join("lib", "plugin", GPU_PLUGIN))
    if plugin is None or None in libraries.values() or without_nvcc() or driver_problem():
        yield
        return
    try:
        for path in libraries.values():
            ctypes.CDLL(path)
    except OSError:  # `why_no_gpu` reports this if a GPU is asked for
        yield
        return
    # These paths are for two processes that MindSpore starts: ldd, which reports where CUDA is, and the compiler of
    # fused operators. MindSpore names the compiler's folder after the version in file names such as
    # libcudart.so.11.6.55, and the files of the packages lack that version.
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
    """Return why the installed MindSpore has no plugin `name`, or None if it has one."""
    if find_in_package("mindspore", os.path.join("lib", "plugin", name)) is not None:
        return None
    return (f"MindSpore {importlib.metadata.version('mindspore')} for {platform.machine()} has no plugin for {devices} "
            f"({name}); that of 2.8.0 for x86_64 has one: pip install mindspore==2.8.0")


def why_no_gpu():
    """Return one line that says why the GPU plugin cannot be loaded, and the way out; None if it has all it needs."""
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
    """Return one line that says why the Ascend plugin cannot be loaded, and the way out; None if CANN is there.

    Args:
        versions (list of str): CANN versions that fit the installed MindSpore.
    """
    if reason := without_plugin(ASCEND_PLUGIN, "Ascend"):
        return reason
    try:
        ctypes.CDLL(CANN)
        return None
    except OSError as error:
        message = str(error)
    if ASCEND_DRIVER in message:
        return (f"the NPU's driver is missing ({ASCEND_DRIVER}); install it, or start the container with it (its "
                "/usr/local/Ascend/driver mounted, and that folder's lib64/driver on LD_LIBRARY_PATH)")
    if not message.startswith(f"{CANN}:"):
        return f"CANN's {CANN} does not load ({message}); source its set_env.sh, or install it anew"
    home = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME")
    if home:
        return f"CANN's {CANN} is not on LD_LIBRARY_PATH, though ASCEND_HOME_PATH is {home}: source its set_env.sh"
    return (f"CANN is missing ({CANN}; ASCEND_HOME_PATH is not set): install a version that goes with "
            f"MindSpore {importlib.metadata.version('mindspore')} ({', '.join(versions)}), and source its set_env.sh")
