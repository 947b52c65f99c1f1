"""Draw the severities of a training set and write them down: python dataset/prepare_dataset.py -d cifar10

The result is a table of image index, label, and severity or the word validation or unused. `main.py --split FILE` uses
it as it is.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":  # before the imports that take long
    from corruptions.utils.startup import begin_imports
    begin_imports("prepare_dataset.py")
    import utils.runtime.requirements  # noqa: F401, it reports missing packages

from corruptions import ALIASES, CORRUPTIONS  # noqa: E402
from corruptions.utils.cli import Parser, listing  # noqa: E402
from corruptions.utils.errors import exit_on_error  # noqa: E402
from corruptions.utils.files import require_writable_file  # noqa: E402
from dataset import SOURCES, datasets_list, load_source, source_options  # noqa: E402
from dataset.corrupted import load_corrupted  # noqa: E402
from dataset.poisson import TRAIN_ON  # noqa: E402
from dataset.splits import (  # noqa: E402
    check_split_options,
    counts_table,
    make_split_for,  # noqa: E402
    write_split,
)
from utils.shared_options import data_options  # noqa: E402


def create_parser():
    parser = Parser(prog="prepare_dataset.py", description="Draw a severity for every training image, from a Poisson "
                    "law or 0 for all, and write the result down; with -c also make the corrupted images.")
    data_options(SOURCES, datasets_list, CORRUPTIONS, aliases=ALIASES).add_to(parser)
    parser.set_defaults(corruption=None)
    parser.add_argument("--train_on", choices=list(TRAIN_ON), default="poisson",
                        help=listing(TRAIN_ON))
    parser.add_argument("-o", "--output", default="split.csv",
                        help="table to write: index, label, and severity, validation or unused")
    return parser


def main(argv=None):
    parser = create_parser()
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog):
        require_writable_file("--output", args.output)
        numbers = {"num_per_class": args.num_per_class, "num_val": args.num_val,
                   "train_on": args.train_on, "val_fraction": args.val_fraction}
        check_split_options(**numbers)
        source = load_source(args.dataset, args.data_dir, **source_options(vars(args)))
        split = make_split_for(source, args.num_severity, args.seed, **numbers)
        if split.empty and not split.is_clean:
            print(f"warning: no training image has severity {', '.join(map(str, split.empty))}; more training images "
                  "give some", file=sys.stderr)
        if args.corruption:
            load_corrupted(args.data_dir, source, args.corruption, args.num_severity, args.num_workers,
                           args.show_progress, "disk")
        write_split(args.output, split, source.labels["train"])
        print(counts_table(split, source.labels["train"]))
        print(f"written to {args.output}")


if __name__ == "__main__":
    main()
