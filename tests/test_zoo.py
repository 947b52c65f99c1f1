"""The trained networks that come with the project, `zoo:NAME`."""
import os
import pathlib
import shutil
import threading
import time

import mindspore as ms
import numpy as np
import pytest

import main
from corruptions.utils.errors import UserError
from corruptions.utils.files import file_hash, read_json, write_json
from dataset.inputs import NORMALISATIONS
from losses.evaluation.adversarial import evaluate_fgsm
from losses.evaluation.corruptions import evaluate_run
from models import convert, create_model, zoo
from models.initial_weights import normalisation_note
from models.weight_files import read_weights
from tests.test_main import arguments, only_run
from tests.test_readme import text
from utils.records.checkpoint import newest_checkpoint

NETWORKS = zoo.zoo_networks()


def test_the_folder_has_the_networks_of_the_index_and_is_small():
    files = os.listdir(zoo.FOLDER)
    assert sorted(files) == sorted([zoo.INDEX, *(f"{name}.safetensors" for name in NETWORKS)])
    assert sum(os.path.getsize(os.path.join(zoo.FOLDER, name)) for name in files) < 5e6


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_loads_and_is_what_the_index_says(name):
    path, entry = zoo.find_zoo("--evaluate", f"zoo:{name}")
    network = create_model(entry["config"]["model"], len(entry["config"]["classes"]), pretrained=f"zoo:{name}")
    stored = read_weights(path).tensors
    assert np.array_equal(network.fc.weight.asnumpy(), stored["fc.weight"].array)
    assert name.startswith(entry["config"]["method"].split(" ")[0]) and name.endswith(entry["config"]["dataset"])
    assert len(entry["accuracy"]) == entry["config"]["num_severity"] and entry["command"].startswith("python main.py ")


def test_the_readme_has_the_tables():
    assert zoo.zoo_table() in text("models", "README.md") and zoo.zoo_commands() in text("models", "README.md")


@pytest.mark.parametrize("name", [name for name in NETWORKS if NETWORKS[name]["config"]["dataset"] == "photos"])
def test_a_network_reproduces_its_accuracy(name, tmp_path, monkeypatch, capsys):
    """On the test images of `photos`, which are made here, clean and at severity 5. Nothing is written into the zoo."""
    monkeypatch.chdir(tmp_path)
    before, entry = sorted(os.listdir(zoo.FOLDER)), NETWORKS[name]
    record = evaluate_run(f"zoo:{name}", ["gaussian_noise"], data_dir=str(tmp_path / "data"), severities=[5])
    assert "other test images" not in capsys.readouterr().err
    assert record["epochs"] is None  # weights alone do not say it
    assert record["clean"]["accuracy"] == pytest.approx(entry["accuracy"][0], abs=0.003)
    assert record["corrupted"]["gaussian_noise"]["accuracy"][0] == pytest.approx(entry["accuracy"][5], abs=0.003)
    assert sorted(os.listdir(zoo.FOLDER)) == before
    assert [file.partition("_evaluation")[0] for file in os.listdir("logs/zoo") if file.endswith(".json")] == [name]


def test_other_test_images_are_said(cifar_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    evaluate_run("zoo:erm-cifar10", ["fog"], data_dir=str(cifar_dir), severities=[1])
    warning = "warning: zoo:erm-cifar10: the accuracy in models/README.md is of other test"
    assert warning in capsys.readouterr().err
    evaluate_fgsm("zoo:erm-cifar10", [1 / 255], data_dir=str(cifar_dir))
    assert warning in capsys.readouterr().err


def test_a_network_of_other_classes_gets_a_new_classifier():
    network = create_model("wideresnet10", 3, pretrained="zoo:rare_aug-photos")
    assert network.fc.weight.shape[0] == 3
    stored = read_weights(zoo.find_zoo("", "zoo:rare_aug-photos")[0]).tensors
    assert np.array_equal(network.init_conv.weight.asnumpy(), stored["init_conv.weight"].array)
    with pytest.raises(UserError, match="belongs to another network than wideresnet with 10 classes"):
        create_model("wideresnet", 10, pretrained="zoo:rare_aug-photos")


def test_true_is_no_name_and_a_path_is_a_file(tmp_path):
    with pytest.raises(UserError, match="zoo:True: no such network; choose from zoo:"):
        create_model("wideresnet10", 10, pretrained=True)
    with pytest.raises(UserError, match="by which the format is known"):  # such as an unset variable of a shell
        create_model("wideresnet10", 10, pretrained="")
    path = pathlib.Path(zoo.FOLDER) / "rare_aug-photos.safetensors"
    ours, named = (create_model("wideresnet10", 10, pretrained=p) for p in (path, "zoo:rare_aug-photos"))
    assert np.array_equal(ours.fc.weight.asnumpy(), named.fc.weight.asnumpy())


def test_init_checkpoint_takes_a_network(cifar_dir, tmp_path):
    """So small a learning rate leaves the weights as they are."""
    main.main(arguments(cifar_dir, tmp_path, "-m", "wideresnet10", "--method", "erm", "--lr", "1e-30",
                        "--init_checkpoint", "zoo:rare_aug-photos", "--save_last"))
    run = only_run(tmp_path)
    config = read_json(os.path.join(run, "config.json"))
    assert config["init_sha256"] == NETWORKS["rare_aug-photos"]["sha256"]
    assert config["given"]["init_checkpoint"] == config["init_checkpoint"] == "zoo:rare_aug-photos"
    with open(os.path.join(run, "log.txt"), encoding="utf-8") as file:
        log = file.read()
    assert "note: zoo:rare_aug-photos was trained with --mean 0.514 0.39 0.342 --std 0.264 0.227 0.231, and" in log
    weights = ms.load_checkpoint(os.path.join(run, "last_model.ckpt"))
    stored = read_weights(zoo.find_zoo("", "zoo:rare_aug-photos")[0]).tensors
    assert np.array_equal(weights["init_conv.weight"].asnumpy(), stored["init_conv.weight"].array)


def test_weights_are_compared_with_the_normalisation_of_a_run():
    values = NORMALISATIONS["photos"]
    assert normalisation_note("zoo:rare_aug-photos", *values) == ""
    assert "--mean 0.514" in normalisation_note("zoo:rare_aug-photos", values[0], (0.2, 0.2, 0.2))


def test_one_value_of_a_normalisation_stands_for_three(monkeypatch):
    monkeypatch.setattr("models.initial_weights.read_options", lambda path: {"mean": [0.5], "std": [0.5]})
    assert normalisation_note("zoo:rare_aug-photos", (0.5,) * 3, (0.5,) * 3) == ""
    assert "--mean 0.5 --std 0.5, and" in normalisation_note("zoo:rare_aug-photos", (0.5,) * 3, (0.4,) * 3)


def test_a_network_of_the_zoo_becomes_a_checkpoint(tmp_path, capsys):
    convert.main(["zoo:rare_aug-photos", str(tmp_path / "mine.ckpt"), "-m", "wideresnet10"])
    ours, named = (create_model("wideresnet10", 10, pretrained=path)
                   for path in (tmp_path / "mine.ckpt", "zoo:rare_aug-photos"))
    assert np.array_equal(ours.fc.weight.asnumpy(), named.fc.weight.asnumpy())
    with pytest.raises(SystemExit):
        convert.main(["zoo:none", str(tmp_path / "other.ckpt")])
    assert "error: zoo:none: no such network; choose from zoo:" in capsys.readouterr().err


def error_of(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main.main(list(words))
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("words", [["--evaluate", "zoo:none"], ["--init_checkpoint", "zoo:none"],
                                   ["--evaluate", "zoo:rare_aug-photos", "--baseline", "zoo:none"]])
def test_an_unknown_name_is_one_line_with_the_names(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "zoo:none: no such network; choose from zoo:" in error_of(capsys, *words)
    assert not os.path.exists("logs/zoo") or not os.listdir("logs/zoo")


def test_another_network_is_an_error_that_names_the_right_one(capsys, cifar_dir, tmp_path):
    line = error_of(capsys, *arguments(cifar_dir, tmp_path, "-m", "resnet18_cifar", "--method", "erm",
                                       "--init_checkpoint", "zoo:rare_aug-photos"))
    assert line.endswith("zoo:rare_aug-photos: has weights of wideresnet10, not of resnet18_cifar; give -m "
                         "wideresnet10")


def test_the_run_of_a_checkpoint_tells_its_normalisation(tmp_path):
    path, settings = str(tmp_path / "last_model.ckpt"), {"dataset": "cifar10", "model": "wideresnet10", "method": "erm"}
    for content, note in (({**settings, "mean": [0.5], "std": [0.5]}, "trained with --mean 0.5 --std 0.5, and"),
                          (settings, ""), ([1], ""), ({"mean": [0.5], "std": [0.5]}, "")):
        write_json(tmp_path / "config.json", content)
        found = normalisation_note(path, (0.4,) * 3, (0.4,) * 3)
        assert note in found and bool(found) == bool(note)


def test_a_damaged_file_is_an_error(tmp_path):
    folder = shutil.copytree(zoo.FOLDER, tmp_path / "weights")
    with open(folder / "rare_aug-photos.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="is missing or damaged; download"):
        zoo.find_zoo("--evaluate", "zoo:rare_aug-photos", str(folder))


def test_a_run_becomes_a_network_of_the_zoo(cifar_dir, tmp_path):
    main.main(arguments(cifar_dir, tmp_path / "logs", "-m", "wideresnet10", "--method", "erm", "--save_last"))
    run = only_run(tmp_path / "logs")
    zoo.add_run("erm-tiny", run, str(tmp_path / "zoo"))
    [(name, entry)] = zoo.zoo_networks(str(tmp_path / "zoo")).items()
    assert name == "erm-tiny" and entry["sha256"] == file_hash(tmp_path / "zoo" / "erm-tiny.safetensors")
    assert entry["accuracy"] == read_json(os.path.join(run, "results.json"))["test"]["accuracy"]
    assert "--data_dir" not in entry["command"] and "--method erm" in entry["command"]
    assert "| `erm-tiny` | erm | wideresnet10 |" in zoo.zoo_table(str(tmp_path / "zoo"))
    for name, folder, message in (("../x", run, "is not a name"), ("a b", run, "is not a name"),
                                  ("x", os.path.join(run, "last_model.ckpt"), "is not the folder of a run")):
        with pytest.raises(UserError, match=message):
            zoo.add_run(name, folder, str(tmp_path / "zoo"))
    for checkpoint in ("1_model.ckpt", "last_model.ckpt"):
        os.remove(os.path.join(run, checkpoint))
    with pytest.raises(UserError, match="its results are after 2 epochs, and the checkpoint after them is missing"):
        zoo.add_run("erm-tiny", run, str(tmp_path / "zoo"))
    assert len(os.listdir(tmp_path / "zoo")) == 2


@pytest.mark.parametrize("entry", ["given", "fingerprints"])
def test_a_run_of_an_earlier_version_is_no_network_of_the_zoo(cifar_dir, tmp_path, entry):
    main.main(arguments(cifar_dir, tmp_path / "logs", "-m", "wideresnet10", "--method", "erm", "--save_last"))
    path = os.path.join(only_run(tmp_path / "logs"), "config.json")
    write_json(path, {key: value for key, value in read_json(path).items() if key != entry})
    with pytest.raises(UserError, match="was made by an earlier version"):
        zoo.add_run("erm-tiny", os.path.dirname(path), str(tmp_path / "zoo"))
    assert not os.path.exists(tmp_path / "zoo")


def test_two_networks_can_be_added_at_the_same_time(cifar_dir, tmp_path, monkeypatch):
    main.main(arguments(cifar_dir, tmp_path / "logs", "-m", "wideresnet10", "--method", "erm", "--save_last"))
    original = convert.convert
    monkeypatch.setattr(convert, "convert", lambda *args: (original(*args), time.sleep(0.3)))
    run, folder = only_run(tmp_path / "logs"), str(tmp_path / "zoo")
    threads = [threading.Thread(target=zoo.add_run, args=(name, run, folder)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(zoo.zoo_networks(folder)) == ["first", "second"]
    assert sorted(os.listdir(folder)) == ["first.safetensors", "second.safetensors", "zoo.json"]


def test_an_evaluation_of_another_checkpoint_does_not_count(cifar_dir, tmp_path):
    main.main(arguments(cifar_dir, tmp_path / "logs", "-m", "wideresnet10", "--method", "erm", "--save_last"))
    run = only_run(tmp_path / "logs")
    evaluation = {"checkpoint_sha256": file_hash(newest_checkpoint(run)), "test_images": 50,
                  "corrupted": {"fog": {"accuracy": [0.5, 0.3]}, "snow": {"accuracy": [0.2]}}}
    for sha256, expected, cell in ((evaluation["checkpoint_sha256"], pytest.approx(1 / 3), "| 33.3 (50) |"),
                                   ("other", None, "|  |")):
        write_json(os.path.join(run, "evaluation_common.json"), {**evaluation, "checkpoint_sha256": sha256})
        zoo.add_run("erm-tiny", run, str(tmp_path / "zoo"))
        assert zoo.zoo_networks(str(tmp_path / "zoo"))["erm-tiny"]["common_accuracy"] == expected
        assert cell in zoo.zoo_table(str(tmp_path / "zoo"))
    (tmp_path / "zoo" / "zoo.json").write_text("<<<<<<<")
    with pytest.raises(UserError, match="zoo.json: is damaged"):
        zoo.add_run("other", run, str(tmp_path / "zoo"))
    assert (tmp_path / "zoo" / "zoo.json").read_text() == "<<<<<<<"
