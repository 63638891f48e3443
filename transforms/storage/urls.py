"""URLs: what may be shown of them, and the one reading of file://."""

from __future__ import annotations

import os
import re
import urllib.parse

# Up to white space or a quote: what stands around a URL in a message.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*")
_NO_PORT = re.compile(r"^([^/?#:]*:)(?!\d*(?:[/?#]|$))[^/?#]*")  # "host:PASSWORD"
_WEB = ("http", "https", "ftp", "ftps")


def redact(url: str) -> str:
    """Takes passwords, and the query strings that carry tokens, out of a URL; other text is unchanged.

    Never raises, since it stands where errors are told: a URL that cannot be parsed is cut by its marks.

    >>> redact("https://me:secret@example.com/model.tar.gz?sig=abc")
    'https://***@example.com/model.tar.gz?***'
    >>> redact("https://me:secret@[example.com/m?sig=abc")
    'https://***@[example.com/m?***'
    >>> redact("gs://bucket/model")
    'gs://bucket/model'
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    web = scheme.lower() in _WEB
    area = authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if web and ":" in area and "@" not in area:  # a port, or a password with a slash that nobody quoted
        area = rest.partition("?")[0] if area.rpartition(":")[2].isdigit() else rest
    user, at, _ = area.rpartition("@")
    path, question, query = rest[len(user) + len(at) :].partition("?")
    if not at and web and "[" not in authority:
        path = _NO_PORT.sub(r"\1***", path)
    # In a bucket's glob a question mark stands for a character; a query that hides something has a "=".
    if web or "=" in query:
        path, query = path.partition("#")[0], "***" if query else ""
    return f"{scheme}://{'***@' if at else ''}{path}{question if query else ''}{query}"


def redact_all(text: str) -> str:
    """Redacts every URL in a text."""
    return _URL.sub(lambda found: redact(found[0]), text)


def redact_in(message: str, url: str) -> str:
    """Takes out of an error's message what redact takes out of the URL that it is about, also in pieces."""
    message = redact_all(message.replace(url, redact(url)))
    rest, _, query = url.partition("://")[2].partition("?")
    user, at, _ = rest.rpartition("@")
    if not at and (found := _NO_PORT.match(rest)):
        user = found[0].removeprefix(found[1])
    _, _, password = user.partition(":")
    # What a parser makes of a password or a query that nobody quoted, too.
    parts = [*re.split("[/?#:@]", user), *re.split("[&=;]", query)]
    pieces = [user, password, urllib.parse.unquote(password), query, *(part for part in parts if part[2:])]
    for piece in sorted(filter(None, pieces), key=len, reverse=True):
        message = message.replace(piece, "***")
    return message


def is_local(path: str) -> bool:
    """Whether the path is one of this machine's file system: no scheme, or file://."""
    return path.startswith("file://") or "://" not in path


def local_path(path: str) -> str:
    """The plain path of a local path or file:// URL, of which %20 and the like are read,
    localhost left out.

    >>> local_path("file:///a/b%20c")
    '/a/b c'
    >>> local_path("/a/b%20c")
    '/a/b%20c'
    """
    if not path.startswith("file://"):
        return path
    return urllib.parse.unquote(re.sub("^file://(localhost(?=/))?", "", path), errors="surrogateescape")


def absolute_path(path: str) -> str:
    """A local path or file:// URL as a plain absolute path; '~' is the home folder."""
    return os.path.abspath(os.path.expanduser(local_path(path)))


def full_path(path: str) -> str:
    """A local path made absolute; a URL as it is."""
    return absolute_path(path) if is_local(path) else path
