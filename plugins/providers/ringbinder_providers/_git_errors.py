"""What git's own words (in English) mean for whoever gave the address."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from typing import Final

from ringbinder.causes import excerpt
from ringbinder.errors import RingbinderError, TransientError, UserError
from ringbinder.patterns import Regex

from ._address import SHORT_SHA, shown

_DOWN: Final = Regex(
    r"(?i)could not resolve host|couldn't connect|failed to connect|connection (?:refused|timed out|reset|closed)"
    r"|timed out|timeout|network is unreachable|no route to host|empty reply|temporary failure"
    r"|returned error: (?:408|429|5\d\d)|early eof|unexpected disconnect|rpc failed|too slow"
    r"|hung up unexpectedly"
)
_WHY: Final = (
    (
        Regex(r"(?i)could not resolve host|temporary failure"),
        "its host is not known here; check how it is spelled",
    ),
    (
        Regex(r"(?i)connection refused|failed to connect|couldn't connect|no route|unreachable"),
        "nobody can be reached there",
    ),
    (Regex(r"(?i)timed out|timeout|too slow"), "it took too long"),
    (Regex(r"(?i)returned error: 429"), "it says that it is asked too often"),
    (Regex(r"(?i)returned error: (?P<status>\d+)"), "it answers with HTTP status {status}"),
)
_PREFIX: Final = Regex(r"^(?:fatal|error): (?:unable to access '[^']*': )?")
_CERTIFICATE: Final = Regex(r"(?i)certificate|\bSSL\b|\bTLS\b")
_ABSENT: Final = Regex(
    r"(?i)not found|returned error: 4\d\d|could not read (?:username|password)"
    r"|authentication failed|permission denied|host key verification failed|is this a git repository"
    r"|does not appear to be a git repository"
    r"|access denied|not exported|does not exist|dubious ownership|terminal prompts disabled|no such file"
)
_NOT_ALONE: Final = Regex(r"(?i)not our ref|unadvertised object|does not support shallow")
_ELSEWHERE: Final = Regex(r"returned error: 30[12378]")
_REFUSED_PROTOCOL: Final = Regex(r"transport '([^']*)' not allowed")
_SUGGESTED: Final = 3
_MOST_COMPARED: Final = 500
_LONGEST_COMPARED: Final = 60


def not_alone(errors: str) -> bool:
    """Whether the server does not give out single commits, or has not got that one."""
    return _NOT_ALONE.search(errors) is not None


def down(errors: str) -> bool:
    """Whether the server did not answer."""
    return _DOWN.search(errors) is not None and not not_alone(errors)


def last_line(errors: str) -> str:
    lines = [line.strip() for line in excerpt([errors])]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return shown(_PREFIX.sub("", (fatal or lines or ["git gave no reason"])[-1])).rstrip(".")


def _why(errors: str) -> str:
    for pattern, words in _WHY:
        if found := pattern.search(errors):
            return words.format(**found.groupdict())
    return "the connection broke off"


def explained(url: str, errors: str) -> RingbinderError:
    """git's stderr as an error."""
    where, errors = shown(url), "".join(excerpt([errors]))
    if refused := _REFUSED_PROTOCOL.search(errors):
        return UserError("spec-invalid", f"{where}: the protocol {refused[1]} is not allowed here.")
    if not_alone(errors):
        return UserError("ref-not-found", f"{where} does not give out that commit.")
    if down(errors):
        return TransientError(f"{where} did not answer: {_why(errors)}.")
    if _ELSEWHERE.search(errors):
        advice = "open it in a browser and give the address that it leads to, or the same with .git behind it"
        return UserError("repo-not-found", f"{where} leads to another address: {advice}.")
    if _ABSENT.search(errors):
        advice = "check the address and that it is public"
        if url.startswith("ssh:"):
            advice += "; with an ssh address this machine also needs a key and the host's fingerprint, so try https://"
        return UserError("repo-not-found", f"The repository {where} was not found or is private: {advice}.")
    if _CERTIFICATE.search(errors):
        return UserError("repo-not-found", f"{where} could not be trusted: {last_line(errors)}.")
    return TransientError(f"{where} could not be read: {last_line(errors)}.")


def no_such_ref(url: str, ref: str, found: Iterable[str]) -> UserError:
    """The repository has no `ref`; `found` are the refs that it has."""
    names = [name.removeprefix("refs/heads/").removeprefix("refs/tags/") for name in found if "^" not in name]
    if not names:
        return UserError(
            "ref-not-found", f"The repository {shown(url)} is empty: it has no branch and no tag yet."
        )
    message = f'There is no branch, tag or commit "{shown(ref)}" in {shown(url)}.'
    if SHORT_SHA.fullmatch(ref):
        message += " If it is a shortened commit id, give all 40 characters of it."
    # A pasted address cannot tell where a branch with a slash ends, so its beginning may have come alone.
    begun = sorted(name for name in names if name.startswith(f"{ref}/"))
    # A comparison takes time quadratic in the length: a server may have any number of refs, of any length.
    short = (name for name in names if len(name) <= _LONGEST_COMPARED)
    by_lower = {name.lower(): name for name in itertools.islice(short, _MOST_COMPARED)}
    word = ref.lower()[:_LONGEST_COMPARED]
    close = difflib.get_close_matches(word, by_lower, n=_SUGGESTED, cutoff=0.6)
    meant = list(dict.fromkeys([*begun, *(by_lower[name] for name in close)]))[:_SUGGESTED]
    if meant:
        message += " Did you mean " + " or ".join(f'"{shown(name)}"' for name in meant) + "?"
    return UserError("ref-not-found", message)
