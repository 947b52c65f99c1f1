"""A trained network under many corruptions: python main.py --evaluate RUN."""
import csv
import json
import os
import re
import shutil

import mindspore as ms
import numpy as np
import pytest

import main
from corruptions import COMMON, SETS, corrupt
from corruptions.evaluation.metrics import CalibrationScores, scores
from corruptions.evaluation.record import summary, to_dict
from corruptions.utils.files import file_hash, read_json
from corruptions.utils.signals import Interrupted, raise_if_interrupted
from dataset import SOURCES
from dataset.batches import normalise
from dataset.corrupted import load_corrupted
from dataset.stored import corrupted_path
from losses.evaluation.evaluation_set import corruption_set_name
from losses.evaluation.runs import evaluate_runs
from models import create_model
from models.convert import convert
from tests.benchmarks import unseen
from tests.image_trees import make_folder
from tests.processes import terminate_self
from tests.test_main import arguments, only_run
from utils.figures.__main__ import main as draw


@pytest.fixture(scope="module")
def trained(cifar_dir, tmp_path_factory):
    """The folder of a run of two epochs; tests copy it before they write there."""
    log_dir = str(tmp_path_factory.mktemp("logs"))
    main.main(arguments(cifar_dir, log_dir, "--method", "erm", "--save_last", "--eval_every", "2",
                        "--eval_batch_size", "25"))
    return only_run(log_dir)


@pytest.fixture
def run(trained, tmp_path):
    return str(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def common(trained, tmp_path_factory):
    """A copy of the run after an evaluation with the defaults; its folder."""
    folder = str(shutil.copytree(trained, tmp_path_factory.mktemp("common") / "run"))
    main.main(["--evaluate", folder])
    return folder


def contents(folder):
    result = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            result[name] = file.read()
    return result


def fails(capsys, *argv):
    """The one line with which a command stops, exit status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main.main(list(argv))
    assert stop.value.code == 2
    captured = capsys.readouterr()
    [line] = [line for line in captured.err.splitlines() if not line.startswith("warning:")]
    assert line.startswith("main.py: error: ") and captured.out == ""
    return line.removeprefix("main.py: error: ")


def test_an_evaluation_agrees_with_what_the_run_found(common):
    record, results = read_json(common + "/evaluation_common.json"), read_json(common + "/results.json")["test"]
    result = [record["clean"]["accuracy"], *record["corrupted"]["gaussian_noise"]["accuracy"]]
    assert result == pytest.approx(results["accuracy"], rel=1e-12)
    result = [record["clean"]["nll"], *record["corrupted"]["gaussian_noise"]["nll"]]
    assert result == pytest.approx(results["loss"], rel=1e-4)


def test_corrupted_images_are_scored(common, cifar_dir):
    """One that is not on disk, against a forward pass of its own."""
    source = SOURCES["cifar10"](cifar_dir)
    network = create_model("wideresnet10", 10)
    ms.load_param_into_net(network, ms.load_checkpoint(os.path.join(common, "last_model.ckpt")))
    images = corrupt(source.images["test"], "fog", 4, seed=0)
    logits = network.set_train(False)(ms.Tensor(normalise(images, source.mean, source.std))).asnumpy()
    fog = read_json(common + "/evaluation_common.json")["corrupted"]["fog"]
    expected = scores(logits, source.labels["test"])
    assert [fog[metric][3] for metric in CalibrationScores._fields] == pytest.approx(expected, 1e-3)
    assert not os.path.exists(corrupted_path(cifar_dir, source, "test", 4, "fog"))


def test_the_records_say_what_was_evaluated_and_nothing_else_changes(trained, common):
    before, after = contents(trained), contents(common)
    record, table = after.pop("evaluation_common.json"), after.pop("evaluation_common.csv")
    old_page, page = before.pop("report.html").decode(), after.pop("report.html").decode()
    assert after == before
    record = json.loads(record)
    assert "Evaluation: common (15 corruptions)" in page and "Evaluation" not in old_page
    for part in re.findall(r"<figure>.*?</figure>|<table class=.settings.>.*?</table>", old_page, re.DOTALL):
        assert part in page
    shown = re.search(r"<tr><td>fog</td>(.*?)</tr>", page, re.DOTALL).group(1)
    accuracy = [100 * value for value in record["corrupted"]["fog"]["accuracy"]]
    assert re.findall(r">([\d.]+)<", shown) == [
        *(f"{value:.2f}" for value in [*accuracy, np.mean(accuracy)]),
        *(f"{np.mean(record['corrupted']['fog'][metric]):.3f}" for metric in ("nll", "ece"))]
    assert {key: record[key] for key in ("set", "dataset", "model", "checkpoint", "epochs", "bins", "test_images")} == {
        "set": "common (15 corruptions)", "dataset": "cifar10", "model": "wideresnet10",
        "checkpoint": "last_model.ckpt", "epochs": 2, "bins": 15, "test_images": 50}
    assert tuple(record["corrupted"]) == COMMON
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert len(rows) == 1 + 15 * 5 and {row["set"] for row in rows} == {"common (15 corruptions)"}
    assert (rows[0]["corruption"], rows[0]["severity"]) == ("none", "0")
    for row in rows[1:]:
        cell = record["corrupted"][row["corruption"]]
        assert [float(row[metric]) for metric in CalibrationScores._fields] == [
            cell[metric][int(row["severity"]) - 1] for metric in CalibrationScores._fields]


def test_a_comparison_is_evaluated_under_corruptions_that_it_was_not_trained_on(common, cifar_dir, tmp_path, capsys):
    before = contents(common)
    unseen.main([common, str(tmp_path / "unseen.csv"), "--data_dir", cifar_dir])
    assert contents(common) == before
    rows = list(csv.DictReader((tmp_path / "unseen.csv").read_text().splitlines()))
    assert [row["corruption"] for row in rows] == ["none", *COMMON, *SETS["bar"]]
    record = read_json(common + "/evaluation_common.json")
    for row in rows[:16]:
        assert (row["method"], row["seed"]) == (read_json(common + "/config.json")["title"], "0")
        expected = record["clean"] if row["corruption"] == "none" else record["corrupted"][row["corruption"]]
        for score in ("accuracy", "nll", "ece"):
            assert float(row[score]) == pytest.approx(np.mean(expected[score]), abs=1e-6)
    for argv, culprit in (([str(tmp_path / "nothing"), "unseen.csv"], "nothing: not the folder of a run"),
                          ([common, str(tmp_path)], f"FILE {tmp_path}: is not a file name")):
        with pytest.raises(SystemExit) as stop:
            unseen.main(argv)
        assert stop.value.code == 2 and culprit in capsys.readouterr().err


def test_averages_by_hand():
    corrupted = {"fog": [CalibrationScores(a, 0.1 * s, 0.01) for s, a in enumerate((0.9, 0.8, 0.7, 0.6, 0.5), 1)],
                 "snow": [CalibrationScores(a, 0.1 * s, 0.03) for s, a in enumerate((0.7, 0.6, 0.5, 0.2, 0.1), 1)]}
    result = summary(CalibrationScores(0.95, 0.05, 0), corrupted)
    assert result["by_severity"]["error"] == pytest.approx([0.05, 0.2, 0.3, 0.4, 0.6, 0.7])
    assert result["by_severity"]["nll"] == pytest.approx([0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert result["by_level"]["none"] == pytest.approx({"error": 0.05, "nll": 0.05, "ece": 0})
    assert result["by_level"]["mild"] == pytest.approx({"error": 0.3, "nll": 0.2, "ece": 0.02})
    assert result["by_level"]["severe"] == pytest.approx({"error": 0.65, "nll": 0.45, "ece": 0.02})


def test_the_table_has_every_corruption_and_the_averages(run, capsys):
    capsys.readouterr()
    main.main(["--evaluate", run, "-c", "snow", "fog"])
    record = read_json(run + "/evaluation_snow+fog.json")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == ("snow, fog (2 corruptions) on cifar10, 50 test images: wideresnet10, last_model.ckpt after 2 "
                        "epochs")
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:] if line}
    for name in ("snow", "fog"):
        accuracy = [100 * value for value in record["corrupted"][name]["accuracy"]]
        assert rows[name][:6] == [f"{value:.2f}" for value in [*accuracy, np.mean(accuracy)]]
    errors = [*record["by_severity"]["error"], *(level["error"] for level in record["by_level"].values())]
    assert rows["error"][1:] == [f"{100 * value:.2f}" for value in errors]
    assert lines[-1].endswith("evaluation_snow+fog.json and .csv")


def test_same_bytes_from_disk_or_made_for_any_number_of_workers(run, cifar_dir, tmp_path):
    copy = str(shutil.copytree(cifar_dir, tmp_path / "data"))
    result = []
    for workers in ("1", "2"):
        main.main(["--evaluate", run, "-c", "fog", "pixelate", "--data_dir", copy, "--num_workers", workers])
        result.append({name: text for name, text in contents(run).items() if "evaluation" in name})
        for name in result[-1]:  # or they would be read again
            os.remove(os.path.join(run, name))
        for name in ("fog", "pixelate"):  # for the second time around
            load_corrupted(copy, SOURCES["cifar10"](copy), name, 6)
    made, stored = ({name: without_pixels(text) for name, text in subset.items()} for subset in result)
    assert len(made) == 2 and made == stored


def without_pixels(text):
    """The content of a file, but for hashes of corrupted images, which those have that are read from a disk."""
    return re.sub(rb'"labels": null,\s+"pixels": (null|"[0-9a-f]{32}")', b"", text)


@pytest.mark.slow
def test_a_baseline_is_evaluated_where_it_has_no_evaluation_of_its_checkpoint(run, common, tmp_path, capsys):
    base = str(shutil.copytree(common, tmp_path / "base"))
    evaluated = os.stat(base + "/evaluation_common.json").st_mtime_ns
    main.main(["--evaluate", run + "/0_model.ckpt", "-c", "fog", "contrast", "--baseline", base])
    assert capsys.readouterr().out.count("\nnone") == 1 and len(contents(base)) == len(contents(common))
    record, second = (read_json(path) for path in (run + "/0_model_evaluation_fog+contrast.json",
                                                   base + "/evaluation_common.json"))
    result = record["corruption_error"]
    checkpoint = {"checkpoint": "last_model.ckpt", "checkpoint_sha256": file_hash(base + "/last_model.ckpt")}
    assert result["baseline"] == {"name": "base", "model": "wideresnet10", **checkpoint, "epochs": 2}
    for name in ("fog", "contrast"):
        ratio = (5 - sum(record["corrupted"][name]["accuracy"])) / (5 - sum(second["corrupted"][name]["accuracy"]))
        assert result["by_corruption"][name] == pytest.approx(ratio)
    assert result["mean"] == pytest.approx(np.mean(list(result["by_corruption"].values())))

    main.main(["--evaluate", run, "-c", "saturate", "--baseline", base])
    assert capsys.readouterr().out.count("\nnone") == 2
    assert read_json(run + "/evaluation_saturate.json")["corruption_error"]["mean"] == 1
    for name in ("last", "1"):  # another one is the newest now
        os.remove(f"{base}/{name}_model.ckpt")
    main.main(["--evaluate", run, "-c", "saturate", "--baseline", base])
    assert capsys.readouterr().out.count("\nnone") == 2
    os.remove(base + "/0_model.ckpt")  # none left: what is stored counts
    main.main(["--evaluate", run, "-c", "saturate", "--baseline", base])
    assert capsys.readouterr().out.count("\nnone") == 1
    assert os.stat(base + "/evaluation_common.json").st_mtime_ns == evaluated


def test_the_newest_checkpoint_of_a_run_is_taken_and_said_where_it_is_not_the_last(run, capsys):
    for name in ("last", "1"):
        os.remove(f"{run}/{name}_model.ckpt")
    main.main(["--evaluate", run, "-c", "fog"])
    assert "newest checkpoint is after 1 of 2 epochs" in capsys.readouterr().err
    assert read_json(run + "/evaluation_fog.json")["checkpoint"] == "0_model.ckpt"


def test_a_checkpoint_without_settings_is_what_the_command_line_says(run, cifar_dir, tmp_path, capsys):
    os.mkdir(tmp_path / "alone")
    path = str(shutil.copy(run + "/last_model.ckpt", tmp_path / "alone" / "my.ckpt"))
    subject = ["--data_dir", cifar_dir, "-c", "fog", "--eval_batch_size", "25"]
    assert fails(capsys, "--evaluate", path, *subject).startswith(f"{path}: no config.json beside it says what it is")
    other = [*subject, "-m", "wideresnet", "-d", "cifar10", "--baseline", run]
    assert "belongs to another network" in fails(capsys, "--evaluate", path, *other)  # the baseline is not evaluated
    assert not os.path.exists(run + "/evaluation_fog.json")
    assert not os.path.exists(tmp_path / "alone" / "my_evaluation_fog.json")
    main.main(["--evaluate", path, *subject, "-m", "wideresnet10", "-d", "cifar10"])
    assert sorted(os.listdir(tmp_path / "alone")) == ["my.ckpt", "my_evaluation_fog.csv", "my_evaluation_fog.json"]
    main.main(["--evaluate", run, "-c", "fog", "--baseline", path])
    assert read_json(run + "/evaluation_fog.json")["corruption_error"]["mean"] == 1


@pytest.mark.slow
def test_a_network_is_evaluated_with_its_own_normalisation(run, cifar_dir, tmp_path, capsys):
    """The mean and standard deviation of a run come from its settings, or with a .safetensors file, or are given."""
    log_dir = str(tmp_path / "logs")
    main.main(arguments(cifar_dir, log_dir, "--method", "erm", "--save_last", "--total_epoch", "1", "--mean", "0.5",
                        "--std", "0.3", "0.4", "0.5", "--eval_batch_size", "25"))
    other, subject = only_run(log_dir), ["--data_dir", cifar_dir, "-c", "gaussian_noise", "--eval_batch_size", "25"]
    expected = read_json(other + "/results.json")["test"]["accuracy"]
    main.main(["--evaluate", other, "-c", "gaussian_noise"])
    record = read_json(other + "/evaluation_gaussian_noise.json")
    assert (record["mean"], record["std"]) == ([0.5] * 3, [0.3, 0.4, 0.5])
    assert [record["clean"]["accuracy"], *record["corrupted"]["gaussian_noise"]["accuracy"]] == pytest.approx(expected)
    unseen.main([other, str(tmp_path / "unseen.csv"), "--data_dir", cifar_dir])
    rows = {row["corruption"]: row for row in csv.DictReader((tmp_path / "unseen.csv").read_text().splitlines())}
    for score in ("accuracy", "nll"):
        assert float(rows["none"][score]) == pytest.approx(record["clean"][score], rel=1e-4)

    os.mkdir(tmp_path / "alone")
    path = str(tmp_path / "alone" / "my.safetensors")
    convert(other + "/last_model.ckpt", path)
    main.main(["--evaluate", path, *subject, "-m", "wideresnet10", "-d", "cifar10"])
    alone = read_json(str(tmp_path / "alone" / "my_safetensors_evaluation_gaussian_noise.json"))
    assert alone["corrupted"] == record["corrupted"] and alone["mean"] == [0.5] * 3
    assert "was trained with 0.5; leave" in fails(capsys, "--evaluate", path, *subject, "-m", "wideresnet10", "-d",
                                              "cifar10", "--mean", "0.4")
    assert "was trained with that of the data set" in fails(capsys, "--evaluate", run, "--mean", "0.4")
    bare = str(shutil.copy(other + "/last_model.ckpt", tmp_path / "alone" / "bare.ckpt"))
    main.main(["--evaluate", bare, *subject, "-m", "wideresnet10", "-d", "cifar10", "--mean", "0.5", "--std", "0.3",
               "0.4", "0.5"])
    assert read_json(str(tmp_path / "alone" / "bare_evaluation_gaussian_noise.json"))["corrupted"] == alone["corrupted"]

    # A run with the normalisation of its data set has it in such a file, too.
    convert(run + "/last_model.ckpt", str(tmp_path / "alone" / "plain.safetensors"))
    assert "--mean 0.4: " in fails(capsys, "--evaluate", str(tmp_path / "alone" / "plain.safetensors"), *subject, "-m",
                                   "wideresnet10", "-d", "cifar10", "--mean", "0.4")

    # A baseline keeps its own.
    os.remove(other + "/evaluation_gaussian_noise.json")
    main.main(["--evaluate", run, "-c", "gaussian_noise", "--baseline", other])
    assert read_json(other + "/evaluation_gaussian_noise.json")["corrupted"] == record["corrupted"]


@pytest.mark.slow
def test_a_baseline_is_scaled_as_in_its_own_training(tmp_path):
    """Two networks of one folder with another interpolation; each sees the images that it was trained with."""
    make_folder(str(tmp_path / "own"), (12, 4))
    runs = []
    for name in ("bilinear", "bicubic"):
        log_dir = str(tmp_path / name)
        main.main(["-d", "folder", "--data_dir", str(tmp_path / "own"), "--image_size", "16", "-m", "wideresnet10",
                   "-b", "8", "--total_epoch", "1", "--method", "erm", "--num_workers", "1", "--interpolation", name,
                   "--log_dir", log_dir, "-c", "fog"])
        runs.append(only_run(log_dir))
    main.main(["--evaluate", runs[1], "-c", "fog"])
    alone = read_json(runs[1] + "/evaluation_fog.json")
    os.remove(runs[1] + "/evaluation_fog.json")
    main.main(["--evaluate", runs[0], "-c", "fog", "--baseline", runs[1]])
    assert read_json(runs[1] + "/evaluation_fog.json") == alone
    assert "corruption_error" in read_json(runs[0] + "/evaluation_fog.json")


def test_a_run_may_be_called_alexnet(run, common, tmp_path, monkeypatch, capsys):
    shutil.copytree(common, tmp_path / "alexnet")
    monkeypatch.chdir(tmp_path)
    assert "(a folder of that name is ./alexnet)" in fails(capsys, "--evaluate", run, "-c", "fog", "--baseline",
                                                           "alexnet")
    main.main(["--evaluate", run, "-c", "fog", "--baseline", "./alexnet"])
    result = read_json(run + "/evaluation_fog.json")["corruption_error"]
    assert result["mean"] == 1 and result["baseline"]["name"] == "alexnet" and "checkpoint" in result["baseline"]


@pytest.mark.parametrize("argv, message", [
    (["--evaluate", "nowhere"], "--evaluate nowhere: no such run or checkpoint"),
    (["--evaluate", "EMPTY"], "no run with a config.json is there"),
    (["--evaluate", "RUN", "-m", "wideresnet"], "--model wideresnet: RUN was made with --model wideresnet10"),
    (["--evaluate", "RUN", "-d", "photos"], "--dataset photos: RUN was made with --dataset cifar10"),
    (["--evaluate", "RUN", "-d", "cifar10", "photos"], "--dataset: takes one value with --evaluate"),
    (["--evaluate", "RUN", "--lr", "0.1"], "--lr: has no effect with --evaluate"),
    (["--evaluate", "RUN", "--method", "erm"], "--method: has no effect with --evaluate"),
    (["--evaluate", "RUN", "--resume", "RUN"], "--resume: has no effect with --evaluate"),
    (["--evaluate", "RUN/split.csv"], "--evaluate RUN/split.csv: no such run or checkpoint"),
    (["--evaluate", "EMPTY/bad.ckpt", "-m", "wideresnet10", "-d", "photos"], "bad.ckpt: damaged or not a checkpoint"),
    (["--evaluate", "RUN", "--data_dir", "EMPTY/file"], "cifar10 is not in "),
    (["--baseline", "RUN"], "--baseline: needs --evaluate; name a run"),
    (["--evaluate", "RUN", "--baseline", "nowhere"], "--baseline nowhere: no such run"),
    (["--evaluate", "RUN", "--baseline", "nowhere.json"],
     "--baseline nowhere.json: no such file; name a run, a checkpoint, or the JSON file of an evaluation"),
    (["--evaluate", "RUN", "--baseline", "RUN/results.json"], "--baseline RUN/results.json: not an evaluation"),
    (["--evaluate", "RUN", "--baseline", "RUN/log.txt"], "--baseline RUN/log.txt: no such run or checkpoint"),
    (["--evaluate", "RUN", "--baseline", "COMMON", "-c", "spatter"], "lacks spatter"),
    (["--evaluate", "RUN", "--baseline", "OTHER"], "has results on cifar100, not on cifar10"),
    (["--evaluate", "RUN", "--baseline", "IMAGES"], "was evaluated on other test images"),
    (["--evaluate", "RUN", "--baseline", "PERFECT"], "makes no error under fog"),
    (["--evaluate", "RUN", "--baseline", "LIST"], "not an evaluation"),
    (["--evaluate", "RUN", "--baseline", "alexnet"], "its errors are published for imagenet, not for cifar10; name a "),
])
def test_bad_input_is_one_line(run, common, tmp_path, capsys, monkeypatch, argv, message):
    monkeypatch.setattr("dataset.sources.cifar.URL", "http://127.0.0.1:9/")  # nothing listens there
    os.mkdir(tmp_path / "empty")
    for name in ("file", "bad.ckpt"):
        (tmp_path / "empty" / name).touch()
    record = read_json(common + "/evaluation_common.json")
    fog = {**record["corrupted"]["fog"], "accuracy": [1] * 5}
    rest = {**record["fingerprints"], "none": {**record["fingerprints"]["none"], "pixels": "0"}}
    places = {"RUN": run, "EMPTY": str(tmp_path / "empty"), "COMMON": common + "/evaluation_common.json"}
    for name, value in {"OTHER": {**record, "dataset": "cifar100"}, "IMAGES": {**record, "fingerprints": rest},
                        "PERFECT": {**record, "corrupted": {**record["corrupted"], "fog": fog}}, "LIST": []}.items():
        places[name] = str(tmp_path / f"{name}.json")
        (tmp_path / f"{name}.json").write_text(json.dumps(value))

    def placed(text):
        return next((text.replace(word, path) for word, path in places.items() if word in text), text)
    before = contents(run)
    assert placed(message) in fails(capsys, *map(placed, argv))
    assert contents(run) == before


def test_a_damaged_array_is_named_before_anything_is_evaluated(run, cifar_dir, tmp_path, capsys):
    copy = str(shutil.copytree(cifar_dir, tmp_path / "data"))
    path = corrupted_path(copy, SOURCES["cifar10"](copy), "test", 5, "gaussian_noise")
    os.truncate(path, 1000)
    assert fails(capsys, "--evaluate", run, "--data_dir", copy).startswith(f"{path}: truncated")


def test_other_test_images_than_those_of_the_run_are_refused(run, cifar_dir, tmp_path, capsys):
    copy = str(shutil.copytree(cifar_dir, tmp_path / "data"))
    path = os.path.join(copy, "cifar-10-batches-bin", "test_batch.bin")
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(bytes(50))
    line = fails(capsys, "--evaluate", run, "--data_dir", copy)
    assert line == (f"{run}: had other test images than there are now (other pixels); name those that it had with "
                    "--data_dir")
    config = read_json(run + "/config.json")
    with open(run + "/config.json", "w") as file:  # of a run of before nothing is known
        json.dump({option: value for option, value in config.items() if option != "fingerprints"}, file)
    main.main(["--evaluate", run, "--data_dir", copy, "-c", "gaussian_noise", "--corrupted_from", "memory"])


def test_an_evaluation_is_used_again_for_the_same_network_and_images_alone(run, cifar_dir, tmp_path, capsys):
    """The weights of one file under two names of a network, with images from two places, and made."""
    os.mkdir(tmp_path / "alone")
    path = str(shutil.copy(run + "/last_model.ckpt", tmp_path / "alone" / "my.ckpt"))
    another = str(shutil.copytree(cifar_dir, tmp_path / "data"))
    source = SOURCES["cifar10"](another)
    for severity in range(1, 6):  # somebody else's images
        array = corrupted_path(another, source, "test", severity, "gaussian_noise")
        np.save(array, np.zeros_like(np.load(array)))

    def evaluate(model, *more):
        capsys.readouterr()
        main.main(["--evaluate", path, "-m", model, "-d", "cifar10", "-c", "gaussian_noise", *more])
        return "evaluated before" in capsys.readouterr().out, read_json(path[:-5] + "_evaluation_gaussian_noise.json")
    before, first = evaluate("wideresnet10", "--data_dir", cifar_dir)
    assert not before and first["model"] == "wideresnet10" and first["mean"] == list(source.mean)
    assert evaluate("wideresnet10", "--data_dir", cifar_dir) == (True, first)
    before, second = evaluate("wideresnet10-1", "--data_dir", cifar_dir)
    assert not before and second["model"] == "wideresnet10-1"
    before, black = evaluate("wideresnet10", "--data_dir", another)
    assert not before and black["corrupted"] != first["corrupted"]
    before, made = evaluate("wideresnet10", "--data_dir", another, "--corrupted_from", "memory")
    pixels = first["fingerprints"]["gaussian_noise"].pop("pixels")  # nobody has seen those of images that are not made
    assert not before and len(pixels) == 32 and made["fingerprints"]["gaussian_noise"].pop("pixels") is None
    assert made == first
    before, again = evaluate("wideresnet10", "--data_dir", cifar_dir)  # from disk, the same images
    assert before and again["fingerprints"]["gaussian_noise"].pop("pixels") == pixels and again == first


def test_a_figure_of_other_corrupted_images_than_those_of_the_run_is_an_error(run, cifar_dir, tmp_path, capsys):
    draw(["calibration", run, "--images", "25"])
    before = read_json(run + "/calibration.json")
    second = str(shutil.copytree(cifar_dir, tmp_path / "data"))
    array = corrupted_path(second, SOURCES["cifar10"](second), "test", 3, "gaussian_noise")
    np.save(array, np.zeros_like(np.load(array)))
    with pytest.raises(SystemExit) as stop:
        draw(["calibration", run, "--images", "25", "--data_dir", second])
    assert stop.value.code == 2 and f"{run}: had other corrupted test images" in capsys.readouterr().err
    assert read_json(run + "/calibration.json") == before


def test_a_network_that_gives_no_numbers_is_named(run, cifar_dir, capsys):
    network = create_model("wideresnet10", 10)
    network.fc.weight.set_data(ms.Tensor(np.full(network.fc.weight.shape, 3e38, np.float32)))
    ms.save_checkpoint(network, run + "/astray.ckpt", crc_check=True)
    with pytest.raises(SystemExit) as stop:
        main.main(["--evaluate", run + "/astray.ckpt", "-c", "fog"])
    assert stop.value.code == 2 and "astray.ckpt: gives numbers that are not finite" in capsys.readouterr().err
    assert not [name for name in os.listdir(run) if "evaluation" in name]


def test_names_of_sets():
    assert corruption_set_name(SETS["all"]) == ("all", "all (19 corruptions)")
    assert corruption_set_name(list(reversed(COMMON))) == ("common", "common (15 corruptions)")
    assert corruption_set_name(["fog"]) == ("fog", "fog (1 corruption)")
    assert corruption_set_name(["snow", "fog"]) == ("snow+fog", "snow, fog (2 corruptions)")


def test_a_record_has_the_corruption_error_only_with_a_baseline():
    record = to_dict({}, CalibrationScores(1, 0, 0), {"fog": [CalibrationScores(0.5, 1, 0)] * 5})
    assert "corruption_error" not in record and record["corrupted"]["fog"]["accuracy"] == (0.5,) * 5


def test_a_signal_stops_an_evaluation_where_it_looks_for_one(monkeypatch):
    """And nowhere else: the signal comes before, and the evaluation goes on to the next look."""
    reached = []

    def evaluate(path, **options):
        terminate_self()
        reached.append(path)
        raise_if_interrupted()
    monkeypatch.setattr("losses.evaluation.runs.evaluate_run", evaluate)
    with pytest.raises(Interrupted):
        evaluate_runs("weights.ckpt")
    assert reached == ["weights.ckpt"]
