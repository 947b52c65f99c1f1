"""A check that the packages which a program of this project needs are installed.

Missing packages are reported in one line. This module imports none of these packages. A program imports this module
before any module that does.
"""
import importlib.util
import os
import sys

from utils.runtime.distributed import print_error, world_size

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Import names of packages to their names for pip: the packages that every program needs, and all packages. Other
# packages are checked where they are needed.
BASICS = {"numpy": "numpy", "scipy": "scipy", "cv2": "opencv-python", "PIL": "pillow", "skimage": "scikit-image",
          "joblib": "joblib", "tqdm": "tqdm", "matplotlib": "matplotlib"}
PACKAGES = {"mindspore": "MindSpore", **BASICS, "safetensors": "safetensors",
            "tensorboardX": "tensorboardX", "pandas": "pandas", "jinja2": "Jinja2", "yaml": "PyYAML"}
# Folders with programs that need only `BASICS` unless they ask for more, and the folder with its own requirements.txt.
LIGHT, GENERATORS = ("corruptions", "dataset", "imagenet30_filelist", "utils"), "corruptions"


def require(*packages):
    """Exit with status 2 if a program of this project lacks a package.

    Any other program gets Python's own error when it imports the package.

    Args:
        packages (str): keys of `PACKAGES` that the program is about to import.
    """
    command = _command()
    if command is None:
        return
    needed = {*packages, *(BASICS if _room(command) in LIGHT else PACKAGES)}
    missing = [name for name in PACKAGES if name in needed and _is_missing(name)]
    if not set(missing).isdisjoint(packages):
        program = f"python {command}" if command.startswith("-m ") else os.path.basename(command)
        names = ", ".join(PACKAGES[name] for name in missing)
        print_error(f"{program}: error: not installed in {sys.executable}: {names}; {_way_out(command)}")
        sys.exit(2)


def _is_missing(package):
    try:
        return importlib.util.find_spec(package) is None
    except ModuleNotFoundError:
        return True


def _command():
    """Return the running program of this project as the words after `python`, or None.

    Examples are 'main.py' and '-m models.convert'.
    """
    path, words = os.path.realpath(sys.argv[0]), sys.orig_argv
    if sys.argv[0] == "-m" or os.path.basename(path) == "__main__.py":  # the package is being imported, or is running
        module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
        return f"-m {module}" if os.path.exists(os.path.join(ROOT, module.partition(".")[0], "__init__.py")) else None
    return sys.argv[0] if sys.argv[0] and os.path.exists(path) and path.startswith(ROOT + os.sep) else None


def _room(command):
    """Return the top folder of a program in this project, such as 'models'. For main.py, return 'main.py'."""
    place = os.path.relpath(os.path.realpath(command), ROOT)
    return command[3:].partition(".")[0] if command.startswith("-m ") else place.partition(os.sep)[0]


def _way_out(command):
    environment = os.path.join(ROOT, ".venv")
    pip, python, activate = (os.path.relpath(os.path.join(environment, "bin", name))
                             for name in ("pip", "python", "activate"))
    folder = os.path.join(ROOT, GENERATORS) if _room(command) == GENERATORS else ROOT
    requirements = os.path.relpath(os.path.join(folder, "requirements.txt"))
    is_there = os.path.realpath(sys.prefix) != os.path.realpath(environment) and os.path.exists(python)
    install = f"{sys.executable} -m pip install -r {requirements}"
    make = f"python3 -m venv {os.path.relpath(environment)} && {pip} install -r {requirements}"
    if world_size() > 1:
        start = "msrun starts the first `python` in PATH; "
        if is_there:
            return f"{start}activate the environment before msrun: source {activate}"
        if sys.prefix != sys.base_prefix:
            return f"{start}activate another environment before msrun, or: {install}"
        return f"{start}make an environment and activate it before msrun: {make} && source {activate}"
    if is_there:
        return f"type {python} {command}"
    return install if sys.prefix != sys.base_prefix else f"{make}, then {python} {command}"


require(*BASICS)
