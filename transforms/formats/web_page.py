"""Web pages to text, by resiliparse: the main content, as a reader sees it."""

from __future__ import annotations

import re

# Finding the main content takes time in the square of how deep these are nested; browsers stop at 512.
_NESTED = re.compile(rb"<(/?)(?:div|article)\b", re.IGNORECASE)
_DEEPEST = 1000
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

    tree = HTMLTree.parse(decoded(data, charset))
    title = " ".join((tree.title or "").split()) or None
    text = ""
    if not _is_deep(data):
        text = extract_plain_text(tree, main_content=True, alt_texts=False)
    return text or extract_plain_text(tree, alt_texts=False), title


def _is_deep(data: bytes) -> bool:
    depth = 0
    for tag in _NESTED.finditer(data):
        depth += -1 if tag[1] else 1
        if depth > _DEEPEST:
            return True
    return False
