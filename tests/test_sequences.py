"""The perturbation sequences of ImageNet-P and CIFAR-10-P: frames, files and metrics beside the published code."""
import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import corruptions.generate
from corruptions import PERTURBATION_SETS, PERTURBATIONS, Options, flip_rate, perturb, top5_distance
from corruptions.__main__ import main
from corruptions.sequences import jobs as sequence_jobs
from corruptions.sequences import perturb as perturb_module
from corruptions.sequences.constants import SEQUENCE_CONSTANTS, frame_counts
from corruptions.sequences.perturbations import SEQUENCES
from corruptions.utils.errors import UserError
from tests.golden.record_sequences import BEFORE_CROP, image_of, outputs

with open(os.path.join(os.path.dirname(__file__), "golden", "sequences.json"), encoding="utf-8") as golden_file:
    GOLDEN = json.load(golden_file)
METRICS = GOLDEN.pop("metrics")
STILL = np.zeros((2, 31), int)
SMALL = np.random.RandomState(0).randint(0, 256, (3, 16, 20, 3)).astype(np.uint8)


@pytest.fixture
def published_draws(monkeypatch):
    """Random numbers as the published scripts draw them after `numpy.random.seed(0)`."""
    monkeypatch.setattr(perturb_module, "image_stream", lambda *_: np.random.RandomState(0))


@pytest.mark.parametrize("size, name", [(size, name) for size, names in GOLDEN.items() for name in names])
def test_published(published_draws, size, name):
    """The frames are those of the published scripts, to the byte; only gaussian_noise draws from NumPy, not PyTorch."""
    perturbation, difficulty = SEQUENCES[name]
    frames = perturb(image_of(BEFORE_CROP[int(size)]), perturbation, difficulty=difficulty or 1, crop=int(size),
                     options=Options(int(size)))
    assert [len(frames), hashlib.sha256(frames.tobytes()).hexdigest()] == GOLDEN[size][name]


def test_names():
    """The ten of the paper and four for validation; the frames of CIFAR-10-P have the published shape."""
    assert PERTURBATION_SETS["common"] == (
        "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow", "brightness", "translate", "rotate", "tilt",
        "scale")
    assert len(PERTURBATIONS) == 14 and set(GOLDEN["32"]) == set(SEQUENCES)
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


@pytest.mark.parametrize("name", ["rotate", "scale", "shear", "tilt", "zoom_blur"])
def test_the_middle_of_an_image_stays_where_it_is(name):
    image = np.zeros((20, 40), np.uint8)
    image[8:13, 18:23] = 255
    assert (perturb(image, name)[:, 10, 20] > 128).all()


def test_size_of_constants():
    """Sizes without constants take the nearest size; the table for 299 is there on request."""
    for shape in ((200, 40), (40, 200)):  # the shorter side counts
        assert len(perturb(np.zeros(shape, np.uint8), "translate")) == 16
    assert len(perturb(np.zeros((64, 64), np.uint8), "motion_blur")) == 21
    image = image_of(64)
    assert not np.array_equal(perturb(image, "gaussian_blur"), perturb(image, "gaussian_blur", options=Options(299)))
    assert np.array_equal(perturb(image, "motion_blur", options=Options(64)),
                          perturb(image, "motion_blur", options=Options(32)))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_frame_counts(name):
    """The metrics know the number of frames for every published size."""
    made = {len(perturb(SMALL[0], name, options=Options(size))) for size in SEQUENCE_CONSTANTS}
    assert made == set(frame_counts(name))


@pytest.mark.parametrize("height, width, crop, top, left", [(21, 30, 8, 6, 11), (19, 17, 16, 2, 0)])
def test_crop_with_odd_margins(height, width, crop, top, left):
    """The crop begins where CenterCrop of torchvision 0.2 begins, round((H - crop) / 2), with halves to even."""
    image = np.random.RandomState(2).randint(0, 256, (height, width, 3)).astype(np.uint8)
    frames = perturb(image, "translate", crop=crop)
    still = [frame for frame in frames if np.array_equal(frame, image[top:top + crop, left:left + crop])]
    assert len(still) == 1  # the frame that is not shifted


def test_difficulty_without_noise():
    """Frames without noise are the same for every difficulty, so that one loop makes all for `flip_rate`."""
    for name in ("snow", "tilt"):
        assert np.array_equal(perturb(SMALL, name, difficulty=2), perturb(SMALL, name))


@pytest.mark.parametrize("arguments, problem", [
    ({"name": "fog"}, "perturbation fog: unknown"),
    ({"name": "common"}, "perturbation common: unknown; choose from gaussian_noise, shot_noise"),
    ({"name": "tilt", "difficulty": 5}, "difficulty 5: must be 1, 2 or 3"),
    ({"name": "shot_noise", "difficulty": 4}, "difficulty 4: must be 1, 2 or 3"),
    ({"name": "shot_noise", "difficulty": 2.0}, "difficulty 2.0: must be 1, 2 or 3"),
    ({"name": "tilt", "images": np.zeros((1, 8, 40000, 3), np.uint8)}, "tilt: an image has at most 32766 pixels"),
    ({"name": "tilt", "crop": 17}, "crop 17: must be a whole number from 8 to 16"),
    ({"name": "tilt", "seed": -1}, "seed -1"), ({"name": "tilt", "first": -1}, "first -1"),
    ({"name": "tilt", "key": [1]}, "a list of 3 keys"),
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
    still = np.zeros((2, 31), int)
    predictions = {"tilt": still.copy(), "shot_noise_2": still.copy()}
    predictions["tilt"][0, 16:] = 1  # one flip from frame to frame, or two pairs of frames that are two apart
    predictions["shot_noise_2"][0, 1:4] = 1  # three frames unlike the clean one
    rates = flip_rate(predictions, difficulty=2)
    assert rates == {"tilt": 2 / 29 / 2, "shot_noise_2": 0.05, "mean": (1 / 29 + 0.05) / 2}
    assert flip_rate({"tilt": predictions["tilt"]})["tilt"] == 1 / 30 / 2
    relative = flip_rate(predictions, {"tilt": 1 / 29, "shot_noise_2": np.array(0.1)}, difficulty=2)
    assert relative == {"tilt": 1, "shot_noise_2": 0.5, "mean": 0.75}
    assert flip_rate(predictions, rates, difficulty=2)["mean"] == 1
    assert flip_rate(predictions, {"tilt": 1, "shot_noise": 0.1}, difficulty=2)["shot_noise_2"] == 0.5


def test_tensors():
    """Outputs of MindSpore, and classes that are ruled out by logits of minus infinity."""
    ms = pytest.importorskip("mindspore")
    logits = outputs(10).astype(np.float32)
    expected = flip_rate({"tilt": logits}), top5_distance({"tilt": logits})
    assert flip_rate({"tilt": ms.Tensor(logits)}) == expected[0]
    ruled_out = np.concatenate([logits, np.full((3, 31, 2), -np.inf, np.float32)], axis=2)
    assert (flip_rate({"tilt": ruled_out}), top5_distance({"tilt": ruled_out})) == expected


def test_distance_by_hand():
    """Two classes change places beyond the fifth: the fifth and the sixth, at a distance of one."""
    frames = np.tile(np.array([9, 8, 7, 6, 5, 4, 3.0]), (1, 31, 1))
    frames[:, 16:] = [9, 8, 7, 6, 4, 5, 3]
    assert top5_distance({"tilt": frames})["tilt"] == 1 / 30
    equal = np.zeros((1, 31, 6))  # all classes are equally likely, so that no rank changes
    assert top5_distance({"tilt": equal})["tilt"] == 0


@pytest.mark.parametrize("function, arguments, problem", [
    (flip_rate, ({},), "must be a dict"), (flip_rate, ({"fog": SMALL},), "perturbation fog: unknown"),
    (flip_rate, ({"tilt": np.zeros((2, 1), int)},), r"F = 31 frames"),
    (flip_rate, ({"translate": np.zeros((2, 30), int)},), r"F = 16 or 31 or 41 frames"),
    (flip_rate, ({"tilt": np.zeros((31, 2), int)},), r"has shape \(31, 2\)"),  # transposed
    (flip_rate, ({"tilt": np.zeros((62, 10))},), r"has shape \(62, 10\)"),  # images and frames are one axis
    (flip_rate, ({"tilt": [[1, 2], [3]]},), "tilt: no array"),
    (flip_rate, ({"tilt": np.zeros((2, 31))},), r"tilt: classes are float64; must be integers \(N, F\)"),
    (flip_rate, ({"tilt": np.full((1, 31, 3), np.nan)},), "without NaN"),
    (flip_rate, ({"tilt": np.full((1, 31, 3), np.inf)},), "and finite at their maximum"),
    (top5_distance, ({"tilt": np.full((1, 31, 9), -np.inf)},), "and finite at their maximum"),
    (flip_rate, ({"shot_noise_2": STILL},), "shot_noise_2: has difficulty 2; give difficulty=2"),
    (flip_rate, ({"shot_noise": STILL, "shot_noise_2": STILL}, None, 2), "are the same perturbation; leave one out"),
    (flip_rate, ({"tilt_2": STILL}, None, 2), "perturbation tilt_2: unknown"),
    (top5_distance, ({"tilt": np.zeros((1, 31, 4))},), "K at least 5"),
    (flip_rate, ({"tilt": STILL}, {"tilt": 0}), "baseline of tilt: 0 must be a number above 0"),
    (flip_rate, ({"tilt": STILL}, {"tilt": True}), "baseline of tilt: True must be a number above 0"),
    (flip_rate, ({"tilt": STILL}, {"tilt": np.array([1, 2])}), "baseline of tilt: "),
    (flip_rate, ({"tilt": STILL}, {"snow": 1}), "baseline: has no tilt, only snow; measure it, too"),
    (flip_rate, ({"tilt": None},), "tilt: no array .its items are not numbers"),
    (flip_rate, ({"tilt": STILL}, [0.5]), "baseline of type list: must be a dict"),
    (flip_rate, ({"tilt": STILL}, None, 4), "difficulty 4")])
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
    assert sorted(os.listdir("out")) == ["labels.npy", "settings.json", "shot_noise.npy", "shot_noise.npy.json",
                                         "translate.npy", "translate.npy.json"]
    assert np.load("out/translate.npy").shape == (40, 16, 32, 32, 3)
    assert np.array_equal(np.load("out/shot_noise.npy"), perturb(images, "shot_noise"))
    assert np.array_equal(np.load("out/labels.npy"), np.arange(40) % 10)
    main([*words, "--workers", "1"])
    assert capsys.readouterr().out == "written to out\nwas all made before in out\n"
    main(["sequence", "set.npz", "out", "-p", "shot_noise", "translate", "-d", "2", "--workers", "1"])
    assert np.array_equal(np.load("out/shot_noise_2.npy"), perturb(images, "shot_noise", difficulty=2))
    assert not os.path.exists("out/translate_2.npy")  # its frames are the same


def test_command_array_of_one_image(tmp_path, monkeypatch):
    """A part with one image, whose frames are cropped."""
    monkeypatch.chdir(tmp_path)
    np.save("one.npy", SMALL[:1])
    main(["sequence", "one.npy", "out", "-p", "tilt", "--crop", "12", "--workers", "1"])
    assert np.array_equal(np.load("out/tilt.npy"), perturb(SMALL[:1], "tilt", crop=12))


@pytest.mark.parametrize("damage, problem", [
    (lambda path: os.truncate(path, 5000), "is damaged or something else; remove it"),
    (lambda path: (os.remove(path), os.mkdir(path)), "is damaged or something else; remove it"),
    (lambda path: np.save(path, np.zeros_like(np.load(path))), "has no record out/tilt.npy.json that says"),
    (lambda path: os.remove(f"{path}.json"), "has no record out/tilt.npy.json that says")])
def test_damaged_array(tmp_path, monkeypatch, capsys, damage, problem):
    """A file or a folder with the name of an array is not taken for the array that was made."""
    monkeypatch.chdir(tmp_path)
    np.save("set.npy", SMALL)
    words = ["sequence", "set.npy", "out", "-p", "tilt", "--workers", "1"]
    main(words)
    damage("out/tilt.npy")
    with pytest.raises(SystemExit):
        main(words)
    [line] = capsys.readouterr().err.splitlines()
    assert f"out/tilt.npy: {problem}" in line


def test_backend_binds_what_uses_it(tmp_path, monkeypatch, capsys):
    """A target with motion blurs of ImageMagick takes other sequences, but no motion blurs of another program."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("corruptions.blur.require_wand", lambda: None)
    monkeypatch.setattr("corruptions.blur.magick_blur", lambda image, *_: image)
    np.save("set.npy", SMALL)
    main(["sequence", "set.npy", "out", "-p", "motion_blur", "--backend", "wand", "--workers", "1"])
    main(["sequence", "set.npy", "out", "-p", "tilt", "--workers", "1"])
    with pytest.raises(SystemExit):
        main(["sequence", "set.npy", "out", "-p", "snow", "--workers", "1"])
    assert "made with other settings (backend" in capsys.readouterr().err


def test_stopped_array(tmp_path, monkeypatch):
    """An array that was stopped leaves nothing with its name, and the next command makes it whole."""
    monkeypatch.chdir(tmp_path)
    np.save("set.npy", np.tile(SMALL, (200, 1, 1, 1)))
    words = ["sequence", "set.npy", "out", "-p", "brightness", "--workers", "1"]
    whole = sequence_jobs.perturb_range
    monkeypatch.setattr(sequence_jobs, "perturb_range", lambda images, name, seed, keys, *more: (
        whole(images, name, seed, keys, *more) if keys[0] == 0 else stop()))

    def stop():
        raise KeyboardInterrupt
    with pytest.raises(SystemExit):
        main(words)
    assert os.listdir("out") == ["settings.json"]
    monkeypatch.setattr(sequence_jobs, "perturb_range", whole)
    main(words)
    assert np.load("out/brightness.npy").shape == (600, 31, 16, 20, 3)


def test_command_image(tmp_path, monkeypatch, capsys):
    """The frames of one image as pictures; its key is the name of the file."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(SMALL[0]).save("photo.png")
    main(["sequence", "photo.png", "frames", "-p", "snow", "tilt", "--crop", "12"])
    assert len(os.listdir("frames/tilt")) == 31
    assert sorted(os.listdir("frames")) == ["settings.json", "snow", "snow.json", "tilt", "tilt.json"]
    stored = np.stack([np.asarray(Image.open(f"frames/snow/{number:02}.png")) for number in range(31)])
    assert np.array_equal(stored, perturb(SMALL[0], "snow", crop=12, key="photo.png"))
    os.makedirs("frames/.shear.partial")  # of a command that was killed
    capsys.readouterr()
    main(["sequence", "photo.png", "frames", "-p", "snow", "shear", "--crop", "12"])
    main(["sequence", "photo.png", "frames", "-p", "snow", "shear", "--crop", "12"])
    assert capsys.readouterr().out == "written to frames\nwas all made before in frames\n"
    assert sorted(name for name in os.listdir("frames") if not name.endswith("json")) == ["shear", "snow", "tilt"]
    os.rename("photo.png", "other.png")
    np.save("set.npy", SMALL)
    for source, more, problem in [("other.png", ["--crop", "12"], "other settings (file_name;"),
                                  ("other.png", ["--crop", "14"], "other settings (crop, file_name;"),
                                  ("set.npy", ["--crop", "12"], "was made from other images")]:
        with pytest.raises(SystemExit):
            main(["sequence", source, "frames", "-p", "shear", *more])
        assert problem in capsys.readouterr().err


@pytest.mark.parametrize("damage, problem", [
    (lambda: [os.remove(f"frames/translate/{number}.png") for number in range(16, 31)], "has no record"),
    (lambda: os.truncate("frames/translate/05.png", 0), "is damaged or something else"),
    (lambda: os.truncate("frames/translate/05.png", 100), "is damaged or something else"),
    (lambda: shutil.copy("frames/translate/00.png", "frames/translate/06.png"), "has no record"),
    (lambda: open("frames/translate/extra.png", "wb").close(), "is damaged or something else"),
    (lambda: os.remove("frames/translate.json"), "has no record")])
def test_damaged_frames(tmp_path, monkeypatch, capsys, damage, problem):
    """Frames are taken for those that were made only if all are there, unchanged."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(SMALL[0]).save("photo.png")
    words = ["sequence", "photo.png", "frames", "-p", "translate", "--preset", "64"]
    main(words)
    damage()
    with pytest.raises(SystemExit):
        main(words)
    [line] = capsys.readouterr().err.splitlines()
    assert f"frames/translate: {problem}" in line


def test_several_labels(tmp_path, monkeypatch, capsys):
    """Labels that labels.npy cannot hold are left out with a warning, as by the command array."""
    monkeypatch.chdir(tmp_path)
    np.savez("chest.npz", test_images=SMALL, test_labels=np.zeros((3, 14), int))
    main(["sequence", "chest.npz", "out", "-p", "tilt", "--workers", "1"])
    assert "14 labels for each image" in capsys.readouterr().err and not os.path.exists("out/labels.npy")
    assert len(np.load("out/tilt.npy")) == 3


def test_finished_targets_may_be_read_only(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(SMALL[0]).save("photo.png")
    words = ["sequence", "photo.png", "frames", "-p", "tilt"]
    main(words)
    monkeypatch.setattr("corruptions.jobs.settings.is_writable", lambda folder: False)
    monkeypatch.setattr(sequence_jobs, "file_lock", None)  # needs a file in the folder
    main(words)
    assert capsys.readouterr().out.endswith("was all made before in frames\n")


@pytest.mark.parametrize("words, problem", [
    (["photo.png", "frames", "-p", "tilt", "shear"], "frames: has files, but no settings.json"),
    (["photo.png", "photo.png", "-p", "tilt"], "photo.png: is a file, or"),
    (["other.npy", "photo.png", "-p", "tilt"], "photo.png: is a file, or"),
    (["photo.png", "new", "-p", "tilt", "-d", "3"], "--difficulty 3: has no effect on the frames of tilt"),
    (["photo.png", "new", "-p", "tilt", "--workers", "2"], "only arrays use them"),
    (["photo.png", "new", "-p", "tilt", "--backend", "wand"], "--backend wand"),
    (["photo.png", "link", "-p", "tilt"], "link: is a file, or a link that leads nowhere"),
    (["photo.png", "new", "-p", "tilts"], "unknown name 'tilts'"),
    (["set.npy", "new", "-p", "tilt"], "set.npy: No such file"),
    (["other.npy", "made", "-p", "tilt"], "made: has files")])
def test_command_errors(tmp_path, monkeypatch, capsys, words, problem):
    """One line, exit status 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(SMALL[0]).save("photo.png")
    np.save("other.npy", SMALL)
    os.makedirs("frames/shear")
    os.makedirs("made")
    open("made/tilt.npy", "wb").close()
    os.symlink("nowhere", "link")
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
