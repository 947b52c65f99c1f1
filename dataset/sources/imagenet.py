"""ImageNet: class folders under `train` and `val`. The validation images are the test set."""
import os

from corruptions.utils.errors import UserError
from dataset.image_files import create_centre_crop
from dataset.sources.base import ImageDataset
from dataset.sources.class_folders import list_class_images, list_classes, require_all_classes

SIDE, SHORTER = 224, 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_imagenet(data_dir, interpolation="bilinear"):
    """List the files of ImageNet.

    Args:
        data_dir (str): folder that holds imagenet/{train,val}/CLASS/*, or train and val themselves.
        interpolation (str): how images are scaled, a key of `INTERPOLATIONS`.

    Returns:
        ImageDataset: data set in files. The shorter side is scaled to 256, and the middle 224x224 is cut out. The
            labels are the positions of the class folders in alphabetical order.

    Raises:
        UserError: something is missing.
    """
    roots = [os.path.join(data_dir, name) for name in ("imagenet", "ImageNet", "")]
    root = next((root for root in roots if os.path.isdir(os.path.join(root, "train"))), None)
    if root is None:
        raise UserError(f"{os.path.join(data_dir, 'imagenet')}: no such folder with train and val in it; name the "
                        "folder above it, or itself, with --data_dir")
    images, labels, classes = {}, {}, list_classes(os.path.join(root, "train"))
    for part, name in (("train", "train"), ("test", "val")):
        folder = os.path.join(root, name)
        images[part], labels[part] = list_class_images(folder, classes, SIDE,
                                                       create_centre_crop(SIDE, SHORTER, interpolation))
        require_all_classes(folder, classes, labels[part])
    return ImageDataset("imagenet", "ImageNet-C", len(classes), images, labels, MEAN, STD, class_names=tuple(classes))
