"""`benchmark`: any classifier under corruptions, against the corrupted images, closed forms and other libraries."""
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from corruptions import SETS, Options, benchmark, corrupt
from corruptions.evaluation.alexnet import ERRORS
from corruptions.evaluation.metrics import CalibrationScores, scores
from corruptions.evaluation.record import file_tag
from corruptions.jobs.parallel import get_executor, single_threaded
from corruptions.table import set_words
from corruptions.utils.errors import UserError
from corruptions.weather import FROST_FILES

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (10, 16, 16, 3)).astype(np.uint8)
LABELS = RNG.randint(0, 4, 10)
# Multiples of 1/2048: the sums are exact, so that the last bits do not depend on the size of a batch.
PROJECTION = RNG.randint(-8, 9, (16 * 16 * 3, 4)) / 2048


def logits(batch):
    return batch.reshape(len(batch), -1).astype(float) @ PROJECTION


def probabilities(batch):
    values = np.exp(logits(batch) - logits(batch).max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_scores_are_those_of_the_corrupted_images(workers, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    stored = np.load(tmp_path / "images.npy", mmap_mode="r")
    result = benchmark(logits, stored, LABELS, ["fog", "gaussian_noise"], [2, 2.5], batch_size=4, workers=workers,
                       seed=7)
    assert result.clean == scores(logits(IMAGES), LABELS)
    assert result.corrupted == {name: [scores(logits(corrupt(IMAGES, name, severity, 7)), LABELS)
                                       for severity in (2, 2.5)] for name in ("fog", "gaussian_noise")}
    error = np.mean([[1 - score.accuracy for score in rows] for rows in result.corrupted.values()], axis=0)
    assert result.error_by_severity == pytest.approx({0: 1 - result.clean.accuracy, 2: error[0], 2.5: error[1]})
    assert result.mean_corruption_error is None


@pytest.mark.parametrize("workers", [1, 2])
def test_images_that_were_changed_in_memory_are_those_that_are_measured(workers, tmp_path):
    """A memory map may differ from its file."""
    np.save(tmp_path / "images.npy", np.zeros_like(IMAGES))
    for view in (slice(None), slice(2, 8)):
        changed = np.load(tmp_path / "images.npy", mmap_mode="c")
        changed[:] = IMAGES
        result = benchmark(logits, changed[view], LABELS[view], "fog", 3, batch_size=4, workers=workers)
        assert result.clean == scores(logits(IMAGES[view]), LABELS[view])
        assert result.corrupted["fog"] == [scores(logits(corrupt(IMAGES[view], "fog", 3)), LABELS[view])]
        np.testing.assert_array_equal(changed, IMAGES)


def test_logits_and_probabilities_give_the_same_scores():
    first, second = (benchmark(predict, IMAGES, LABELS, "contrast", (1, 5), workers=1)
                     for predict in (logits, probabilities))
    assert (first.record["outputs"], second.record["outputs"]) == ("logits", "probabilities")
    np.testing.assert_allclose(first.clean, second.clean, atol=1e-6)
    named = benchmark(probabilities, IMAGES, LABELS, "contrast", 1, outputs="logits", workers=1)
    assert named.clean.nll == pytest.approx(scores(probabilities(IMAGES), LABELS).nll)


def test_a_classifier_may_use_its_output_buffer_again():
    buffer = np.empty((len(IMAGES) // 2, 4))

    def predict(batch):
        buffer[:] = logits(batch)
        return buffer
    options = {"corruptions": "contrast", "severities": 1, "batch_size": len(IMAGES) // 2, "workers": 1}
    assert benchmark(predict, IMAGES, LABELS, **options).record == benchmark(logits, IMAGES, LABELS, **options).record


def test_a_perfect_and_a_constant_classifier():
    sides = np.array([10, 240, 10, 240])
    images = np.broadcast_to(sides[:, None, None, None].astype(np.uint8), (4, 16, 16, 3))
    labels = (sides > 100).astype(int)
    perfect = benchmark(lambda batch: np.eye(2)[(batch.mean((1, 2, 3)) > 100).astype(int)], images, labels, "contrast",
                        workers=1)
    assert perfect.clean == pytest.approx(CalibrationScores(1, 0, 0), abs=1e-6)
    assert perfect.error_by_severity == dict.fromkeys(range(6), 0)
    even = benchmark(lambda batch: np.full((len(batch), 2), 0.5), images, labels, "contrast", workers=1)
    assert even.clean == pytest.approx(CalibrationScores(0.5, np.log(2), 0), abs=1e-6)


def test_preprocessing_comes_before_the_classifier():
    seen = []

    def predict(batch):
        seen.append((batch.dtype, batch.shape))
        return logits(255 * batch)
    result = benchmark(predict, IMAGES, LABELS, "contrast", 3, lambda batch: batch / 255, batch_size=6, workers=1)
    assert set(seen) == {(np.dtype(float), (6, 16, 16, 3)), (np.dtype(float), (4, 16, 16, 3))}
    assert result.clean.nll == pytest.approx(benchmark(logits, IMAGES, LABELS, "contrast", 3, workers=1).clean.nll)


def test_corruption_errors_are_relative_to_a_baseline(tmp_path):
    base = benchmark(logits, IMAGES, LABELS, ["fog", "snow"], workers=1, name="base")
    base.write(str(tmp_path / "out" / "base"))
    for baseline in (base, str(tmp_path / "out" / "base.json")):
        same = benchmark(logits, IMAGES, LABELS, ["fog", "snow"], workers=1, baseline=baseline)
        assert same.mean_corruption_error == pytest.approx(1) and "relative to base" in str(same)
    alexnet = benchmark(lambda batch: np.full((len(batch), 1000), -1.0), IMAGES, LABELS, workers=1, baseline="alexnet",
                        options=Options(preset=224))
    error = 1 - alexnet.clean.accuracy
    wanted = {name: 5 * error / sum(ERRORS[name]) for name in SETS["common"]}
    assert alexnet.record["corruption_error"]["by_corruption"] == pytest.approx(wanted)
    assert alexnet.mean_corruption_error == pytest.approx(np.mean(list(wanted.values())))


def test_the_published_baseline_is_compared_on_images_after_jpeg(tmp_path):
    """AlexNet's errors are of JPEG files. A measured network that is called AlexNet is a baseline like any other."""
    seen = {}

    def run(jpeg, name, **more):
        batches = seen[name] = []

        def predict(batch):
            batches.append(batch)
            return np.full((len(batch), 1000), -1.0)
        return benchmark(predict, IMAGES, LABELS, "fog", 3, workers=1, batch_size=len(IMAGES), jpeg=jpeg, name=name,
                         **more)
    run(None, "published", baseline="alexnet", options=Options(preset=224))
    plain, compressed = run(None, "AlexNet", options=Options(preset=224)), run(True, "jpeg")
    fog = corrupt(IMAGES, "fog", 3, options=Options(preset=224))
    files = []
    for k, pixels in enumerate(fog):
        Image.fromarray(pixels).save(tmp_path / f"{k}.jpg", quality=85)
        files.append(np.asarray(Image.open(tmp_path / f"{k}.jpg")))
    assert (seen["published"][0] == IMAGES).all() and (seen["published"][1] == files).all()
    assert (seen["AlexNet"][1] == fog).all() and not plain.record["jpeg"] and compressed.record["jpeg"]
    again = run(None, "x", baseline=plain, options=Options(preset=224))
    assert again.record["corruption_error"]["baseline"]["name"] == "AlexNet" and again.mean_corruption_error == 1
    with pytest.raises(UserError, match="was measured with other .*jpeg"):
        run(None, "x", baseline=compressed)
    assert run(False, "x", baseline="alexnet", options=Options(preset=224)).record["jpeg"] is False


def test_grey_images_have_a_channel_and_names_may_look_like_paths():
    shapes = set()

    def predict(batch):
        shapes.add(batch.shape[1:])
        return np.stack([batch.mean((1, 2, 3)), np.full(len(batch), 100.0)], axis=1)
    base = benchmark(predict, IMAGES[..., 0], LABELS % 2, "contrast", 1, workers=1, name="timm/resnet50", jpeg=True)
    assert shapes == {(16, 16, 1)}
    same = benchmark(predict, IMAGES[..., 0], LABELS % 2, "contrast", 1, workers=1, baseline=base, jpeg=True)
    assert str(same).endswith("relative to timm/resnet50")


@pytest.mark.parametrize("change, word", [
    ({"images": IMAGES[::-1]}, "images"), ({"labels": LABELS[::-1]}, "labels"), ({"seed": 3}, "seed"),
    ({"options": Options(preset=64)}, "preset")])
def test_a_baseline_of_other_images_is_an_error(change, word):
    base = benchmark(logits, IMAGES, LABELS, "fog", workers=1)
    given = {"images": IMAGES, "labels": LABELS, **change}
    with pytest.raises(UserError, match=f"baseline classifier: was measured with other .*{word};"):
        benchmark(logits, corruptions="fog", workers=1, baseline=base, **given)


def test_a_baseline_with_other_frost_is_an_error(tmp_path):
    """The textures count where frost is among the corruptions, and in results of versions that recorded them."""
    for file in FROST_FILES:
        Image.fromarray(RNG.randint(0, 256, (60, 60, 3)).astype(np.uint8)).save(tmp_path / file)
    base = benchmark(logits, IMAGES, LABELS, ["fog", "frost"], 3, workers=1)
    other = Options(frost_dir=str(tmp_path))
    with pytest.raises(UserError, match="baseline classifier: was measured with other frost_textures;"):
        benchmark(logits, IMAGES, LABELS, ["fog", "frost"], 3, workers=1, baseline=base, options=other)
    result = benchmark(logits, IMAGES, LABELS, "fog", 3, workers=1, baseline=base, options=other)
    assert result.mean_corruption_error == 1
    del base.record["frost_textures"]
    benchmark(logits, IMAGES, LABELS, ["fog", "frost"], 3, workers=1, baseline=base, options=other)


def test_a_baseline_with_blurs_of_another_program_is_an_error(monkeypatch):
    monkeypatch.setattr("corruptions.blur.require_wand", lambda: None)
    monkeypatch.setattr("corruptions.blur.magick_blur", lambda image, *_: image)
    base = benchmark(logits, IMAGES, LABELS, ["fog", "motion_blur"], 3, workers=1)
    given = {"severities": 3, "workers": 1, "baseline": base, "options": Options(backend="wand")}
    with pytest.raises(UserError, match="baseline classifier: was measured with other backend;"):
        benchmark(logits, IMAGES, LABELS, "motion_blur", **given)
    assert benchmark(logits, IMAGES, LABELS, "fog", **given).mean_corruption_error == 1


def test_a_missing_backend_is_found_before_the_work(monkeypatch):
    """The error names the option of the function, not that of the command line."""
    monkeypatch.setitem(sys.modules, "wand.image", None)
    with pytest.raises(UserError, match="^backend wand: Wand or ImageMagick is not installed; use the backend numpy"):
        benchmark(lambda batch: pytest.fail("predict was called"), IMAGES, LABELS, ["fog", "snow"],
                  options=Options(backend="wand"))


def test_integers_are_logits_where_they_are_said_to_be():
    def predict(batch):
        return (100 * logits(batch)).astype(np.int32)
    result = benchmark(predict, IMAGES, LABELS, "contrast", 3, outputs="logits", workers=1)
    assert result.clean == scores(predict(IMAGES).astype(float), LABELS)


def test_alexnet_is_a_baseline_for_its_own_classes_and_constants():
    with pytest.raises(UserError, match="has 1000 classes, and predict gives 4"):
        benchmark(logits, IMAGES, LABELS, "fog", workers=1, baseline="alexnet", options=Options(preset=224))
    with pytest.raises(UserError, match="published for the constants for 224 pixels"):
        benchmark(logits, IMAGES, LABELS, "fog", workers=1, baseline="alexnet")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_small_probabilities_of_any_type_give_the_same_scores(kind):
    many = np.random.RandomState(3).randn(16 * 16 * 3, 1000) / 2000
    values = np.exp(IMAGES.reshape(10, -1) @ many)
    values /= values.sum(axis=1, keepdims=True)
    result = benchmark(lambda batch: values[:len(batch)].astype(kind), IMAGES, LABELS, "contrast", 1, workers=1)
    np.testing.assert_allclose(result.clean, scores(np.log(values.astype(kind).astype(float)), LABELS), rtol=1e-3)
    hard = benchmark(lambda batch: np.eye(4, dtype=kind)[np.zeros(len(batch), int)], IMAGES, LABELS, "contrast", 1,
                     workers=1)
    assert hard.clean.nll == pytest.approx((LABELS != 0).mean() * 30 * np.log(10))


def test_an_error_that_is_kept_does_not_stop_the_next_benchmark():
    kept = []

    def fails(batch):
        raise ZeroDivisionError
    for _ in range(2):
        try:
            benchmark(fails, IMAGES, LABELS, "glass_blur", workers=2)
        except ZeroDivisionError as error:
            kept.append(error)
    result = benchmark(logits, IMAGES, LABELS, "contrast", 1, workers=2)
    kept.clear()
    assert result.clean == benchmark(logits, IMAGES, LABELS, "contrast", 1, workers=2).clean


def test_threads_of_opencv_stay_what_they_were():
    threads, seen = cv2.getNumThreads(), []

    def predict(batch):
        seen.append(cv2.getNumThreads())
        return logits(batch)
    benchmark(predict, IMAGES, LABELS, "contrast", 1, workers=1)
    assert set(seen) == {threads} and cv2.getNumThreads() == threads


def test_a_last_batch_of_one_image_as_a_list():
    result = benchmark(lambda batch: logits(batch).tolist(), IMAGES, LABELS, "contrast", 1, batch_size=9, workers=1)
    assert result.clean == scores(logits(IMAGES), LABELS)


def test_paths_and_numpy_numbers_can_be_written(tmp_path):
    result = benchmark(logits, IMAGES, LABELS, "fog", 1, workers=1, seed=np.int64(3), name=tmp_path,
                       options=Options(preset=np.int64(32)))
    result.write(tmp_path / "new" / "result.json")
    result.plot(tmp_path / "other" / "result.png")
    assert (tmp_path / "new" / "result.json").exists() and (tmp_path / "other" / "result.png").exists()
    with pytest.raises(UserError, match="does not end like a picture"):
        result.plot(str(tmp_path / "result"))


def test_a_set_of_corruptions_has_short_words_and_a_file_name_of_its_own():
    assert set_words(SETS["bar"]) == "bar" and set_words(SETS["all+bar"]) == "all+bar"
    assert set_words(SETS["common"] + SETS["bar"] + ("spatter",)) == "common, bar, spatter"
    assert set_words(("fog", "snow")) == "fog, snow"
    assert file_tag("common, bar (30 corruptions)") == "common+bar"
    long = [", ".join(SETS["common"][:14] + SETS["bar"][k:k + 14]) for k in (0, 1)]
    tags = [file_tag(f"{names} (28 corruptions)") for names in long]
    assert len(set(tags)) == 2 and all(tag.startswith("28-corruptions-") and len(tag) < 40 for tag in tags)


def test_a_path_without_a_file_name_is_an_error(tmp_path):
    result = benchmark(logits, IMAGES, LABELS, "contrast", 1, workers=1)
    with pytest.raises(UserError, match="is not a file name"):
        result.write(f"{tmp_path}/")
    assert not os.listdir(tmp_path)


def test_the_files_and_the_table_have_the_numbers(tmp_path):
    result = benchmark(logits, IMAGES, LABELS, "bar", 4, workers=1, name="linear", options=Options(preset=32))
    result.write(str(tmp_path / "linear"))
    assert json.loads((tmp_path / "linear.json").read_text()) == json.loads(json.dumps(result.record))
    lines = (tmp_path / "linear.csv").read_text().splitlines()
    assert lines[0] == "set,corruption,severity,accuracy,nll,ece" and len(lines) == 17
    table = str(result).splitlines()
    assert table[0] == "linear: bar (15 corruptions), 10 images"
    assert table[1].split() == ["accuracy", "(%)", "4", "mean", "NLL", "ECE"]
    fog = next(line for line in table if line.startswith("lines"))
    assert float(fog.split()[1]) == pytest.approx(100 * result.corrupted["lines"][0].accuracy, abs=0.01)
    for suffix in ("png", "svg"):
        result.plot(str(tmp_path / f"linear.{suffix}"))
    picture = (tmp_path / "linear.svg").read_text()
    errors = [100 * (1 - scores[0].accuracy) for scores in result.corrupted.values()]
    numbers = [float(number) for number in re.findall(r"<text[^>]*>([\d.]+)</text>", picture)]
    assert "caustic refraction" in picture
    assert numbers[1:33] == pytest.approx([*np.repeat(errors, 2), *[np.mean(errors)] * 2], abs=0.051)


def test_corruption_errors_are_of_the_severities_that_are_asked_for():
    grey = np.arange(0, 250, 25)[:, None, None, None] + np.zeros((10, 16, 16, 3))

    def bright(batch):
        return np.stack([128 - batch.mean((1, 2, 3)), batch.mean((1, 2, 3)) - 128], axis=1)
    images, labels = grey.astype(np.uint8), (np.arange(10) > 5).astype(int)
    base = benchmark(bright, images, labels, "brightness", workers=1)
    assert len({score.accuracy for score in base.corrupted["brightness"]}) > 2
    part = benchmark(bright, images, labels, "brightness", [5, 3], workers=1, baseline=base)
    assert part.mean_corruption_error == pytest.approx(1)
    with pytest.raises(UserError, match="lacks severity 1, 2, 4"):
        benchmark(bright, images, labels, "brightness", workers=1, baseline=part)


class Tensor:
    """A stand-in with the methods of PyTorch's tensors."""

    def __init__(self, values):
        self.values, self.dtype = values, "torch.bfloat16"

    def detach(self):
        return self

    def cpu(self):
        return self

    def float(self):
        return self.values


class MindSporeTensor:
    def __init__(self, values):
        self.values = values

    def asnumpy(self):
        return self.values


@pytest.mark.parametrize("wrap", [Tensor, MindSporeTensor, lambda values: [values], lambda values: values.tolist(),
                                  np.float32, np.float16])
def test_outputs_of_other_libraries(wrap):
    result = benchmark(lambda batch: wrap(logits(batch)), IMAGES, LABELS, "contrast", 3, workers=1)
    assert result.clean.nll == pytest.approx(scores(logits(IMAGES), LABELS).nll, rel=1e-3)


@pytest.mark.parametrize("arguments, message", [
    ({"labels": LABELS[:5]}, "labels are int64 of shape"), ({"labels": LABELS / 2}, "labels are float64"),
    ({"labels": LABELS - 5}, "are not classes"), ({"labels": [[1], [2, 3]] * 5}, "labels cannot become an array"),
    ({"labels": np.full(10, 2 ** 63, np.uint64)}, "are not classes"), ({"predict": 5}, "predict of type int"),
    ({"preprocess": 5}, "preprocess of type int"), ({"corruptions": None}, "corruptions None: must be names"),
    ({"corruptions": 5}, "corruptions 5: must be names"),
    ({"corruptions": [["fog"]]}, "must be names"),
    ({"predict": lambda batch: 1 / (1 + np.exp(-logits(batch)))}, "from 0 to 1 whose sum is not 1"),
    ({"predict": lambda batch: [[1], [2, 3]] * 5}, "predict gives"),
    ({"predict": lambda batch: (255 * probabilities(batch)).astype(np.uint8)}, "gives integers, which may be logits"),
    ({"predict": lambda batch: logits(batch)[:, :4 - len(batch) // 8], "batch_size": 8},
     "a different number of classes"),
    ({"labels": LABELS + 9}, "is not a class, because predict gives 4 values"),
    ({"corruptions": "smoke"}, "corruption smoke: unknown"), ({"corruptions": []}, "corruptions: there is none"),
    ({"severities": (1, 6)}, "severity 6: must be a number from 1 to 5"), ({"severities": ()}, "one at least"),
    ({"severities": (1, 1.0)}, "give each once"), ({"batch_size": 0}, "batch_size 0"),
    ({"workers": 1.5}, "workers 1.5"),
    ({"outputs": "classes"}, "outputs 'classes'"), ({"seed": -1}, "seed -1"), ({"options": None}, "options of type"),
    ({"images": IMAGES / 255}, "arrays of uint8"), ({"baseline": "nothing.json"}, "baseline nothing.json: must be"),
    ({"baseline": "alexnet", "corruptions": "lines"}, "baseline alexnet: has no published errors under lines"),
    ({"baseline": "alexnet", "severities": 2.5}, "published for whole severities"),
    ({"corruptions": "spatter", "severities": 3.5}, "spatter has another effect at 3"),
    ({"predict": lambda batch: batch.mean((1, 2, 3))}, "predict gives float64 of shape"),
    ({"predict": lambda batch: logits(batch)[:3]}, "predict gives float64 of shape"),
    ({"predict": lambda batch: logits(batch) * np.nan}, "not finite for the clean images"),
    ({"predict": lambda batch: np.where(np.eye(4, dtype=bool)[LABELS], -np.inf, logits(batch))}, "not finite for the"),
    ({"predict": lambda batch: (logits(batch).max(1), logits(batch).argmax(1))}, "predict gives a tuple of 2"),
    ({"severities": np.array(7)}, "severity array.7.: must be a number"),
    ({"predict": logits, "outputs": "probabilities"}, "for the clean images that are not probabilities")])
def test_bad_input_is_named(arguments, message):
    given = {"predict": logits, "images": IMAGES, "labels": LABELS, "corruptions": "contrast", "workers": 1}
    with pytest.raises(UserError, match=message) as error:
        benchmark(**{**given, **arguments})
    assert "\n" not in str(error.value)


def test_logits_of_minus_infinity_rule_out_classes():
    def predict(batch):
        return np.concatenate([logits(batch), np.full((len(batch), 2), -np.inf)], axis=1)
    first, second = (benchmark(function, IMAGES, LABELS, "contrast", 3, workers=1) for function in (logits, predict))
    np.testing.assert_allclose(first.clean, second.clean)


def test_benchmarks_in_threads_share_the_processes_and_leave_them():
    """The one that ends first leaves the processes to the other; later ones need not start processes."""
    ended, begun = threading.Event(), threading.Event()

    def slow(batch):
        begun.set()
        ended.wait(60)
        return logits(batch)
    results = []
    thread = threading.Thread(target=lambda: results.append(
        benchmark(slow, IMAGES, LABELS, ["fog", "contrast"], (1, 2), batch_size=2, workers=2)))
    thread.start()
    begun.wait(60)
    expected = benchmark(logits, IMAGES, LABELS, ["fog", "contrast"], (1, 2), batch_size=2, workers=2)
    processes = set(get_executor(2, os.getpid())._processes)
    ended.set()
    thread.join()
    assert results[0].corrupted == expected.corrupted and len(processes) == 2
    with pytest.raises(ZeroDivisionError):  # an error ends its own work
        benchmark(lambda batch: 1 / 0, IMAGES, LABELS, "contrast", 1, workers=2)


def test_one_worker_in_threads_leaves_the_threads_of_opencv():
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        barrier = threading.Barrier(3)
        threads = [threading.Thread(target=single_threaded, args=(barrier.wait, 60)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(before)


def in_a_worker(_):
    with pytest.raises(UserError, match="2 workers: this process is a worker itself and cannot start others; take 1"):
        benchmark(logits, IMAGES, LABELS, "contrast", 1, workers=2)
    return benchmark(logits, IMAGES, LABELS, "contrast", 1, workers=1).clean.accuracy


def test_a_worker_of_multiprocessing_is_told_to_take_one_worker():
    expected = benchmark(logits, IMAGES, LABELS, "contrast", 1, workers=1).clean.accuracy
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(in_a_worker, [0]) == [expected]


def test_the_import_leaves_bars_of_others_as_they_are():
    code = "import tqdm; before = tqdm.tqdm.monitor_interval; import corruptions.evaluation.benchmark as b; " \
           "assert tqdm.tqdm.monitor_interval == before > 0"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_error_of_the_classifier_is_its_own():
    def predict(batch):
        raise ZeroDivisionError("in the classifier")
    with pytest.raises(ZeroDivisionError, match="in the classifier"):
        benchmark(predict, IMAGES, LABELS, "contrast", 1)


def test_a_network_of_torch():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(16 * 16 * 3, 4)
    result = benchmark(lambda batch: layer(torch.from_numpy(batch).flatten(1) / 255), IMAGES, LABELS, "contrast", 3)
    weights = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    wanted = scores(IMAGES.reshape(10, -1).astype(np.float32) / 255 @ weights[0] + weights[1], LABELS)
    np.testing.assert_allclose(result.clean, wanted, rtol=1e-4)


def test_a_network_of_onnx_runtime(tmp_path):
    """A linear classifier, in a file that is written here."""
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]),
         helper.make_node("MatMul", ["flat", "weights"], ["logits"])],
        "linear", [helper.make_tensor_value_info("images", kind, [None, 16, 16, 3])],
        [helper.make_tensor_value_info("logits", kind, [None, 4])],
        [onnx.numpy_helper.from_array(PROJECTION.astype(np.float32), "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = os.path.join(tmp_path, "linear.onnx")
    onnx.save(model, path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    result = benchmark(lambda batch: session.run(None, {"images": batch}), IMAGES, LABELS, "contrast", (1, 3),
                       preprocess=lambda batch: batch.astype(np.float32))
    reference = benchmark(logits, IMAGES, LABELS, "contrast", (1, 3), workers=1)
    np.testing.assert_allclose(result.clean, reference.clean, rtol=1e-3)
    np.testing.assert_allclose(result.corrupted["contrast"], reference.corrupted["contrast"], rtol=1e-3)
