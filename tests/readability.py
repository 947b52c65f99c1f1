"""How easy the pages are to read: python tests/readability.py [PAGE ...]

For each page: the mean and the largest number of words in a sentence, the largest number of sentences in a paragraph,
and the largest number of words in a cell of a table. Code blocks are left out, and a code span counts as one word.
`tests/test_readability.py` keeps every page within `LIMITS`. A page may state a higher limit for itself in a comment,
with the reason: <!-- readability: cell 30, because ... -->
"""
import glob
import os
import re
import sys
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIMITS = {"mean": 18, "sentence": 35, "paragraph": 4, "cell": 20}
ABBREVIATIONS = ("e.g.", "i.e.", "Eq.", "Fig.", "et al.", "vs.", "No.")


@dataclass(frozen=True)
class Readability:
    """The measures of a page. `sentences` has the text of each sentence; other fields are as in `LIMITS`."""

    sentences: list
    mean: float
    sentence: int
    paragraph: int
    cell: int


def pages():
    """Return the Markdown pages of the project, relative to its folder, but for data, runs and reports of devices."""
    found = glob.glob(os.path.join(ROOT, "*.md")) + glob.glob(os.path.join(ROOT, "*", "**", "*.md"), recursive=True)
    names = sorted(os.path.relpath(path, ROOT) for path in found)
    return [name for name in names if name.split(os.sep)[0] not in ("data", "logs") and not name.endswith("_CN.md")
            and f"{os.sep}devices{os.sep}" not in name]


def plain(text):
    """Return a text without Markdown: links are their words, and a code span is one word."""
    text = re.sub(r"`[^`]*`", "Code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"<[^>]*>|[*_]{1,2}(?=\w)|(?<=\w)[*_]{1,2}", "", text)


def count_words(text):
    return sum(any(sign.isalnum() for sign in word) for word in text.split())


def split_sentences(text):
    """Return the sentences of a paragraph. A sentence ends at . ! or ?, before a space and a capital or a number."""
    for short in ABBREVIATIONS:
        text = text.replace(short, short.replace(".", ""))
    return [part for part in re.split(r"(?<=[.!?])[\"')]*\s+(?=[\"'(]*[A-Z0-9])", text.strip()) if count_words(part)]


def measure(content):
    """Return the `Readability` of a page, from its text."""
    content = re.sub(r"<!--.*?-->", "", content, flags=re.DOTALL)
    content = re.sub(r"^```.*?^```", "\n", content, flags=re.DOTALL | re.MULTILINE)
    paragraphs, cells = [], [0]
    for block in re.split(r"\n\s*\n", content):
        lines = []
        for line in block.splitlines():
            if line.startswith("|"):
                cells += [count_words(plain(cell)) for cell in re.split(r"(?<!\\)\|", line)]
            elif not line.startswith("#"):
                lines.append(re.sub(r"^\s*> ?", "", line))
        for item in re.split(r"^\s*(?:[-*]|\d+\.) ", "\n".join(lines), flags=re.MULTILINE):
            if sentences := split_sentences(plain(" ".join(item.split()))):
                paragraphs.append(sentences)
    sentences = [sentence for paragraph in paragraphs for sentence in paragraph]
    lengths = [count_words(sentence) for sentence in sentences] or [0]
    return Readability(sentences, sum(lengths) / len(lengths), max(lengths),
                       max(map(len, paragraphs), default=0), max(cells))


def limits(content):
    """Return the limits of a page, from its text."""
    own = re.findall(r"<!-- readability: (\w+) (\d+), because .*?-->", content, re.DOTALL)
    return {**LIMITS, **{name: int(number) for name, number in own}}


def main(argv):
    print(f"{'page':40s} {'mean':>5} {'longest':>8} {'paragraph':>10} {'cell':>5}")
    for name in argv or pages():
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            result = measure(file.read())
        print(f"{name:40s} {result.mean:5.1f} {result.sentence:8d} {result.paragraph:10d} {result.cell:5d}")
        if argv:
            for sentence in result.sentences:
                if count_words(sentence) > LIMITS["sentence"]:
                    print(f"  {count_words(sentence)} words: {sentence}")


if __name__ == "__main__":
    main(sys.argv[1:])
