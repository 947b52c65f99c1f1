"""Weights from PyTorch and back: nothing is lost, nothing is run, and what does not fit is said in one line."""
import argparse
import collections
import contextlib
import importlib.util
import json
import logging
import os
import pathlib
import pickle
import shlex
import shutil
import subprocess
import sys
import tracemalloc
import types
import zipfile

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
import pytest
import safetensors.numpy

import losses.training.run
import main
from corruptions.utils.errors import UserError
from corruptions.utils.files import file_hash, read_json
from losses import create_step
from losses.components import OBJECTIVES, PERTURBATIONS
from models import convert, create_model, torch_files
from models.initial_weights import load_initial_weights
from models.loading import load_weights
from models.state_dict import WRAPPERS, find_state_dict
from models.torch_names import mindspore_names, torch_name
from models.unpickle import Placeholder, Tensor, interpret
from models.weight_files import read_weights
from tests.golden.record_state_dict import COUNTED, SHAPES, numbers
from tests.test_main import arguments, only_run
from utils.records.checkpoint import Progress, save_checkpoint, write_checkpoint

RECORDED = os.path.join(os.path.dirname(__file__), "golden", "state_dict.pth")  # by PyTorch
WITH_TORCH = os.environ.get("PYTHON_WITH_TORCH") or (sys.executable if importlib.util.find_spec("torch") else None)


def randomised(classes=10, seed=0, model="wideresnet10"):
    """A network whose every number is random, running statistics, too."""
    network = create_model(model, classes)
    rng = np.random.RandomState(seed)
    for parameter in network.get_parameters():
        ops.assign(parameter, ms.Tensor(rng.standard_normal(parameter.shape).astype(np.float32)))
    return network


def values(network):
    return {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}


def torch_values(network):
    """Values as in a `state_dict`, counters included."""
    result = {}
    for name, array in values(network).items():
        result[torch_name(name)] = array
        if name.endswith("moving_variance"):
            result[name.replace("moving_variance", "num_batches_tracked")] = np.array(2 ** 40 + 1)
    return result


def same(first, second):
    return list(first) == list(second) and all(
        (first[name].dtype, first[name].shape, first[name].tobytes())
        == (second[name].dtype, second[name].shape, second[name].tobytes()) for name in first)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def fails(capsys, *argv, program=convert.main, prints=False):
    """The one line with which a command stops, exit status 2; whether it `prints` something before."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        program([str(word) for word in argv])
    captured = capsys.readouterr()
    [line] = captured.err.splitlines()
    assert stop.value.code == 2 and bool(captured.out) == prints
    return line.partition(": error: ")[2]


@pytest.fixture(scope="module")
def pth(tmp_path_factory):
    """Weights of a WRN-10-1 as PyTorch has them."""
    path = str(tmp_path_factory.mktemp("weights") / "w.pth")
    torch_files.write_pth(path, torch_values(randomised()))
    return path


@pytest.fixture(scope="module")
def odd_pth(tmp_path_factory):
    """The same with numbers that are easily lost."""
    path, result = str(tmp_path_factory.mktemp("weights") / "w.pth"), torch_values(randomised())
    result["init_conv.weight"].flat[:4] = np.nan, np.inf, -0.0, 1e-45
    torch_files.write_pth(path, result)
    return path


# Round trips.


@pytest.mark.parametrize("suffix, options", [(".pth", []), (".pt", ["-m", "wideresnet10"]),
                                             (".safetensors", ["-m", "wideresnet10"])])
def test_a_state_dict_comes_back_bit_for_bit(odd_pth, tmp_path, suffix, options, capsys):
    second, checkpoint, back = (str(tmp_path / name) for name in ("a.ckpt", "b.ckpt", f"c{suffix}"))
    convert.main([odd_pth, checkpoint, *options])
    convert.main([checkpoint, back, *options])
    convert.main([back, second, *options])
    weights_then, weights_now = read_weights(odd_pth).tensors, read_weights(back).tensors
    for name in weights_then:
        assert same({name: weights_then[name].array}, {name: weights_now[name].array}), name
    assert set(weights_then) == set(weights_now)
    text = capsys.readouterr().out
    assert f"written to {back}" in text and "7 counters num_batches_tracked" in text
    assert ("all of wideresnet10 with 10 classes, none missing" in text) == bool(options)
    if suffix != ".safetensors":  # which sorts its names
        assert read(back) == read(odd_pth) and read(second) == read(checkpoint)


def test_a_checkpoint_comes_back_bit_for_bit_without_what_is_of_the_training(tmp_path, capsys):
    network = randomised()
    start, back = str(tmp_path / "start.ckpt"), str(tmp_path / "back.ckpt")
    save_checkpoint(create_step(network, "sharpdro"), start, Progress(3))
    for middle in (str(tmp_path / "w.pth"), str(tmp_path / "w.safetensors")):
        convert.main([start, middle])
        assert "left out, not weights: group_weights, global_step" in capsys.readouterr().out
        convert.main([middle, back])
        result = {name: value.asnumpy() for name, value in ms.load_checkpoint(back).items()}
        assert set(result) == set(values(network))
        for name, array in values(network).items():
            assert same({name: array}, {name: result[name]})


def test_the_network_of_a_run_is_known_from_its_folder(tmp_path, capsys):
    save_checkpoint(create_step(randomised(3), "erm"), str(tmp_path / "last_model.ckpt"), Progress(1))
    with open(tmp_path / "config.json", "w") as file:
        json.dump({"model": "wideresnet10", "dataset": "cifar10", "method": "erm"}, file)
    convert.main([str(tmp_path / "last_model.ckpt"), str(tmp_path / "w.pth")])
    assert "all of wideresnet10 with 3 classes" in capsys.readouterr().out


@pytest.mark.parametrize("part", [*OBJECTIVES, *PERTURBATIONS])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_of_every_step_only_weights_are_taken(part, optimizer, monkeypatch):
    network = nn.SequentialCell([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dense(4, 2)])
    ours = set(values(network))
    chosen = {"objective": part} if part in OBJECTIVES else {"perturbation": part}
    step = create_step(network, "erm", optimizer=optimizer, num_sub_batches=2 if part != "none" else 1, **chosen)
    stored = {parameter.name: parameter for parameter in step.get_parameters()}
    assert set(stored) > ours
    monkeypatch.setattr("models.weight_files.read_checkpoint", lambda path: stored)
    for known in (None, network):
        taken = set(read_weights("x.ckpt", known).tensors)
        # What only serves within a step is not in a checkpoint.
        assert {name for name in taken if not name.startswith("saved.")} == set(map(torch_name, ours))


def test_names_map_by_rule_and_back():
    network = nn.SequentialCell([nn.Conv2d(3, 4, 3, has_bias=True), nn.BatchNorm2d(4), nn.LayerNorm((4,)),
                                 nn.GroupNorm(2, 4), nn.Dense(4, 2), nn.BatchNorm1d(2)])
    shapes = {torch_name(name): array.shape for name, array in values(network).items()}
    assert mindspore_names(shapes) == {torch_name(name): name for name in values(network)}
    assert {name.rpartition(".")[2] for name in shapes} == {"weight", "bias", "running_mean", "running_var"}
    assert torch_name("gamma") == "weight" and torch_name("cls_token") == "cls_token"


# Files whose suffix or names are those of another program.


def test_content_tells_the_format_whatever_the_file_is_called(pth, tmp_path, capsys):
    result = torch_values(randomised())
    safetensors.numpy.save_file(result, str(tmp_path / "w.pth"))
    for path in (str(shutil.copy(pth, tmp_path / "lightning.ckpt")), str(shutil.copy(pth, tmp_path / "a.safetensors")),
                 str(tmp_path / "w.pth"), str(shutil.copy(tmp_path / "w.pth", tmp_path / "s.ckpt"))):
        network = randomised(seed=1)
        load_weights(network, path)
        assert same(values(network), values(randomised())), path
    convert.main([str(tmp_path / "lightning.ckpt"), str(tmp_path / "out.ckpt"), "-m", "wideresnet10"])
    assert "all of wideresnet10 with 10 classes, none missing" in capsys.readouterr().out


@pytest.mark.parametrize("prefix, suffix, is_wrapper", [
    ("module.", ".pth", True), ("_orig_mod.", ".safetensors", True), ("module._orig_mod.", ".pth", True),
    ("model.", ".pth", False), ("net.", ".ckpt", False), ("model.module.encoder.", ".safetensors", False)])
def test_a_prefix_that_all_names_share_is_taken_off_and_said(prefix, suffix, is_wrapper, tmp_path, capsys):
    network, path = randomised(), str(tmp_path / f"w{suffix}")
    result = {prefix + name: value for name, value in torch_values(network).items()}
    if suffix == ".ckpt":
        write_checkpoint(path, {prefix + name: ms.Tensor(value) for name, value in values(network).items()})
    elif suffix == ".pth":
        torch_files.write_pth(path, {"n_averaged": np.array(5), **result})  # as SWA's AveragedModel
    else:
        safetensors.numpy.save_file(result, path)
    second = randomised(seed=1)
    taken, _ = load_weights(second, path)
    assert taken.prefix == prefix and same(values(second), values(network))
    assert taken.left_out == (["n_averaged"] if suffix == ".pth" else [])
    target = str(tmp_path / ("out.pth" if suffix == ".ckpt" else "out.ckpt"))
    convert.main([path, target, "-m", "wideresnet10"])
    assert f"taken off, before every name: {prefix}\n" in capsys.readouterr().out
    assert set(read_weights(target).tensors) >= set(map(torch_name, values(network)))
    # Without a network the rest may be its own.
    assert read_weights(path).prefix == (prefix if is_wrapper else "")


def test_a_prefix_that_the_network_has_stays(tmp_path):
    class Wrapped(nn.Cell):
        def __init__(self, part):
            super().__init__()
            self.model = part

    path, parts = str(tmp_path / "w.pth"), [nn.Dense(3, 2), nn.Dense(3, 2)]
    for prefix, wrapped in (("model.", ""), ("module.model.", "module.")):
        torch_files.write_pth(path, {f"{prefix}weight": np.ones((2, 3), np.float32),
                                     f"{prefix}bias": np.ones(2, np.float32)})
        network = Wrapped(parts.pop())
        assert load_weights(network, path)[0].prefix == wrapped
        assert (network.model.bias.asnumpy() == 1).all()


def test_the_only_prefix_that_gives_the_whole_network_is_taken(tmp_path, capsys):
    """Lightning's files are such files; their loss may have weights, too."""
    network, path = randomised(), str(tmp_path / "w.pth")
    result = {f"model.{name}": value for name, value in torch_values(network).items()}
    torch_files.write_pth(path, {"criterion.weight": np.ones(3, np.float32), **result, "step": np.array(3)})
    second = randomised(seed=1)
    taken, _ = load_weights(second, path)
    assert same(values(second), values(network)) and taken.elsewhere == ["criterion.weight", "step"]
    convert.main([path, str(tmp_path / "w.ckpt"), "-m", "wideresnet10"])
    assert ("\ntaken are the names that begin with model., without it; left out: criterion. (1), step (1)\n"
            in capsys.readouterr().out)
    line = load_initial_weights(second, path, "wideresnet10")
    assert line.endswith("w.pth; taken are the names that begin with model., without it; left out: criterion. (1), "
                         "step (1)")
    assert fails(capsys, path, tmp_path / "v.ckpt", "-m", "preactresnet18").endswith(
        "its classifier; name another network with -m, or give --classes to see what else differs")
    torch_files.write_pth(path, {"criterion.weight": np.ones(3, np.float32), **result,
                                 "model.aux.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(UserError, match=r"has aux\.weight, unknown there; name weights of the same"):
        load_weights(second, path)


@pytest.mark.parametrize("prefixes", [("student.", "teacher."), ("module.student.", "module.teacher."),
                                      ("model.q.", "model.k.")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt"])
def test_a_file_of_two_networks_says_how_to_take_one(prefixes, suffix, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = {prefix + name: value for prefix in prefixes for name, value in torch_values(randomised()).items()}
    if suffix == ".pth":
        torch_files.write_pth("w.pth", stored)
    elif suffix == ".safetensors":
        safetensors.numpy.save_file(stored, "w.safetensors")
    else:
        write_checkpoint("w.ckpt", {prefix + name: ms.Tensor(value) for prefix in prefixes
                                    for name, value in values(randomised()).items()})
    number = len(stored) // 2 - (7 if suffix == ".ckpt" else 0)
    for options in ([], ["--classes", "10"]):
        line = fails(capsys, f"w{suffix}", "v.pth" if suffix == ".ckpt" else "v.ckpt", "-m", "wideresnet10", *options)
        assert all(f"{prefix} ({number})" in line.partition("its names begin with ")[2] for prefix in prefixes), line
    text, _, command = line.partition(", with PyTorch: ")
    assert text.endswith("; keep those of one prefix")
    if suffix != ".ckpt":  # what the code does, with a stand-in for PyTorch
        saved = {}
        torch = types.SimpleNamespace(load=lambda path, **_: stored, load_file=lambda path: stored,
                                      save=lambda kept, path: saved.update({path: kept}))
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setitem(sys.modules, "safetensors.torch", torch)
        monkeypatch.setattr(safetensors, "torch", torch, raising=False)
        [*interpreter, code] = shlex.split(command)
        assert interpreter == ["python", "-c"]
        exec(code)
        assert set(saved) == {"w_weights.pth"} and same(saved["w_weights.pth"], torch_values(randomised()))


def test_the_command_in_an_error_runs_nothing_that_a_file_names(tmp_path, capsys):
    stored = {prefix + name: value for prefix in ("$(touch owned).", "`touch owned`.") for name, value
              in torch_values(randomised()).items()}
    torch_files.write_pth(str(tmp_path / "w.pth"), stored)
    line = fails(capsys, str(tmp_path / "w.pth"), str(tmp_path / "v.ckpt"), "-m", "wideresnet10")
    subprocess.run(line.partition(", with PyTorch: ")[2].replace("python -c", "echo", 1), shell=True, cwd=tmp_path,
                   check=True)
    assert sorted(os.listdir(tmp_path)) == ["w.pth"]


@pytest.mark.parametrize("pickled", [
    b"\x80\x02}(" + b")" + b"\x85" * 400_000 + b"K\x01u.",  # hashing this key would take the whole C stack
    b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",  # and this one would take for ever
    b"\x80\x04(K\x01\x85\x85\x91.",
    b"\x80\x02ccollections\nOrderedDict\n](K\x01\x85\x85K\x01\x86e\x85R."])
def test_keys_of_a_pickle_are_plain(pickled):
    with pytest.raises(ValueError, match="the key of a dict is not a plain value"):
        interpret(pickled, None)


def test_a_network_whose_classifier_lies_elsewhere_says_which_prefixes_there_are(tmp_path, capsys):
    """DomainBed's files are such files: a network without classifier lies beside the classifier."""
    result = torch_values(randomised())
    body = {name: value for name, value in result.items() if not name.startswith("fc.")}
    stored = {**{f"featurizer.network.{name}": value for name, value in body.items()},
              "classifier.weight": result["fc.weight"], "classifier.bias": result["fc.bias"],
              **{f"network.0.network.{name}": value for name, value in body.items()},
              "network.1.weight": result["fc.weight"], "network.1.bias": result["fc.bias"]}
    torch_files.write_pth(str(tmp_path / "w.pth"), stored)
    line = fails(capsys, tmp_path / "w.pth", tmp_path / "w.ckpt", "-m", "wideresnet10")
    assert (f"its names begin with featurizer. ({len(body)}), classifier. (2), network. ({len(body) + 2}); keep" in line
            and "startswith('featurizer.network.')" in shlex.split(line.partition("with PyTorch: ")[2])[-1])


def test_a_state_dict_is_found_in_a_dict_of_a_dict(tmp_path):
    inner = b"}" + short_text("state_dict") + b"}(" + short_text("a") + ONE + short_text("b") + ONE + b"us"
    for outer, left_out in (("model", []), ("net", ["epoch"])):
        stored = b"\x80\x02}(" + short_text(outer) + inner + (
            short_text("epoch") + b"K\x01" if left_out else b"") + b"u."
        result = read_weights(archive(tmp_path / "w.pth", stored, **{"0": b"\0\0\x80?"}))
        assert list(result.tensors) == ["a", "b"]
        assert result.left_out == left_out and result.keys == (outer, "state_dict")
    with pytest.raises(UserError, match="holds no state_dict"):  # a dict that holds itself
        read_weights(archive(tmp_path / "w.pth", b"\x80\x02}q\x00" + short_text("model") + b"h\x00s."))


@pytest.mark.parametrize("key", WRAPPERS)
def test_a_state_dict_is_found_among_other_things(key, tmp_path):
    stored = (b"\x80\x02}(" + short_text("model") + b"}" + short_text("name") + short_text("resnet18") + b"s"
              + short_text(key) + b"}" + short_text("a") + ONE + b"su.")
    result = read_weights(archive(tmp_path / "w.pth", stored, **{"0": b"\0\0\x80?"}))
    assert list(result.tensors) == ["a"] and result.left_out == ["model"] * (key != "model")


# Files of PyTorch.


def test_a_file_of_pytorch_is_read():
    result = read_weights(RECORDED)
    assert result.left_out == ["epoch", "best", "optimizer"]
    assert set(result.tensors) == {*SHAPES, "norm.num_batches_tracked"}
    for name in SHAPES:
        dtype = {"half": "float16", "brain": "bfloat16", "double": "float64"}.get(name.partition(".")[0], "float32")
        tensor = result.tensors[name]
        assert tensor.dtype == dtype and tensor.array.dtype == ("float32" if dtype == "bfloat16" else dtype)
        assert tensor.array.flags.c_contiguous and (tensor.array == numbers(name)).all(), name
    counter = result.tensors["norm.num_batches_tracked"].array
    assert counter.shape == () and counter.dtype == np.int64 and counter == COUNTED


def test_sixteen_bits_become_32_in_a_checkpoint(tmp_path, capsys):
    target = str(tmp_path / "w.ckpt")
    convert.main([RECORDED, target])
    result = ms.load_checkpoint(target)
    for name, dtype in (("half", ms.float32), ("brain", ms.float32), ("double", ms.float64)):
        assert result[f"{name}.weight"].dtype == dtype
        assert (result[f"{name}.weight"].asnumpy() == numbers(f"{name}.weight")).all()
    assert {"norm.gamma", "norm.moving_variance", "fc.weight"} < set(result)
    text = capsys.readouterr().out
    assert "1 tensors of float16 became float32, exactly\n1 tensors of bfloat16 became float32, exactly\n" in text
    assert "left out, not weights: epoch, best, optimizer" in text


@pytest.mark.skipif(WITH_TORCH is None, reason="needs PyTorch, here or as PYTHON_WITH_TORCH")
def test_pytorch_reads_the_same_and_reads_what_is_written(odd_pth, tmp_path):
    script = ("import sys, numpy, torch\n"
              "found = torch.load(sys.argv[1], weights_only=True)\n"
              "found = found.get('state_dict', found)\n"
              "numpy.savez(sys.argv[2], **{name.removeprefix('module.'):\n"
              "    (value.float() if value.dtype == torch.bfloat16 else value).detach().contiguous().numpy()\n"
              "    for name, value in found.items()})")
    for path in (RECORDED, odd_pth):
        subprocess.run([WITH_TORCH, "-c", script, path, str(tmp_path / "theirs.npz")], check=True)
        with np.load(tmp_path / "theirs.npz") as theirs:
            ours = read_weights(path).tensors
            assert same({name: tensor.array for name, tensor in ours.items()}, dict(theirs))


def archive(path, pickled, **numbers):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for key, content in numbers.items():
            file.writestr(f"archive/data/{key}", content)
    return str(path)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def attacks(mark):
    """Pickles that would make the file `mark`."""
    for protocol in range(6):
        yield pickle.dumps({"fc.weight": Attack(mark)}, protocol)
    system = b"cposix\nsystem\n"
    call = b"X" + len(f"touch {mark}").to_bytes(4, "little") + f"touch {mark}".encode()
    yield b"\x80\x02(" + call + b"iposix\nsystem\n."  # INST
    yield b"\x80\x02(" + system + call + b"o."  # OBJ
    yield b"\x80\x02" + system + call + b"\x85\x81."  # NEWOBJ
    yield b"\x80\x02ctorch._utils\n_rebuild_parameter\n" + system + call + b"\x86R."
    yield b"\x80\x02ccollections\nOrderedDict\n)R}" + call + system + b"sb."  # attributes
    yield b"\x80\x02c__builtin__\neval\n" + call + b"\x85R."
    yield b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + call + b"\x85R."


def short_text(text):
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


ONE = (b"ctorch._utils\n_rebuild_tensor_v2\n((" + short_text("storage") + b"ctorch\nFloatStorage\n" + short_text("0")
       + short_text("cpu") + b"K\x01tQK\x00K\x01\x85K\x01\x85\x89}tR")  # a tensor of the number in data/0


def beside_weights(pickled):
    """The pickle of a dict with a pickled object as 'note', and a `state_dict` of one tensor, 'a'."""
    body = pickled[2 if pickled.startswith(b"\x80") else 0:-1]
    return (b"\x80\x02}(" + short_text("note") + body + short_text("state_dict") + b"}" + short_text("a") + ONE
            + b"su.")


def flat(name, pickled):
    """The pickle of a `state_dict` of one tensor, 'a', and a pickled object."""
    return b"\x80\x02}(" + short_text("a") + ONE + short_text(name) + pickled[2:-1] + b"u."


def test_what_lies_beside_weights_is_left_out(tmp_path):
    """Settings and NumPy's numbers, as training programs store them. A file whose weights are such is refused."""
    notes = [argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("x")), np.float64(0.5), np.zeros(3),
             collections.defaultdict(list, a=[1]), complex(1), {1, 2}, np.dtype("f4")]
    for note in notes:
        path = archive(tmp_path / "w.pth", beside_weights(pickle.dumps(note, 2)), **{"0": b"\0\0\x80?"})
        result = read_weights(path)
        assert result.left_out == ["note"] and list(result.tensors) == ["a"], note
        assert result.tensors["a"].array.tolist() == [1]
        for stored in (note, {"fc.weight": note}, {"state_dict": {"fc.weight": note}}, {"model": note}):
            archive(path, pickle.dumps(stored, 2))
            with pytest.raises(UserError, match="nothing was run|holds no state_dict"):
                read_weights(path)
    for note in notes:  # in the same dict
        archive(path, flat("args", pickle.dumps(note, 2)), **{"0": b"\0\0\x80?"})
        assert read_weights(path).left_out == ["args"]
    archive(path, beside_weights(b"N.").replace(short_text("a"), b"cx\ny\n)R"), **{"0": b"\0\0\x80?"})
    with pytest.raises(UserError, match=r"asks for x\.y"):  # a name that is unknown
        read_weights(path)
    # A shape, a storage and a tensor of another class do not become weights of a placeholder's making.
    for known, unknown in ((b"FloatStorage", b"ComplexFloatStorage"), (b"K\x01\x85K\x01\x85", b"cx\ny\n)RK\x01\x85"),
                           (b"torch._utils\n_rebuild_tensor_v2", b"torch._utils\n_rebuild_qtensor")):
        archive(path, beside_weights(b"N.").replace(known, unknown), **{"0": b"\0\0\x80?"})
        with pytest.raises(UserError, match=r"asks for (torch\.|x\.y).* as a, which .*load.*\['state_dict'\]"):
            read_weights(path)


class WithOptions:
    def __getnewargs_ex__(self):
        return (1,), {"b": {2}}

    def __new__(cls, *_, **__):
        return super().__new__(cls)


@pytest.mark.parametrize("protocol", range(6))
def test_whatever_python_pickles_may_lie_beside_weights(protocol, tmp_path):
    """Every protocol has instructions of its own. Before 5 some of these notes need calls, which are not made."""
    for note in ({1, (2, 3)}, set(), frozenset([1]), bytearray(b"ab"), bytearray(300), WithOptions(),
                 [2 ** 70, 1.5, "\u20ac", "a", True, None, {}, {"c": ()}], {1: [2], 3: 4}):
        path = archive(tmp_path / "w.pth", beside_weights(pickle.dumps(note, protocol)), **{"0": b"\0\0\x80?"})
        result = read_weights(path)
        assert result.left_out == ["note"] and result.tensors["a"].array.tolist() == [1], note
        stored = torch_files.read_pth(path)["note"]
        needs_calls = isinstance(note, (set, frozenset, bytearray)) and protocol < 5 or isinstance(note, WithOptions)
        assert stored == note or needs_calls and isinstance(stored, Placeholder)
    short, long = ([],), ([], 1, 2, 3)
    for note in (short, long):
        note[0].append(note)
        result = torch_files.read_pth(archive(tmp_path / "w.pth", pickle.dumps(note, protocol)))
        assert result[0][0] is result and result[1:] == note[1:]


def test_other_networks_in_a_file_are_named():
    """Published accuracies are often those of an exponential average of the weights, which lies beside them."""
    network = create_model("wideresnet10", 10)
    state = {torch_name(p.name): Tensor("float32", p.asnumpy()) for p in network.get_parameters()}
    found = find_state_dict("w.pth", {"model_ema": dict(state), "model": state, "optimizer": {"state": {}}}, network)
    assert (found.keys, found.others, found.left_out) == (("model",), ["model_ema"], ["optimizer"])
    assert found.notes == ["taken are the weights in model; also there: model_ema"]
    assert find_state_dict("w.pth", {"model": state}, network).notes == []


def test_a_tensor_may_be_a_key_or_in_a_set(tmp_path):
    """An optimizer that was saved whole is such a file."""
    for note in (b"}" + ONE + b"K\x01s.", b"\x8f(" + ONE + b"\x90."):
        path = archive(tmp_path / "w.pth", beside_weights(note), **{"0": b"\0\0\x80?"})
        assert read_weights(path).left_out == ["note"]


def test_the_network_or_a_dot_tells_whether_an_object_between_weights_is_one(tmp_path):
    namespace, network = pickle.dumps(argparse.Namespace(lr=0.1), 2), nn.SequentialCell([nn.Dense(1, 1)])
    path, numbers = tmp_path / "w.pth", {"0": b"\0\0\x80?"}
    for name in ("0.bias", "module.0.bias", "model.fc.bias"):
        path = archive(path, flat(name, namespace), **numbers)
        with pytest.raises(UserError, match=rf"for argparse\.Namespace as {name}, .*: import torch; found = torch"):
            read_weights(path)
        if name == "model.fc.bias":
            assert read_weights(path, network).left_out == [name]
        else:
            with pytest.raises(UserError, match=f"asks for argparse.Namespace as {name}"):
                read_weights(path, network)
    # A tensor of another kind may be a weight whatever its name.
    archive(path, flat("b", b"\x80\x02" + ONE.replace(b"_rebuild_tensor_v2", b"_rebuild_qtensor") + b"."), **numbers)
    with pytest.raises(UserError, match="asks for torch._utils._rebuild_qtensor as b"):
        read_weights(path)


def test_settings_between_the_weights_are_left_out_and_named(pth, tmp_path, capsys):
    with zipfile.ZipFile(pth) as file:
        content = {name.removeprefix("archive/"): file.read(name) for name in file.namelist()}
    pickled = content.pop("data.pkl")
    args = short_text("args") + pickle.dumps(argparse.Namespace(lr=0.1), 2)[2:-1] + b"s."
    path = archive(tmp_path / "w.pth", pickled[:-1] + args,
                   **{name.removeprefix("data/"): value for name, value in content.items() if name.startswith("data/")})
    for options in ([], ["-m", "wideresnet10"]):
        convert.main([path, str(tmp_path / "w.ckpt"), *options])
        assert "left out, not weights: args\n" in capsys.readouterr().out


def test_a_module_among_other_things_is_refused_with_its_place(tmp_path):
    module = b"ctorch.nn.modules.conv\nConv2d\n)\x81}X\x08\x00\x00\x00_modules}sb"
    stored = b"\x80\x02}(" + short_text("model") + module + short_text("epoch") + b"K\x01u."
    path = archive(tmp_path / "last.pth", stored)
    with pytest.raises(UserError, match=r"holds a whole module \(torch\.nn\.modules\.conv\.Conv2d\).*"
                                        r"weights_only=False\)\['model'\]; torch\.save\(module\.state_dict"):
        read_weights(path)


def test_nothing_in_a_file_is_run(tmp_path, capsys):
    mark, target = tmp_path / "mark", tmp_path / "w.ckpt"
    for pickled in attacks(mark):
        path = archive(tmp_path / "w.pth", pickled)
        line = fails(capsys, path, target)
        assert line.startswith(f"{path}: ") and any(
            words in line for words in ("damaged", "nothing was run", "holds no state_dict")), line
        assert os.listdir(tmp_path) == ["w.pth"]
    for pickled in attacks(mark):  # beside weights: these are read, or the file is refused
        path = archive(tmp_path / "w.pth", beside_weights(pickled), **{"0": b"\0\0\x80?"})
        with contextlib.suppress(UserError):
            result = read_weights(path)
            assert result.left_out == ["note"] and result.tensors["a"].array.tolist() == [1]
        assert os.listdir(tmp_path) == ["w.pth"]
    path = archive(tmp_path / "w.pth", next(attacks(mark)))
    assert "asks for posix.system" in fails(capsys, archive(path, pickle.dumps(Attack(mark), 2)), target)
    pickle.loads(next(attacks(mark)))
    assert mark.exists()  # they would


def test_a_whole_module_is_refused_with_the_way_out(tmp_path, capsys):
    # How torch.save(module) begins: with the class.
    path = archive(tmp_path / "best_model.pth", b"\x80\x02cmodels.resnet\nWideResNet\n)\x81}X\x08\x00\x00\x00_modules"
                                                b"ctorch.nn.modules.conv\nConv2d\n)\x81sb.")
    line = fails(capsys, path, tmp_path / "w.ckpt")
    assert "holds a whole module (models.resnet.WideResNet)" in line
    assert f"torch.load('{path}', map_location='cpu', weights_only=False)" in line
    assert "torch.save(module.state_dict(), 'best_model_weights.pth')" in line


def test_damaged_files_are_refused(tmp_path):
    """However a file is cut off or changed, it is read or refused; a checksum tells of a change in the numbers."""
    whole, path = read(RECORDED), str(tmp_path / "w.pth")
    rng = np.random.RandomState(0)
    for k in range(300):
        content = bytearray(whole[:rng.randint(len(whole))] if k % 3 == 0 else whole)
        if k % 3:
            content[rng.randint(len(content))] ^= 1 << rng.randint(8)
        with open(path, "wb") as file:
            file.write(content)
        try:
            result = read_weights(path).tensors
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert k % 3 and all((result[name].array == numbers(name)).all() for name in SHAPES)
    with zipfile.ZipFile(RECORDED) as file:  # the same inside the zip, where checksums are right
        content = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    for _ in range(300):
        pickled = bytearray(content["data.pkl"])
        pickled[rng.randint(len(pickled))] ^= 1 << rng.randint(8)
        archive(path, bytes(pickled), **{name.partition("/")[2]: value for name, value in content.items()
                                         if name.startswith("data/")})
        try:
            read_weights(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")


# What does not fit.


def test_what_does_not_fit_is_one_line_and_nothing_is_written(pth, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert.main([pth, "w.ckpt"])
    shutil.copy("w.ckpt", "renamed.pth")
    shutil.copy("w.ckpt", "renamed.safetensors")
    shutil.copy(pth, "renamed.ckpt")
    for name in ("w.ckpt", pth):
        with open(f"cut{os.path.splitext(name)[1]}", "wb") as file:
            file.write(read(name)[:-1000])
    with open("old.pth", "wb") as file:
        file.write(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    archive("list.pth", pickle.dumps([1, 2], 2))
    archive("none.pth", pickle.dumps({"weights": {"a": 1}}, 2))
    array = np.zeros((2, 3), np.float32)
    safetensors.numpy.save_file({"conv.weight": array.astype(np.uint32)}, "unsigned.safetensors")
    os.mkdir("folder.pth")
    before = {name: os.path.isdir(name) or read(name) for name in os.listdir()}
    for argv, expected in [
        (["w.ckpt", "w.onnx"], "w.ckpt, w.onnx: one of the two names has to end in .ckpt, the other in .pth, .pt"),
        (["w.ckpt", "v.ckpt"], "w.ckpt, v.ckpt: one of the two"),
        (["list.pth", "v.safetensors"], "list.pth, v.safetensors: one of the two"),
        (["nowhere.pth", "v.ckpt"], "nowhere.pth: no such file"),
        (["folder.pth", "v.ckpt"], "folder.pth: no such file"),
        (["renamed.pth", "v.ckpt"], "renamed.pth: damaged or not a file of PyTorch"),
        (["renamed.safetensors", "v.ckpt"], "renamed.safetensors: damaged or not a .safetensors file"),
        (["renamed.ckpt", "v.pth"], "renamed.ckpt, v.pth: one of the two names has to end in .ckpt, the other in .pth, "
         ".pt, .safetensors; by its content renamed.ckpt is a .pth"),
        (["renamed.ckpt", "./renamed.ckpt"], "./renamed.ckpt: is the file to read; name another to write"),
        (["cut.ckpt", "v.pth"], "cut.ckpt: damaged or not a checkpoint"),
        (["cut.pth", "v.ckpt"], "cut.pth: damaged or not a file of PyTorch"),
        (["old.pth", "v.ckpt"], "old.pth: is a bare pickle, as PyTorch wrote before 1.6; have PyTorch write it anew"),
        (["list.pth", "v.ckpt"], "list.pth: holds no state_dict, neither itself nor as state_dict, "),
        (["none.pth", "v.ckpt"], "none.pth: holds no state_dict"),
        (["unsigned.safetensors", "v.ckpt"], "unsigned.safetensors: holds numbers of type 'U32'"),
        (["w.ckpt", "nowhere/v.pth"], "nowhere/v.pth: cannot be written (No such file or directory)"),
        (["w.ckpt", "nowhere/v.safetensors"], "nowhere/v.safetensors: cannot be written"),
        ([pth, "w.ckpt/v.ckpt"], "w.ckpt/v.ckpt: cannot be written"),
        (["w.ckpt", "folder.pth"], "folder.pth: cannot be written"),
        (["w.ckpt", "v.pth", "--classes", "3"], "--classes: needs a network; name it with -m"),
        (["w.ckpt", "v.pth", "-m", "wideresnet10", "--classes", "3"], "w.ckpt: belongs to another network than "
         "wideresnet10 with 3 classes: fc.weight is (10, 64), there (3, 64), fc.bias is (10,), there (3,); "
         "name weights of the same"),
        (["w.ckpt", "v.pth", "-m", "wideresnet"],
         "w.ckpt: belongs to another network than wideresnet with 10 classes: has no "),
        ([RECORDED, "v.ckpt", "-m", "wideresnet10"],
         f"{RECORDED}: belongs to another network than wideresnet10 with 5 classes: has no init_conv.weight, unit1."),
    ]:
        line = fails(capsys, *argv)
        assert line.startswith(expected), line
        assert before == {name: os.path.isdir(name) or read(name) for name in os.listdir()}, argv


def test_a_deeper_network_is_another_network(tmp_path):
    """Every weight of the shallow one is in it, in the same shape."""
    deep = {**torch_values(randomised()), "unit1.1.layer.0.weight": np.ones(16, np.float32)}
    torch_files.write_pth(str(tmp_path / "w.pth"), deep)
    network = randomised(seed=1)
    before = values(network)
    convert.main([str(tmp_path / "w.pth"), str(tmp_path / "w.ckpt")])
    for name in ("w.pth", "w.ckpt"):
        with pytest.raises(UserError, match="has unit1.1.layer.0.weight, unknown there"):
            load_weights(network, str(tmp_path / name))
    assert same(before, values(network))


def test_a_checkpoint_of_another_network_is_refused_as_the_same_weights_of_pytorch_are(tmp_path):
    foreign = {"cls_token": np.ones((1, 1, 8), np.float32), "logit_scale": np.array(1, np.float32),
               "aux.fc.weight": np.ones((10, 64), np.float32)}
    torch_files.write_pth(str(tmp_path / "w.pth"), {**torch_values(randomised()), **foreign})
    convert.main([str(tmp_path / "w.pth"), str(tmp_path / "w.ckpt")])
    for name in ("w.pth", "w.ckpt"):
        with pytest.raises(UserError, match="has cls_token, logit_scale, aux.fc.weight, unknown there"):
            load_weights(randomised(), str(tmp_path / name))
    step = create_step(randomised(), "sharpdro")
    step.insert_param_to_cell("class_token", ms.Parameter(ms.Tensor(foreign["cls_token"]), name="class_token"))
    save_checkpoint(step, str(tmp_path / "run.ckpt"), Progress(3))
    with pytest.raises(UserError, match="has class_token, unknown there"):
        load_weights(randomised(), str(tmp_path / "run.ckpt"))


def test_what_another_program_has_noted_is_no_weight(tmp_path):
    network, path = randomised(), str(tmp_path / "w.ckpt")
    ms.save_checkpoint(network, path, append_dict={"epoch_num": 3, "done": True, "note": "of May"})
    result, _ = load_weights(randomised(seed=1), path)
    assert result.left_out == ["epoch_num", "done", "note"]


def test_a_name_that_would_come_back_as_another_is_refused(tmp_path, capsys):
    path, ones = str(tmp_path / "w.pth"), np.ones(3, np.float32)
    for stored in ({"ls.gamma": ones}, {"ls.weight": ones, "ls.gamma": ones}):
        torch_files.write_pth(path, stored)
        line = fails(capsys, path, tmp_path / "w.ckpt")
        assert line.startswith(f"{path}: ls.gamma would come back as ls.weight") and "rename it" in line
        assert os.listdir(tmp_path) == ["w.pth"]


def test_a_small_file_takes_little_memory(tmp_path):
    sizes = b"J" + (10 ** 5).to_bytes(4, "little")
    pickled = (b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
               b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00"
               + 2 * sizes + b"\x86K\x00K\x00\x86\x89}tRs.")
    path = archive(tmp_path / "w.pth", pickled, **{"0": b"\0\0\x80?"})
    with pytest.raises(UserError, match=r"shape \(100000, 100000\).* save its \.clone\(\)"):
        read_weights(path)
    archive(path, pickled.replace(sizes, b"K\x01"), **{"0": b"\0\0\x80?"})
    assert read_weights(path).tensors["a"].array.tolist() == [[1]]


def views(number, tensors):
    """The pickle of a `state_dict` of `tensors` views of all numbers in data/0."""
    count = b"J" + number.to_bytes(4, "little")
    view = ONE.replace(b"K\x01tQK\x00K\x01\x85", count + b"tQK\x00" + count + b"\x85")
    return b"\x80\x02}(" + b"".join(short_text(f"w{k}") + view for k in range(tensors)) + b"u."


def test_tied_weights_are_read_and_many_views_of_the_same_numbers_are_not(tmp_path):
    numbers = np.arange(10000, dtype=np.float32)
    path = archive(tmp_path / "w.pth", views(10000, 4), **{"0": numbers.tobytes()})
    assert all((value.array == numbers).all() for value in read_weights(path).tensors.values())
    archive(path, views(10000, 1000), **{"0": numbers.tobytes()})
    tracemalloc.start()
    with pytest.raises(UserError, match="w.pth: its tensors share numbers and would take more than 4 times the memory"):
        read_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 20 * os.path.getsize(path)
    tracemalloc.stop()


def test_a_place_that_cannot_be_written_is_one_line(pth, tmp_path, capsys, monkeypatch):
    logged = []
    monkeypatch.setattr(logging.Logger, "handle", lambda self, record: logged.append(record))
    line = fails(capsys, pth, tmp_path / "nowhere" / "w.ckpt")
    assert "w.ckpt: cannot be written (No such file or directory)" in line and not logged


def test_whole_numbers_are_no_weights(pth, tmp_path):
    stored = {name: tensor.array for name, tensor in read_weights(pth).tensors.items()}
    path = str(tmp_path / "w.safetensors")
    safetensors.numpy.save_file({**stored, "fc.bias": np.arange(10, dtype=np.int8)}, path)
    with pytest.raises(UserError, match="fc.bias is int8, there float32"):
        load_weights(randomised(), path)


# Runs that start from weights, and evaluations.


@pytest.fixture
def starts(monkeypatch):
    """The values with which the networks of runs start; the runs go no further."""
    result = []

    def fit(step, loader, batches, total_epoch, schedule, records, *args, **more):
        result.append((values(step.network), records, step))
        raise UserError("stopped")
    monkeypatch.setattr(losses.training.run, "fit", fit)
    return result


def run_main(*argv):
    with pytest.raises(SystemExit):
        main.main([str(word) for word in argv])


def test_a_run_starts_from_weights_and_does_not_read_them_again(pth, cifar_dir, tmp_path, starts, capsys):
    path, logs = str(tmp_path / "w.pth"), tmp_path / "logs"
    shutil.copy(pth, path)
    run_main(*arguments(cifar_dir, logs, "--init_checkpoint", path))
    expected = create_model("wideresnet10", 10)
    load_weights(expected, path)
    assert same(starts[0][0], values(expected))
    folder = only_run(logs)
    assert f"starts from the weights in {path}\n" in read(folder + "/log.txt").decode()
    config = read_json(folder + "/config.json")
    assert (config["init_checkpoint"], config["init_sha256"]) == (path, file_hash(path))

    run_main("--resume", folder)  # killed before its first checkpoint, it needs them again
    assert same(starts[1][0], values(expected))
    with open(path, "ab") as file:
        file.write(b" ")
    line = fails(capsys, "--resume", folder, program=main.main, prints=True)
    assert line.startswith(f"--init_checkpoint {path}: has changed since this run began")
    os.remove(path)
    line = fails(capsys, "--resume", folder, program=main.main, prints=True)
    assert line.startswith(f"--init_checkpoint {path}: no such file")

    _, records, step = starts[1]
    for parameter in step.network.get_parameters():
        ops.assign(parameter, parameter + 1)
    save_checkpoint(step, folder + "/0_model.ckpt", Progress(1))
    run_main("--resume", folder)
    assert same(starts[2][0], values(step.network))
    assert len(starts) == 3
    assert fails(capsys, "--resume", folder, "--init_checkpoint", pth, program=main.main).startswith(
        f"--init_checkpoint: the run in {folder} has {path}; leave the option out")


def test_a_classifier_of_another_size_starts_afresh(cifar_dir, tmp_path, starts):
    path = str(tmp_path / "w.safetensors")
    weights_of_three = torch_values(randomised(11))
    safetensors.numpy.save_file({f"model.{name}": value for name, value in weights_of_three.items()}, path)
    run_main(*arguments(cifar_dir, tmp_path / "logs", "--init_checkpoint", path))
    run_main(*arguments(cifar_dir, tmp_path / "fresh"))
    started, fresh = starts[0][0], starts[1][0]
    for name, value in started.items():
        expected = fresh[name] if name.startswith("fc.") else weights_of_three[torch_name(name)]
        assert same({name: value}, {name: expected}), name
    log = read(only_run(tmp_path / "logs") + "/log.txt").decode()
    assert (f"starts from the weights in {path}, without the model. before every name; its classifier has 11 classes "
            "and here are 10: fc.weight, fc.bias start afresh\n") in log


@pytest.mark.slow
def test_all_runs_of_a_comparison_start_from_the_weights(pth, cifar_dir, tmp_path, starts):
    """Its cells are used again, and hold what the run before has left."""
    run_main(*arguments(cifar_dir, tmp_path / "logs", "--method", "erm", "sam", "--seed", "0", "1",
                        "--init_checkpoint", pth))
    assert len(starts) == 4
    for result, _, step in starts:
        assert same(result, starts[0][0])
        ops.assign(step.network.fc.bias, ops.zeros_like(step.network.fc.bias))
    assert (starts[0][0]["fc.bias"][3:] != 0).all()


def test_a_first_model_starts_from_them_too(pth, cifar_dir, tmp_path, starts):
    run_main(*arguments(cifar_dir, tmp_path, "--method", "jtt", "--init_checkpoint", pth))
    expected = create_model("wideresnet10", 10)
    load_weights(expected, pth)
    assert len(starts) == 1 and same(starts[0][0], values(expected))
    assert os.path.exists(only_run(tmp_path) + "/stage_one/log.txt")


@pytest.mark.parametrize("options, expected", [
    (["-m", "wideresnet", "--init_checkpoint", "w.pth"],
     "w.pth: belongs to another network than wideresnet with 10 classes: has no unit1."),
    (["--init_checkpoint", "log.txt"], "log.txt: the name of a file with weights ends in .ckpt, .pth, .pt, .safe"),
    (["--init_checkpoint", "nowhere.pth"], "argument --init_checkpoint: nowhere.pth: no such file"),
])
def test_weights_that_do_not_fit_end_in_one_line_and_nothing_is_written(options, expected, pth, cifar_dir, tmp_path,
                                                                        monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(pth, "w.pth")
    with open("log.txt", "w"):
        pass
    assert expected in fails(capsys, *arguments(cifar_dir, "logs", *options), program=main.main)
    assert not os.path.exists("logs") or os.listdir("logs") == []


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_pytorch_are_evaluated(suffix, pth, cifar_dir, tmp_path, monkeypatch, capsys):
    path = str(tmp_path / f"w{suffix}")
    result = {f"net.{name}": value for name, value in torch_values(randomised()).items()}
    torch_files.write_pth(path, result) if suffix == ".pth" else safetensors.numpy.save_file(result, path)
    seen = []

    def scores(network, test):
        seen.append(values(network))
        raise UserError("stopped")
    monkeypatch.setattr("losses.evaluation.network.scores_by_corruption", scores)
    run_main("--evaluate", path, "-m", "wideresnet10", "-d", "cifar10", "--data_dir", cifar_dir, "-c", "fog")
    expected = create_model("wideresnet10", 10)
    load_weights(expected, pth)
    assert same(seen[0], values(expected))
    text = capsys.readouterr().out
    assert f"wideresnet10, w{suffix}\n" in text  # after how many epochs is not known
    assert f"{path}: taken off, before every name: net.\n" in text


def test_an_evaluation_needs_to_know_the_network_and_the_number_of_classes(cifar_dir, tmp_path, capsys):
    path = str(tmp_path / "w.pth")
    torch_files.write_pth(path, torch_values(randomised(3)))
    options = ["-m", "wideresnet10", "-d", "cifar10", "--data_dir", cifar_dir]
    assert fails(capsys, "--evaluate", path, program=main.main).startswith(f"{path}: no config.json beside it")
    assert "belongs to another network than wideresnet10 with 10 classes: fc.weight is (3, 64)" in fails(
        capsys, "--evaluate", path, *options, program=main.main)
    assert "--init_checkpoint: has no effect with --evaluate" in fails(
        capsys, "--evaluate", path, *options, "--init_checkpoint", path, program=main.main)
