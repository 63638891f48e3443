"""Web pages to text, by resiliparse: the main content, as a reader sees it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resiliparse.parse.html import DOMContext, HTMLTree

# Finding the main content takes time in the square of how deep these are nested; browsers stop at 512.
_NESTED = re.compile(r"<(/?)(div|article)\b", re.IGNORECASE)
_DEEPEST = 1000
# With more tags than these the tree is walked: a closing tag in a comment closes nothing.
_MANY = 5000
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def decoded(data: bytes, charset: str | None) -> str:
    """Bytes from the web as text: by their byte order mark, the server's word, the page's word, or a guess.

    Like a browser, it refuses nothing: bytes that mean nothing become U+FFFD.
    """
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    if encoding is None and charset:
        encoding = map_encoding_to_html5(charset, False)
    if encoding is None:
        encoding = detect_encoding(data, from_html_meta=True)
    return bytes_to_str(data, encoding or "utf-8", errors="replace", fallback_encodings=())


def page(data: bytes, charset: str | None) -> tuple[str, str | None]:
    """The text of an HTML page, and its title.

    The main content without menus, headers and footers; all of the page's text where none is found.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    html = decoded(data, charset)
    tree = HTMLTree.parse(html)
    title = " ".join((tree.title or "").split()) or None
    text = ""
    if not _is_deep(html, tree):
        text = extract_plain_text(tree, main_content=True, alt_texts=False)
    return text or extract_plain_text(tree, alt_texts=False), title


def _is_deep(html: str, tree: HTMLTree) -> bool:
    depth, opened = {"div": 0, "article": 0}, 0
    for tag in _NESTED.finditer(html):
        name = tag[2].lower()
        depth[name] = max(0, depth[name] + (-1 if tag[1] else 1))
        opened += not tag[1]
        if sum(depth.values()) > _DEEPEST:
            return True
    return opened > _MANY and _is_deep_tree(tree)


class _Deep(Exception):
    """An element lies deeper than is sane."""


def _is_deep_tree(tree: HTMLTree) -> bool:
    from resiliparse.parse.html import traverse_dom

    def look(context: DOMContext) -> None:
        if context.depth > _DEEPEST:
            raise _Deep

    root = tree.body or tree.document
    try:
        if root is not None:
            traverse_dom(root, look, elements_only=True)
    except _Deep:
        return True
    return False
