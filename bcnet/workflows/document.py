"""A short document as Markdown or as one HTML file: what a model card is made of.

Belongs here: turning plain words, lists, tables, code and figures into either format, so that
nothing in them is taken for markup. Does not: what a document says (`card_text`).
"""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

# What would begin emphasis (an underscore does only at a word's end), code, a cell, a strike or,
# as `](`, a link; and what would be taken for HTML.
MARKDOWN_MARKS = re.compile(r"[\\`*|~]|(?<!\w)_|_(?!\w)|\](?=\()")
ENTITY = re.compile(r"&(?=#?\w+;)")

STYLE = """body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  font: 16px/1.5 system-ui, sans-serif }
h2 { margin-top: 2rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse } th, td { padding: .2rem .8rem .2rem 0; text-align: left;
  vertical-align: top; border-bottom: 1px solid #eee }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto } img { max-width: 100% }
figure { margin: 1rem 0 } figcaption { color: #666 }"""


class Heading(NamedTuple):
    """The title of a section."""

    text: str

    def to_markdown(self) -> str:
        """Write it as a line that begins with `##`."""
        return f"## {escape_markdown(self.text)}"

    def to_html(self) -> str:
        """Write it as `h2`."""
        return f"<h2>{html.escape(self.text)}</h2>"


class Paragraph(NamedTuple):
    """Plain words."""

    text: str

    def to_markdown(self) -> str:
        """Write it as one line."""
        return escape_markdown(self.text)

    def to_html(self) -> str:
        """Write it as `p`."""
        return f"<p>{html.escape(self.text)}</p>"


class Points(NamedTuple):
    """A list, each entry plain words."""

    texts: Sequence[str]

    def to_markdown(self) -> str:
        """Write it as lines that begin with a dash."""
        return "\n".join(f"- {escape_markdown(text)}" for text in self.texts)

    def to_html(self) -> str:
        """Write it as `ul`."""
        return (
            "<ul>\n" + "\n".join(f"<li>{html.escape(text)}</li>" for text in self.texts) + "\n</ul>"
        )


class Table(NamedTuple):
    """Rows of plain words, under a row of names."""

    names: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        """Write it as lines between bars."""
        lines = [self.names, ["---"] * len(self.names), *self.rows]
        return "\n".join(f"| {' | '.join(map(escape_markdown, line))} |" for line in lines)

    def to_html(self) -> str:
        """Write it as `table`."""
        lines = [_join_cells(self.names, "th"), *(_join_cells(row, "td") for row in self.rows)]
        return "<table>\n" + "\n".join(lines) + "\n</table>"


class Code(NamedTuple):
    """Lines to be typed or read as they are."""

    text: str

    def to_markdown(self) -> str:
        """Write it between fences longer than any in it."""
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", self.text)), default=0))
        return f"{fence}\n{self.text}\n{fence}"

    def to_html(self) -> str:
        """Write it as `pre`."""
        return f"<pre>{html.escape(self.text)}</pre>"


class Figure(NamedTuple):
    """A PNG file, in a folder beside the document."""

    path: Path
    caption: str

    def to_markdown(self) -> str:
        """Write it as a reference to the file by its folder's name and its own."""
        place = quote(f"{self.path.parent.name}/{self.path.name}")
        caption = re.sub(r"[\[\]]", r"\\\g<0>", escape_markdown(self.caption))
        return f"![{caption}]({place})"

    def to_html(self) -> str:
        """Write it as `figure` that holds the picture itself."""
        caption = html.escape(self.caption)
        data = base64.b64encode(self.path.read_bytes()).decode()
        picture = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
        return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def escape_markdown(text: str) -> str:
    """Write words so that Markdown shows them as they are, on one line.

    Args:
        text: plain words, perhaps of a stranger.

    Returns:
        The text.

    Example:
        >>> escape_markdown("a_b | <script>")
        'a_b \\\\| &lt;script>'
    """
    text = MARKDOWN_MARKS.sub(r"\\\g<0>", " ".join(text.split()))
    return ENTITY.sub("&amp;", text).replace("<", "&lt;")


def write_markdown(title: str, blocks: Sequence) -> str:
    """Write a document as Markdown.

    Args:
        title: plain words.
        blocks: of the kinds above.

    Returns:
        The text; a `Figure` stands in it by its place.

    Example:
        >>> write_markdown("Card", [Paragraph("Short.")])
        '# Card\\n\\nShort.\\n'
    """
    parts = [f"# {escape_markdown(title)}", *(block.to_markdown() for block in blocks)]
    return "\n\n".join(parts) + "\n"


def write_html(title: str, blocks: Sequence) -> str:
    """Write a document as one HTML file that needs no other.

    Args:
        title: plain words.
        blocks: of the kinds above; the files of figures are read.

    Returns:
        The text.

    Example:
        >>> "<p>1 &lt; 2</p>" in write_html("Card", [Paragraph("1 < 2")])
        True
    """
    title = html.escape(title)
    body = "\n".join(block.to_html() for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n"
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _join_cells(texts, tag):
    return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"
