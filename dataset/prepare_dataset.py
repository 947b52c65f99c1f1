"""Sample the severities of a training set and write them down: python dataset/prepare_dataset.py -d cifar10

The result is a table of image index, label and severity that `main.py --split FILE` uses as it is.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from corruptions import CORRUPTIONS  # noqa: E402
from dataset import SOURCES  # noqa: E402
from dataset.corrupted import load_corrupted  # noqa: E402
from dataset.poisson import default_num_per_class, poisson_split, read_split, write_split  # noqa: E402
from utils.cli import Parser, add_data_arguments, one_line_errors, require_writable_folder  # noqa: E402
from utils.errors import UserError  # noqa: E402


def sample_split(args, labels):
    """The split that the command line asks for: read from `--split`, or drawn.

    Args:
        args (argparse.Namespace): num_severity, seed, and where given num_per_class and split.
        labels (numpy.ndarray): int32 (N,), of the training set.

    Returns:
        dataset.poisson.Split

    Raises:
        UserError: the file does not fit, or a class has too few images.
    """
    path = getattr(args, "split", None)
    if path is not None:
        if getattr(args, "num_per_class", None) is not None:
            raise UserError(f"-n {args.num_per_class}: the table {path} says how many images there are; leave out -n, "
                            "or --split")
        split = read_split(path, labels, args.num_severity)
    else:
        num_per_class = getattr(args, "num_per_class", None) or default_num_per_class(labels)
        split = poisson_split(labels, num_per_class, args.num_severity, args.seed)
    empty = [str(s) for s, count in enumerate(split.counts) if count == 0]
    if empty:
        print(f"warning: no training image has severity {', '.join(empty)}; a larger -n gives some", file=sys.stderr)
    return split


def counts_table(split):
    """The number of training images of each severity as text, one line each."""
    lines = ["severity  training images"]
    lines += [f"{s:8d}  {count:15d}" for s, count in enumerate(split.counts)]
    lines.append(f"validation: {len(split.validation)} images")
    return "\n".join(lines)


def main(argv=None):
    parser = Parser(prog="prepare_dataset.py", description="Draw a Poisson severity for every training image and write "
                    "the result down; with -c also make the corrupted images.")
    add_data_arguments(parser, sorted(SOURCES), list(CORRUPTIONS))
    parser.set_defaults(corruption=None)
    parser.add_argument("-o", "--output", default="split.csv", help="table to write: index, label, severity")
    args = parser.parse_args(argv)
    with one_line_errors(parser.prog):
        require_writable_folder("--output", os.path.dirname(os.path.abspath(args.output)))
        source = SOURCES[args.dataset](args.data_dir)
        split = sample_split(args, source.labels["train"])
        if args.corruption:
            load_corrupted(args.data_dir, source, args.corruption, args.num_severity, args.num_workers,
                           args.show_progress)
        write_split(args.output, split, source.labels["train"])
        print(counts_table(split))
        print(f"written to {args.output}")


if __name__ == "__main__":
    main()
