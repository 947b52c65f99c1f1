"""A trained network on other images: --test_images, --predict, --fgsm, --severity."""
import csv
import json
import os
import shutil
from types import SimpleNamespace

import mindspore as ms
import mindspore.nn as nn
import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax, softmax

import losses.evaluation.adversarial
import losses.evaluation.classifier
import main
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, write_json
from dataset import load_source
from dataset.batches import normalise
from dataset.image_files import squash
from dataset.inputs import NORMALISATIONS, input_format
from losses.evaluation.adversarial import FastGradientSign
from losses.evaluation.classifier import load_classifier
from losses.evaluation.labelled_images import match_classes, scores_of_sets, title_of, write_records
from models import create_model
from models.convert import convert
from models.weight_files import read_options
from tests.processes import terminate_self
from tests.test_evaluate import fails
from tests.test_main import arguments, only_run
from utils.records.evaluation import run_evaluations
from utils.records.trained import find_trained

NAMES = ("cat", "airplane", "ship")


@pytest.fixture(scope="module")
def trained(cifar_dir, tmp_path_factory):
    """The folder of a run of one epoch."""
    log_dir = str(tmp_path_factory.mktemp("logs"))
    main.main(arguments(cifar_dir, log_dir, "--method", "erm", "--save_last", "--total_epoch", "1"))
    return only_run(log_dir)


@pytest.fixture
def run(trained, tmp_path):
    return str(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def source(cifar_dir):
    return load_source("cifar10", cifar_dir)


@pytest.fixture(scope="module")
def logits(trained, source):
    """The logits of the network for the test images, by a forward pass of its own."""
    network = create_model("wideresnet10", 10)
    ms.load_param_into_net(network, ms.load_checkpoint(os.path.join(trained, "last_model.ckpt")))
    images = normalise(source.images["test"], source.mean, source.std)
    return network.set_train(False)(ms.Tensor(images)).asnumpy()


@pytest.fixture
def folder(tmp_path, source):
    """Test images of three classes as files, and images of something else; the numbers of the former."""
    chosen = []
    for name in NAMES:
        os.makedirs(tmp_path / "pictures" / name)
        for number in np.flatnonzero(source.labels["test"] == source.class_names.index(name))[:4]:
            Image.fromarray(source.images["test"][number]).save(tmp_path / "pictures" / name / f"{number:03}.png")
            chosen.append(number)
    os.makedirs(tmp_path / "pictures" / "unicorn")
    Image.new("RGB", (40, 50)).save(tmp_path / "pictures" / "unicorn" / "a.png")
    return str(tmp_path / "pictures"), np.array(chosen)


def read_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_inputs_are_those_of_the_data_sets(source):
    """The normalisation that a network for a data set has without the data set."""
    assert NORMALISATIONS["cifar10"] == (source.mean, source.std)
    photos = load_source("photos", None)
    assert NORMALISATIONS["photos"] == (photos.mean, photos.std)
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert {name: values for name, values in NORMALISATIONS.items() if name not in ("photos", "tinyimagenet")} == {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
        "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        "fashion_mnist": ((0.219,) * 3, (0.3318,) * 3),
        **dict.fromkeys(("imagenet", "imagenet30", "folder"), imagenet)}
    assert [np.round(255 * np.array(values), 2).tolist() for values in NORMALISATIONS["tinyimagenet"]] == [
        [122.48, 114.28, 101.4], [70.49, 68.57, 71.81]]
    form = input_format("imagenet", mean=(0.5,), interpolation="bicubic")
    assert form.mean == (0.5, 0.5, 0.5) and form.std == NORMALISATIONS["imagenet"][1]
    assert form.images("", []).transform_name == "centre_crop side=224 shorter=256 interpolation=bicubic"
    pixels = np.random.RandomState(0).randint(0, 256, (28, 28, 3)).astype(np.uint8)
    padded = input_format("fashion_mnist").transform(pixels)
    np.testing.assert_array_equal(padded, np.pad(pixels, ((2, 2), (2, 2), (0, 0))))
    wide = np.random.RandomState(0).randint(0, 256, (50, 100, 3)).astype(np.uint8)
    np.testing.assert_array_equal(input_format("imagenet30").transform(wide), squash(wide, 64))


def test_predictions(run, folder, source, logits, tmp_path, capsys):
    """Every image below a folder, with the classes and probabilities of the network; the data set is not needed."""
    path, chosen = folder
    output = str(tmp_path / "new" / "predictions.csv")
    main.main(["--evaluate", run, "--predict", path, "-o", output, "--eval_batch_size", "5"])
    rows = read_rows(output)
    assert "images read: 13" in capsys.readouterr().out
    assert [row["file"] for row in rows][:4] == [f"airplane/{number:03}.png" for number in chosen[4:8]]
    by_file = {row["file"].rpartition("/")[2]: row for row in rows}
    for number in chosen:
        row, order = by_file[f"{number:03}.png"], np.argsort(-logits[number])
        assert [row["class"], row["class_5"]] == [source.class_names[order[0]], source.class_names[order[4]]]
        probabilities = softmax(logits[number])[order]
        assert float(row["probability"]) == pytest.approx(probabilities[0], rel=1e-3)
        assert float(row["probability_5"]) == pytest.approx(probabilities[4], rel=1e-3)

    os.makedirs(tmp_path / "alone")
    weights = str(shutil.copy(run + "/last_model.ckpt", tmp_path / "alone" / "w.ckpt"))
    subject = ["--evaluate", weights, "-m", "wideresnet10", "-d", "cifar10", "--predict", path, "-o", output,
               "--eval_batch_size", "5"]
    main.main(subject)
    assert [row["class"] for row in read_rows(output)] == [str(source.class_names.index(row["class"])) for row in rows]
    with open(tmp_path / "names.txt", "w", encoding="utf-8") as file:
        file.write("\n".join(source.class_names) + "\n")
    main.main([*subject, "--class_names", str(tmp_path / "names.txt")])
    assert read_rows(output) == rows


@pytest.mark.parametrize("flags", [["--predict", "{folder}", "-o", "{output}"], ["--test_images", "{folder}"],
                                   ["--fgsm", "0.1", "--data_dir", "{data}"]])
def test_other_evaluations_have_the_batches_of_the_run_and_stop_between_them(run, folder, cifar_dir, tmp_path, flags,
                                                                             monkeypatch, capsys):
    sizes, real = [], losses.evaluation.classifier.iterate_arrays

    def iterate(arrays, labels, mean, std, batch_size, workers):
        sizes.append(batch_size)
        for batches in real(arrays, labels, mean, std, batch_size, workers):
            terminate_self()
            yield batches
    for module in (losses.evaluation.classifier, losses.evaluation.adversarial):
        monkeypatch.setattr(module, "iterate_arrays", iterate)
    config = os.path.join(run, "config.json")
    write_json(config, {**read_json(config), "eval_batch_size": 16})
    words = [word.format(folder=folder[0], output=tmp_path / "p.csv", data=cifar_dir) for word in flags]
    for given, expected in (([], 16), (["--eval_batch_size", "7"], 7)):
        with pytest.raises(SystemExit) as stop:
            main.main(["--evaluate", run, *words, *given])
        assert stop.value.code == 143 and "main.py: stopped by SIGTERM" in capsys.readouterr().err
        assert sizes.pop() == expected
    assert not os.path.exists(tmp_path / "p.csv")


def test_a_config_of_another_program_beside_weights_is_not_of_a_run(run, folder, tmp_path):
    """As where Hugging Face stores both. The normalisation in the file and the options count as without it."""
    output, weights = str(tmp_path / "predictions.csv"), str(tmp_path / "model.safetensors")
    convert(run + "/last_model.ckpt", weights)
    rows = []
    for content in (None, {"architecture": "resnet50", "image_size": 224, "classes": 10, "mean": [0.1, 0.1, 0.1]}):
        if content is not None:
            write_json(tmp_path / "config.json", content)
        main.main(["--evaluate", weights, "-m", "wideresnet10", "-d", "cifar10", "--predict", folder[0], "-o", output,
                   "--eval_batch_size", "5"])
        rows.append(read_rows(output))
    assert rows[0] == rows[1]
    shutil.copy(run + "/last_model.ckpt", tmp_path / "w.ckpt")
    convert(str(tmp_path / "w.ckpt"), str(tmp_path / "again.safetensors"), "wideresnet10")
    assert read_options(str(tmp_path / "again.safetensors")) == {}
    with pytest.raises(UserError, match="no run with a config.json is there"):
        find_trained("--evaluate", str(tmp_path))


def test_names_of_classes_are_as_many_as_the_network_has(run, source, tmp_path):
    """They may begin with the mark of some editors. Options of the data set need not be given from Python."""
    weights, path = str(shutil.copy(run + "/last_model.ckpt", tmp_path / "w.ckpt")), tmp_path / "names.txt"
    path.write_text("\n".join(source.class_names) + "\n", encoding="utf-8-sig")
    assert load_classifier(weights, "wideresnet10", "cifar10", path).class_names == tuple(source.class_names)
    path.write_text("\n".join(source.class_names[:9]) + "\n")
    with pytest.raises(UserError, match=f"{path}: has 9 names, and {weights} has 10 classes"):
        load_classifier(weights, "wideresnet10", "cifar10", path)


def test_another_test_set(run, folder, source, logits, capsys):
    """Folders are matched by name; scores are among all classes, and among those that the set has."""
    path, chosen = folder
    main.main(["--evaluate", run, "--test_images", path])
    out = capsys.readouterr().out
    assert "12 images in 3 folders, which stand for 3 of 10 classes" in out
    assert "left out, no class of that name: unicorn" in out
    record = read_json(run + "/test_images_pictures.json")
    labels = source.labels["test"][chosen]
    hits = logits[chosen].argmax(1) == labels
    assert record["among_all"]["top1"] == hits.mean()
    log_probabilities = log_softmax(logits[chosen].astype(np.float64), 1)
    assert record["among_all"]["nll"] == pytest.approx(-log_probabilities[np.arange(12), labels].mean(), rel=1e-3)
    assert record["among_all"]["top5"] == np.mean(
        [label in row for label, row in zip(labels, np.argsort(-logits[chosen])[:, :5], strict=True)])
    matched = sorted(source.class_names.index(name) for name in NAMES)
    subset = logits[chosen][:, matched]
    assert record["among_matched"]["top1"] == np.mean(np.array(matched)[subset.argmax(1)] == labels)
    assert record["among_matched"]["top5"] == 1
    assert (record["images"], record["folders"], record["folders_left_out"]) == (12, 3, ["unicorn"])

    rows = {row["folder"]: row for row in read_rows(run + "/test_images_pictures.csv")}
    confusion = {row["folder"]: row for row in read_rows(run + "/test_images_pictures_confusion.csv")}
    for place, name in enumerate(sorted(NAMES)):
        members = chosen[source.labels["test"][chosen] == source.class_names.index(name)]
        predicted = [source.class_names[number] for number in logits[members].argmax(1)]
        assert float(rows[name]["top1"]) == predicted.count(name) / 4 and rows[name]["images"] == "4", place
        assert {key: int(value) for key, value in confusion[name].items() if key != "folder"} == {
            key: predicted.count(key) for key in source.class_names}
        wrong = [key for key in predicted if key != name]
        assert int(rows[name]["times"]) == max(map(wrong.count, wrong), default=0)
        assert wrong.count(rows[name]["most_often_wrong"]) == int(rows[name]["times"])
        best = np.argsort(-logits[members])[:, :5]
        assert float(rows[name]["top5"]) == (best == source.class_names.index(name)).any(1).mean()


def test_classes_may_be_called_folder_and_have_one_name(tmp_path):
    """The confusion matrix has a column for each class, beside the names of the folders."""
    classifier = SimpleNamespace(class_names=("folder", "cat", "cat"),
                                 trained=SimpleNamespace(file=lambda name: str(tmp_path / name)))
    logits = np.eye(3, dtype=np.float32)[[0, 2, 2]]
    write_records(classifier, {"test_images": "mine"}, ["folder", "cat"], [[0], [1, 2]], np.array([0, 0, 1]), logits)
    rows = (tmp_path / "test_images_mine_confusion.csv").read_text().splitlines()
    assert rows == ["folder,folder,cat,cat", "folder,1,0,1", "cat,0,0,1"]


def test_files_of_test_sets_have_different_names():
    names = [title_of(folder, class_map) for folder, class_map in (
        ("a/imagenet-r", None), ("a/imagenet-r/val", None), ("a/imagenet-a/val", None),
        ("a/imagenet-a/val", "b/m.json"), ("a/imagenet-a/val", "b/n.json"))]
    assert names == ["imagenet-r", "imagenet-r-val", "imagenet-a-val", "imagenet-a-val-m", "imagenet-a-val-n"]


def test_several_classes_may_be_right(run, folder, source, logits, tmp_path):
    """The JSON file has names, or numbers as that of ImageNet-D, where -1 counts for nothing."""
    path, chosen = folder
    right = {"cat": [3, 5, -1], "ship": ["ship", "airplane"], "unicorn": [7, -1, -1], "airplane": [-1], "other": [99]}
    with open(tmp_path / "map.json", "w", encoding="utf-8") as file:
        json.dump(right, file)
    main.main(["--evaluate", run, "--test_images", path, "--class_map", str(tmp_path / "map.json")])
    record = read_json(run + "/test_images_pictures-map.json")
    assert (record["folders"], record["matched_classes"], record["folders_left_out"]) == (3, 5, ["airplane"])
    assert "nll" not in record["among_all"]
    rows = {row["folder"]: float(row["top1"]) for row in read_rows(run + "/test_images_pictures-map.csv")}
    cats = chosen[source.labels["test"][chosen] == 3]
    assert rows["cat"] == np.isin(logits[cats].argmax(1), [3, 5]).mean()


def test_scores_by_hand():
    logits = np.array([[5, 4, 3, 2, 1, 0.0], [0, 1, 2, 3, 4, 5.0]])
    assert scores_of_sets(logits, [[1, 2], [0]]) == {"top1": 0, "top5": 0.5}
    assert scores_of_sets(logits, [[0], [0]])["nll"] == pytest.approx(-log_softmax(logits, 1)[:, 0].mean())
    assert match_classes(["b", "x"], ("a", "b")) == {"b": [1]}


class Linear(nn.Cell):
    """Logits W x + b of images (N, 3, 2, 2)."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = ms.Parameter(ms.Tensor(weight), name="w"), ms.Parameter(ms.Tensor(bias), name="b")

    def construct(self, images):
        return ms.ops.matmul(images.reshape((images.shape[0], -1)), self.weight.T) + self.bias


def test_fast_gradient_sign_of_a_linear_network():
    """The gradient of a linear network is W^T (softmax - onehot), so that the attack has a closed form."""
    rng = np.random.RandomState(0)
    weight, bias = rng.standard_normal((5, 12)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    pixels, labels = rng.random_sample((8, 3, 2, 2)), rng.randint(0, 5, 8)
    shift, scale = (np.reshape(values, (1, 3, 1, 1)) for values in (mean, std))

    def forward(x):
        return ((x - shift) / scale).reshape(8, 12) @ weight.T.astype(np.float64) + bias
    off = softmax(forward(pixels), 1) - np.eye(5)[labels]
    step = np.sign((off @ weight).reshape(pixels.shape))
    attack = FastGradientSign(Linear(weight, bias), mean, std)
    images = ms.Tensor((pixels - shift) / scale, ms.float32)
    for epsilon in (0.0, 0.03, 0.4):
        ours = attack(images, ms.Tensor(labels, ms.int32), ms.Tensor(epsilon, ms.float32)).asnumpy()
        np.testing.assert_allclose(ours, forward(np.clip(pixels + epsilon * step, 0, 1)), rtol=2e-5, atol=2e-5)


class Perceptron(nn.Cell):
    """tanh(x W1) W2 of images (N, 3, H, W), whose values are taken row by row, the channels last."""

    def __init__(self, first, second):
        super().__init__()
        self.first = ms.Parameter(ms.Tensor(first, ms.float32), name="first")
        self.second = ms.Parameter(ms.Tensor(second, ms.float32), name="second")

    def construct(self, images):
        x = images.transpose((0, 2, 3, 1)).reshape((images.shape[0], -1))
        return ms.ops.matmul(ms.ops.tanh(ms.ops.matmul(x, self.first)), self.second)


def test_attacks_are_those_of_the_damp_authors():
    """Their `eval_batch`, recorded by golden/record_fgsm.py."""
    record = read_json(os.path.join(os.path.dirname(__file__), "golden", "fgsm.json"))
    mean, std = (np.reshape(record[key], (1, 3, 1, 1)) for key in ("mean", "std"))
    images = (np.array(record["images"]).transpose(0, 3, 1, 2) - mean) / std
    attack = FastGradientSign(Perceptron(*map(np.array, record["weights"])), record["mean"], record["std"])
    for row in record["attacks"]:
        logits = attack(ms.Tensor(images, ms.float32), ms.Tensor(record["labels"], ms.int32),
                        ms.Tensor(row["epsilon"], ms.float32)).asnumpy()
        np.testing.assert_allclose(softmax(logits, 1), row["probabilities"], rtol=1e-4, atol=1e-5)


def test_attacks_of_a_run(run, source, logits, capsys):
    main.main(["--evaluate", run, "--fgsm", "2/255", "0.1", "--eval_batch_size", "16"])
    record = read_json(run + "/fgsm.json")
    assert [row["epsilon"] for row in record["attacks"]] == [0, 2 / 255, 0.1]
    clean = scores_of_sets(logits, source.labels["test"][:, None].tolist())
    assert {key: record["attacks"][0][key] for key in clean} == pytest.approx(clean, rel=1e-3)
    losses = [row["nll"] for row in record["attacks"]]
    assert losses[0] < losses[1] < losses[2]
    assert [float(row["nll"]) for row in read_rows(run + "/fgsm.csv")] == losses
    assert "epsilon top-1 (%)" in capsys.readouterr().out


@pytest.mark.slow
def test_chosen_severities(run, capsys):
    """The columns of two severities are those of the whole evaluation, which stays."""
    main.main(["--evaluate", run, "-c", "fog", "contrast"])
    whole = read_json(run + "/evaluation_fog+contrast.json")
    main.main(["--evaluate", run, "-c", "fog", "contrast", "--severity", "5", "3"])
    part = read_json(run + "/evaluation_fog+contrast_severity3+5.json")
    assert part["severities"] == [3, 5]
    for name in ("fog", "contrast"):
        accuracy = whole["corrupted"][name]["accuracy"]
        assert part["corrupted"][name]["accuracy"] == [accuracy[2], accuracy[4]]
    assert read_json(run + "/evaluation_fog+contrast.json") == whole
    assert part["set"] == "fog, contrast (2 corruptions), severity 3, 5"
    # More corruptions at fewer severities do not take the place of all severities in figures.
    main.main(["--evaluate", run, "-c", "fog", "contrast", "snow", "--severity", "5"])
    assert [len(record["severities"]) for record in run_evaluations(run)] == [5, 2, 1]


@pytest.mark.parametrize("words, problem", [
    (["--predict", "{folder}"], "--predict: give -o FILE, too"),
    (["--predict", "{folder}/none", "-o", "p.csv"], "none: no such folder"),
    (["--predict", "{folder}", "-o", "p.csv", "-c", "fog"], "--corruption: has no effect with --predict"),
    (["--class_map", "{run}/split.csv"], "--class_map: belongs to --test_images, and has no effect with --evaluate"),
    (["--test_images", "{folder}", "--class_map", "{above}/far.json"], "cat has 10, and there are 10 classes"),
    (["--test_images", "{folder}", "--class_map", "{above}/none.json"], "none.json: has no class for a folder in"),
    (["--test_images", "{folder}", "--class_map", "{above}/share.json"], "(3.5 is neither a name nor a whole number)"),
    (["--test_images", "{folder}", "--class_map", "{above}/yes.json"], "(True is neither a name nor a whole number)"),
    (["--predict", "{folder}", "--test_images", "{folder}"], "--predict: is another evaluation than --test_images"),
    (["--test_images", "{folder}/cat"], "cat: has no class folder"),
    (["--test_images", "{above}"], "no folder has the name of a class; it has pictures"),
    (["--test_images", "{folder}", "--class_map", "{run}/split.csv"], "split.csv: must be JSON"),
    (["--test_images", "{folder}", "--class_names", "{run}/split.csv"], "have the names; leave it out"),
    (["--test_images", "{folder}", "-o", "p.csv"],
     "--output: belongs to --predict, and has no effect with --test_images"),
    (["-o", "p.csv"], "--output: belongs to --predict, and has no effect with --evaluate"),
    (["--fgsm", "2"], "'2' is not a number from 0 to 1, such as 2/255"),
    (["--severity", "6"], "'6' is not a severity"),
    (["--fgsm", "0.1", "--severity", "3"], "--severity: has no effect with --fgsm")])
def test_bad_input_is_one_line(run, folder, capsys, words, problem):
    path, _ = folder
    above = os.path.join(os.path.dirname(path), "above")
    os.makedirs(os.path.join(above, "pictures"))
    for name, content in (("far", {"cat": [10]}), ("none", {"dog": [1]}), ("share", {"cat": [3.5]}),
                          ("yes", {"cat": [True]})):
        with open(os.path.join(above, f"{name}.json"), "w", encoding="utf-8") as file:
            json.dump(content, file)
    words = [word.format(folder=path, run=run, above=above) for word in words]
    before = sorted(os.listdir(run))
    assert problem in fails(capsys, "--evaluate", run, *words)
    assert sorted(os.listdir(run)) == before and not os.path.exists("p.csv")


@pytest.mark.parametrize("words, problem", [
    (["--predict", "x"], "--predict: needs --evaluate; name a run with --evaluate, too"),
    (["--severity", "3"], "--severity: needs --evaluate; in the authors' code it is a part of file names")])
def test_options_of_an_evaluation_without_one(words, problem, capsys):
    assert problem in fails(capsys, *words)


def test_a_damaged_image_is_named(run, folder, tmp_path, capsys):
    path, _ = folder
    with open(os.path.join(path, "cat", "zzz.png"), "wb") as file:
        file.write(b"no image")
    line = fails(capsys, "--evaluate", run, "--test_images", path)
    assert "zzz.png" in line and not os.path.exists(run + "/test_images_pictures.json")
