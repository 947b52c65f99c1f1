"""The perturbation sequences of ImageNet-P and CIFAR-10-P: frames, files and metrics beside the published code."""
import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

import corruptions.generate
from corruptions import PERTURBATION_SETS, PERTURBATIONS, Options, flip_rate, perturb, top5_distance
from corruptions.__main__ import main
from corruptions.sequences import perturb as perturb_module
from corruptions.utils.errors import UserError
from tests.golden.record_sequences import BEFORE_CROP, image_of, outputs

with open(os.path.join(os.path.dirname(__file__), "golden", "sequences.json"), encoding="utf-8") as golden_file:
    GOLDEN = json.load(golden_file)
METRICS = GOLDEN.pop("metrics")
SMALL = np.random.RandomState(0).randint(0, 256, (3, 16, 20, 3)).astype(np.uint8)


@pytest.fixture
def published_draws(monkeypatch):
    """Random numbers as the published scripts draw them after `numpy.random.seed(0)`."""
    monkeypatch.setattr(perturb_module, "image_stream", lambda *_: np.random.RandomState(0))


@pytest.mark.parametrize("size, name", [(size, name) for size, names in GOLDEN.items() for name in names])
def test_published(published_draws, size, name):
    """The frames are those of the published scripts, to the byte; only gaussian_noise draws from NumPy, not PyTorch."""
    frames = perturb(image_of(BEFORE_CROP[int(size)]), name, crop=int(size))
    assert [len(frames), hashlib.sha256(frames.tobytes()).hexdigest()] == GOLDEN[size][name]


def test_names():
    """The ten of the paper and four for validation; the frames of CIFAR-10-P have the published shape."""
    assert PERTURBATION_SETS["common"] == (
        "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow", "brightness", "translate", "rotate", "tilt",
        "scale")
    assert len(PERTURBATIONS) == 14 and len(GOLDEN["32"]) == 14
    assert perturb(np.zeros((2, 32, 32, 3), np.uint8), "gaussian_blur").shape == (2, 31, 32, 32, 3)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_any_image(name):
    """Images of any shape, grey ones too; the frames of an image depend on its key alone."""
    frames = perturb(SMALL, name, seed=1)
    assert frames.dtype == np.uint8 and frames.shape[0] == 3 and frames.shape[2:] == (16, 20, 3)
    assert np.array_equal(frames[2], perturb(SMALL[2], name, seed=1, key="2"))
    assert np.array_equal(frames[1:], perturb(SMALL[1:], name, seed=1, first=1))
    grey = perturb(SMALL[0, ..., 0], name)
    assert grey.shape == (frames.shape[1], 16, 20)
    assert np.array_equal(grey, perturb(SMALL[:1, ..., :1], name)[0, ..., 0])
    changed = [not np.array_equal(frames[0], other[0]) for other in (perturb(SMALL, name, seed=2), frames)]
    assert changed == [PERTURBATIONS[name].is_random, False]


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if PERTURBATIONS[name].is_noise])
def test_noise(name):
    """The first frame is the image; frames have noise of their own, and more of it in a higher difficulty."""
    image = image_of(32)
    errors = []
    for difficulty in (1, 2, 3):
        frames = perturb(image, name, difficulty=difficulty)
        assert np.array_equal(frames[0], image) and len({frame.tobytes() for frame in frames}) == 31
        errors.append(np.abs(frames[1:] - image.astype(float)).mean())
    assert errors[0] < errors[1] < errors[2]


def test_crop_after_moving():
    """Real pixels move into a crop; without one, black does."""
    image = np.full((32, 32, 3), 200, np.uint8)
    assert perturb(image, "translate", crop=16).min() == 200 and perturb(image, "translate").min() == 0


def test_middle_frames():
    """Frames without a change are the image itself."""
    image = image_of(64)
    unchanged = {"brightness": 15, "translate": 15, "rotate": 15, "scale": 24, "shear": 15, "zoom_blur": 0}
    for name, number in unchanged.items():
        errors = np.abs(perturb(image, name)[number] - image.astype(int))
        assert errors.max() <= (name == "brightness"), name  # which goes through HSV, where the last bit is truncated


def test_size_of_constants():
    """Sizes without constants take the nearest size; the table for 299 is there on request."""
    assert len(perturb(np.zeros((64, 64), np.uint8), "motion_blur")) == 21
    image = image_of(64)
    assert not np.array_equal(perturb(image, "gaussian_blur"), perturb(image, "gaussian_blur", options=Options(299)))
    with pytest.raises(UserError, match="preset 64: has no constants of the sequence motion_blur"):
        perturb(image, "motion_blur", options=Options(64))


@pytest.mark.parametrize("arguments, problem", [
    ({"name": "fog"}, "perturbation fog: unknown"),
    ({"name": "tilt", "difficulty": 2}, "the frames of tilt are the same"),
    ({"name": "shot_noise", "difficulty": 4}, "difficulty 4: must be 1, 2 or 3"),
    ({"name": "shot_noise", "difficulty": 2.0}, "difficulty 2.0: must be 1, 2 or 3"),
    ({"name": "tilt", "images": np.zeros((1, 8, 40000, 3), np.uint8)}, "tilt: an image has at most 32766 pixels"),
    ({"name": "tilt", "crop": 17}, "crop 17: must be a whole number from 8 to 16"),
    ({"name": "tilt", "seed": -1}, "seed -1"), ({"name": "tilt", "first": -1}, "first -1"),
    ({"name": "tilt", "key": [1]}, "a sequence of 3 keys"),
    ({"name": "tilt", "options": Options(frost_dir="x")}, "frost_dir: no perturbation uses it")])
def test_bad_arguments(arguments, problem):
    with pytest.raises(UserError, match=problem):
        perturb(**{"images": SMALL, **arguments})


@pytest.mark.parametrize("case", METRICS)
def test_published_metrics(case):
    """FP and top-5 distance are those of the published `test.py`."""
    name, difficulty = case.split()
    logits = outputs()
    flips, distance = METRICS[case]
    assert 0.05 < flips < 1 and distance > 1
    for given in (logits, logits.argmax(axis=2)):
        assert flip_rate({name: given}, difficulty=int(difficulty))[name] == pytest.approx(flips, rel=1e-12)
    assert top5_distance({name: logits}, difficulty=int(difficulty))[name] == pytest.approx(distance, rel=1e-12)


def test_mean_and_baseline():
    """The mean is over perturbations; with a baseline, each is relative to it first (mFR, mT5D)."""
    predictions = {"tilt": np.array([[0, 1, 1], [2, 2, 2]]), "shot_noise": np.array([[0, 1, 0], [3, 3, 3]])}
    rates = flip_rate(predictions)
    assert rates == {"tilt": 0.25, "shot_noise": 0.25, "mean": 0.25}
    assert flip_rate(predictions, {"tilt": 0.5, "shot_noise": 0.25}) == {"tilt": 0.5, "shot_noise": 1, "mean": 0.75}
    assert flip_rate(predictions, rates)["mean"] == 1


def test_distance_by_hand():
    """Two classes change places beyond the fifth: the fifth and the sixth, at a distance of one."""
    first = np.array([9, 8, 7, 6, 5, 4, 3.0])
    second = np.array([9, 8, 7, 6, 4, 5, 3.0])
    assert top5_distance({"tilt": np.stack([first, second])[None]})["tilt"] == 1
    equal = np.zeros((1, 4, 6))  # all classes are equally likely, so that no rank changes
    assert top5_distance({"tilt": equal})["tilt"] == 0


@pytest.mark.parametrize("function, arguments, problem", [
    (flip_rate, ({},), "must be a dict"), (flip_rate, ({"fog": SMALL},), "perturbation fog: unknown"),
    (flip_rate, ({"tilt": np.zeros((2, 1), int)},), "2 frames at least"),
    (flip_rate, ({"tilt": [[1, 2], [3]]},), "tilt: is no array"),
    (flip_rate, ({"tilt": np.zeros((2, 5))},), "must be finite logits"),
    (flip_rate, ({"tilt": np.full((1, 5, 3), np.nan)},), "must be finite logits"),
    (top5_distance, ({"tilt": np.zeros((1, 5, 4))},), "K at least 5"),
    (flip_rate, ({"tilt": np.zeros((2, 5), int)}, {"tilt": 0}), "baseline of tilt: 0 must be a number above 0"),
    (flip_rate, ({"tilt": np.zeros((2, 5), int)}, {}), "baseline of tilt: None"),
    (flip_rate, ({"tilt": np.zeros((2, 5), int)}, None, 4), "difficulty 4")])
def test_bad_metrics(function, arguments, problem):
    with pytest.raises(UserError, match=problem):
        function(*arguments)


def test_command_array(tmp_path, monkeypatch, capsys):
    """The published layout with labels, the same bytes from any number of processes, and nothing twice."""
    monkeypatch.chdir(tmp_path)
    images = np.random.RandomState(1).randint(0, 256, (40, 32, 32, 3)).astype(np.uint8)
    np.savez("set.npz", images=images, labels=np.arange(40) % 10)
    words = ["sequence", "set.npz", "out", "-p", "translate", "shot_noise"]
    main([*words, "--workers", "2"])
    assert sorted(os.listdir("out")) == ["labels.npy", "settings.json", "shot_noise.npy", "translate.npy"]
    assert np.load("out/translate.npy").shape == (40, 16, 32, 32, 3)
    assert np.array_equal(np.load("out/shot_noise.npy"), perturb(images, "shot_noise"))
    assert np.array_equal(np.load("out/labels.npy"), np.arange(40) % 10)
    main([*words, "--workers", "1"])
    assert capsys.readouterr().out == "written to out\nwas all made before in out\n"
    main(["sequence", "set.npz", "out", "-p", "shot_noise", "-d", "2", "--workers", "1"])
    assert np.array_equal(np.load("out/shot_noise_2.npy"), perturb(images, "shot_noise", difficulty=2))


def test_command_image(tmp_path, monkeypatch, capsys):
    """The frames of one image as pictures; its key is the name of the file."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(SMALL[0]).save("photo.png")
    main(["sequence", "photo.png", "frames", "-p", "snow", "tilt", "--crop", "12"])
    assert len(os.listdir("frames/tilt")) == 31 and sorted(os.listdir("frames")) == ["snow", "tilt"]
    stored = np.stack([np.asarray(Image.open(f"frames/snow/{number:02}.png")) for number in range(31)])
    assert np.array_equal(stored, perturb(SMALL[0], "snow", crop=12, key="photo.png"))


@pytest.mark.parametrize("words, problem", [
    (["photo.png", "frames", "-p", "tilt", "shear"], "frames/shear: exists"),
    (["photo.png", "new", "-p", "tilt", "-d", "3"], "difficulty 3: the frames of tilt are the same"),
    (["photo.png", "new", "-p", "tilt", "--workers", "2"], "only arrays use them"),
    (["photo.png", "new", "-p", "tilt", "--backend", "wand"], "--backend wand"),
    (["photo.png", "new", "-p", "tilts"], "unknown name 'tilts'"),
    (["set.npy", "new", "-p", "tilt"], "set.npy: missing"),
    (["other.npy", "made", "-p", "tilt"], "made: has files")])
def test_command_errors(tmp_path, monkeypatch, capsys, words, problem):
    """One line, exit status 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(SMALL[0]).save("photo.png")
    np.save("other.npy", SMALL)
    os.makedirs("frames/shear")
    os.makedirs("made")
    open("made/tilt.npy", "wb").close()
    before = sorted(os.walk("."))
    with pytest.raises(SystemExit) as stop:
        main(["sequence", *words])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and problem in line
    assert sorted(os.walk(".")) == before


def test_loops_without_keys_give_a_warning(monkeypatch):
    monkeypatch.setattr(corruptions.generate, "_has_warned", False)
    monkeypatch.setattr(corruptions.generate, "_first_images", {})
    perturb(SMALL[0], "snow", key="0")
    perturb(SMALL[0], "snow")
    perturb(SMALL[0], "tilt")
    perturb(SMALL[1], "tilt")  # draws nothing
    with pytest.warns(UserWarning, match="perturb: several images or batches get the same random numbers"):
        perturb(SMALL[1], "snow")
