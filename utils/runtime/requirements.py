"""A check that the packages which a program of this project needs are installed.

Missing packages are reported in one line. This module imports none of these packages. A program imports this module
before any module that does.
"""
import os
import sys

from corruptions.utils import requirements
from corruptions.utils.requirements import BASICS
from utils.runtime.distributed import world_size

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Import names of all packages to their names for pip. Other packages are checked where they are needed.
PACKAGES = {"mindspore": "MindSpore", **BASICS, "safetensors": "safetensors",
            "tensorboardX": "tensorboardX", "pandas": "pandas", "jinja2": "Jinja2", "yaml": "PyYAML"}
# Folders with programs that need only `BASICS` unless they ask for more.
LIGHT = ("corruptions", "dataset", "imagenet30_filelist", "utils")


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
    names = requirements.missing_packages({name: PACKAGES[name] for name in PACKAGES if name in needed})
    if not set(names).isdisjoint(PACKAGES[package] for package in packages):
        program = f"python {command}" if command.startswith("-m ") else os.path.basename(command)
        requirements.exit_missing(program, names, _way_out(command))


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
    file, environment = os.path.join(ROOT, "requirements.txt"), os.path.join(ROOT, ".venv")
    if world_size() == 1:
        return requirements.way_out(command, file, environment)
    start = "msrun starts the first `python` in PATH; "
    activate = requirements.in_environment(environment, "activate")
    if requirements.has_environment(environment):
        return f"{start}activate the environment before msrun: source {activate}"
    if sys.prefix != sys.base_prefix:
        return f"{start}activate another environment before msrun, or: {requirements.install_command(file)}"
    return (f"{start}make an environment and activate it before msrun: "
            f"{requirements.make_command(file, environment)} && source {activate}")


require(*BASICS)
