"""Fixtures of the tests of bad input: a place with one good file of every kind, values that options may be given, ways
to damage a file, and what a program must do with all of it.
"""
import contextlib
import io
import json
import os
import pickle
import re
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass

import mindspore as ms
import numpy as np
import pytest
from hypothesis import strategies as st

import corruptions.jobs.arrays
import main
from corruptions import commands as corruption_commands
from corruptions import parser as corruption_parser
from corruptions.__main__ import main as corrupt_main
from corruptions.evaluation.metrics import CalibrationScores
from corruptions.evaluation.record import to_dict, write_evaluation
from corruptions.jobs.settings import SETTINGS_FILE
from corruptions.utils.errors import one_line
from corruptions.utils.files import write_json
from corruptions.weather import FROST_FILES
from dataset import load_source, prepare_dataset
from dataset.corrupted import LazyCorruptedArray, generate
from dataset.fingerprints import joint_fingerprint
from dataset.poisson import poisson_split
from dataset.sources.imagenet30 import begin_lists, listed_split
from dataset.splits import write_split
from losses.config.options import create_parser
from losses.evaluation.predict import describe_network
from models import create_model
from models.state_dict import Weights
from models.torch_names import torch_name
from models.weight_files import read_weights, write_weights
from tests.cifar_files import make_cifar
from tests.fashion_files import make_fashion
from tests.image_trees import make_folder, make_imagenet30, make_tinyimagenet, picture, save
from tests.published_files import make_stacked
from utils.records.checkpoint import newest_checkpoint, write_checkpoint
from utils.records.cost import ResourceUsage, peak_memory, reset_peak_memory
from utils.records.reading import is_finished

MOST_MEMORY = 2  # GiB
MARKER = "the_pickle_has_run"
EVALUATION = "evaluation_contrast.json"


class Accepted(BaseException):
    """The input was good, and the work would begin now."""


def accept(*_, **__):
    raise Accepted


def go_on(settings, data, folder):
    """Read what a run reads when it goes on, in place of `losses.training.run.run`."""
    is_finished(folder.path, settings.method.total_epoch)
    if newest_checkpoint(folder.path) is not None:
        ResourceUsage(folder.file("cost.json"), True).totals()
    raise Accepted


def in_begun(work):
    """Do what little work there is in the folder 'begun', which reads what is there while it works; with any other
    target, the second argument, stop before."""
    def work_in_begun(*args, **options):
        if "begun" not in str(args[1]):
            raise Accepted
        return work(*args, **options)
    return work_in_begun


def without_work(monkeypatch):
    """Have the programs stop where everything has been read and the work would begin, and no download succeed."""
    for target in ("losses.comparison.runs.write_json", "losses.evaluation.corruptions.evaluate_network",
                   "losses.evaluation.baselines.evaluate_network", "dataset.corrupted.generate",
                   "dataset.store_corrupted.generate", "dataset.store_corrupted.open_corrupted",
                   "corruptions.commands.write_image_file", "corruptions.commands.plot_image_grid",
                   "corruptions.commands.connect"):
        monkeypatch.setattr(target, accept)
    for name in ("corrupt_folder", "write_arrays"):
        monkeypatch.setattr(corruption_commands, name, in_begun(getattr(corruption_commands, name)))
    monkeypatch.setattr("losses.training.run.run", go_on)
    for module in ("cifar", "fashion_mnist"):
        monkeypatch.setattr(f"dataset.sources.{module}.URL", "http://127.0.0.1:9/")  # nothing listens there


# ---------------------------------------------------------------------------------------------------------------------
# The place

@dataclass(frozen=True)
class Program:
    """A program, or one of its commands.

    Attributes:
        main (callable): as in `main.main`.
        parser (argparse.ArgumentParser): that the options are of.
        good (list of str): words with which it goes on, from the place.
        command (list of str): words that stand before all others.
    """

    main: callable
    parser: object
    good: list
    command: list


def programs():
    """Name to `Program`."""
    commands = next(action for action in corruption_parser.create_parser()._actions if action.dest == "command").choices
    quiet = ["-c", "contrast", "--workers", "1"]
    good = {"dataset": ["cifar10", "--data_dir", "data", *quiet], "folder": ["flat", "target", *quiet],
            "array": ["array.npy", "target", *quiet], "preview": ["flat/one.jpeg", "-c", "contrast"],
            "image": ["flat/one.jpeg", "target.png", "-c", "contrast"],
            "sequence": ["array.npy", "target", "-p", "tilt", "--workers", "1"]}
    return {
        "main.py": Program(main.main, create_parser(), train(), []),
        "prepare_dataset.py": Program(prepare_dataset.main, prepare_dataset.create_parser(), prepare("cifar10"), []),
        **{name: Program(corrupt_main, parser, good[name], [name]) for name, parser in commands.items()
           if name != "list"}}  # which has no work to stop before


def train(*more):
    """Words for main.py."""
    return ["-m", "wideresnet10", "--total_epoch", "2", "-b", "8", "--data_dir", "data", "--log_dir", "logs", "-c",
            "contrast", "--num_workers", "1", *more]


def prepare(name, data_dir="data", *more):
    """Words for prepare_dataset.py."""
    return ["-d", name, "--data_dir", data_dir, "-n", "3", *more]


def make_place():
    """Write good files of every kind that the programs read into the current folder."""
    make_cifar("data", per_class=(4, 2))
    make_cifar("python", layout="python", per_class=(4, 2))
    make_fashion("fashion", per_class=(4, 2), pack=False)
    make_fashion("packed", per_class=(4, 2))
    make_folder("images", (3, 1))
    make_tinyimagenet("trees", (4, 1))
    make_imagenet30("trees", (4, 1))
    rng = np.random.default_rng(0)
    save(os.path.join("flat", "one.jpeg"), picture(rng, 40, 40))
    for name in FROST_FILES:
        save(os.path.join("frost", name), picture(rng, 60, 60))
    np.save("array.npy", rng.integers(0, 256, (3, 40, 40, 3), dtype=np.uint8))
    source = load_source("cifar10", "data")
    for part in ("train", "test"):
        generate("data", source, part, "contrast", 1, False)
    make_stacked("published", source.labels["test"], ["contrast"], 5)
    split = poisson_split(source.labels["train"], 3, 6, 0)
    write_split("split.csv", split, source.labels["train"])
    trees = load_source("imagenet30", "trees", filelist_dir=os.path.abspath("lists"))
    begin_lists(trees, listed_split(trees, 6, 0, 3))

    weights = {item.name: item for item in create_model("wideresnet10", 10).get_parameters()}
    write_checkpoint("weights.ckpt", weights)
    result = read_weights("weights.ckpt", create_model("wideresnet10", 10))
    for name in ("weights.pth", "weights.safetensors"):
        write_weights(name, result)
    main.main(train())
    [run] = os.listdir("logs")
    os.rename(os.path.join("logs", run), "run")
    write_checkpoint("run/0_model.ckpt", weights, {"epochs": 1})
    write_json("run/cost.json", {"seconds": 1.5, "peak_memory_gib": 0.5})
    table = {"accuracy": [0.5] * 6, "loss": [1.5] * 6, "images": [20] * 6}
    results = {"train_images": split.counts, "epochs": 1, "seconds": 1.5, "peak_memory_gib": 0.5, "val": table,
               "test": table}
    write_json("run/results.json", results)
    description = {"model": "wideresnet10", "dataset": "cifar10", "checkpoint": "0_model.ckpt", "epochs": 1,
                   "set": "contrast (1 corruption)", "severities": [1, 2, 3, 4, 5],
                   "fingerprints": {"none": source.test_fingerprint.to_dict(), "contrast": joint_fingerprint(
                 [LazyCorruptedArray(source, "test", "contrast", severity) for severity in range(1, 6)]).to_dict()},
             **describe_network("wideresnet10", source)}
    scores = CalibrationScores(*(0.5 for _ in CalibrationScores._fields))
    write_evaluation(EVALUATION.removesuffix(".json"), to_dict(description, scores, {"contrast": [scores] * 5}))
    os.makedirs("both")
    shutil.copytree("run", "both/erm")
    write_json("both/erm/results.json", {**results, "epochs": 2})
    write_json("both/comparison.json", [{"name": "erm", "folder": "erm", "given": {}}])
    corrupt_main(["array", "array.npy", "made", "-c", "contrast", "--workers", "1"])
    begin_jobs()


def begin_jobs():
    """An array job that was interrupted, a folder job of which one shard has ended, and one that has ended, in the
    folder 'begun'."""
    real = corruptions.jobs.arrays.corrupt_range

    def stops_early(images, name, severity, seed, start, options):
        if start == 1:
            raise KeyboardInterrupt
        return real(images, name, severity, seed, start, options)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit), captured():
        patch.setattr("corruptions.jobs.arrays.CHUNK_PIXELS", 1)
        patch.setattr("corruptions.jobs.arrays.corrupt_range", stops_early)
        corrupt_main(["array", *BEGUN_ARRAY])
    corrupt_main(["folder", *BEGUN_FOLDER, "--shard", "1/2"])
    corrupt_main(["folder", *ENDED_FOLDER])


BEGUN_ARRAY = ["array.npy", "begun/array", "-c", "contrast", "--severity", "1", "--workers", "1"]
BEGUN_FOLDER, ENDED_FOLDER = (["images", f"begun/{name}", "-c", "contrast", "--severity", "1", "--workers", "1"]
                              for name in ("folder", "ended"))
LISTED = ("prepare_dataset.py", prepare("imagenet30", "trees", "-n", "3", "--filelist_dir", "lists"))
# What is damaged: the file, and words that make a program read it.
FILES = {
    "data/cifar-10-batches-bin/data_batch_1.bin": ("main.py", train()),
    "data/cifar-10-batches-bin/test_batch.bin": ("main.py", train()),
    "data/CIFAR-10-C/train/3/contrast.npy": ("main.py", train()),
    "data/CIFAR-10-C/test/2/labels.npy": ("main.py", train()),
    "python/cifar-10-batches-py/data_batch_1": ("prepare_dataset.py", prepare("cifar10", "python")),
    "fashion/train-images-idx3-ubyte": ("prepare_dataset.py", prepare("fashion_mnist", "fashion")),
    "fashion/t10k-labels-idx1-ubyte": ("prepare_dataset.py", prepare("fashion_mnist", "fashion")),
    "packed/train-labels-idx1-ubyte.gz": ("prepare_dataset.py", prepare("fashion_mnist", "packed")),
    "images/train/acorn/acorn_0.JPEG": ("prepare_dataset.py", prepare("folder", "images")),
    "trees/tiny-imagenet-200/val/val_annotations.txt": ("prepare_dataset.py", prepare("tinyimagenet", "trees")),
    "trees/ImageNet-30-64/train/acorn/acorn_0.JPEG": LISTED,
    "lists/imagenet30_distribution_1.txt": LISTED,
    "lists/imagenet30_val.txt": LISTED,
    "lists/imagenet30_test.txt": LISTED,
    "flat/one.jpeg": ("preview", ["flat/one.jpeg", "-c", "contrast"]),
    "frost/frost1.png": ("preview", ["flat/one.jpeg", "-c", "frost", "--frost_dir", "frost"]),
    "array.npy": ("array", ["array.npy", "target", "-c", "contrast", "--workers", "1"]),
    "made/" + SETTINGS_FILE: ("array", ["array.npy", "made", "-c", "contrast", "--workers", "1"]),
    "begun/array/1/.contrast.npy.partial": ("array", BEGUN_ARRAY),
    "begun/array/1/.contrast.npy.partial.json": ("array", BEGUN_ARRAY),
    "begun/folder/.shards.json": ("folder", [*BEGUN_FOLDER, "--shard", "2/2"]),
    "begun/folder/.sources-1-of-2.csv": ("folder", [*BEGUN_FOLDER, "--shard", "2/2"]),
    "begun/ended/sources.csv": ("folder", ENDED_FOLDER),
    "begun/ended/" + SETTINGS_FILE: ("folder", ENDED_FOLDER),
    "published/contrast.npy": ("main.py", train("--test_corrupted", "published")),
    "published/labels.npy": ("main.py", train("--test_corrupted", "published")),
    "split.csv": ("main.py", train("--split", "split.csv")),
    "run/split.csv": ("main.py", ["--resume", "run"]),
    "run/config.json": ("main.py", ["--resume", "run"]),
    "run/./config.json": ("main.py", ["--evaluate", "run", "-c", "contrast"]),
    "run/results.json": ("main.py", ["--resume", "run"]),
    "run/cost.json": ("main.py", ["--resume", "run"]),
    "run/0_model.ckpt": ("main.py", ["--evaluate", "run", "-c", "contrast"]),
    "weights.ckpt": ("main.py", train("--init_checkpoint", "weights.ckpt")),
    "./weights.ckpt": ("main.py", train("--method", "jtt", "--stage_one", "weights.ckpt")),
    "weights.pth": ("main.py", train("--init_checkpoint", "weights.pth")),
    "weights.safetensors": ("main.py", train("--init_checkpoint", "weights.safetensors")),
    EVALUATION: ("main.py", ["--evaluate", "run", "-c", "contrast", "--baseline", EVALUATION]),
    "both/comparison.json": ("main.py", ["--evaluate", "both", "-c", "contrast"]),
    "both/erm/config.json": ("main.py", ["--evaluate", "both", "-c", "contrast"]),
}


# ---------------------------------------------------------------------------------------------------------------------
# Values for options

VALUES = ("", " ", "0", "-1", "1.5", "nan", "inf", "-inf", "1e999", "1e300", "9" * 30, "9" * 5000, "0x10",
          "no_such_name", "a b", "no/such/path", "flat", "split.csv", "array.npy", "split.csv/below", "\u00fc\u2603",
          "\udcff", "a\nb", "\x1b[31mred", "\r", "%s", "{0}", "'", '"', "a: --lr", "a: --lr nan", "x" * 300, "x" * 5000,
          "../..", "1/0", "host:0", "-", "--", "[1]")


@st.composite
def option_cases(draw):
    """Name of a program, its words, in which an option has a value of some kind, alone or beside another, and what an
    error may name."""
    every = programs()
    options = {name: [action for action in program.parser._actions if action.dest != "help"]
               for name, program in every.items()}
    name, first = draw(st.sampled_from([(name, action) for name, actions in options.items() for action in actions]))
    program, actions = every[name], options[name]
    chosen = [first, *draw(st.lists(st.sampled_from(actions), max_size=1))]
    argv, named = list(program.good), []
    for k, action in enumerate(chosen):
        value = draw(st.sampled_from(VALUES) | st.text(st.characters(exclude_characters="\0"), max_size=8))
        if k == 1 and action.choices and draw(st.booleans()):
            value = str(draw(st.sampled_from(list(action.choices))))
        if not action.option_strings:
            place = [item for item in actions if not item.option_strings].index(action)
            argv[place] = value.lstrip("-")
            named += [action.dest, one_line(argv[place])]
        else:
            flag = action.option_strings[-1]
            is_bare = k == 1 and action.nargs in (0, "?")
            argv.append(flag if is_bare else f"{flag}={value}" if flag.startswith("--") else flag + value)
            named += [*action.option_strings, one_line(value)]
    return name, argv, named


# ---------------------------------------------------------------------------------------------------------------------
# Damage

class Code:
    """Its pickle makes a file when it is loaded."""

    def __reduce__(self):
        return (open, (MARKER, "w"))


JSON_VALUES = (None, True, 0, -1, 10 ** 30, 1.5, float("nan"), float("inf"), "", "x", "\n", [], [1], {}, {"a": []},
               "../..", [["x"]], [None])


def _paths(value, above=()):
    """The places in what a JSON file holds."""
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*above, key))


def change_json(path, draw):
    """Give one place of a JSON file another value, or remove it."""
    with open(path) as file:
        content = json.load(file)
    *above, key = draw(st.sampled_from([item for item in _paths(content) if item]))
    inner = content
    for step in above:
        inner = inner[step]
    if draw(st.integers(0, 3)):
        inner[key] = draw(st.sampled_from(JSON_VALUES))
    else:
        del inner[key]
    with open(path, "w") as file:
        json.dump(content, file)


def change_array(path, draw):
    """Store an array with another dtype or shape, or with NaN."""
    array = np.load(path)
    dtype = draw(st.sampled_from(["uint8", "int16", "float64", "complex64", "<U3", "bool", "O", "S1", "M8[s]"]))
    changed = array.astype("u8").astype(dtype) if dtype == "M8[s]" else array.astype(dtype)
    if dtype == "float64":
        changed.flat[0] = np.nan
    shapes = [changed.shape, (0,), (changed.size,), changed.shape[:1] + (0,), (1, *changed.shape), ()]
    shape = draw(st.sampled_from(shapes))
    changed = changed.reshape(shape) if np.prod(shape) == changed.size else np.zeros(shape, changed.dtype)
    np.save(path, changed)


def change_weights(path, draw):
    """Make a weight NaN or infinite."""
    network = create_model("wideresnet10", 10)
    result = read_weights(path, network)
    array = result.tensors[draw(st.sampled_from(sorted(result.tensors)))].array
    array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from([np.nan, np.inf]))
    os.chmod(path, 0o644)
    if path.startswith("run"):
        write_checkpoint(path, {item.name: ms.Tensor(result.tensors[name].array) for item in network.get_parameters()
                                for name in [torch_name(item.name)]}, {"epochs": 1})
    else:
        write_weights(path, Weights(path, result.tensors), network)


def damage(path, draw):
    """Damage a file in a drawn way; return a word for it."""
    kinds = ["cut", "byte", "more", "empty", "random", "folder", "code", "gone"]
    suffix = os.path.splitext(path)[1]
    special = {".json": change_json, ".npy": change_array, ".ckpt": change_weights, ".pth": change_weights,
               ".safetensors": change_weights}.get(suffix)
    if special is not None:
        kinds += ["special"] * 4
    kind = draw(st.sampled_from(kinds))
    if kind == "special":
        special(path, draw)
        return kind
    with open(path, "rb") as file:
        content = bytearray(file.read())
    if kind == "cut":
        content = content[:draw(st.integers(0, len(content) - 1))]
    elif kind == "byte":  # most of what a header says stands at one of the ends
        place = draw(st.integers(0, len(content) - 1) | st.integers(0, min(200, len(content)) - 1))
        content[place] ^= draw(st.integers(1, 255))
    elif kind == "more":
        content += draw(st.binary(min_size=1, max_size=20))
    elif kind == "empty":
        content = b""
    elif kind == "random":
        content = draw(st.binary(max_size=200))
    elif kind == "code":
        content = pickle.dumps(Code(), draw(st.integers(0, 5)))
    os.remove(path)
    if kind == "folder":
        os.mkdir(path)
    elif kind != "gone":
        with open(path, "wb") as file:
            file.write(content)
    return kind


# ---------------------------------------------------------------------------------------------------------------------
# What must happen

def files_below(folder):
    """Every file below a folder, to its size and time."""
    return {os.path.join(root, name): (status.st_size, status.st_mtime_ns)
            for root, _, names in os.walk(folder) for name in names
            for status in [os.lstat(os.path.join(root, name))]}


def children():
    """The processes that this one has started and that are still there."""
    result = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/task/{task}/children") as file:
            result.update(file.read().split())
    return result


@contextlib.contextmanager
def captured():
    """Catch stdout and stderr, as strict as they are in a terminal, and what libraries write to the latter past Python;
    gives a function that returns the latter."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="") as err:
        def read():
            out.flush()
            err.flush()
            os.lseek(err.fileno(), 0, os.SEEK_SET)
            with open(os.dup(err.fileno()), encoding="utf-8", errors="replace", newline="") as again:
                return again.read()
        os.dup2(err.fileno(), 2)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield read
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def call(program, argv):
    """Call a program as a shell would.

    Returns:
        tuple: its exit status, None where it went on to its work; its lines on stderr without warnings.
    """
    status = 0
    with captured() as read, warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = lambda message, category, *_: print(category.__name__, message, file=sys.stderr)
        try:
            program.main([*program.command, *argv])
        except Accepted:
            status = None
        except SystemExit as stop:
            status = stop.code
        text = read()
    return status, [line for line in text.split("\n") if line and not line.startswith("warning:")]


def require_refused_or_good(program, argv, named):
    """Call a program with what may be bad, and make sure that it ends as it must.

    Returns:
        str: 'refused' or 'accepted'.
    """
    before, running = files_below("."), children()
    reset_peak_memory()
    memory_before = peak_memory()
    status, lines = call(program, argv)
    assert not os.path.exists(MARKER), "the pickle has run"
    assert children() <= running
    assert peak_memory() - memory_before < MOST_MEMORY
    if status in (None, 0) or status == 1 and "both" in argv:  # a run of a comparison fails, and the others do not
        assert lines == [], lines
        return "accepted"
    assert status == 2 and len(lines) == 1, (status, lines)
    assert ": error: " in lines[0] and lines[0].isprintable(), lines
    assert any(name and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", lines[0]) for name in named), (lines, named)
    assert files_below(".") == before
    return "refused"
