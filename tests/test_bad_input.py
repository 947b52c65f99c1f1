"""Bad input, drawn at random: whatever an option is given and whatever has happened to a file, a program says one line
and ends with status 2, or goes on because the input was good after all.
"""
import collections
import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from corruptions.jobs.settings import SETTINGS_FILE
from models import create_model
from models.weight_files import read_weights, write_weights
from tests.bad_input import (
    EVALUATION,
    FILES,
    call,
    damage,
    files_below,
    make_place,
    option_cases,
    programs,
    require_refused_or_good,
    without_work,
)

CI, MANY = 30, 250  # cases of each of the two tests


def cases(number):
    return settings(max_examples=number, deadline=None, derandomize=True, database=None,
                    suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Stand in a folder with good files; call what is given to have them good again. Prints what was drawn."""
    outer, before = tmp_path_factory.mktemp("bad"), os.getcwd()
    here, kept = str(outer / "here"), str(outer / "kept")
    tally, patch = collections.Counter(), pytest.MonkeyPatch()
    os.mkdir(here)
    os.chdir(here)
    patch.setattr("losses.training.run.run", lambda *_: None)
    make_place()
    without_work(patch)
    shutil.copytree(here, kept)
    good = files_below(".")

    def anew():
        now = files_below(".")
        for path in now.keys() - good.keys():
            os.remove(path)
        for path in good:
            if now.get(path) != good[path]:
                if os.path.isdir(path):
                    shutil.rmtree(path)
                shutil.copy2(os.path.join(kept, path), path)  # times, too
        return tally
    yield anew
    patch.undo()
    os.chdir(before)
    print(dict(tally))


def try_option(place, case):
    """A program with an option that may be bad."""
    name, argv, named = case
    tally = place()
    result = require_refused_or_good(programs()[name], argv, named)
    event(f"{name}: {result}")
    tally[f"options {result}"] += 1


def try_file(place, path, data):
    """A program that reads a file that has been damaged."""
    name, argv = FILES[path]
    tally = place()
    path = os.path.normpath(path)
    kind = damage(path, data.draw)
    # A changed byte may make other images or settings of it, which another file beside it does not go with.
    named = [os.path.basename(path), os.path.dirname(path) or path, os.getcwd()]
    result = require_refused_or_good(programs()[name], argv, named)
    event(f"{os.path.basename(path)}, {kind}: {result}")
    tally[f"files {result}"] += 1


def test_the_good_files_are_good(place):
    """Else the tests below would find everything refused, whatever was drawn."""
    every = programs()
    for path, (name, argv) in FILES.items():
        place()
        assert call(every[name], argv)[0] in (None, 0), path
    for name, program in every.items():
        place()
        assert call(program, program.good)[0] in (None, 0), name


def json_with(**changes):
    """A change of a JSON file: other values."""
    return lambda content: json.dumps({**json.loads(content), **changes}).encode()


def without(key):
    """A change of a JSON file: a key less."""
    def change(content):
        values = json.loads(content)
        del values[key]
        return json.dumps(values).encode()
    return change


def compressed(content):
    """The same archive, compressed, as it could be unpacked to more than there is memory."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(len(old.read(name))))
    return packed.getvalue()


def asking_for_code(content):
    """An archive whose pickle names a function, and is damaged after that."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\nX\xff\xff\xff\x7f")
    return packed.getvalue()


def change_file(path, change):
    """Give a file the content that a function makes of what it had."""
    with open(path, "rb") as file:
        content = file.read()
    changed = change(content)
    assert changed != content
    with open(path, "wb") as file:
        file.write(changed)


@pytest.mark.parametrize("name, words, culprit", [
    ("main.py", ["--total_epoch=" + "9" * 400], "--total_epoch"),  # more than a float holds
    ("main.py", ["--eval_batch_size=" + "9" * 30], "--eval_batch_size"),
    ("main.py", ["--lr=1e300"], "--lr"),
    ("main.py", ["--batch_size=--"], "--batch_size"),  # which argparse takes away
    ("main.py", ["--data_dir="], "--data_dir"),
    ("main.py", ["--desc=\udcff"], "--desc"),  # of a byte that is not text
    ("main.py", ["--init_checkpoint=a\nb"], "a\\nb: no such file"),
    ("main.py", ["-d", "imagenet30", "--data_dir", "trees", "-b", "2", "-n", "3", "--filelist_dir", "split.csv"],
     "--filelist_dir"),
    ("prepare_dataset.py", ["-o", "flat"], "--output flat"),
    ("preview", ["-o", "folder.png"], "--output folder.png"),
    ("array", ["--shard=--"], "--shard"),
    ("prepare_dataset.py", ["-d", "folder", "--data_dir", "images", "--image_size", "100000"], "--image_size"),
], ids=lambda value: None)
def test_options_that_were_once_accepted_or_crashed(place, name, words, culprit):
    place()
    os.makedirs("folder.png", exist_ok=True)
    program = programs()[name]
    assert require_refused_or_good(program, program.good + words, [culprit]) == "refused"


NESTED = b"[" * 10 ** 5
ENDLESS = b'"' + b"x" * 2 ** 24  # longer than a field of a table may be, also where a library has raised that to 10 MiB


@pytest.mark.parametrize("path, change", [
    ("split.csv", lambda content: content.replace(b"severity", b"severity\n" + b"9" * 30 + b",0,0", 1)),
    ("split.csv", lambda content: content + ENDLESS),
    ("split.csv", lambda content: content.replace(b"validation", b"-1")),
    ("data/CIFAR-10-C/test/2/labels.npy", lambda content: content.replace(b"}", b"(", 1)),
    ("data/CIFAR-10-C/test/2/labels.npy", lambda content: content.replace(b"(20,), }".ljust(24), b"(9" + b"0" * 15 +
                                                                          b",), }  ")),
    ("run/config.json", lambda _: b"[]"),
    ("run/config.json", lambda _: NESTED),
    ("run/config.json", without("batch_size")),
    ("run/config.json", without("total_epoch")),
    ("run/config.json", json_with(batch_size=0)),
    ("run/config.json", json_with(lr=None)),
    ("run/config.json", json_with(dataset="cifar1p")),
    ("run/config.json", json_with(corruption="gaussian_noisf")),
    ("run/config.json", json_with(keep_epochs=7)),
    ("run/config.json", json_with(classes=5)),
    ("run/./config.json", json_with(model=5)),
    ("run/./config.json", json_with(data_dir=5)),
    ("run/./config.json", json_with(data_dir=None)),
    ("run/./config.json", json_with(classes=[None, "cat"])),
    ("run/./config.json", json_with(eval_batch_size="x")),
    ("python/cifar-10-batches-py/data_batch_1", lambda _: b"\x80\x02}r\xff\xff\xff\x7f."),  # 32 GiB for its memo
    ("weights.pth", asking_for_code),
    ("weights.pth", compressed),
    (EVALUATION, json_with(corrupted={"contrast": {"accuracy": [9.5] * 5}})),
    (EVALUATION, json_with(fingerprints=["x"])),
    (EVALUATION, json_with(dataset=["cifar10"])),
    ("both/comparison.json", lambda _: b'{"erm": "erm"}'),
    ("both/comparison.json", lambda _: b'[{"name": "erm"}]'),
    ("both/comparison.json", lambda _: b'[{"name": "erm", "folder": "../run"}]'),
    ("both/comparison.json", lambda _: NESTED),
    ("begun/ended/sources.csv", lambda content: content + b"\0"),
    ("begun/ended/sources.csv", lambda content: content + ENDLESS),
    ("begun/ended/sources.csv", lambda content: content.replace(b"crc32", b"crc31")),
    ("begun/ended/sources.csv", lambda content: content + b"acorn/x.JPEG,,5"),
    ("begun/ended/" + SETTINGS_FILE, lambda _: b"[1]"),
], ids=lambda value: None)
def test_damage_that_once_crashed(place, path, change):
    place()
    name, argv = FILES[path]
    change_file(path, change)
    assert require_refused_or_good(programs()[name], argv, [os.path.basename(path), os.path.dirname(path)]) == "refused"


@pytest.mark.parametrize("path, content", [
    ("run/results.json", b"{}"), ("run/results.json", b'{"epochs": "x"}'), ("run/cost.json", b"{}"),
    ("run/cost.json", b'[1]'), ("run/results.json", NESTED)])
def test_records_that_a_run_writes_anew_may_be_damaged(place, path, content):
    place()
    name, argv = FILES[path]
    with open(path, "wb") as file:
        file.write(content)
    assert call(programs()[name], argv) == (None, [])


SHARDS = {"shards": 2, "images": 4, "ended": [1]}


@pytest.mark.parametrize("path, change", [
    ("begun/array/1/.contrast.npy.partial.json", lambda _: b"[1]"),
    ("begun/array/1/.contrast.npy.partial.json", lambda _: NESTED),
    *(("begun/array/1/.contrast.npy.partial.json", json_with(done=done)) for done in (None, "x", -1, 1.5, 9, [1])),
    ("begun/array/1/.contrast.npy.partial", lambda content: content[:200]),
    ("begun/folder/.shards.json", lambda _: b"[1]"),
    ("begun/folder/.shards.json", lambda _: NESTED),
    *(("begun/folder/.shards.json", json_with(**values)) for values in (
        {"contrast/1": 5}, {"contrast/1": {**SHARDS, "ended": None}}, {"contrast/1": {**SHARDS, "shards": []}},
        {"contrast/1": {"ended": [1]}}, {"contrast": 5}, {"fog": 3}, {"": SHARDS}, {"\0/1": SHARDS})),
], ids=lambda value: None)
def test_what_an_interrupted_job_has_written_may_be_damaged(place, path, change):
    place()
    name, argv = FILES[path]
    change_file(path, change)
    assert call(programs()[name], argv) == (0, [])


@pytest.mark.parametrize("path", ["weights.ckpt", "weights.pth", "weights.safetensors"])
def test_weights_that_are_not_finite_are_refused(place, path):
    place()
    result = read_weights(path, create_model("wideresnet10", 10))
    result.tensors["fc.bias"].array[0] = np.nan
    os.chmod(path, 0o644)
    write_weights(path, result, create_model("wideresnet10", 10))
    name, argv = FILES[path]
    assert require_refused_or_good(programs()[name], argv, [f"{path}: fc.bias"]) == "refused"


@cases(CI)
@given(case=option_cases())
def test_bad_options(place, case):
    try_option(place, case)


@cases(CI)
@given(path=st.sampled_from(list(FILES)), data=st.data())
def test_damaged_files(place, path, data):
    try_file(place, path, data)


@pytest.mark.slow
@cases(MANY)
@given(case=option_cases())
def test_many_bad_options(place, case):
    try_option(place, case)


@pytest.mark.slow
@cases(MANY)
@given(path=st.sampled_from(list(FILES)), data=st.data())
def test_many_damaged_files(place, path, data):
    try_file(place, path, data)
