"""A network looked at around its weights: closed forms, finite differences, and the figures that show it."""
import inspect
import json
import os
import shutil

import matplotlib.pyplot as plt
import mindspore as ms
import mindspore.nn as nn
import numpy as np
import pytest
from matplotlib.axes import Axes

import losses.evaluation.measure
import losses.evaluation.probes
import losses.training.run
import main
from corruptions.evaluation.metrics import BINS
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, write_json
from dataset import SOURCES
from dataset.pipeline import load_batches
from dataset.stored import corrupted_path
from losses.evaluation.cells import EvaluationStep, GradientNorm
from losses.evaluation.measure import MEASUREMENTS
from losses.evaluation.predict import distribution_gradient_norms, mean_gradient_norm
from losses.evaluation.probes import filter_normalised, loss_surface, mean_loss, random_direction, sharpness
from models import create_model
from tests.processes import terminate_self
from tests.published_files import stored_fingerprints
from tests.test_figures import make_run
from tests.test_main import arguments, only_run, read_csv
from utils.figures import FIGURES
from utils.figures.__main__ import main as draw
from utils.figures.evaluations import best_last
from utils.records.reading import read_records


class Tiny(nn.Cell):
    """A convolution, BatchNorm and a classifier: 56 weights."""

    def __init__(self):
        super().__init__()
        rng = np.random.RandomState(0)
        self.conv = nn.Conv2d(1, 3, 3, pad_mode="valid", weight_init=ms.Tensor(rng.randn(3, 1, 3, 3), ms.float32))
        self.norm = nn.BatchNorm2d(3, moving_var_init=ms.Tensor([0.5, 2, 1], ms.float32),
                                   moving_mean_init=ms.Tensor([0.1, -0.4, 0], ms.float32))
        self.classifier = nn.Dense(3, 5, weight_init=ms.Tensor(rng.randn(5, 3), ms.float32))

    def construct(self, x):
        return self.classifier(ms.ops.tanh(self.norm(self.conv(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def tiny():
    rng = np.random.RandomState(1)
    network = Tiny()
    batches = [(ms.Tensor(rng.randn(8, 1, 6, 6), ms.float32), ms.Tensor(rng.randint(0, 5, 8), ms.int32),
                ms.Tensor(count, ms.int32)) for count in (8, 5)]  # 13 images count
    return EvaluationStep(network), GradientNorm(network), batches


def numeric_gradient(step, batches, h=1e-2):
    """By central differences, of the mean loss by each of the weights."""
    weights = step.network.trainable_params()
    gradient = [np.zeros(weight.shape) for weight in weights]
    for k, weight in enumerate(weights):
        for place in np.ndindex(weight.shape):
            direction = [np.zeros(second.shape, np.float32) for second in weights]
            direction[k][place] = 1
            zero = [np.zeros_like(part) for part in direction]
            [low, _, high] = loss_surface(step, (direction, zero), [batches], [-h, 0, h])[0, 1]
            gradient[k][place] = (high - low) / (2 * h)
    return gradient


def state(network):
    return {p.name: p.asnumpy().tobytes() for p in network.get_parameters()}


def test_gradient_norm_and_sharpness_agree_with_finite_differences(tiny):
    step, gradient_norm, batches = tiny
    before = state(step.network)
    gradient = numeric_gradient(step, batches)
    norm = np.sqrt(sum(np.square(part).sum() for part in gradient))
    assert mean_gradient_norm(gradient_norm, batches) == pytest.approx(norm, rel=1e-3)
    for rho in (0.02, 0.5):
        unit = [(part / norm).astype(np.float32) for part in gradient]
        zero = [np.zeros_like(part) for part in unit]
        [_, here, above] = loss_surface(step, (unit, zero), [batches], [-rho, 0, rho])[0, 1]
        assert sharpness(step, gradient_norm, batches, rho) == pytest.approx(above - here, rel=5e-3)
    assert sharpness(step, gradient_norm, batches, 0.02) == pytest.approx(0.02 * norm, rel=0.05)
    assert state(step.network) == before  # weights and running statistics, bit for bit


def test_the_norm_of_a_distribution_is_that_of_its_own_mean_loss(tiny):
    _, gradient_norm, [(images, labels, _), _] = tiny
    groups = np.array([0, 2, 1, 0, 0, 2, 0, 0])
    norms = distribution_gradient_norms(gradient_norm, images, labels, groups)
    assert list(norms) == [0, 1, 2]
    for s, norm in norms.items():
        order = np.argsort(groups != s, kind="stable")  # its own samples first; the others do not count
        batch = (*(ms.Tensor(tensor.asnumpy()[order]) for tensor in (images, labels)),
                 ms.Tensor((groups == s).sum(), ms.int32))
        assert norm == pytest.approx(mean_gradient_norm(gradient_norm, [batch]), rel=1e-5)


def test_nothing_near_the_weights_is_much_higher_than_sharpness_says(tiny):
    step, gradient_norm, batches = tiny
    rho, rng = 0.05, np.random.RandomState(0)
    highest = sharpness(step, gradient_norm, batches, rho)
    weights = step.network.trainable_params()
    for _ in range(20):
        direction = [rng.randn(*weight.shape) for weight in weights]
        length = np.sqrt(sum(np.square(part).sum() for part in direction))
        direction = [(part / length).astype(np.float32) for part in direction]
        zero = [np.zeros_like(part) for part in direction]
        [_, here, there] = loss_surface(step, (direction, zero), [batches], [-rho, 0, rho])[0, 1]
        assert there - here < 1.05 * highest


def test_weights_come_back_even_where_a_measurement_stops(tiny):
    step, _, batches = tiny
    before = state(step.network)
    weights = step.network.trainable_params()

    def interrupted():
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        loss_surface(step, (random_direction(weights, 0), random_direction(weights, 1)), [batches], [-1, 0, 1],
                     interrupted)
    assert state(step.network) == before


def test_a_surface_is_the_loss_along_both_directions(tiny):
    step, _, batches = tiny
    weights = step.network.trainable_params()
    item, second = random_direction(weights, 0), random_direction(weights, 1)
    surface = loss_surface(step, (item, second), [batches, batches[:1]], [-0.5, 0, 0.5])
    assert surface.shape == (2, 3, 3)
    assert surface[0, 1, 1] == mean_loss(step, batches) and surface[1, 1, 1] == mean_loss(step, batches[:1])
    moved = Tiny()
    for weight, start, a, b in zip(moved.trainable_params(), weights, item, second, strict=True):
        weight.set_data(ms.Tensor(start.asnumpy() + 0.5 * a - 0.5 * b))
    assert surface[0, 0, 2] == pytest.approx(mean_loss(EvaluationStep(moved), batches), rel=1e-6)


def test_directions_are_normalised_filter_by_filter(tiny):
    """Li 2018: each filter of a direction has the length of the weights' filter, vectors stay as they are."""
    weights = tiny[0].network.trainable_params()
    for weight, direction in zip(weights, random_direction(weights, 0), strict=True):
        value = weight.asnumpy()
        if value.ndim == 1:
            assert not direction.any()
            continue
        lengths = [np.linalg.norm(x.reshape(len(x), -1), axis=1) for x in (value, direction)]
        np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-6)
    drawn = np.random.RandomState(0).randn(4, 2, 3, 3).astype(np.float32)
    scaled = filter_normalised(drawn, np.ones((4, 2, 3, 3), np.float32))
    for before, after in zip(drawn, scaled, strict=True):
        np.testing.assert_allclose(after / before, np.sqrt(18) / np.linalg.norm(before), rtol=1e-5)


def test_directions_are_the_same_for_networks_of_one_kind():
    """But for the lengths of filters: what is drawn depends on seed and name alone."""
    def unit(seed, scale):
        network = Tiny()
        for weight in network.trainable_params():
            weight.set_data(ms.Tensor(scale * weight.asnumpy()))
        return [part / max(np.linalg.norm(part), 1e-9) for part in random_direction(network.trainable_params(), seed)]
    for item, same, second in zip(unit(0, 1), unit(0, 3), unit(1, 1), strict=True):
        np.testing.assert_allclose(item, same, atol=1e-6)
        assert not item.any() or np.abs(item - second).max() > 0.1


@pytest.fixture(scope="module")
def logged(cifar_dir, tmp_path_factory):
    """A run that keeps and logs all there is; tests copy it before they write there."""
    log_dir = str(tmp_path_factory.mktemp("logs"))
    main.main(arguments(cifar_dir, log_dir, "--method", "erm", "--total_epoch", "3", "--eval_every", "3",
                        "--eval_batch_size", "25", "--log_sharpness", "2", "--keep_epochs", "1", "--save_last",
                        "--tensorboard", "--log_train", "3"))
    return only_run(log_dir)


@pytest.fixture
def run(logged, tmp_path):
    return str(shutil.copytree(logged, tmp_path / "run"))


def test_checkpoints_are_kept_and_measuring_changes_nothing(logged, cifar_dir, tmp_path):
    assert {name for name in os.listdir(logged) if name.endswith(".ckpt")} == {
        "0_model.ckpt", "1_model.ckpt", "2_model.ckpt", "last_model.ckpt"}
    main.main(arguments(cifar_dir, tmp_path, "--method", "erm", "--total_epoch", "3", "--eval_every", "3",
                        "--save_last"))
    stored = [ms.load_checkpoint(os.path.join(folder, "last_model.ckpt")) for folder in (logged, only_run(tmp_path))]
    for name, parameter in stored[0].items():
        assert parameter.asnumpy().tobytes() == stored[1][name].asnumpy().tobytes()


@pytest.mark.slow
def test_logged_sharpness_is_that_of_the_checkpoints(run):
    """The three values come from the run's log, from its checkpoint, and from a computation by hand."""
    rows = read_csv(run + "/sharpness.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"] and rows[0]["images"] == "50"
    [logged] = MEASUREMENTS["sharpness"](read_records([run]))
    os.remove(run + "/sharpness.csv")
    [measured] = MEASUREMENTS["sharpness"](read_records([run]))
    assert logged["epochs"] == [1, 2] and measured["epochs"] == [0, 1, 2]
    np.testing.assert_allclose(measured["sharpness"][1:], logged["sharpness"], rtol=1e-4)
    assert np.all(np.array(measured["sharpness"]) > 0)
    [wider] = MEASUREMENTS["sharpness"](read_records([run]), rho=0.1)
    assert np.all(np.array(wider["sharpness"]) > np.array(measured["sharpness"]))


def test_logged_sharpness_is_not_drawn_for_other_images(run, cifar_dir, tmp_path):
    [logged] = MEASUREMENTS["sharpness"](read_records([run]))
    assert MEASUREMENTS["sharpness"](read_records([run]), data_dir=cifar_dir) == [logged]
    second = str(shutil.copytree(cifar_dir, tmp_path / "data"))
    array = corrupted_path(second, SOURCES["cifar10"](second), "test", 3, "gaussian_noise")
    np.save(array, np.zeros_like(np.load(array)))
    with pytest.raises(UserError, match="had other corrupted test images"):
        MEASUREMENTS["sharpness"](read_records([run]), data_dir=second)


def test_the_centre_of_the_surface_is_the_loss_of_the_run(run, tmp_path):
    draw(["surface", run, "--points", "3", "--span", "0.2", "-o", str(tmp_path / "figures")])
    result = read_json(run + "/surface.json")["found"]
    assert result["coefficients"] == [-0.2, 0, 0.2]
    centre = [severity[1][1] for severity in result["loss"]]
    np.testing.assert_allclose(centre, read_json(run + "/results.json")["test"]["loss"], rtol=1e-6)
    assert np.ptp(result["loss"], axis=(1, 2)).min() > 1e-3
    assert sorted(os.listdir(tmp_path / "figures")) == ["surface.png", "surface.svg"]


@pytest.mark.parametrize("name", ["surface", "sharpness", "calibration"])
def test_a_measurement_stops_between_points(run, name, monkeypatch, capsys):
    def predict(*_):
        terminate_self()
        return np.zeros(25), np.zeros((25, 10)), np.zeros(25, int)
    for module in (losses.evaluation.measure, losses.evaluation.probes):
        monkeypatch.setattr(module, "predict", predict)
    with pytest.raises(SystemExit) as stop:
        draw([name, run, "--images", "25", *(["--rho", "0.2"] if name == "sharpness" else [])])
    assert stop.value.code == 143 and "stopped by SIGTERM" in capsys.readouterr().err
    assert not os.path.exists(os.path.join(run, f"{name}.json"))


@pytest.mark.slow
def test_what_was_measured_is_measured_once(run, monkeypatch):
    [first] = MEASUREMENTS["ood"](read_records([run]))
    with monkeypatch.context() as patch:
        patch.setattr(losses.evaluation.measure, "predict", None)
        assert MEASUREMENTS["ood"](read_records([run])) == [first]
        with pytest.raises(TypeError):
            MEASUREMENTS["ood"](read_records([run]), rho=0.1)
    [second] = MEASUREMENTS["ood"](read_records([run]), rho=0.1)
    assert second != first


def test_ood_scores_are_the_confidence_that_is_lost(run, cifar_dir):
    """At the checkpoint of epoch 1, against a gradient and two forward passes written out here."""
    [result] = MEASUREMENTS["ood"](read_records([run]), epoch=1, rho=0.3)
    assert result["epoch"] == 1 and np.shape(result["scores"]) == (6, 50)
    assert np.mean(result["scores"]) == pytest.approx(1, rel=1e-5) and np.min(result["scores"]) == 0
    source = SOURCES["cifar10"](cifar_dir)
    network = create_model("wideresnet10", 10)
    ms.load_param_into_net(network, ms.load_checkpoint(run + "/1_model.ckpt"))
    network.set_train(False)
    images = [source.images["test"], *(np.load(f"{cifar_dir}/CIFAR-10-C/test/{s}/gaussian_noise.npy")
                                       for s in range(1, 6))]
    batches = [load_batches(subset, source, None, 50)[0] for subset in images]
    x, labels = (ms.ops.concat([batch[k] for batch in batches]) for k in (0, 1))

    def confidence():
        return ms.ops.softmax(network(x), 1).asnumpy().max(1)
    weights = network.trainable_params()

    def loss(x):
        return ms.ops.cross_entropy(network(x), labels)
    gradient = ms.grad(loss, None, ms.ParameterTuple(weights))(x)
    norm = np.sqrt(sum(np.square(g.asnumpy(), dtype=np.float64).sum() for g in gradient))
    before = confidence()
    for weight, g in zip(weights, gradient, strict=True):
        ms.ops.assign(weight, weight + float(0.3 / norm) * g)
    score = before - confidence()
    scaled = (score - score.min()) / np.ptp(score)
    np.testing.assert_allclose(np.ravel(result["scores"]), scaled / scaled.mean(), atol=5e-3)


def test_calibration_counts_every_image(run):
    [result] = MEASUREMENTS["calibration"](read_records([run]))
    results = read_json(run + "/results.json")["test"]
    assert np.sum(result["images"], axis=1).tolist() == [50] * 6
    np.testing.assert_allclose(np.sum(result["hits"], axis=1) / 50, results["accuracy"])
    for images, confidence in zip(result["images"], result["confidence"], strict=True):
        for k, (number, total) in enumerate(zip(images, confidence, strict=True)):
            assert number * k / 15 <= total <= number * (k + 1) / 15 * (1 + 1e-9)


def test_samples_are_the_pixels_of_the_images(run, cifar_dir):
    shown = MEASUREMENTS["samples"](read_records([run]), image=7)
    np.testing.assert_array_equal(shown[0], SOURCES["cifar10"](cifar_dir).images["test"][7])
    np.testing.assert_array_equal(shown[4], np.load(f"{cifar_dir}/CIFAR-10-C/test/4/gaussian_noise.npy")[7])


@pytest.mark.parametrize("name", [name for name, figure in FIGURES.items() if figure.measured])
def test_every_measured_figure_is_drawn_and_takes_its_options(name, run, tmp_path):
    assert list(inspect.signature(MEASUREMENTS[name]).parameters)[2:] == list(FIGURES[name].options)
    draw([name, run, "-o", str(tmp_path / "figures"), *(["--points", "3", "--images", "25"] if name == "surface" else
                                                        [])])
    [png, svg] = sorted(os.listdir(tmp_path / "figures"))
    assert png.startswith(name) and png.endswith(".png") and svg.endswith(".svg")


def test_each_panel_shows_its_own_severity(tmp_path):
    records = read_records([make_run(tmp_path / "run", "erm", 0)])
    [(_, figure)] = FIGURES["sharpness"].draw(records, [{"epochs": [0, 1], "sharpness": [range(6), range(10, 16)]}])
    assert [axes.get_lines()[0].get_ydata().tolist() for axes in figure.axes[:6]] == [[s, 10 + s] for s in range(6)]
    bins = {key: np.zeros((6, BINS)) for key in ("images", "hits", "confidence")}
    for key, value in (("images", 20), ("hits", 5), ("confidence", 18)):
        bins[key][:, -1] = value
    [(_, figure)] = FIGURES["calibration"].draw(records, [bins])
    for s, axes in enumerate(figure.axes[:6]):
        assert [values.tolist() for values in axes.get_lines()[0].get_data()] == [[0.9], [0.25]]
        assert axes.get_title() == f"severity {s}, ECE 0.650"
    [(_, figure)] = FIGURES["ood"].draw(records, [{"epoch": 1, "scores": [[s, s + 1] for s in range(6)]}])
    curves = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    for s in range(6):
        density, _ = np.histogram([s, s + 1], np.linspace(0, 6, 21), density=True)
        np.testing.assert_array_equal(curves[f"severity {s}"], density)
    plt.close("all")


def test_a_surface_is_drawn_as_it_is(tmp_path, monkeypatch):
    loss, drawn = 1 + np.arange(54.0).reshape(6, 3, 3), []
    contourf = Axes.contourf
    monkeypatch.setattr(Axes, "contourf", lambda axes, x, y, z, *args, **options: drawn.append(z) or contourf(
        axes, x, y, z, *args, **options))
    records = read_records([make_run(tmp_path / "run", "erm", 0)])
    list(FIGURES["surface"].draw(records, [{"coefficients": [-1, 0, 1], "loss": loss.tolist()}]))
    np.testing.assert_array_equal(drawn, loss)
    plt.close("all")


@pytest.mark.parametrize("name, key, measured", [
    ("sharpness", "sharpness", {"epochs": [0, 1]}), ("ood", "scores", {"epoch": 1}),
    ("surface", "loss", {"coefficients": [-1, 0, 1]}), ("calibration", "confidence", {"images": 1, "hits": 1})])
def test_what_is_not_finite_is_not_drawn(tmp_path, name, key, measured):
    """The run that it is of is named; of `surface` the first record of each name is measured."""
    records = read_records([make_run(tmp_path / str(k), method, k) for k, method in enumerate(("erm", "erm", "sam"))])
    values = [{**measured, key: np.full((6, 3, 3), value).tolist()} for value in (0.5, 0.5, np.inf)]
    if name == "surface":
        del values[1]
    with pytest.raises(UserError, match=rf"{records[2].path}: its network gives numbers that are not finite \({key}\)"):
        list(FIGURES[name].draw(records, values))


def test_scores_of_a_network_that_gives_no_numbers_are_none(run, monkeypatch):
    logits = np.ones((300, 10), np.float32)
    logits[7, 3] = np.nan
    monkeypatch.setattr(losses.evaluation.measure, "predict", lambda *_: (None, logits, None))
    [result] = MEASUREMENTS["ood"](read_records([run]))
    assert np.isnan(result["scores"][0][7]) and np.isnan(result["scores"]).sum() == 1


def evaluate_as(folder, errors, corruptions=("fog", "snow"), pixels="1"):
    """Leave an evaluation: `errors` for clean images and for each corruption, the same at all severities."""
    record = {"set": " ".join(corruptions), "checkpoint_sha256": "of another",
              "clean": {"accuracy": 1 - errors[0]}, "fingerprints": stored_fingerprints(corruptions, pixels),
              "by_severity": {"error": [errors[0], *[np.mean(errors[1:])] * 5]},
              "corrupted": {name: {"accuracy": [1 - error] * 5}
                            for name, error in zip(corruptions, errors[1:], strict=True)}}
    with open(os.path.join(folder, f"evaluation_{'+'.join(corruptions)}.json"), "w") as file:
        json.dump(record, file)
    return folder


def test_errors_over_severity_are_averaged_over_corruptions_and_seeds(tmp_path):
    """DAMP, Fig. 3: a line for each method, a band of one standard deviation over its seeds."""
    runs = []
    for k, (method, errors) in enumerate([("erm", [10, 20, 30]), ("erm", [10, 40, 50]), ("damp", [5, 10, 15])]):
        run = evaluate_as(make_run(tmp_path / str(k), method, k % 2), (0.1, 0.2, 0.4))
        path = os.path.join(run, "evaluation_fog+snow.json")
        record = read_json(path)
        record |= {"severities": [2, 4], "by_severity": {"error": [error / 100 for error in errors]}}
        with open(path, "w") as file:
            json.dump(record, file)
        runs.append(run)
    [(name, figure)] = FIGURES["error"].draw(read_records(runs, FIGURES["error"].shared, FIGURES["error"].shown))
    [axes] = figure.axes
    assert name == "error" and axes.get_title() == "cifar10, averaged over fog snow"
    assert [tick for tick in axes.get_xticks()] == [0, 2, 4]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[10, 30, 40], [5, 10, 15]]
    [band] = axes.collections
    assert band.get_paths()[0].get_extents().y1 == pytest.approx(40 + np.std([30, 50], ddof=1))
    plt.close(figure)


def test_corruption_errors_are_relative_to_the_first_method(tmp_path):
    runs = [evaluate_as(make_run(tmp_path / "a", "erm", 0), (0.1, 0.2, 0.4)),
            evaluate_as(make_run(tmp_path / "b", "erm", 1), (0.1, 0.4, 0.4)),
            evaluate_as(make_run(tmp_path / "c", "damp", 0), (0.2, 0.15, 0.1))]
    [(name, figure)] = FIGURES["ce"].draw(read_records(runs, FIGURES["ce"].shared, FIGURES["ce"].shown))
    [axes] = figure.axes
    assert name == "ce" and [label.get_text() for label in axes.get_xticklabels()] == ["none", "fog", "snow", "Avg"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["erm, fog", "damp, fog"]
    assert [text.get_text() for text in axes.texts] == ["1.00"] * 4 + ["2.00", "0.50", "0.25", "0.92"]
    assert axes.get_title() == "corruption error relative to erm, fog, mean over 2 runs (lower is better)"
    plt.close(figure)


@pytest.mark.parametrize("config, trained", [
    ({}, "fog"), ({"train_on": "poisson"}, "fog"), ({"train_on": "clean"}, "none"),
    ({"train_on": "clean", "aug_severity": "uniform"}, "fog"),
    ({"train_on": "clean", "aug_severity": "rare", "aug_corruption": "snow"}, "snow"),
    ({"train_on": "poisson", "aug_severity": "rare", "aug_corruption": "snow"}, "fog and snow")])
def test_rows_say_what_was_trained_with(tmp_path, config, trained):
    """The rows are like the rows of the DAMP paper, where SGD/none is trained on clean images."""
    run = evaluate_as(make_run(tmp_path / "a", "erm", **config), (0.1, 0.2, 0.4))
    [(_, figure)] = FIGURES["ce"].draw(read_records([run], FIGURES["ce"].shared, FIGURES["ce"].shown))
    [label] = figure.axes[0].get_yticklabels()
    assert label.get_text() == f"erm, {trained}"
    plt.close(figure)


def test_training_corruptions_are_rows_of_one_method(tmp_path):
    """Also in a comparison, whose names have the option; what else differs is said and not averaged over."""
    plan = [{"folder": f"{name} {rate}", "name": f"corrupt_aug aug_corruption={name}", "given": {}}
            for name in ("fog", "snow") for rate in (0.1, 0.2)]
    for run in plan:
        name, rate = run["folder"].split()
        evaluate_as(make_run(tmp_path / run["folder"], "corrupt_aug", aug_corruption=name, train_on="clean",
                             corruption=name, lr=float(rate), fingerprints={"test_corrupted": {"pixels": name}}),
                    (float(rate), 0.2, 0.4))
    write_json(tmp_path / "comparison.json", plan)
    records = read_records([str(tmp_path)], FIGURES["ce"].shared, FIGURES["ce"].shown)
    [(_, figure)] = FIGURES["ce"].draw(records)
    assert sorted(label.get_text() for label in figure.axes[0].get_yticklabels()) == [
        f"corrupt aug, lr {rate}, {name}" for rate in (0.1, 0.2) for name in ("fog", "snow")]
    plt.close(figure)


def test_corruption_errors_are_of_the_widest_set_that_all_have(tmp_path):
    item = evaluate_as(make_run(tmp_path / "a", "erm"), (0.1, 0.2, 0.4))
    second = evaluate_as(evaluate_as(make_run(tmp_path / "b", "sam"), (0.1, 0.2, 0.0)), (0.1, 0.2, 0.4, 0.3),
                         ("fog", "snow", "frost"))
    [(_, figure)] = FIGURES["ce"].draw(read_records([item, second]))
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts][4:] == ["1.00", "1.00", "0.00", "0.67"]
    assert np.isfinite(axes.images[0].get_array()).all()  # also where there is no error
    plt.close(figure)


def test_evaluations_of_earlier_checkpoints_do_not_count(run):
    evaluate_as(run, (0.1, 0.2, 0.4))
    with pytest.raises(UserError, match="no evaluation of its newest checkpoint"):
        list(FIGURES["ce"].draw(read_records([run])))


def test_networks_have_rows_of_their_own(tmp_path):
    runs = [evaluate_as(make_run(tmp_path / model, model=model), (0.1, 0.2, 0.4)) for model in ("one", "other")]
    [(_, figure)] = FIGURES["ce"].draw(read_records(runs, FIGURES["ce"].shared, FIGURES["ce"].shown))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["erm one, fog", "erm other, fog"]
    plt.close(figure)


def test_sigma_is_of_the_evaluation_where_there_is_one(tmp_path):
    runs = []
    for sigma in (0.1, 0.2):
        runs.append(make_run(tmp_path / f"{sigma}", "damp", sigma=sigma))
        with open(runs[-1] + "/evaluation_x.json", "w") as file:
            json.dump({"set": "x (1 corruption)", "fingerprints": stored_fingerprints(["fog"]), "clean": {},
                       "corrupted": {"fog": 0},
                       "by_level": {level: {"error": sigma} for level in ("none", "mild", "severe")}}, file)
    [(_, figure)] = FIGURES["sigma"].draw(read_records(runs, shown=("sigma",)))
    assert figure.get_suptitle() == "x (1 corruption)" and figure.axes[0].get_ylabel() == "test error (%)"
    np.testing.assert_allclose(figure.axes[0].get_lines()[2].get_ydata(), [10, 20])
    plt.close(figure)


def test_the_five_best_training_corruptions_come_last():
    means = {"fog": 0.9, "snow": 0.7, "frost": 0.8, "contrast": 0.95, "spatter": 0.6, "pixelate": 0.99, "saturate": 0.5}
    ratios = {("erm", "fog"): [1], **{("corrupt_aug", name): [mean] for name, mean in means.items()},
              ("damp", "fog"): [0.8]}
    assert best_last(ratios) == [("erm", "fog"), ("damp", "fog"), *(
        ("corrupt_aug", name) for name in ("saturate", "spatter", "snow", "frost", "fog"))]
    both = {(method, name): [mean] for method in ("erm", "sam") for name, mean in reversed(means.items())}
    both = {("erm", "pixelate"): [1.0], **both}  # relative to the worst row of erm
    best = ("saturate", "spatter", "snow", "frost", "fog")
    assert best_last(both) == [*(("erm", name) for name in (*best, "pixelate")), *(("sam", name) for name in best)]


def test_runs_with_different_training_corruptions_have_lines_of_their_own(tmp_path):
    runs = [evaluate_as(make_run(tmp_path / f"{name} {seed}", "erm", seed, corruption=name), (rate, rate, rate))
            for name, rate in (("fog", 0.2), ("snow", 0.6)) for seed in (0, 1)]
    [(_, figure)] = FIGURES["error"].draw(read_records(runs, FIGURES["error"].shared, FIGURES["error"].shown))
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    assert list(lines) == ["erm, fog", "erm, snow"]
    assert lines["erm, fog"][0] == pytest.approx(20) and lines["erm, snow"][0] == pytest.approx(60)
    plt.close(figure)


def test_tensorboard_files_hold_the_tables(logged):
    """Read back with the format's own protocol: length, its checksum, an event, its checksum."""
    from tensorboardX.proto import event_pb2
    [name] = os.listdir(logged + "/tensorboard")
    with open(f"{logged}/tensorboard/{name}", "rb") as file:
        content = file.read()
    result, place = {}, 0
    while place < len(content):
        length = int.from_bytes(content[place:place + 8], "little")
        event = event_pb2.Event.FromString(content[place + 12:place + 12 + length])
        place += 16 + length
        for value in event.summary.value:
            result[value.tag, event.step] = value.simple_value
    rows = read_csv(logged + "/train.csv")
    assert len(rows) == 6  # batches 0 and 2, the last, of the 3 of each epoch
    for row in rows:
        step = 3 * int(row["epoch"]) + int(row["batch"])
        assert result["train/avg_loss", step] == pytest.approx(float(row["avg_loss"]))
        for s in range(6):
            there = row[f"processed_distribution_counts_{s}"] != "0"
            assert ((f"train/distribution_loss_{s}", step) in result) == there
    results, sharpness_row = read_json(logged + "/results.json"), read_csv(logged + "/sharpness.csv")[0]
    for s in range(6):
        assert result[f"test/accuracy_{s}", 8] == pytest.approx(results["test"]["accuracy"][s])
        assert result[f"val/loss_{s}", 8] == pytest.approx(results["val"]["loss"][s])
        assert result[f"sharpness/{s}", 5] == pytest.approx(float(sharpness_row[f"sharpness_{s}"]))


@pytest.mark.parametrize("argv, culprit", [
    (["surface", "RUN", "--points", "4"], "'4' is not an odd number above 1"),
    (["sharpness", "RUN", "--points", "5"], "--points: has no effect on the figure sharpness"),
    (["accuracy", "RUN", "--data_dir", "."], "--data_dir: has no effect on the figure accuracy"),
    (["accuracy", "RUN", "--device_target", "CPU"], "--device_target: has no effect on the figure accuracy"),
    (["sharpness", "RUN", "--device_target", "CPU", "--fast_math"], "--fast_math: CPU computes in full float32"),
    (["ood", "RUN", "--epoch", "7"], "--epoch 7: RUN has kept checkpoints of epochs 0, 1, 2"),
    (["samples", "RUN", "--image", "50"], "--image 50: the test set has 50 images"),
    (["surface", "BARE"], "BARE: has no checkpoint; --resume it"),
    (["samples", "RUN", "--data_dir", "nowhere"], "nowhere"),
    (["surface", "STRANGE"], "which this version does not know"),
    (["ce", "RUN"], "RUN: has no evaluation of its newest checkpoint; make one with main.py --evaluate RUN"),
    (["ce", "ONE", "OTHER"], "evaluate all with the same -c"),
    (["ce", "ONE", "ELSEWHERE"], "evaluate all with the same -c"),
])
def test_bad_input_is_one_line(run, tmp_path, capsys, argv, culprit, monkeypatch):
    bare = str(shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("*.ckpt")))
    folders = {"RUN": run, "BARE": bare, "STRANGE": make_run(tmp_path / "strange", model="other"),
               "ONE": evaluate_as(make_run(tmp_path / "one"), (0.1, 0.2, 0.3)),
               "OTHER": evaluate_as(make_run(tmp_path / "other", seed=1), (0.1, 0.2), ["fog"]),
               "ELSEWHERE": evaluate_as(make_run(tmp_path / "else", seed=1), (0.1, 0.2, 0.3), pixels="2")}
    for word in ("RUN", "BARE"):
        culprit = culprit.replace(word, folders[word])
    if "nowhere" in argv:
        def offline(*_, **__):
            raise OSError("offline")
        monkeypatch.setattr("pooch.retrieve", offline)
        argv = [word if word != "nowhere" else str(tmp_path / "nowhere") for word in argv]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        draw([folders.get(word, word) for word in argv])
    [line] = [line for line in capsys.readouterr().err.splitlines() if "Download" not in line]
    assert stop.value.code == 2 and culprit in line


def test_an_epoch_that_will_not_come_cannot_be_kept(cifar_dir, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["-m", "wideresnet10", "--total_epoch", "3", "--data_dir", cifar_dir, "--log_dir", str(tmp_path),
                   "--keep_epochs", "2", "3"])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and "--keep_epochs 3: the last epoch is 2" in line


def test_stage_one_keeps_and_logs_nothing_of_it(cifar_dir, tmp_path, monkeypatch):
    trained = []

    def train(settings, *_):
        trained.append(settings)
        raise KeyboardInterrupt
    monkeypatch.setattr(losses.training.run, "train", train)
    with pytest.raises(SystemExit):
        main.main(["--method", "jtt", "-m", "wideresnet10", "--total_epoch", "30", "-b", "40", "--data_dir", cifar_dir,
                   "--log_dir", str(tmp_path), "--log_sharpness", "1", "--tensorboard", "--keep_epochs", "20"])
    [first] = trained
    assert (first.method.total_epoch, first.tensorboard, first.log_sharpness, first.keep_epochs) == (3, False, None, ())
