"""Write the file lists of ImageNet-30: python imagenet30_filelist/split_imagenet30.py --data_dir ./data

Reads DATA/ImageNet-30-64/{train,test}/CLASS/*, or DATA/ImageNet-30, or an index of the training images, and writes, one
`class/file label` a line, a list for each Poisson severity (imagenet30_distribution_0.txt ...), the images left over
(imagenet30_val.txt) and the test images (imagenet30_test.txt). Labels count the training classes in alphabetical order.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":  # before the imports that take long
    from corruptions.utils.startup import begin_imports
    begin_imports("split_imagenet30.py")

import utils.runtime.requirements  # noqa: E402, F401, isort: skip, first: it reports missing packages
import numpy as np  # noqa: E402

from corruptions.utils import cli  # noqa: E402
from corruptions.utils.errors import UserError, exit_on_error  # noqa: E402
from corruptions.utils.files import require_writable_folder  # noqa: E402
from dataset.poisson import poisson_split  # noqa: E402
from dataset.sources.imagenet30 import (  # noqa: E402
    LISTS,
    NUM_PER_CLASS,
    TESTS,
    find_test_list,
    has_lists,
    load_imagenet30,
    parse_lists,
    write_lists,
)


def read_index(path):
    """Read the images of an index, as `parse_lists` does.

    Raises:
        UserError: the index is damaged, or a label between others has no image.
    """
    names, labels = parse_lists(path)
    if not len(labels) or (np.bincount(labels) == 0).any():
        raise UserError(f"{path}: has no image of some label; name an index of all training images")
    return names, labels


def main(argv=None):
    parser = cli.Parser(prog="split_imagenet30.py", description="Write the file lists of ImageNet-30, one for each "
                        "Poisson severity, one for validation, one for the test.")
    parser.add_argument("--data_dir", default="./data",
                        help="folder that holds ImageNet-30-64/{train,test}/CLASS/*.JPEG, or ImageNet-30 of that form")
    parser.add_argument("--index", default=None, metavar="FILE",
                        help="instead of images, a list of all training images such as the authors' imagenet30.txt: "
                             "lines of a path that ends in CLASS/FILE, and a label; no list of test images is made")
    parser.add_argument("-n", "--num_per_class", type=cli.positive_int, default=NUM_PER_CLASS,
                        help="training images of each class, all severities together")
    parser.add_argument("--num_severity", type=cli.num_severity, default=6,
                        help="number of distributions, the clean one included")
    parser.add_argument("--seed", type=cli.seed, default=0, help="seed of the draw")
    parser.add_argument("-o", "--output_dir", default=LISTS, help="folder for the lists")
    args, given = cli.parse(parser, argv)
    with exit_on_error(parser.prog):
        if args.index is not None and "data_dir" in given:
            raise UserError(f"--data_dir {args.data_dir}: has no effect with --index; leave one of them out")
        if "output_dir" not in given and has_lists(args.output_dir):  # the lists may be the authors'
            raise UserError(f"--output_dir: there are lists in {args.output_dir} already; remove them, or name another "
                            "folder")
        require_writable_folder("--output_dir", args.output_dir)
        test = None
        if args.index is None:
            source = load_imagenet30(args.data_dir, filelist_dir="")
            names, labels = source.images["train"].names, source.labels["train"]
            test = source.images["test"].names, source.labels["test"]
        else:
            names, labels = read_index(args.index)
        split = poisson_split(labels, args.num_per_class, args.num_severity, args.seed)
        path = find_test_list(args.output_dir)
        is_kept = path is not None and (test is None or os.path.exists(os.path.join(args.output_dir, TESTS[1])))
        write_lists(args.output_dir, split, names, labels, test)
        print("\n".join(f"severity {s}: {count} images" for s, count in enumerate(split.counts)))
        written = f"{len(test[0])} images" if test else "no list"
        print(f"validation: {len(split.validation)} images, test: {'the earlier list' if is_kept else written}")
        if is_kept:
            print(f"warning: {path}: was there before and is kept; remove it to test with all images", file=sys.stderr)


if __name__ == "__main__":
    main()
