"""A report as one HTML file with embedded pictures."""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

TYPES = {".png": "image/png", ".gif": "image/gif"}
STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 75rem; margin: 1rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; }
th, td { border: 1px solid #ccc; padding: .25rem .6rem; }
img { max-width: 100%; }
pre { background: #f3f3f3; padding: .6rem; overflow-x: auto; }
"""


def standalone(page: Path) -> str:
    """The markdown page as HTML, with embedded pictures; links to other files become text."""
    html = document(page.read_text(encoding="utf-8"))
    html = re.sub(r'src="([^":/]+)"', lambda found: f'src="{_inside(page.parent / found[1])}"', html)
    return re.sub(r'<a href="(?!#|https?:)[^"]*">(.*?)</a>', r"\1", html, flags=re.DOTALL)


def document(text: str) -> str:
    """Markdown as an HTML page; links and sources of pictures stay as they are."""
    markdown = MarkdownIt("commonmark").enable("table")
    for kind in ("html_block", "html_inline"):
        markdown.add_render_rule(kind, lambda self, tokens, place, *_: folds(tokens[place].content))
    title = escape(text.splitlines()[0].lstrip("# "))
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{markdown.render(text)}</body></html>\n'


def folds(html: str) -> str:
    """HTML of a page as text, but for the tags that fold a part of it away."""
    return re.sub(r"&lt;(/?(?:details|summary))&gt;", r"<\1>", escape(html))


def _inside(picture: Path) -> str:
    content = base64.b64encode(picture.read_bytes()).decode()
    return f"data:{TYPES[picture.suffix]};base64,{content}"
