"""The data set `photos`: crops of ten photographs that come with scikit-image. It needs no download.

The class of a crop is its photograph. Training crops come from the left 70 % of the width and test crops from the right
30 %, so no pixel is in both. Validation crops come from the left, too, and overlap with training crops. So the accuracy
on them is higher than on new images.
"""
from importlib import resources

import numpy as np
from PIL import Image

from dataset.sources.base import ImageDataset

FILES = ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png", "hubble_deep_field.jpg",
         "ihc.png", "motorcycle_left.png", "retina.jpg")
SIZE = 32
NUM_CROPS = {"train": 500, "test": 100}  # per photograph
LEFT_SHARE = 0.7
MEAN, STD = (0.514, 0.390, 0.342), (0.264, 0.227, 0.231)


def load_photos(data_dir=None):
    """Cut the crops, the same ones at every call.

    Args:
        data_dir: not needed here; the loader of every data set takes it.

    Returns:
        ImageDataset: 5000 training and 1000 test images of 32x32.
    """
    folder = resources.files("skimage.data")
    rng = np.random.RandomState(0)
    images = {part: [] for part in NUM_CROPS}
    for name in FILES:
        photo = np.asarray(Image.open(folder / name).convert("RGB"))
        border = int(photo.shape[1] * LEFT_SHARE)
        for part, area in (("train", photo[:, :border]), ("test", photo[:, border:])):
            tops = rng.randint(0, area.shape[0] - SIZE + 1, NUM_CROPS[part])
            lefts = rng.randint(0, area.shape[1] - SIZE + 1, NUM_CROPS[part])
            images[part] += [area[y:y + SIZE, x:x + SIZE] for y, x in zip(tops, lefts, strict=True)]
    labels = {part: np.repeat(np.arange(len(FILES), dtype=np.int32), count) for part, count in NUM_CROPS.items()}
    images = {part: np.stack(crops) for part, crops in images.items()}
    return ImageDataset("photos", "photos-C", len(FILES), images, labels, MEAN, STD,
                        class_names=tuple(name.rsplit(".", 1)[0] for name in FILES))
