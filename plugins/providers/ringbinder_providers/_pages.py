"""Addresses of pages of a git host: whose they are, and the parts of their path."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from attrs import frozen

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SCP: Final = re.compile(r"[\w.-]+@(?P<host>[\w.-]+):(?P<path>.+)", re.ASCII)
_QUERY: Final = re.compile("[?#]")
_VIEW: Final = re.compile(r"(?:lab/|doc/)?tree/")
_LONGEST: Final = 4000


def page(link: str, hosts: Collection[str]) -> tuple[str, ...] | None:
    """The decoded parts of the path if `link` is an address on one of `hosts`, else None.

    Takes ``https://host/path``, ``host/path``, ``git@host:path`` and ``ssh://git@host/path``; query and
    fragment are ignored. An https address with credentials is no one's page: they would get lost.
    """
    link = link.strip()
    if len(link) > _LONGEST or not link.isprintable():
        return None
    if scp := _SCP.fullmatch(link):
        link = f"ssh://git@{scp['host']}/{scp['path']}"
    elif not _SCHEME.match(link):
        link = f"https://{link}"
    try:
        url = urlsplit(link)
        host = url.hostname or ""
        if url.port is not None:
            host += f":{url.port}"
    except ValueError:
        return None
    if url.scheme not in {"http", "https", "ssh", "git"} or host.removeprefix("www.") not in hosts:
        return None
    if url.scheme != "ssh" and "@" in url.netloc:
        return None
    parts = tuple(unquote(part) for part in url.path.split("/") if part)
    if any(part in {".", ".."} or not part.isprintable() for part in parts):
        return None
    return parts


def ref_and_path(parts: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Takes what follows ``/tree/`` or ``/blob/`` apart.

    The form alone cannot tell where a branch with a slash ends: its first part is taken for the whole, and
    `resolve` looks whether it goes on (`Opened`); ``refs/heads/x`` (GitHub's own spelling in newer addresses)
    is understood.
    """
    if len(parts) > 2 and parts[0] == "refs" and parts[1] in {"heads", "tags"}:
        return "/".join(parts[:3]), parts[3:]
    return (parts[0] if parts else "HEAD"), parts[1:]


def to_open(path: Sequence[str], view: str = "lab/tree/") -> str:
    """Where JupyterLab shows a file or folder of the repository, percent-encoded; empty for all of it."""
    return view + "/".join(quote(part) for part in path) if path else ""


@frozen
class Opened:
    """A file or folder that a link asks to open. Its beginning may be the rest of a branch's name."""

    view: str = ""
    path: tuple[str, ...] = ()

    @classmethod
    def of(cls, urlpath: str) -> Opened:
        """Nothing if `urlpath` is no path in the repository."""
        found = _VIEW.match(urlpath)
        if found is None:
            return cls()
        parts = _QUERY.split(urlpath[found.end() :], maxsplit=1)[0].split("/")
        return cls(found[0], tuple(unquote(part) for part in parts if part))

    def without(self, count: int) -> str:
        """The path to open when its first `count` parts belong to the branch."""
        return to_open(self.path[count:], self.view)
