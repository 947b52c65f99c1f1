"""Write the file lists of ImageNet-30: python imagenet30_filelist/split_imagenet30.py --data_dir ./data

Reads DATA/ImageNet-30-64/{train,test}/CLASS/*.JPEG and writes, one `class/file label` a line, a list for each Poisson
severity (imagenet30_distribution_0.txt ...), the images left over (imagenet30_val.txt) and the test images
(imagenet30_test.txt). Labels count the training classes in alphabetical order.
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402

from dataset.poisson import poisson_split  # noqa: E402
from utils import cli  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.files import replacing  # noqa: E402


def list_classes(folder):
    """The class folders of a folder, in alphabetical order; each one's label is its place in this list.

    Raises:
        UserError: there is no such folder, or no class folder in it.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: not there; name the folder above it with --data_dir")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UserError(f"{folder}: has no class folder; put the images there as CLASS/*.JPEG")
    return classes


def list_images(folder, classes):
    """The images of a folder of class folders.

    Args:
        folder (str): holds CLASS/*.JPEG.
        classes (list of str): each one's place is its label.

    Returns:
        tuple: list of 'class/file', int32 (N,) labels.

    Raises:
        UserError: there is a class that `classes` does not have, or no image in a class folder.
    """
    names, labels = [], []
    for class_name in list_classes(folder):
        path = os.path.join(folder, class_name)
        if class_name not in classes:
            raise UserError(f"{path}: no class of that name is in the training images; rename or remove the folder")
        files = sorted(file for file in os.listdir(path) if file.endswith(".JPEG"))
        if not files:
            raise UserError(f"{path}: has no .JPEG file; remove the folder or fill it")
        names += [f"{class_name}/{file}" for file in files]
        labels += [classes.index(class_name)] * len(files)
    return names, np.array(labels, np.int32)


def remove_lists_from(folder, num_severity):
    """Remove the lists of severities that an earlier run had and this one has not."""
    for name in os.listdir(folder):
        match = re.fullmatch(r"imagenet30_distribution_(\d+)\.txt", name)
        if match and int(match[1]) >= num_severity:
            os.remove(os.path.join(folder, name))


def write_list(path, names, labels, indices):
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(f"{names[i]} {labels[i]}\n" for i in indices)


def main(argv=None):
    parser = cli.Parser(prog="split_imagenet30.py", description="Write the file lists of ImageNet-30, one for each "
                        "Poisson severity, one for validation, one for the test.")
    parser.add_argument("--data_dir", default="./data",
                        help="folder that holds ImageNet-30-64/{train,test}/CLASS/*.JPEG")
    parser.add_argument("-n", "--num_per_class", type=cli.positive_int, default=1000,
                        help="training images of each class, all severities together")
    parser.add_argument("--num_severity", type=cli.num_severity, default=6,
                        help="number of distributions, the clean one included")
    parser.add_argument("--seed", type=cli.seed, default=0, help="seed of the draw")
    parser.add_argument("-o", "--output_dir", default=os.path.dirname(os.path.abspath(__file__)),
                        help="folder for the lists")
    args = parser.parse_args(argv)
    with cli.one_line_errors(parser.prog):
        cli.require_writable_folder("--output_dir", args.output_dir)
        root = os.path.join(args.data_dir, "ImageNet-30-64")
        classes = list_classes(os.path.join(root, "train"))
        names, labels = list_images(os.path.join(root, "train"), classes)
        test_names, test_labels = list_images(os.path.join(root, "test"), classes)
        untested = [name for label, name in enumerate(classes) if label not in test_labels]
        if untested:
            print(f"warning: {os.path.join(root, 'test')}: has no images of {', '.join(untested)}", file=sys.stderr)
        split = poisson_split(labels, args.num_per_class, args.num_severity, args.seed)
        remove_lists_from(args.output_dir, args.num_severity)
        for severity, indices in enumerate(split.train):
            write_list(os.path.join(args.output_dir, f"imagenet30_distribution_{severity}.txt"), names, labels, indices)
        write_list(os.path.join(args.output_dir, "imagenet30_val.txt"), names, labels, split.validation)
        write_list(os.path.join(args.output_dir, "imagenet30_test.txt"), test_names, test_labels,
                   range(len(test_names)))
        print("\n".join(f"severity {s}: {count} images" for s, count in enumerate(split.counts)))
        print(f"validation: {len(split.validation)} images, test: {len(test_names)} images")


if __name__ == "__main__":
    main()
