"""`Corrupt` as a transform: streams of images, processes, threads, modes of PIL, other libraries' pipelines."""
import concurrent.futures
import copy
import multiprocessing
import os
import pathlib
import pickle
import subprocess
import sys
import types
import warnings

import joblib
import numpy as np
import pytest
from PIL import Image

import corruptions.generate
import corruptions.transform
from corruptions import SETS, Corrupt, Options, corrupt
from corruptions.generate import stream_key
from corruptions.registry import as_array
from corruptions.rng import image_stream
from corruptions.transform import RANKS
from corruptions.utils.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IMAGES = np.random.RandomState(0).randint(0, 256, (6, 16, 16, 3)).astype(np.uint8)
GREY = np.full((16, 16, 3), 128, np.uint8)  # on which the noise alone is seen


def noise(*_):
    """The noise that a call of one transform in this process adds to an image."""
    return TRANSFORM(GREY).tobytes()


TRANSFORM = Corrupt("gaussian_noise", 3)


def call(transform):
    return transform(GREY).tobytes()


def test_a_key_gives_the_image_of_the_batch():
    batch = corrupt(IMAGES, "gaussian_noise", 3, seed=5)
    transform = Corrupt("gaussian_noise", 3, seed=5)
    for number in (4, 0, 2):
        np.testing.assert_array_equal(corrupt(IMAGES[number], "gaussian_noise", 3, 5, key=number), batch[number])
        np.testing.assert_array_equal(transform(IMAGES[number], key=number), batch[number])
        np.testing.assert_array_equal(transform(IMAGES[number], np.array(number)), batch[number])
    np.testing.assert_array_equal(transform(IMAGES, np.arange(6)), batch)
    np.testing.assert_array_equal(corrupt(IMAGES[2:4], "gaussian_noise", 3, 5, first=2), batch[2:4])
    np.testing.assert_array_equal(corrupt(IMAGES[::2], "gaussian_noise", 3, 5, key=[0, 2, 4]), batch[::2])
    np.testing.assert_array_equal(transform(IMAGES[::2], key=range(0, 6, 2)), batch[::2])


def test_a_path_is_a_key_as_its_text():
    images = [corrupt(GREY, "fog", 3, key=key).tobytes() for key in
              ("a/b.png", pathlib.PurePosixPath("a/b.png"), ("a", "b.png"), "a/c.png", (0, 1), (np.int64(0), 1), "0/1",
               1)]
    assert images[0] == images[1] == images[2] and images[4] == images[5] == images[6]
    assert len(set(images)) == 4
    assert len({stream_key(key) for key in (("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"))}) == 3
    assert corrupt(GREY, "fog", 3, key="a\udcff.jpg").shape == GREY.shape  # a file name that is not in UTF-8


def test_single_images_without_a_key_warn_once(monkeypatch):
    monkeypatch.setattr(corruptions.generate, "_has_warned", False)
    monkeypatch.setattr(corruptions.generate, "_first_images", {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for severity in (1, 2, 2):  # the same image again
            corrupt(IMAGES[0], "gaussian_noise", severity)
        corrupt(IMAGES[1], "gaussian_noise", 2, key=1)
        corrupt(IMAGES[1], "gaussian_noise", 2, first=1)
        corrupt(IMAGES[:2], "gaussian_noise", 2)
        corrupt(IMAGES[0], "contrast", 2)
        corrupt(IMAGES[1], "contrast", 2)  # needs no random numbers
        corrupt(IMAGES[2:5], "gaussian_noise", 2)  # another number of images
    with pytest.warns(UserWarning, match="several images or batches get the same random numbers.* pass key=") as record:
        corrupt(IMAGES[2:4], "gaussian_noise", 2)
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corrupt(IMAGES[2], "gaussian_noise", 2)


def test_photographs_of_different_sizes_in_a_loop_warn(monkeypatch):
    monkeypatch.setattr(corruptions.generate, "_has_warned", False)
    monkeypatch.setattr(corruptions.generate, "_first_images", {})
    corrupt(IMAGES[0], "gaussian_noise", 2)
    with pytest.warns(UserWarning, match="each begins with image 0"):
        corrupt(IMAGES[1][:-2], "gaussian_noise", 2)


def test_sets_have_no_order():
    for arguments in (({"fog", "snow"}, 3), ("fog", {1, 2}), (frozenset({"fog"}), 3)):
        with pytest.raises(UserError, match="is a set, whose order differs between programs; give a list"):
            Corrupt(*arguments)


def test_single_images_in_a_loop_warn(monkeypatch):
    monkeypatch.setattr(corruptions.generate, "_has_warned", False)
    monkeypatch.setattr(corruptions.generate, "_first_images", {})
    corrupt(IMAGES[0], "gaussian_noise", 2)
    with pytest.warns(UserWarning, match="each begins with image 0"):
        corrupt(IMAGES[1], "gaussian_noise", 2)


def test_every_call_draws_anew_and_a_new_transform_draws_the_same():
    transform, again, other_seed = (Corrupt("gaussian_noise", 3, seed=seed) for seed in (1, 1, 2))
    first = [transform(GREY).tobytes() for _ in range(20)]
    assert len(set(first)) == 20
    batch = again(np.stack([GREY] * 20))
    assert [image.tobytes() for image in batch] == first
    assert not set(first) & {other_seed(GREY).tobytes() for _ in range(20)}


def test_a_transform_that_is_made_anew_in_an_epoch_warns_once(monkeypatch):
    monkeypatch.setattr(corruptions.transform, "_has_warned", False)
    monkeypatch.setattr(corruptions.transform, "_drawing", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = Corrupt("gaussian_noise", 3)
        for transform in (first, first, Corrupt("gaussian_noise", 3, seed=1), Corrupt("fog", 3),
                          pickle.loads(pickle.dumps(first)), Corrupt("gaussian_noise", lambda rng: 3)):
            transform(GREY)
        Corrupt("gaussian_noise", 3)(GREY, key=5)
        for _ in range(2):  # without random numbers
            Corrupt("contrast", 3)(GREY)
    with pytest.warns(UserWarning, match="keep one transform for all epochs, give each a seed, or pass key=") as record:
        made = Corrupt("gaussian_noise", 3)(GREY)
    assert record[0].filename == __file__ and made.shape == GREY.shape
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Corrupt("gaussian_noise", 3)(GREY)


def test_images_that_take_the_constants_of_two_sizes_warn_once():
    transform, large = Corrupt(["fog", "gaussian_noise"], 3), np.zeros((150, 150), np.uint8)
    with pytest.warns(UserWarning, match="take different constants of .*, for [0-9]+ and for [0-9]+ pixels") as record:
        for key in range(8):  # both names are drawn
            transform(GREY, key), transform(large, key)
    assert len(record) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chosen in (Corrupt("fog", 3, options=Options(preset=32)), Corrupt("fog", constants=(1, 2))):
            chosen(GREY), chosen(large)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK"])
def test_images_that_are_not_corrupted_differ_from_the_others_in_the_corruption_alone(mode):
    """The mode, the ground of transparent parts, and the memory layout."""
    image = Image.fromarray(IMAGES[0]).convert(mode)
    image.info["dpi"] = (72, 72)
    if mode in ("RGBA", "LA"):
        image.putalpha(0)
    never, always = Corrupt("brightness", 1, p=0)(image), Corrupt("brightness", 1)(image)
    assert never.mode == always.mode and never is not image and never.info == always.info == {"dpi": (72, 72)}
    np.testing.assert_array_equal(np.asarray(never.convert("RGB")), np.asarray(
        Image.fromarray(as_array(image)).convert("RGB")))
    if mode in ("RGBA", "LA"):
        assert np.asarray(never.convert("L")).min() == 255
    turned = Corrupt("fog", 3, p=0)(IMAGES[0][..., ::-1])
    assert turned.flags.c_contiguous and turned.flags.owndata
    np.testing.assert_array_equal(turned, IMAGES[0][..., ::-1])


def test_a_severity_of_a_function_is_rounded_where_the_effect_turns():
    transform = Corrupt("saturate", lambda rng: 2.75)
    np.testing.assert_array_equal(transform(IMAGES[0]), corrupt(IMAGES[0], "saturate", 3))
    np.testing.assert_array_equal(Corrupt("saturate", lambda rng: 3.5)(IMAGES[0]), corrupt(IMAGES[0], "saturate", 3.5))
    with pytest.raises(UserError, match="saturate has another effect at 2 than at 3"):
        corrupt(IMAGES[0], "saturate", 2.75)
    every = Corrupt("all+bar", lambda rng: rng.uniform(1, 5))
    for key in range(60):
        every(IMAGES[0], key)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_never_repeat(method):
    """A process that was forked has the parent's counter, and a process that was spawned has a counter of its own."""
    context = multiprocessing.get_context(method)
    images = []
    for _ in range(2):  # two epochs with workers of their own
        with context.Pool(2) as pool:
            images += pool.map(noise, range(6), chunksize=1)
            images += pool.map(call, [TRANSFORM] * 6, chunksize=1)  # a copy with each image
    assert len(set(images)) == 24


def test_copies_threads_and_forks_of_a_fork_never_repeat():
    transform = Corrupt("gaussian_noise", 3)
    images = [call(item) for item in (transform, copy.copy(transform), copy.deepcopy(transform), transform,
                                      pickle.loads(pickle.dumps(transform)))]
    images += joblib.Parallel(2)(joblib.delayed(call)(transform) for _ in range(6))
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        images += threads.map(lambda _: call(transform), range(20))
    assert len(set(images)) == 31
    assert len(forked(transform, 2)) == 6


def forked(transform, depth):
    """The noise of two processes, one after the other, and of two of each of them in turn."""
    images = set()
    for _ in range(2 if depth else 0):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, b"".join({call(transform)[:32], *forked(transform, depth - 1)}))
            finally:  # it must not continue the tests
                os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        content = os.read(reading, 1 << 16)
        os.close(reading)
        images |= {content[k:k + 32] for k in range(0, len(content), 32)}
    return images


def put_noise(queue):
    queue.put(noise())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_one_name_do_not_repeat(method):
    context = multiprocessing.get_context(method)
    queue, images = context.Queue(), []
    for _ in range(2):
        process = context.Process(target=put_noise, args=(queue,), name="worker")
        process.start()
        images.append(queue.get())
        process.join()
    assert images[0] != images[1]


@pytest.mark.parametrize("name", RANKS)
def test_ranks_do_not_repeat(name, monkeypatch):
    images = []
    for rank in ("0", "1", "2"):
        monkeypatch.setenv(name, rank)
        images.append(call(Corrupt("gaussian_noise", 3)))
    assert len(set(images)) == 3
    monkeypatch.delenv(name)
    assert call(Corrupt("gaussian_noise", 3)) == images[0]


def test_processes_of_multiprocess_do_not_repeat(monkeypatch):
    """The library of Hugging Face has processes that `multiprocessing` does not know."""
    images = []
    for number in (1, 2):
        process = types.SimpleNamespace(name="SpawnPoolWorker", _identity=(number,))
        monkeypatch.setitem(sys.modules, "multiprocess", types.SimpleNamespace(current_process=lambda p=process: p))
        images.append(call(Corrupt("gaussian_noise", 3)))
    assert images[0] != images[1]


PROGRAM = """
import hashlib, multiprocessing, sys
import numpy as np
from corruptions import Corrupt
transform = Corrupt(["fog", "gaussian_noise"], seed=4, p=0.9)
image = np.full((16, 16, 3), 128, np.uint8)
def work(start, queue):
    for k in range(start, 6, 2):
        queue.put((k, transform(image).tobytes()))
if __name__ == "__main__":
    digest = hashlib.sha256()
    for epoch in range(2):
        context = multiprocessing.get_context(sys.argv[1])
        queue = context.Queue()
        workers = [context.Process(target=work, args=(start, queue)) for start in range(2)]
        for worker in workers:
            worker.start()
        digest.update(b"".join(content for _, content in sorted(queue.get() for _ in range(6))))
        for worker in workers:
            worker.join()
    print(digest.hexdigest())
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_same_program_makes_the_same_images(method, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    runs = [subprocess.run([sys.executable, "program.py", method], cwd=tmp_path, capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": ROOT}, timeout=120) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout != "", runs[0].stderr


def test_corruption_and_severity_are_drawn_for_each_image():
    transform = Corrupt(["contrast", "fog"], [1, 5], seed=3, p=0.75)
    candidates = {(name, severity): corrupt(GREY, name, severity, 3, key=0) for name in ("contrast", "fog")
                  for severity in (1, 5)}
    assert len(candidates) == 4
    image = IMAGES[0]
    counts = {}
    for key in range(400):
        made = transform(image, key)
        choices = [None] if np.array_equal(made, image) else [
            choice for choice in candidates if np.array_equal(made, corrupt(image, *choice, 3, key=key))]
        [choice] = choices
        counts[choice] = counts.get(choice, 0) + 1
    assert 60 < counts[None] < 140 and all(45 < counts[choice] < 110 for choice in candidates)
    other = Corrupt(["contrast", "fog"], [1, 5], seed=4, p=0.75)
    assert [transform._choose(key) for key in range(50)] != [other._choose(key) for key in range(50)]


def test_the_stream_of_an_image_is_that_of_earlier_versions():
    """Otherwise a set that is continued would have images of two streams."""
    assert image_stream(5, "fog", 3, "a/b.png").integers(0, 2 ** 32, 3).tolist() == [
        3775916856, 2911944376, 2825802934]
    assert image_stream(0, "fog", 1, 0).random() != image_stream(0, "snow", 1, 0).random()


def test_choices_may_be_functions_of_a_generator():
    transform = Corrupt(lambda rng: "fog" if rng.random() < 0.5 else "snow", lambda rng: 1 + int(rng.integers(2)))
    keys = range(60)
    made = transform(np.stack([IMAGES[0]] * 60), keys)
    choices = {(name, severity) for key in keys for name in ("fog", "snow") for severity in (1, 2)
               if np.array_equal(made[key], corrupt(IMAGES[0], name, severity, key=key))}
    assert len(choices) == 4
    with pytest.raises(UserError, match="severity 0: must be a number from 1 to 5"):
        Corrupt("fog", lambda rng: 0)(GREY)
    for transform in (Corrupt(lambda rng: "common"), Corrupt("fog", lambda rng: [1, 2])):
        with pytest.raises(UserError, match="it must give one for an image"):
            transform(GREY)


def test_transforms_one_after_the_other_choose_for_themselves():
    choices = [(np.array_equal(Corrupt("fog", 3, p=0.5)(GREY, key), GREY),
                np.array_equal(Corrupt("contrast", 3, p=0.5)(IMAGES[0], key), IMAGES[0])) for key in range(40)]
    assert len(set(choices)) == 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_a_transparent_image_is_corrupted_on_white_and_becomes_opaque(mode):
    """With its transparency it would be drawn on white twice."""
    alpha = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    image = Image.fromarray(IMAGES[0]).convert(mode.upper())
    image.putalpha(alpha)
    made = Corrupt("contrast", 2)(image.convert(mode))
    assert made.mode == mode and made.convert(mode.upper()).getchannel("A").getextrema() == (255, 255)
    if mode.isupper():
        wanted = corrupt(image, "contrast", 2)
        np.testing.assert_array_equal(np.asarray(made)[..., :-1].squeeze(), wanted)
        np.testing.assert_array_equal(np.asarray(made.convert("RGB" if mode == "RGBA" else "L")), wanted)


def test_what_is_no_array_is_checked_also_if_it_is_not_corrupted():
    transform = Corrupt("contrast", 3, p=0)
    with pytest.raises(UserError, match="mode I;16 has more than 8 bits a channel"):
        transform(Image.new("I;16", (16, 16)))
    ms = pytest.importorskip("mindspore")
    with pytest.raises(UserError, match="must be arrays of uint8, 0 to 255, not float32"):
        transform(ms.Tensor(np.zeros((3, 16, 16), np.float32)))
    batch = ms.Tensor(IMAGES)
    np.testing.assert_array_equal(transform(batch), IMAGES)
    np.testing.assert_array_equal(Corrupt("contrast", 3)(batch, range(len(IMAGES))), corrupt(IMAGES, "contrast", 3))


def test_a_set_stands_for_its_corruptions():
    assert Corrupt("common").names == SETS["common"] and Corrupt("fog").severity == (1, 2, 3, 4, 5)
    assert repr(Corrupt("fog", 3)) == "Corrupt(names=['fog'], severity=[3], seed=0, p=1.0)"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr",
                                  "HSV"])
def test_a_pil_image_keeps_its_mode(mode):
    image = Image.fromarray(IMAGES[0]).resize((40, 30))
    for step in {"RGBa": ("RGBA", "RGBa"), "La": ("LA", "La"), "PA": ("RGB", "P", "PA")}.get(mode, (mode,)):
        image = image.convert(step)
    made = Corrupt("contrast", 2)(image)
    wanted = corrupt(image, "contrast", 2)
    few_colours = {"P": "RGB", "PA": "RGB", "1": "L"}
    assert (made.mode, made.size) == (few_colours.get(mode, mode), image.size)
    if mode not in ("YCbCr", "HSV", "RGBa", "La"):
        np.testing.assert_array_equal(np.asarray(made.convert("L" if wanted.ndim == 2 else "RGB")), wanted)


@pytest.mark.parametrize("arguments, message", [
    (("smoke",), "corruption smoke: unknown"), (((),), "names: there is none"), (("fog", 6), "severity 6"),
    (("fog", ()), "severity: there is none"), (("fog", True), "severity True"), (("fog", 3, -1), "seed -1"),
    (("fog", 3, 0, 1.5), "p 1.5: must be a probability"), (("fog", 3, 0, "x"), "p 'x'"), ((5,), "names 5: must be"),
    ((["fog", ["snow"]],), "names .*must be"),
    (("fog", np.array(7)), "severity array.7.: must be a number"),
    (("all", 3.5), "spatter has another effect"), (("fog", 3, 0, 1, "x"), "options of type str"),
    (("all+bar", 3, 0, 1, Options(preset=64)), "preset 64: has no constants of blue_noise_sample"),
    (("frost", 3, 0, 1, Options(frost_dir="/nowhere")), "/nowhere")])
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(UserError, match=message):
        Corrupt(*arguments)


@pytest.mark.parametrize("images, key, message", [
    (GREY, 0.5, "key of type float"), (GREY, True, "key of type bool"),
    (IMAGES, 3, "key of type int: must be a list of 6 keys"),
    (IMAGES, "abcdef", "list of 6 keys"), (IMAGES, set("abcdef"), "list of 6 keys"),
    (IMAGES, [1], "key of type list with 1 keys: must be a list of 6 keys"), ([GREY], [1, 2], "list of 1 keys"),
    (IMAGES[:2], (3, 17), "a tuple is one key"),
    (GREY.astype(float), None, "uint8"), (Image.new("I;16", (9, 9)), None, "more than 8 bits")])
def test_wrong_images_and_keys_are_named(images, key, message):
    with pytest.raises(UserError, match=message):
        Corrupt("fog", 3)(images, key)
    if not isinstance(images, list):
        with pytest.raises(UserError, match=message):
            corrupt(images, "fog", 3, key=key)


def test_a_number_of_the_first_image_beside_keys_is_an_error():
    with pytest.raises(UserError, match="first 2: has no effect beside key"):
        corrupt(GREY, "fog", 3, key=1, first=2)
    with pytest.raises(UserError, match="first -1: must be"):
        corrupt(GREY, "fog", 3, first=-1)


# ---------------------------------------------------------------------------------------------------------------------
# Pipelines of other libraries


@pytest.mark.parametrize("options", [{}, {"num_parallel_workers": 2},
                                     {"num_parallel_workers": 2, "python_multiprocessing": True}])
def test_a_dataset_of_mindspore(options):
    dataset = pytest.importorskip("mindspore.dataset")

    def source():
        return dataset.NumpySlicesDataset({"image": np.stack([GREY] * 8), "index": np.arange(8)}, shuffle=False)
    plain = source().map(Corrupt("gaussian_noise", 3), "image", **options)
    epochs = [{row["image"].tobytes() for row in plain.create_dict_iterator(num_epochs=1, output_numpy=True)}
              for _ in range(2)]
    assert len(epochs[0] | epochs[1]) == 16
    keyed = source().map(Corrupt("gaussian_noise", 3), ["image", "index"], ["image"], **options)
    images = [row["image"] for row in keyed.create_dict_iterator(num_epochs=1, output_numpy=True)]
    np.testing.assert_array_equal(np.stack(images), corrupt(np.stack([GREY] * 8), "gaussian_noise", 3))


class TorchImages:
    """A data set of torch: its workers number the images, or leave that to the transform."""

    def __init__(self, transform, has_keys):
        self.transform, self.has_keys = transform, has_keys

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.transform(GREY, index) if self.has_keys else self.transform(GREY)


@pytest.mark.parametrize("workers, method", [(0, None), (2, "fork"), (2, "spawn")])
@pytest.mark.parametrize("is_persistent", [False, True])
def test_a_data_loader_of_torch(workers, method, is_persistent):
    data = pytest.importorskip("torch.utils.data")
    options = {"num_workers": workers, "batch_size": 2, "multiprocessing_context": method,
               "persistent_workers": is_persistent and workers > 0}
    loader = data.DataLoader(TorchImages(Corrupt("gaussian_noise", 3), False), **options)
    images = [image.numpy().tobytes() for _ in range(2) for batch in loader for image in batch]
    assert len(set(images)) == 16
    loader = data.DataLoader(TorchImages(Corrupt("gaussian_noise", 3), True), **options)
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in loader]),
                                  corrupt(np.stack([GREY] * 8), "gaussian_noise", 3))


def test_a_transform_of_torchvision():
    try:
        from torchvision.transforms import v2 as transforms
    except (ImportError, RuntimeError) as error:  # its operators are built for one version of torch
        pytest.skip(str(error))
    both = transforms.Compose([transforms.Resize(24), Corrupt("gaussian_noise", 3), transforms.ToImage()])
    made = [both(Image.fromarray(GREY)).numpy() for _ in range(2)]
    assert made[0].shape == (3, 24, 24) and not np.array_equal(*made)


def test_a_transform_of_albumentations():
    albumentations = pytest.importorskip("albumentations")

    class AlbumentationsCorrupt(albumentations.ImageOnlyTransform):
        def __init__(self, transform, p=1.0):
            super().__init__(p=p)
            self.transform = transform

        def apply(self, img, **_):
            return self.transform(img)
    both = albumentations.Compose([albumentations.HorizontalFlip(),
                                   AlbumentationsCorrupt(Corrupt("gaussian_noise", 3))])
    made = [both(image=GREY)["image"] for _ in range(2)]
    assert made[0].shape == GREY.shape and not np.array_equal(*made)


def test_an_image_keeps_its_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    Image.fromarray(GREY).save(tmp_path / "turned.jpg", exif=exif)
    made = Corrupt("contrast", 1)(Image.open(tmp_path / "turned.jpg"))
    assert made.getexif()[0x0112] == 6


def test_a_set_may_stand_beside_other_names():
    assert Corrupt(["common", "spatter"]).names == (*SETS["common"], "spatter")


@pytest.mark.parametrize("calls", [None, 2])
def test_a_dataset_of_tensorflow(calls):
    tf = pytest.importorskip("tensorflow")
    images, transform = tf.data.Dataset.from_tensors(GREY).repeat(8), Corrupt("gaussian_noise", 3)
    keyed = images.enumerate().map(lambda k, image: tf.numpy_function(transform, [image, k], tf.uint8), calls)
    np.testing.assert_array_equal(np.stack(list(keyed.as_numpy_iterator())),
                                  corrupt(np.stack([GREY] * 8), "gaussian_noise", 3))
    drawn = images.map(lambda image: tf.numpy_function(transform, [image], tf.uint8), calls)
    assert len({image.tobytes() for _ in range(2) for image in drawn.as_numpy_iterator()}) == 16


@pytest.mark.parametrize("processes", [None, 2])
def test_a_map_of_hugging_face(processes):
    datasets = pytest.importorskip("datasets")
    source = datasets.Dataset.from_dict({"image": [GREY.tolist()] * 8})
    transform = Corrupt("gaussian_noise", 3)

    def add(row, index):
        image = np.asarray(row["image"], np.uint8)
        return {"keyed": transform(image, index).tolist(), "drawn": transform(image).tolist()}
    made = source.map(add, with_indices=True, num_proc=processes)
    np.testing.assert_array_equal(np.asarray(made["keyed"], np.uint8),
                                  corrupt(np.stack([GREY] * 8), "gaussian_noise", 3))
    assert len({np.asarray(image).tobytes() for image in made["drawn"]}) == 8
