"""`report.html`: a run or a comparison on one page, a single file that needs no network."""
import base64
import datetime
import os
import shlex
from dataclasses import dataclass, field

from utils.runtime.requirements import require

require("jinja2")
import jinja2  # noqa: E402

from corruptions.utils.files import write_text  # noqa: E402

ENVIRONMENT = jinja2.Environment(loader=jinja2.FileSystemLoader(os.path.dirname(__file__)), autoescape=True,
                                 undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)

PAGE = "report.html"  # name of the file
EVALUATIONS = "<!-- evaluations -->", "<!-- end of evaluations -->"  # their place on the page of a comparison


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text (str): the content.
        value (float or None): the number by which the cell is sorted.
        is_best (bool): set in bold.
    """

    text: str
    value: float | None = None
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header (list of str): titles of the columns.
        rows (list of list): the cells: `Cell`, or anything that has a text.
        kind (str): 'sortable' to sort by a click on a column, 'settings' for columns of text.
    """

    header: list
    rows: list
    kind: str = ""

    @property
    def cells(self):
        """All rows, of `Cell` alone."""
        return [[cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        heading (str): its heading.
        text (str or None): a line of text.
        table (Table or None): shown below.
        figures (dict): caption to an SVG file, which becomes part of the page; side by side, as many as fit.
        details (dict): summary to a `Table` that is unfolded by a click.
        links (dict): texts to relative paths, a list of links.
    """

    heading: str
    text: str | None = None
    table: Table | None = None
    figures: dict = field(default_factory=dict)
    details: dict = field(default_factory=dict)
    links: dict = field(default_factory=dict)

    @property
    def images(self):
        """Caption to the figure as text in base 64."""
        content = {}
        for caption, path in self.figures.items():
            with open(path, "rb") as file:
                content[caption] = base64.b64encode(file.read()).decode()
        return content


def write_page(folder, title, sections, facts=(), command=None, evaluations=()):
    """Write `report.html`.

    Args:
        folder (str): the folder of the file.
        title (str): the heading.
        sections (list of Section): the content.
        facts (sequence of str): short texts below the heading, after the date.
        command (str or None): the command line that made the results, to copy.
        evaluations (sequence of Section): further content, which `replace_evaluations` replaces.
    """
    facts = " · ".join([datetime.date.today().isoformat(), *facts])
    page = ENVIRONMENT.get_template("page.html").render(title=title, sections=sections, facts=facts, command=command,
                                                        evaluations=evaluations, marks=EVALUATIONS)
    _write(folder, page + "\n")


def replace_evaluations(folder, sections):
    """Put sections into the `report.html` of a folder, in place of the evaluations there. Without a page do nothing.

    Args:
        folder (str): the folder of a comparison.
        sections (list of Section): the evaluations.
    """
    try:
        with open(os.path.join(folder, PAGE), encoding="utf-8") as file:
            page = file.read()
    except FileNotFoundError:
        return
    begin, end = EVALUATIONS
    if page.count(begin) == page.count(end) == 1:  # pages of earlier versions have no such place
        before, _, rest = page.partition(begin)
        content = ENVIRONMENT.get_template("sections.html").render(sections=sections)
        _write(folder, f"{before}{begin}\n{content}{end}{rest.partition(end)[2]}")


def next_steps(folder):
    """Return the path of a page, and the command that evaluates the run or comparison in the same folder, as text."""
    return (f"report: {os.path.join(folder, PAGE)}\n"
            f"next:   python main.py --evaluate {shlex.quote(folder)} -c common")


def _write(folder, page):
    write_text(os.path.join(folder, PAGE), page)


def settings_section(config):
    """The content of a `config.json`: the options on the command line, and all settings to be unfolded."""
    given, every = config.get("given", {}), {option: config[option] for option in config if option != "given"}
    tables = [Table(["option", "value"], sorted(options.items()), "settings") for options in (given, every)]
    return Section("Options on the command line", table=tables[0], details={"all settings": tables[1]})
