"""Small trees of image files in the real layouts of the data sets, in the kinds that real ones have."""
import os

import numpy as np
from PIL import Image

CLASSES = ("acorn", "barn", "canoe")


def picture(rng, height, width):
    """Smooth random colours, uint8 (height, width, 3)."""
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def save(path, pixels, kind="rgb"):
    """Write an image as one of the kinds of files that occur: rgb, grey, palette, cmyk, turned (by EXIF data)."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    image = Image.fromarray(pixels)
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path, "JPEG", exif=exif, quality=95)
    elif kind == "palette":
        image.convert("P", palette=Image.Palette.ADAPTIVE).save(path, "PNG")
    else:
        image.convert({"rgb": "RGB", "grey": "L", "cmyk": "CMYK"}[kind]).save(path, "JPEG", quality=95)


def make_classes(folder, count, size=(64, 64), classes=CLASSES, inner="", seed=0):
    """Write CLASS/FILE, `count` images a class of `size` (height, width), of every kind in turn; ImageNet has PNG files
    under the suffix .JPEG, too."""
    rng = np.random.default_rng(seed)
    for name in classes:
        for i in range(count):
            kind = ("rgb", "grey", "rgb", "palette", "cmyk", "turned")[i % 6]
            save(os.path.join(folder, name, inner, f"{name}_{i}.JPEG"), picture(rng, *size), kind)


def make_tinyimagenet(data_dir, counts=(30, 4)):
    """Write the layout of the distributed zip, training and validation images a class as `counts` say."""
    root = os.path.join(data_dir, "tiny-imagenet-200")
    make_classes(os.path.join(root, "train"), counts[0], inner="images")
    rng, lines = np.random.default_rng(1), []
    for i in range(counts[1] * len(CLASSES)):
        save(os.path.join(root, "val", "images", f"val_{i}.JPEG"), picture(rng, 64, 64), "grey" if i == 0 else "rgb")
        lines.append(f"val_{i}.JPEG\t{CLASSES[i % len(CLASSES)]}\t0\t0\t62\t62\n")
    with open(os.path.join(root, "val", "val_annotations.txt"), "w", encoding="utf-8") as file:
        file.writelines(lines)


def make_imagenet(data_dir, counts=(30, 4)):
    """Write imagenet/{train,val}, images of several shapes."""
    for part, count, size in (("train", counts[0], (90, 70)), ("val", counts[1], (60, 110))):
        make_classes(os.path.join(data_dir, "imagenet", part), count, size)


def make_imagenet30(data_dir, counts=(30, 4), name="ImageNet-30-64", size=(64, 64)):
    """Write ImageNet-30-64/{train,test}, or ImageNet-30 with images of another size."""
    for part, count in zip(("train", "test"), counts, strict=True):
        make_classes(os.path.join(data_dir, name, part), count, size)


def make_folder(data_dir, counts=(30, 4)):
    """Write {train,test}/CLASS/FILE, or CLASS/FILE where there are no test images."""
    if counts[1]:
        for part, count in zip(("train", "test"), counts, strict=True):
            make_classes(os.path.join(data_dir, part), count, (50, 80))
    else:
        make_classes(data_dir, counts[0], (50, 80))


TREES = {"tinyimagenet": make_tinyimagenet, "imagenet": make_imagenet, "imagenet30": make_imagenet30,
         "folder": make_folder}
