"""Corruption errors relative to AlexNet's published ones: --evaluate RUN --baseline alexnet."""
import os
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest

import main
from corruptions import COMMON, SETS
from corruptions.evaluation import alexnet
from corruptions.evaluation.baseline import Baseline
from corruptions.evaluation.metrics import CalibrationScores, relative_corruption_error
from corruptions.evaluation.record import averages, to_dict
from corruptions.utils.files import read_json
from dataset import load_source
from losses.evaluation.baselines import load_baseline
from models import create_model
from tests.image_trees import make_imagenet
from tests.published_files import make_class_folders, same_files
from tests.test_evaluate import fails
from utils.reports.summary import evaluation_table

# Means over severities, as they were published beside the errors; AugMix's imagenet.py has the first fifteen, too.
MEANS = dict(zip([*COMMON, "speckle_noise", "gaussian_blur", "spatter", "saturate"], [
    0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816, 0.826572, 0.819324, 0.564592,
    0.853204, 0.646056, 0.717840, 0.606500, 0.845388, 0.787108, 0.717512, 0.658248], strict=True))


def evaluate(folder, *argv):
    return ["--evaluate", str(folder / "weights.ckpt"), "-m", "wideresnet10", "-d", "imagenet", "--data_dir",
            str(folder), "--eval_batch_size", "3", "--baseline", "alexnet", *argv]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One test image of each of three classes, and a network that takes all for the first."""
    folder = tmp_path_factory.mktemp("alexnet")
    make_imagenet(str(folder), (1, 1))
    network = create_model("wideresnet10", 3)
    network.fc.weight.set_data(ms.Tensor(np.zeros((3, 64), np.float32)))
    network.fc.bias.set_data(ms.Tensor(np.array([1, 0, 0], np.float32)))
    ms.save_checkpoint(network, str(folder / "weights.ckpt"), crc_check=True)
    return folder


def corrupted(folder, path, names, severities="12345"):
    make_class_folders(str(path), names, 224, same_files(load_source("imagenet", str(folder))), tuple(severities))
    return str(path)


def test_the_table_has_the_published_means():
    assert set(alexnet.ERRORS) == set(SETS["all"])
    for name, errors in alexnet.ERRORS.items():
        assert len(errors) == 5 and np.mean(errors) == pytest.approx(MEANS[name], abs=1e-9)
    orders = {name: np.argsort(errors).tolist() for name, errors in alexnet.ERRORS.items()}
    others = {"snow": [0, 2, 1, 3, 4], "elastic_transform": [0, 2, 3, 1, 4], "saturate": [2, 0, 1, 3, 4]}
    assert orders == {**dict.fromkeys(orders, [0, 1, 2, 3, 4]), **others}  # most make more errors the stronger they are


def test_alexnet_relative_to_itself_is_one():
    rows = {name: [CalibrationScores(1 - error, 1, 0) for error in alexnet.ERRORS[name]] for name in COMMON}
    clean = CalibrationScores(1 - alexnet.CLEAN_ERROR, 1, 0)
    result = to_dict({}, clean, rows, Baseline.of_alexnet(COMMON))["corruption_error"]
    for kind in ("", "relative_"):
        assert list(result[f"{kind}by_corruption"].values()) == pytest.approx([1] * 15)
        assert result[f"{kind}mean"] == pytest.approx(1)


def test_the_mean_is_that_of_ratios_to_the_published_means():
    errors = {name: np.linspace(0.2, 0.6, 5) + 0.02 * k for k, name in enumerate(COMMON)}
    rows = {name: [CalibrationScores(1 - error, 1, 0) for error in five] for name, five in errors.items()}
    result = to_dict({}, CalibrationScores(0.9, 1, 0), rows, Baseline.of_alexnet(COMMON))["corruption_error"]
    ratios = {name: (0.4 + 0.02 * k) / MEANS[name] for k, name in enumerate(COMMON)}
    assert result["by_corruption"] == pytest.approx(ratios)
    assert result["mean"] == pytest.approx(sum(ratios.values()) / 15)


@pytest.mark.parametrize("clean, errors, mean, relative", [
    (23.9, [80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77], 76.7, 105.0),  # ResNet-50
    (30.2, [87, 88, 91, 84, 91, 87, 89, 86, 84, 78, 69, 78, 90, 80, 85], 84.7, 103.9),  # ResNet-18
    (25.8, [82, 83, 88, 82, 94, 84, 86, 80, 78, 69, 61, 74, 94, 85, 83], 81.6, 111.1)])  # VGG-19 with BatchNorm
def test_published_corruption_errors_give_the_published_relative_mce(clean, errors, mean, relative):
    """Hendrycks 2019, Table 1, in percent. Its errors are rounded to whole numbers, so the means agree to half a point.
    """
    rows = {name: [CalibrationScores(1 - error / 100 * MEANS[name], 1, 0)] * 5
            for name, error in zip(COMMON, errors, strict=True)}
    record = to_dict({"set": "common"}, CalibrationScores(1 - clean / 100, 1, 0), rows, Baseline.of_alexnet(COMMON))
    result = record["corruption_error"]
    assert 100 * result["mean"] == pytest.approx(mean, abs=0.5)
    assert 100 * result["relative_mean"] == pytest.approx(relative, abs=0.5)
    line = f"mean relative corruption error, of what they add to clean errors: {result['relative_mean']:.3f}"
    assert averages(record).endswith(line)


def test_a_corruption_that_costs_the_baseline_nothing_has_no_relative_error():
    baseline = Baseline({"name": "b"}, {"fog": [0.3] * 5, "snow": [0.5] * 5}, clean_error=0.3)
    rows = {name: [CalibrationScores(0.6, 1, 0)] * 5 for name in ("fog", "snow")}
    record = to_dict({"set": "fog, snow"}, CalibrationScores(0.8, 1, 0), rows, baseline)
    assert record["corruption_error"]["relative_by_corruption"] == {"fog": None, "snow": pytest.approx(0.2 / 0.2)}
    assert record["corruption_error"]["relative_mean"] is None and "mean relative" not in averages(record)


@pytest.mark.parametrize("errors", [
    [0.1, 0.2, 0.3, 0.4, 0.5], [0.29, 0.31, 0.28, 0.32, 0.3], [0.7, 0.1, 0.2, 0.2, 0.3]])
def test_a_corruption_that_adds_only_rounding_has_no_relative_error(errors):
    assert relative_corruption_error([0.4] * 5, 0.2, errors, 1 - 0.7) is None


def test_a_network_of_known_errors(folder, tmp_path, monkeypatch, capsys):
    names = COMMON[::4]
    monkeypatch.setattr(alexnet, "CLASSES", 3)
    places = corrupted(folder, tmp_path / "ImageNet-C", names)
    main.main(evaluate(folder, "--test_corrupted", places))
    record = read_json(folder / "weights_evaluation_ImageNet-C.json")
    result, ratios = record["corruption_error"], {name: 2 / 3 / MEANS[name] for name in names}
    assert result["by_corruption"] == pytest.approx(ratios)
    assert result["mean"] == pytest.approx(np.mean(list(ratios.values())))
    assert result["baseline"] == {"name": "AlexNet", "source": alexnet.SOURCE}
    lines = capsys.readouterr().out.splitlines()
    assert f"mean corruption error over ImageNet-C (4 corruptions): {result['mean']:.3f}, relative to AlexNet" in lines
    assert next(line for line in lines if line.startswith("frost ")).split()[-1] == f"{ratios['frost']:.3f}"
    description, _ = evaluation_table(record)
    assert description.endswith(f"mean corruption error {result['mean']:.3f}, relative to AlexNet")


def test_fewer_severities_are_compared_with_the_same(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(alexnet, "CLASSES", 3)
    places = corrupted(folder, tmp_path / "some", ["fog"], "24")
    main.main(evaluate(folder, "--test_corrupted", places))
    record = read_json(folder / "weights_evaluation_some.json")
    mean = 2 / 3 / np.mean([0.7605, 0.8726])
    assert record["corruption_error"]["by_corruption"] == pytest.approx({"fog": mean})
    line = f"mean corruption error over some (1 corruption), severity 2, 4 alone: {mean:.3f}, relative to AlexNet"
    assert averages(record).splitlines()[-2] == line


def test_other_corruptions_and_classes_are_refused(folder, tmp_path, monkeypatch, capsys):
    line = fails(capsys, *evaluate(folder, "-c", "fog"))
    assert line.startswith("--baseline alexnet: its errors are published for 1000 classes, and imagenet has 3 here; ")
    monkeypatch.setattr(alexnet, "CLASSES", 3)
    places = corrupted(folder, tmp_path / "C-bar", ["fog", "plasma_noise", "sparkles"], "1")
    with pytest.raises(SystemExit) as stop:
        main.main(evaluate(folder, "--test_corrupted", places))
    captured = capsys.readouterr()
    assert stop.value.code == 2 and "accuracy" not in captured.out  # before anything is evaluated
    assert "has no published errors under sparkles, plasma_noise; name another baseline" in captured.err
    assert not os.path.exists(folder / "weights_evaluation_C-bar.json")


def test_all_classes_of_imagenet_are_taken():
    test = SimpleNamespace(source=SimpleNamespace(classes=1000), names=["fog"], severities=[5])
    assert load_baseline("alexnet", None, "resnet50", test).errors == {"fog": [0.945]}
