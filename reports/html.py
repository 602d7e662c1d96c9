"""A report as one HTML file with embedded pictures."""

import base64
import re
from html import escape
from itertools import accumulate
from pathlib import Path

from markdown_it import MarkdownIt

LIMIT = 10 * 2**20  # bytes of the pictures within a file, the smallest first; others are read from its folder
TYPES = {".png": "image/png", ".gif": "image/gif"}
COST = "<h2>Cost</h2>"
STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 75rem; margin: 1rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; }
th, td { border: 1px solid #ccc; padding: .25rem .6rem; }
img { max-width: 100%; }
pre { background: #f3f3f3; padding: .6rem; overflow-x: auto; }
nav { margin: 1rem 0; }
nav a { margin-right: 1rem; white-space: nowrap; }
"""


def standalone(page: Path, viewer: str = "") -> str:
    """The markdown page as HTML, with embedded pictures up to `LIMIT`; links to other files become text.

    `viewer` is HTML that only this file has, in front of its section on cost.
    """
    html = document(page.read_text(encoding="utf-8"), viewer)
    sizes = {file: (page.parent / file).stat().st_size for file in re.findall(r'src="([^":/]+)"', html)}
    files = sorted(sizes, key=sizes.__getitem__)
    for file, total in zip(files, accumulate(sizes[file] for file in files), strict=True):
        if total <= LIMIT:
            html = html.replace(f'src="{file}"', f'src="{_inside(page.parent / file)}"')
    return re.sub(r'<a href="(?!#|https?:)[^"]*">(.*?)</a>', r"\1", html, flags=re.DOTALL)


def document(text: str, viewer: str = "") -> str:
    """Markdown as an HTML page; links and sources of pictures stay as they are."""
    markdown = MarkdownIt("commonmark").enable("table")
    for kind in ("html_block", "html_inline"):
        markdown.add_render_rule(kind, lambda self, tokens, place, *_: folds(tokens[place].content))
    title = escape(text.splitlines()[0].lstrip("# "))
    phone = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{phone}<title>{title}</title><style>{STYLE}</style>'
    body = with_contents(markdown.render(text).replace(COST, viewer + COST, 1))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'


def with_contents(body: str) -> str:
    """A page whose sections have the anchors that GitHub gives them, with links to them below its title."""
    links = []

    def anchored(heading: re.Match[str]) -> str:
        text = re.sub("<[^>]*>", "", heading[1])
        anchor = re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
        links.append(f'<a href="#{anchor}">{text}</a>')
        return f'<h2 id="{anchor}">{heading[1]}</h2>'

    body = re.sub("<h2>(.*?)</h2>", anchored, body)
    return body.replace("</h1>", f"</h1>\n<nav>{' '.join(links)}</nav>", 1)


def folds(html: str) -> str:
    """HTML of a page as text, but for the tags that fold a part of it away."""
    return re.sub(r"&lt;(/?(?:details|summary))&gt;", r"<\1>", escape(html))


def _inside(picture: Path) -> str:
    content = base64.b64encode(picture.read_bytes()).decode()
    return f"data:{TYPES[picture.suffix]};base64,{content}"
