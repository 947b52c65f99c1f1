"""A check that the packages which a program needs are installed. Missing packages are reported in one line.

This module imports none of these packages. A program imports it before any module that does.
"""
import importlib.util
import os
import sys

from corruptions.utils.errors import print_error

# Import names of the packages that every program needs, to their names for pip.
BASICS = {"numpy": "numpy", "scipy": "scipy", "cv2": "opencv-python", "PIL": "pillow", "skimage": "scikit-image",
          "joblib": "joblib", "tqdm": "tqdm", "matplotlib": "matplotlib"}


def missing_packages(packages):
    """Return the names for pip of the packages (dict, as `BASICS`) that are not installed."""
    return [name for package, name in packages.items() if _is_missing(package)]


def _is_missing(package):
    try:
        return importlib.util.find_spec(package) is None
    except ModuleNotFoundError:
        return True


def exit_missing(program, names, way_out):
    """Exit with status 2, and one line that names missing packages.

    Args:
        program (str): name of the program, which begins the line.
        names (list of str): names for pip.
        way_out (str): what the user can do.
    """
    print_error(f"{program}: error: not installed in {sys.executable}: {', '.join(names)}; {way_out}")
    sys.exit(2)


def way_out(command, requirements, environment):
    """Return what the user of a program in a checkout can do if packages are missing.

    Args:
        command (str): the words after `python`, such as 'main.py'.
        requirements (str): path of the program's requirements.txt.
        environment (str): folder of a virtual environment, which may be missing.
    """
    python = in_environment(environment, "python")
    if has_environment(environment):
        return f"type {python} {command}"
    if sys.prefix != sys.base_prefix:
        return install_command(requirements)
    return f"{make_command(requirements, environment)}, then {python} {command}"


def has_environment(environment):
    """Whether a virtual environment is there, and this process does not run in it."""
    is_there = os.path.exists(in_environment(environment, "python"))
    return is_there and os.path.realpath(sys.prefix) != os.path.realpath(environment)


def in_environment(environment, name):
    """Return the relative path of a program in a virtual environment."""
    return os.path.relpath(os.path.join(environment, "bin", name))


def install_command(requirements):
    """Return the command that installs a requirements.txt with this Python."""
    return f"{sys.executable} -m pip install -r {os.path.relpath(requirements)}"


def make_command(requirements, environment):
    """Return the command that makes a virtual environment with a requirements.txt."""
    return (f"python3 -m venv {os.path.relpath(environment)} && "
            f"{in_environment(environment, 'pip')} install -r {os.path.relpath(requirements)}")


def require_basics(program, command):
    """Exit with status 2 if a package of `BASICS` is missing. `program` and `command` are as above."""
    names = missing_packages(BASICS)
    if not names:
        return
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    requirements = os.path.join(folder, "requirements.txt")
    if os.path.exists(requirements):  # a checkout
        exit_missing(program, names, way_out(command, requirements, os.path.join(os.path.dirname(folder), ".venv")))
    exit_missing(program, names, f"{sys.executable} -m pip install {' '.join(names)}")
