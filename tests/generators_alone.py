"""The corruption generators without the rest: python tests/generators_alone.py [FILE.npz ...]

Makes two environments from `corruptions/requirements.txt` with venv and pip, one of the versions that the project's
`requirements.txt` allows and one of the newest. A third environment has the wheel of `corruptions/` and what it depends
on. Every command of `python -m corruptions` runs in each. The images are compared with images of the published
generators, and images of the later environments with images of the first.
"""
import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from corruptions.utils.cli import Parser, existing_file  # noqa: E402
from corruptions.utils.errors import UserError, exit_on_error  # noqa: E402

GOLDEN = sorted(glob.glob(os.path.join(ROOT, "tests", "golden", "*.npz")))
GENERATORS = os.path.join(ROOT, "corruptions")
REQUIREMENTS = os.path.join(GENERATORS, "requirements.txt")
ENVIRONMENTS = {"pinned": ("-c", os.path.join(ROOT, "requirements.txt")), "newest": ("--upgrade",)}
COMMANDS = ("array images.npy arrays -c all+bar --severity 3 --workers 2",
            "folder images folders -c all+bar --severity 3 --workers 2", "preview images/0.png",
            "dataset cifar10 -c fog --workers 1")

# What runs in an environment, with paths as its arguments.
PREPARE = """
import os, sys
import numpy as np
from corruptions.images import write_image
from tests.cifar_files import make_cifar
with np.load(sys.argv[1]) as golden:
    images = np.stack([golden[key] for key in golden.files if key.startswith("image-")])
np.save("images.npy", images)
for number, image in enumerate(images):
    write_image(os.path.abspath(f"images/{number}.png"), image, "png")
make_cifar("data")
"""
RECORD = """
import sys
from tests.corruption_errors import record_corruptions
record_corruptions(*sys.argv[1:])
"""
COMPARE = """
import json, sys
import cv2, numpy, PIL, scipy
from corruptions import corrupt
corrupt(numpy.zeros((8, 8), numpy.uint8), "fog", 1)
assert "mindspore" not in sys.modules, "corruptions imports MindSpore"
from tests.corruption_errors import compare_corruptions, is_tolerable
versions = ", ".join(f"{name} {module.__version__}" for name, module in (
    ("numpy", numpy), ("opencv-python", cv2), ("scipy", scipy), ("pillow", PIL)))
results = [compare_corruptions(path) for path in sys.argv[1:]]
passed = all(is_tolerable(name, *errors) for result in results for name, errors in result.items())
print(json.dumps({"versions": versions, "results": results, "passed": passed}))
"""


def golden_file(path):
    """A type for files in the format of `golden/corruptions_32.npz`, as far as their names tell."""
    path = existing_file(path)
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except zipfile.BadZipFile:
        names = ()
    if not {"image-0.npy", "seed_offset.npy"} <= set(names):
        raise argparse.ArgumentTypeError(f"{path}: not in the format of tests/golden/corruptions_32.npz")
    return path


def make_environment(folder, pip_options):
    """Install the generators' packages into a new environment; return its Python.

    Raises:
        UserError: pip has failed.
    """
    venv.create(folder, with_pip=True, symlinks=True)
    python = os.path.join(folder, "bin", "python")
    run("pip install", [python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS, *pip_options], ROOT)
    return python


def install_wheel(folder, builder):
    """Build the wheel of `corruptions/` and install it with its dependencies and the frost textures; return its Python.

    Args:
        folder (str): folder of the new environment.
        builder (str): Python whose pip builds the wheel.

    Raises:
        UserError: pip has failed.
    """
    venv.create(folder, with_pip=True, symlinks=True)
    python = os.path.join(folder, "bin", "python")
    run("pip wheel", [builder, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, GENERATORS], folder, None)
    [wheel] = glob.glob(os.path.join(folder, "*.whl"))
    run("pip install", [python, "-m", "pip", "install", "-q", wheel], folder, None)
    run("pip install", [python, "-m", "pip", "install", "-q", "--no-deps", "imagecorruptions"], folder, None)
    return python


def run(title, command, folder, path=ROOT):
    """Run a command in a folder, where it finds the modules in the folder `path`; return what it prints.

    Raises:
        UserError: it has failed; with its title and the last line that it said.
    """
    environment = {**os.environ, "PYTHONNOUSERSITE": "1", "PYTHONPATH": path or ""}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        message = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise UserError(f"{title}: failed with status {done.returncode} and said {message}")
    return done.stdout


def table(titles, results):
    """Print, for each corruption that differs anywhere, the share of values that do and the largest difference.

    Args:
        titles (iterable of str): of the columns.
        results (list of dict): of each column, as in `compare_corruptions`.
    """
    differ = [name for name in results[0] if any(result[name][1] for result in results)]
    if differ:
        print(" " * 34 + "".join(f"  {title:>20s}" for title in titles))
    for name in differ:
        print(f"  {name:32s}" + "".join(f"  {100 * share:9.4f} %, by {largest:3d}"
                                        for share, largest in (result[name] for result in results)))
    print(f"  {len(results[0]) - len(differ)} corruptions: no value differs")


def check_wheel(folder, files, paths):
    """Use an installed wheel from another folder than the project's. Return what `COMPARE` prints, a dict.

    Args:
        folder (str): folder of the new environment.
        files (str): folder with the images to corrupt.
        paths (list of str): files to compare with.
    """
    python, work = install_wheel(folder, sys.executable), f"{folder}-files"
    os.makedirs(work)
    shutil.copytree(os.path.join(files, "images"), os.path.join(work, "images"))
    shutil.copy(os.path.join(files, "images.npy"), work)
    os.mkdir(os.path.join(work, "tests"))  # the comparison's file alone
    shutil.copy(os.path.join(ROOT, "tests", "corruption_errors.py"), os.path.join(work, "tests"))
    program = os.path.join(os.path.dirname(python), "corruptions")
    for command in COMMANDS:
        if not command.startswith("dataset"):  # part of the project
            run(f"wheel, corruptions {command}", [program, *command.split()], work, None)
    result = json.loads(run("wheel, comparing", [python, "-c", COMPARE, *paths], work, None))
    print(f"wheel: {result['versions']}; all commands work", flush=True)
    return result


def check(paths, folder):
    """Make the environments in a folder, use them, print what differs; return True if all is within tolerance."""
    recorded, result = [], {}
    for name, pip_options in ENVIRONMENTS.items():
        python = make_environment(os.path.join(folder, name), pip_options)
        work = os.path.join(folder, f"{name}-files")
        os.mkdir(work)
        run(f"{name}, images to corrupt", [python, "-c", PREPARE, paths[0]], work)
        for command in COMMANDS:
            run(f"{name}, python -m corruptions {command}", [python, "-m", "corruptions", *command.split()], work)
        result[name] = json.loads(run(f"{name}, comparing", [python, "-c", COMPARE, *paths, *recorded], work))
        print(f"{name}: {result[name]['versions']}; all commands work", flush=True)
        if not recorded:
            recorded = [os.path.join(folder, "recorded.npz")]
            run(f"{name}, recording", [python, "-c", RECORD, paths[0], *recorded], work)
    result["wheel"] = check_wheel(os.path.join(folder, "wheel"), work, [*paths, *recorded])
    for number, path in enumerate(paths):
        print(f"{path}: values that differ from the published ones")
        table(result, [item["results"][number] for item in result.values()])
    print("other sizes, grey images, every corruption: values that differ from the pinned ones")
    table(["newest", "wheel"], [result[name]["results"][-1] for name in ("newest", "wheel")])
    return all(item["passed"] for item in result.values())


def main(argv=None):
    parser = Parser(prog="generators_alone.py", description="Run the corruption generators in environments of their "
                    "own, with the pinned and with the newest versions, and compare their images.")
    parser.add_argument("files", nargs="*", type=golden_file, default=GOLDEN, metavar="FILE.npz",
                        help="in the format of tests/golden/corruptions_32.npz; without any those of tests/golden")
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog), tempfile.TemporaryDirectory() as folder:
        return 0 if check(args.files, folder) else 1


if __name__ == "__main__":
    sys.exit(main())
