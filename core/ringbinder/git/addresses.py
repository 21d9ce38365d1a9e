"""Addresses of git repositories and names of refs: taken apart, judged, and freed of credentials."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from attrs import frozen

from ..config.specs import shown
from ..errors import UserError
from ..secret import Secret

PROTOCOLS: Final = frozenset({"http", "https", "git", "ssh"})
"""BinderHub's default of `GitRepoProvider.allowed_protocols`."""

FULL_SHA: Final = re.compile(r"[0-9a-fA-F]{40}")
SHORT_SHA: Final = re.compile(r"[0-9a-fA-F]{4,39}")

_LONGEST: Final = 2000
_MOST_WORDS: Final = 20
_SCP: Final = re.compile(r"(?P<who>[\w-]+@[\w.-]+):(?P<path>.+)", re.ASCII)
_HOST: Final = re.compile(r"\w[\w.-]*|\[[0-9a-fA-F:.]+\]")
_USER: Final = re.compile(r"\w[\w.+-]*", re.ASCII)
# What `git check-ref-format` refuses, and a leading dash: it would be an option.
_NO_REF: Final = re.compile(r"^[-/]|\.\.|//|/\.|^\.|@\{|[~^:?*\[\\]|[/.]$|\.lock(?:/|$)|^@$")


@frozen
class Address:
    """Where a repository is. `url` is fit to be shown; `credentials` are lines of git's credential format."""

    url: str
    """Without credentials."""
    credentials: Secret | None = None
    """Lines of git's credential format, where the address had some."""


def _invalid(message: str) -> UserError:
    return UserError("spec-invalid", message)


def decoded(part: str, what: str) -> str:
    """A percent-encoded part of a spec as text. Raises `UserError` where nothing good could come of it."""
    text = unquote(part)
    if not text:
        raise _invalid(f"The link has no {what}.")
    if len(text) > _LONGEST:
        raise _invalid(f"The {what} in the link is longer than {_LONGEST} characters.")
    if not text.isprintable() or " " in text or "\N{REPLACEMENT CHARACTER}" in text:
        raise _invalid(f'The {what} "{shown(text)}" has characters that no {what} can have.')
    return text


def ref_name(part: str) -> str:
    """The ref that the last part of a spec names. Raises `UserError` for what can be no ref in git."""
    ref = decoded(part, "ref (branch, tag or commit)")
    check_ref(ref)
    return ref


def check_ref(name: str) -> None:
    """Raises `UserError` if git cannot have a ref of this name."""
    if not name or not _can_be_ref(name):
        raise _invalid(f'"{shown(name)}" cannot be the name of a branch, a tag or a commit.')


def _can_be_ref(name: str) -> bool:
    return len(name) <= _LONGEST and name.isprintable() and " " not in name and not _NO_REF.search(name)


def longer_names(ref: str, words: Sequence[str]) -> list[str]:
    """`ref`, and what it becomes with one, two, ... of `words` behind it, as long as that can be a ref."""
    names = [ref]
    for word in words[:_MOST_WORDS]:
        name = f"{names[-1]}/{word}"
        if not _can_be_ref(name):
            break
        names.append(name)
    return names


def parse_address(text: str, protocols: Collection[str] = PROTOCOLS) -> Address:
    """The address `text`: a URL, or the scp form ``user@host:path``, which means ``ssh://user@host/path``.

    Raises `UserError`.
    """
    if not text.isprintable():
        # urlsplit drops some of these characters, git does not: they would read two addresses.
        raise _invalid(f'The address "{shown(text)}" has characters that no address can have.')
    if scp := _SCP.fullmatch(text):
        text = f"ssh://{scp['who']}/{scp['path']}"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise _invalid(f'"{shown(text)}" is not an address: its host or port is malformed.') from None
    if parts.scheme not in protocols:
        allowed = ", ".join(sorted(protocols))
        raise _invalid(
            f'Unsupported git address "{shown(text)}": its protocol is none of {allowed}. '
            "An address is such as https://host/path."
        )
    if parts.scheme == "file":
        return Address(text)
    return _remote(text, parts)


def _remote(text: str, parts: SplitResult) -> Address:
    userinfo, _, host = parts.netloc.rpartition("@")
    if not _HOST.fullmatch(host.removesuffix(f":{parts.port}").removesuffix(":")):
        raise _invalid(f'"{shown(text)}" is not an address: it names no host.')
    if not parts.path.strip("/"):
        raise _invalid(f'"{shown(text)}" names a host, but no repository on it.')
    if not userinfo:
        return Address(text)
    user, _, password = userinfo.partition(":")
    if parts.scheme in {"http", "https"}:
        return Address(text.replace(f"//{userinfo}@", "//", 1), _of_link(unquote(user), unquote(password)))
    if password or parts.scheme != "ssh" or not _USER.fullmatch(user):
        raise _invalid(f'"{shown(text)}": a {parts.scheme} address takes no password, and a user name only with ssh.')
    return Address(text)


def credentials(username: str, password: str) -> Secret:
    """Credentials as lines of git's credential format, as `Repo.credentials` has them."""
    return Secret(f"username={username}\npassword={password}")


def _of_link(user: str, password: str) -> Secret:
    if not (user + password).isprintable():
        raise _invalid("The user name or the password in the address has characters that none can have.")
    # Hosts take a token that stands alone as the user name; git wants some password with it.
    return Secret(f"username={user}\npassword={password or 'x-oauth-basic'}", of_client=True)
