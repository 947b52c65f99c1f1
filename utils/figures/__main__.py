"""Draw figures from the command line: python -m utils.figures --help

It alone looks from here to `losses/`, for the figures that need a network, and not for the others.
"""
import os
import sys

if not __package__:  # for `python utils/figures`, Python searches this file's folder first for modules
    sys.path[0] = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    from corruptions.utils.startup import begin_imports
    begin_imports("python -m utils.figures")
    import utils.runtime.requirements  # noqa: F401, it reports missing packages

from corruptions.utils import cli
from corruptions.utils.errors import UserError, exit_on_error
from corruptions.utils.files import require_writable_folder, safe_filename
from corruptions.utils.signals import defer_signals
from utils.figures import FIGURES
from utils.figures.style import save
from utils.options import OptionGroup
from utils.records.reading import by_setting, read_records
from utils.shared_options import DEVICE, DEVICE_OPTIONS, device_options

PROGRAM = "python -m utils.figures"


def overview():
    """Return two examples and the list of figures as text."""
    texts = {name: " ".join(figure.draw.__doc__.split()).rstrip(".") for name, figure in FIGURES.items()}
    return (f"examples:\n  {PROGRAM} accuracy logs/RUN\n  {PROGRAM} training logs/none_comparison -o figures\n\n"
            f"figures:\n{cli.two_columns(texts)}")


def create_parser():
    parser = cli.Parser(prog=PROGRAM, usage=f"{PROGRAM} FIGURE RUN [RUN ...] [options]", epilog=overview(),
                        description="Draw a figure from the folders of runs or comparisons, as PNG and SVG.")
    parser.formatter_class = cli.RawHelpFormatter
    parser.add_argument("name", choices=list(FIGURES), metavar="FIGURE", help="a figure of the list below")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run or a comparison; runs that differ only "
                        "in the seed are averaged, other runs are named by what differs")
    parser.add_argument("-o", "--output", metavar="FOLDER", default=None,
                        help="folder for the figure (default: the first RUN)")
    parser.add_argument("--data_dir", type=os.path.abspath, default=None, metavar="FOLDER",
                        help=f"{_figures('image', 'images')}: folder with the data sets (default: as in the run)")
    for option, kind, metavar, text in (
            ("images", cli.positive_int, "N", "number of test images of each severity (default: 512; surface: 256; "
                                              "xi: 1000; calibration: all)"),
            ("rho", cli.positive_float, "RHO", "distance from the weights (default: 0.05)"),
            ("points", cli.odd, "N", "number of points on an axis, odd (default: 11)"),
            ("span", cli.positive_float, "X", "end of the axes, as a multiple of the norm of the weights (default: 1)"),
            ("epoch", cli.non_negative_int, "N", "take the checkpoint after epoch N, from 0, which main.py "
                                                 "--keep_epochs N keeps (default: the newest)"),
            ("image", cli.non_negative_int, "K", "number of the test image (default: the one with the most contrast "
                                                 "of the first 100)")):
        parser.add_argument(f"--{option}", type=kind, default=None, metavar=metavar,
                            help=f"{_figures(option)}: {text}")
    OptionGroup(f"device of {_figures('images')}", DEVICE).add_to(parser)
    return parser


def _figures(*options):
    return ", ".join(name for name, figure in FIGURES.items() if set(options) & set(figure.options))


def measure(name, records, **options):
    """Return the measurements that the figure draws besides the records; a tuple, empty if it draws only records."""
    if not FIGURES[name].measured:
        return ()
    from losses.evaluation.measure import MEASUREMENTS
    return (MEASUREMENTS[name](records, **options),)


def main(argv=None):
    if not (sys.argv[1:] if argv is None else argv):
        return cli.print_text(f"{overview()}\n\n{PROGRAM} --help lists the options.")
    parser = create_parser()
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog), defer_signals():
        figure = FIGURES[args.name]
        given = {option: value for option, value in vars(args).items()
                 if value is not None and option not in ("name", "runs", "output")}
        for option in given:
            if option not in figure.options and not (option in ("data_dir", *DEVICE_OPTIONS) and figure.measured):
                raise UserError(f"--{option}: has no effect on the figure {args.name}; leave it out")
        records = read_records(args.runs, figure.shared, figure.shown)
        folder = args.output or args.runs[0]
        require_writable_folder("--output", folder)
        if figure.measured:
            from utils.runtime.device import set_up_device
            set_up_device(**device_options(vars(args)))
        measurement_options = {option: value for option, value in given.items() if option not in DEVICE_OPTIONS}
        written = set()
        for suffix, group in by_setting(records, figure.shared).items():
            for name, drawn in figure.draw(group, *measure(args.name, group, **measurement_options)):
                path = unused(os.path.join(folder, safe_filename(name) + suffix), written)
                save(drawn, path)
                print(f"written to {path}.png and .svg")


def unused(path, written):
    """Return `path`, with a number appended if it is in the set `written`, and add the result to `written`."""
    number, candidate = 1, path
    while candidate in written:
        number += 1
        candidate = f"{path}_{number}"
    written.add(candidate)
    return candidate


if __name__ == "__main__":
    main()
