"""`report.html`: a run or a comparison on one page, a single file that needs no network."""
import base64
import html
import os
import string

from utils.files import atomic_write

TEMPLATE = os.path.join(os.path.dirname(__file__), "page.html")


def write_page(folder, title, parts):
    """Write `report.html`.

    Args:
        folder (str): where it goes.
        title (str): its heading.
        parts (list of str): HTML, from the functions below.
    """
    with open(TEMPLATE, encoding="utf-8") as file:
        page = string.Template(file.read())
    with atomic_write(os.path.join(folder, "report.html")) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(page.substitute(title=html.escape(title), body="\n".join(parts)))


def heading(text):
    """A heading of a part."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text):
    """A line of text."""
    return f"<p>{html.escape(text)}</p>"


def table(header, rows, kind="", values=None, best=()):
    """A table.

    Args:
        header (list of str): its columns.
        rows (list of list): texts of the cells.
        kind (str): 'sortable' to sort by a click on a column, 'settings' for two columns of text.
        values (dict): (row, column) to the number by which a cell is sorted.
        best (collection): (row, column) of the cells that are set in bold.

    Returns:
        str: HTML.
    """
    lines = [f'<div class="wide"><table class="{kind}">',
             "<thead><tr>" + "".join(f"<th>{html.escape(str(text))}</th>" for text in header) + "</tr></thead><tbody>"]
    for i, row in enumerate(rows):
        cells = []
        for j, text in enumerate(row):
            value = f' data-value="{values[i, j]}"' if values and (i, j) in values else ""
            bold = ' class="best"' if (i, j) in best else ""
            cells.append(f'<td data-title="{html.escape(str(header[j]))}"{value}{bold}>{html.escape(str(text))}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def details(summary, content):
    """HTML that is unfolded by a click."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def figures(paths):
    """Figures side by side, as many as fit; `paths` has a caption to an SVG file, which becomes part of the page."""
    parts = []
    for caption, path in paths.items():
        with open(path, "rb") as file:
            data = base64.b64encode(file.read()).decode()
        parts.append(f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{html.escape(caption)}">'
                     f"<figcaption>{html.escape(caption)}</figcaption></figure>")
    return f'<div class="figures">{"".join(parts)}</div>'


def settings_table(config):
    """The content of a `config.json`: the settings that were asked for, and all of them to be unfolded."""
    given, others = config.get("given", {}), {option: config[option] for option in config if option != "given"}
    return (table(["option", "value"], sorted(given.items()), "settings") +
            details("all settings", table(["option", "value"], sorted(others.items()), "settings")))
