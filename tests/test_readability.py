"""The pages are in short sentences, and the measure of this counts right."""
import pytest

from tests.readability import count_words, limits, measure, pages, plain
from tests.test_readme import text


@pytest.mark.parametrize("page", pages())
def test_a_page_keeps_the_limits(page):
    content = text(page)
    result, allowed = measure(content), limits(content)
    long = [sentence for sentence in result.sentences if count_words(sentence) > allowed["sentence"]]
    assert not long and result.mean <= allowed["mean"], (long, result.mean)
    assert result.paragraph <= allowed["paragraph"] and result.cell <= allowed["cell"]


def test_a_page_is_measured():
    page = """# A heading is no sentence

One two three, `code with words` five. Six [seven eight](http://a.b) nine!
See Fig. 3 of it.

- An item
  in two lines
- Another item. And more.

| a cell | three words here |
| --- | --- |
```bash
python main.py --and more words than all
```
"""
    result = measure(page)
    assert [count_words(sentence) for sentence in result.sentences] == [5, 4, 5, 5, 2, 2]
    assert (result.sentence, result.paragraph, result.cell) == (5, 3, 3)
    assert result.mean == 23 / 6


def test_a_page_may_state_an_exception():
    assert limits("<!-- readability: cell 30, because it is a list -->")["cell"] == 30
    assert limits("<!-- readability: cell 30 -->") == limits("")


def test_markdown_is_no_word():
    assert plain("**bold** text and ![a picture](x.png)") == "bold text and a picture"
