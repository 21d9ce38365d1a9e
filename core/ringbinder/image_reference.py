"""Names of images: the grammar that registries and engines agree on.

Source: the reference grammar of the CNCF distribution project, and Docker's rule for which part is a host.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

__all__ = ["Reference", "is_docker_hub", "is_google", "split_domain"]

_LABEL: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_WHOLE_DOMAIN: Final = re.compile(_DOMAIN)
_TAG: Final = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_LONGEST_NAME: Final = 255


@frozen
class Reference:
    """An image: ``[domain/]path[:tag][@digest]``. What is not given is empty; nothing is filled in."""

    domain: str
    """Host, perhaps with a port."""
    path: str
    """The repository on that host, of one part or of many."""
    tag: str = ""
    """Empty where there is none."""
    digest: str = ""
    """``sha256:...``; empty where there is none."""

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """What `text` means. Raises ValueError, which says what is wrong with it."""
        rest, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise ValueError("what follows @ is no digest such as sha256:...")
        domain, rest = split_domain(rest)
        path, colon, tag = rest.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise ValueError("a tag has 1 to 128 letters, digits, dots, dashes and underscores")
        if domain and not _WHOLE_DOMAIN.fullmatch(domain):
            raise ValueError("what stands before the first / is no host name")
        if not _PATH.fullmatch(path):
            raise ValueError(
                "the parts of an image's path are made of lower-case letters and digits, with single dots, "
                "underscores or dashes between them"
            )
        made = cls(domain, path, tag, digest)
        if len(made.name) > _LONGEST_NAME:
            raise ValueError(f"the name of an image has at most {_LONGEST_NAME} characters")
        return made


def split_domain(text: str) -> tuple[str, str]:
    """The host in front of an image's name, empty where there is none (that is Docker Hub), and the rest.

    By Docker's rule the first part is a host if it has a dot, a colon or a capital, or is ``localhost``.
    """
    first, slash, rest = text.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        return first, rest
    return "", text


def is_docker_hub(host: str) -> bool:
    """Whether `host` is one of Docker Hub's many names."""
    return host in ("docker.io", "docker.com") or host.endswith((".docker.io", ".docker.com"))


def is_google(host: str) -> bool:
    """Whether `host` is one of Google's registries."""
    return host == "gcr.io" or host.endswith((".gcr.io", ".pkg.dev"))
