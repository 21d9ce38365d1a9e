"""Names of temporary users and of servers: readable, unique, and the same for the same session."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Final
from urllib.parse import unquote, urlsplit

_LONGEST: Final = 32
_HALF: Final = 15
_UNIQUE: Final = 12
"""Characters of base 32: a million names at the same time are all different but once in two million times."""
_MADE: Final = re.compile(rf"([a-z0-9-]+-)?[a-z2-7]{{{_UNIQUE}}}")
_OTHERS: Final = re.compile(r"[^a-z0-9]+")


def unique_name(repo_url: str, session: str) -> str:
    """A name that tells of the repository and belongs to one session: ``user-repo-k2v5r7x3m4q6``.

    Lower-case letters, digits and dashes, at most 44 of them. The same session gets the same name from every
    replica; without a session the name is random. Its form is BinderHub's (protocol reference, 6.1).
    """
    path = unquote(urlsplit(repo_url).path).removesuffix("/").removesuffix(".git")
    name = _OTHERS.sub("-", path.lower()).strip("-")
    if len(name) > _LONGEST:
        name = f"{name[:_HALF]}-{name[-_HALF:]}".replace("--", "-")
    digest = hashlib.sha256(session.encode() if session else secrets.token_bytes(32)).digest()
    unique = base64.b32encode(digest).decode().lower()[:_UNIQUE]
    return f"{name}-{unique}" if name else unique


def is_unique(name: str) -> bool:
    """Whether `name` is of the form that `unique_name` gives: no name that a person has."""
    return _MADE.fullmatch(name) is not None
