"""Draw figures from the command line: python -m utils.figures --help"""
import os

from utils import cli
from utils.figures import FIGURES
from utils.figures.style import save
from utils.records.reading import read_records


def main(argv=None):
    parser = cli.Parser(prog="python -m utils.figures", description="Draw a figure from the folders of runs or "
                        "comparisons, as PNG and SVG.")
    listing = "; ".join(f"{name}: {' '.join(figure.__doc__.split())}" for name, figure in FIGURES.items())
    parser.add_argument("name", choices=list(FIGURES), help=listing.replace("%", "%%"))
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run or a comparison; runs of one name are "
                        "averaged")
    parser.add_argument("-o", "--output", metavar="FOLDER", default=None,
                        help="folder for the figure (default: the first RUN)")
    args = parser.parse_args(argv)
    with cli.one_line_errors(parser.prog):
        records = read_records(args.runs)
        folder = args.output or args.runs[0]
        cli.require_writable_folder("--output", folder)
        for name, figure in FIGURES[args.name](records):
            path = os.path.join(folder, name)
            save(figure, path)
            print(f"written to {path}.png and .svg")


if __name__ == "__main__":
    main()
