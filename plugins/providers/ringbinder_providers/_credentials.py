"""Credentials in git's format, and in the form in which BinderHub's configuration has them."""

from __future__ import annotations

from ringbinder import Secret

_KEYS = frozenset({"username", "password"})


def normalized(given: Secret) -> Secret:
    r"""`git_credentials` of a configuration as lines of git's credential format.

    BinderHub's form is one line with a literal ``\n`` between the two (protocol reference, section 3.1); real
    newlines are taken as well. Raises ValueError, without a value.
    """
    if not given:
        return given
    lines = [line for line in given.reveal().replace("\\n", "\n").splitlines() if line.strip()]
    parts = {name: value for name, _, value in (line.strip().partition("=") for line in lines)}
    if parts.keys() ^ _KEYS or not all(parts.values()):
        raise ValueError(r"expected the form username=...\npassword=..., and nothing else")
    return lines_of(parts["username"], parts["password"])


def lines_of(username: str, password: str) -> Secret:
    return Secret(f"username={username}\npassword={password}")
