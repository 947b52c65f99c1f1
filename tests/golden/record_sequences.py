"""Record frames and metrics of hendrycks/robustness: python tests/golden/record_sequences.py IMAGENET_P FUNCTIONAL

IMAGENET_P is its folder `ImageNet-P`. FUNCTIONAL is `torchvision/transforms/functional.py` of torchvision 0.2, which
the scripts were written for. Writes `sequences.json` beside this file: for each size and each sequence, the number of
frames and their SHA-256, drawn after `numpy.random.seed(0)`; and the metrics of the outputs that `outputs` draws.

The scripts hold each perturbation as a section of code between two comment lines, most of it commented out, inside a
loop over a data set. Here a section is run for one image. Noise has a loop for each difficulty, and one of them is run
at a time. Five things are different. `torch` and the transforms of torchvision are small stand-ins over NumPy, so that
gaussian_noise draws NumPy's numbers instead of PyTorch's. Frames are kept instead of stored. scikit-image's `gaussian`
gets the new name of an argument. `numpy.fromstring` is `numpy.frombuffer`. The script for 299 neither crops nor resizes
its images, which have 299 pixels before. Needs Wand and ImageMagick.
"""
import ast
import hashlib
import io
import json
import math
import os
import re
import sys
import textwrap
import types

import cv2
import numpy as np
import skimage.color
import skimage.filters
from PIL import Image
from scipy.ndimage import zoom
from scipy.stats import rankdata
from skimage import data

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = {32: "make_cifar_p.py", 64: "make_tinyimagenet_p.py", 224: "make_imagenet_p.py",
           299: "make_imagenet_p_inception.py"}
BEFORE_CROP = {32: 32, 64: 64, 224: 256, 299: 299}  # side of the image that the section for this size gets
NOISE = ("gaussian_noise", "shot_noise", "speckle_noise")
SECTION = re.compile(r"/{15} (.*?) Code /{15}\n(.*?)\n[^\n]*/{15} End \1 Code", re.DOTALL)


class Tensor(np.ndarray):
    """An array float32 (H, W, C) with the methods of a tensor that the scripts call."""

    def numpy(self):
        return np.asarray(self).transpose(2, 0, 1)


def to_tensor(image):
    return (np.asarray(image).astype(np.float32) / np.float32(255)).view(Tensor)


def to_pil(values):
    return Image.fromarray((np.asarray(values) * np.float32(255)).astype(np.uint8))


def centre_crop(size):
    def crop(image):
        left, top = int(round((image.size[0] - size) / 2.0)), int(round((image.size[1] - size) / 2.0))
        return image.crop((left, top, left + size, top + size))
    return crop


def compose(functions):
    def run(image):
        for function in functions:
            image = function(image)
        return image
    return run


def gaussian(image, *args, multichannel=False, **options):
    return skimage.filters.gaussian(image, *args, channel_axis=-1 if multichannel else None, **options)


def load_affine(path):
    """The functions `affine` and `_get_inverse_affine_matrix` of a file of torchvision."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef)
              and node.name in ("affine", "_get_inverse_affine_matrix")]
    names = {"math": math, "Image": Image, "PILLOW_VERSION": "5.0", "_is_pil_image": lambda image: True}
    exec(compile(ast.Module(wanted, []), path, "exec"), names)
    return types.SimpleNamespace(affine=names["affine"])


def load_functions(source):
    """`clipped_zoom` and `brightness` of a script."""
    tree = ast.parse(source)
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = {"np": np, "scizoom": zoom, "skcolor": skimage.color, "PILImage": Image}
    exec(compile(ast.Module(wanted, []), "script", "exec"), names)
    return names


def sections(source):
    """The sections of a script: published name of a sequence to code, without the marks of comments."""
    found = {}
    for title, body in SECTION.findall(source):
        name = title.lower().replace(" ", "_")
        if name in NOISE:
            lines = dedent(re.sub(r"^(\s*)(# ?)+", r"\1", line) for line in body.splitlines())
            loops = [k for k, line in enumerate(lines) if line.startswith("for i in range(1, 31)")]
            for difficulty, first in enumerate(loops, start=1):
                last = next(k for k, line in enumerate([*lines, "end"]) if k > first and line and line[0] != " ")
                stored = name if difficulty == 1 else f"{name}_{difficulty}"
                found[stored] = "\n".join([*lines[:loops[0]], *lines[first:last]])
            continue
        lines = body.splitlines()
        while not any(line.strip() and not line.strip().startswith("#") for line in lines):
            lines = [re.sub(r"^(\s*)#( |$)", r"\1", line) for line in lines]
        lines = dedent(line for line in lines if not line.strip().startswith("#"))
        stop = next((k for k, line in enumerate(lines) if "save_dir" in line or "rmtree" in line), len(lines))
        found[name] = "\n".join(lines[:stop])
    return found


def dedent(lines):
    return textwrap.dedent("\n".join(lines)).splitlines()


def image_of(side):
    """A photograph, uint8 (side, side, 3)."""
    return np.asarray(Image.fromarray(data.astronaut()[:400, 50:450]).resize((side, side), Image.Resampling.BOX))


def frames_of(size, code, functions, torchvision):
    """Run a section; return its frames, uint8 (F, H, W, 3)."""
    from wand.image import Image as WandImage  # not at the top, because the tests import this file without Wand
    frames, image = [], Image.fromarray(image_of(BEFORE_CROP[size]))
    transforms = types.SimpleNamespace(ToTensor=lambda: to_tensor, ToPILImage=lambda: to_pil, CenterCrop=centre_crop,
                                       Compose=compose)
    torch = types.SimpleNamespace(clamp=np.clip, randn_like=lambda x: np.random.normal(size=x.shape).astype(np.float32))
    older = types.ModuleType("numpy")
    vars(older).update(vars(np), fromstring=np.frombuffer)
    names = {**functions, "resized_center_crop": lambda image: image,
             "np": older, "cv2": cv2, "torch": torch, "trn": transforms, "trn_F": torchvision,
             "PILImage": Image, "MotionImage": WandImage, "BytesIO": io.BytesIO, "gaussian": gaussian,
             "seq": frames, "img": image}
    if size == 32:
        names["img"] = np.asarray(image)
    else:
        code = re.sub(r"^(\s*)(tmp = .*|os\.makedirs\(tmp\))$", r"\1", code, flags=re.MULTILINE)
        code = re.sub(r"\.save\(os\.path\.join\(tmp, ?'img.*\)$", ".save(KEPT)", code, flags=re.MULTILINE)
        names |= {"KEPT": None}
        code = re.sub(r"^(\s*)(.*)\.save\(KEPT\)$", r"\1seq.append(np.asarray(\2))", code, flags=re.MULTILINE)
    np.random.seed(0)
    exec(compile(code, f"section for {size}", "exec"), names)
    return np.stack([np.asarray(frame, np.uint8) for frame in frames])


def outputs(classes=1000):
    """Logits of three sequences that change little by little, float64 (3, 31, classes)."""
    steps = np.random.RandomState(1).normal(size=(3, 31, classes))
    steps[:, 1:] *= 0.2
    return np.cumsum(steps, axis=1)


def metrics(path):
    """The metrics of a script `test.py`: whether it is noise, and the difficulty, to FP and to the top-5 distance."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    constants = ("identity", "cum_sum_top5", "recip")
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef)
              or isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in constants]
    logits, found = outputs(), {}
    ranks = np.stack([[np.uint16(rankdata(-frame, method="ordinal")) for frame in frames] for frames in logits])
    for perturbation in ("shot_noise", "tilt"):
        for difficulty in (1, 2, 3):
            names = {"np": np, "args": types.SimpleNamespace(perturbation=perturbation, difficulty=difficulty)}
            exec(compile(ast.Module(wanted, []), path, "exec"), names)
            found[f"{perturbation} {difficulty}"] = [float(names["flip_prob"](logits.argmax(axis=2))),
                                                     float(names["ranking_dist"](ranks))]
    return found


def main():
    folder, functional = sys.argv[1:3]
    torchvision, record = load_affine(functional), {"metrics": metrics(os.path.join(folder, "test.py"))}
    for size, script in SCRIPTS.items():
        with open(os.path.join(folder, "create_p", script), encoding="utf-8") as file:
            source = file.read()
        record[size] = {}
        for name, code in sections(source).items():
            if (size, name) == (64, "motion_blur"):
                continue  # the section is for photographs that are not shrunk yet
            frames = frames_of(size, code, load_functions(source), torchvision)
            record[size][name] = [len(frames), hashlib.sha256(frames.tobytes()).hexdigest()]
    with open(os.path.join(HERE, "sequences.json"), "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
