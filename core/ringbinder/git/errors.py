"""What git's own words (in English), and those of the hosts, mean for the person who gave the address."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from ..causes import Cause, first_known, log_excerpt
from ..config.specs import shown
from ..errors import RingbinderError, TransientError, UserError
from ..runtime.patterns import Regex
from .addresses import SHORT_SHA, parse_address

_TRY_AGAIN: Final = "try-again"
_PUBLIC: Final = "Check the address and that it is public."
_USE_HTTPS: Final = "Give its https address{https}."

# What follows the address in a sentence. The first that fits counts; `remote:` and `ERROR:` begin what a host writes.
_CAUSES: Final = (
    # This machine.
    Cause(
        r"^(?:fatal|error): .*(?:No space left on device|Disk quota exceeded|Out of diskspace)",
        "disk-full",
        "cannot be fetched: no space left on device",
    ),
    Cause(
        r"^(?:fatal|error): (?:[Oo]ut of memory|mmap failed|index-pack died of signal|unable to create thread)",
        "repo-too-large",
        "needs more memory than git may take here",
    ),
    Cause(
        r"^fatal: transport '(?P<name>[^']*)' not allowed",
        "spec-invalid",
        "is not read: the protocol {name} is not allowed here",
    ),
    Cause(
        r"\bssh: (?:command )?not found$|cannot (?:run|exec) '?ssh\b",
        "spec-invalid",
        "cannot be read: there is no ssh program on this machine",
        _USE_HTTPS,
    ),
    Cause(
        r"^No user exists for uid",
        "spec-invalid",
        "cannot be read: ssh on this machine does not run for a user without a name",
        _USE_HTTPS,
    ),
    Cause(
        r"^git: 'remote-(?P<name>[\w-]+)' is not a git command|[Uu]nable to find remote helper for '(?P<name2>[^']+)'",
        "spec-invalid",
        "cannot be read: git on this machine does not know the protocol {name}",
    ),
    Cause(
        r"error setting certificate|error reading ca cert",
        _TRY_AGAIN,
        "could not be read: this machine has no list of trusted certificates",
    ),
    Cause(
        r"Could not resolve proxy|proxy after CONNECT|CONNECT tunnel failed|Proxy CONNECT aborted",
        _TRY_AGAIN,
        "did not answer: the configured proxy does not connect to it",
    ),
    # The host's own reasons.
    Cause(
        r"^(?:remote|ERROR): .*DMCA takedown|returned error: 451",
        "repo-not-found",
        "was taken down by its host for legal reasons, such as a DMCA notice",
    ),
    Cause(
        r"^(?:remote|ERROR): .*(?:disabled by GitHub staff|[Rr]epository (?:has been |is )?(?:disabled|blocked))",
        "repo-not-found",
        "was disabled by its host",
    ),
    Cause(
        r"^remote: .*(?:possible repository corruption|[Bb]ad tree object|bad object|unable to read [0-9a-f]{40})",
        "repo-not-found",
        "is damaged at its host",
    ),
    Cause(
        r"^(?:remote|ERROR): The '(?P<name>[^']+)' organization has enabled or enforced SAML SSO",
        "repo-not-found",
        "is of the organization {name}, which demands its single sign-on (SAML SSO)",
        "The owner of the access token or key that is used must authorize it for that organization.",
    ),
    Cause(
        r"^(?:remote|ERROR): (?P<name>.*(?:IP allow list|OAuth App access restrictions|personal access token \(cl).*)",
        "repo-not-found",
        "is refused by its organization: {name}",
        "The owner of the access token that is used can change that.",
    ),
    Cause(
        r"unauthenticated git protocol",
        "repo-not-found",
        "is on a host that does not speak the git protocol any more",
        _USE_HTTPS,
    ),
    # ssh.
    Cause(
        r"Permission denied \((?P<name>[\w,-]+)\)",
        "repo-not-found",
        "does not let this machine in over ssh: Permission denied ({name})",
        f"Over ssh even a public repository takes a key that its host knows. {_USE_HTTPS}",
    ),
    Cause(
        r"HOST IDENTIFICATION HAS CHANGED|Host key verification failed|Unable to negotiate with",
        "repo-not-found",
        "is on a host that this machine does not trust over ssh: its key is unknown or another one",
        _USE_HTTPS,
    ),
    # Commits.
    Cause(
        r"not our ref|unadvertised object|\bwant [0-9a-f]+ not valid|couldn't find remote ref|no such remote ref"
        r"|did not contain [0-9a-f]+|Unable to find current revision",
        "ref-not-found",
        "does not give out that commit",
    ),
    Cause(
        r"^error: (?P<name>(?:invalid path|unable to create|The following untracked).*)",
        "ref-not-found",
        "cannot be checked out at that commit: {name}",
    ),
    Cause(
        r"^fatal: (?P<name>(?:invalid value for 'submodule\.|[Nn]o url found for submodule path ).*)",
        "submodule-not-found",
        "has a .gitmodules that git refuses: {name}",
    ),
    Cause(
        r"^fatal: (?P<name>[Uu]nable to checkout.*)", "ref-not-found", "cannot be checked out at that commit: {name}"
    ),
    # The network.
    Cause(
        r"(?i)could not resolve host|unable to look up|name or service not known|temporary failure in name",
        _TRY_AGAIN,
        "did not answer: its host is not known here; check how it is spelled",
    ),
    Cause(
        r"(?i)(?:connection|operation) timed out|operation too slow|timeout was reached",
        _TRY_AGAIN,
        "did not answer: it took too long",
    ),
    Cause(
        r"(?i)connection refused|failed to connect|could(?:n't| not) connect|no route to host"
        r"|network is unreachable|unable to connect",
        _TRY_AGAIN,
        "did not answer: no connection to it could be made",
    ),
    Cause(r"returned error: 429|HTTP 429", _TRY_AGAIN, "did not answer: its host is asked too often"),
    Cause(
        r"(?:returned error: |RPC failed; HTTP )(?P<name>408|5\d\d)",
        _TRY_AGAIN,
        "did not answer: its host answers with HTTP status {name}",
    ),
    Cause(
        r"(?i)unexpected TLS packet|wrong version number|handshake fail|unsupported protocol",
        "repo-not-found",
        "is at an address that does not speak https",
        "Check whether it begins with http:// and which port it has.",
    ),
    Cause(r"unable to access '[^']*': (?P<name>.*[Cc]ertificate.*)", "repo-not-found", "could not be trusted: {name}"),
    Cause(
        r"(?i)early EOF|unexpected disconnect|RPC failed|hung up|empty reply|connection (?:was )?(?:reset|closed)"
        r"|non-properly terminated|recv error|SSL_read|SSL_ERROR|unexpected eof|read error|not closed cleanly",
        _TRY_AGAIN,
        "did not answer: the connection broke off",
    ),
    # No repository there.
    Cause(
        r"returned error: 30[12378]",
        "repo-not-found",
        "leads to another address",
        "Open it in a browser and give the address that it leads to, or the same with .git behind it.",
    ),
    Cause(
        r"unable to update url base from redirection",
        "repo-not-found",
        "leads to another page, such as one to log in, so it was not found or is private",
        _PUBLIC,
    ),
    Cause(
        r"^fatal: (?:repository '.*' not found|Authentication failed|could not read (?:Username|Password))"
        r"|returned error: 4\d\d|terminal prompts disabled|is this a git repository|not valid: could not determine hash"
        r"|not appear to be a git repository|detected dubious ownership|invalid server response"
        r"|^fatal: remote error: .*(?:access denied|not exported|not found|does not exist)"
        r"|^(?:ERROR|remote): .*(?:[Nn]ot [Ff]ound|could not be found|does not exist|[Aa]ccess denied)",
        "repo-not-found",
        "was not found or is private",
        _PUBLIC,
    ),
)
_NO_REASON: Final = Regex(
    r"^(?:fatal|error): (?:clone of '|Could not read from remote repository)|^Failed to clone|^warning: "
)
"""Lines that do not name the reason."""
_PREFIX: Final = Regex(r"^(?:fatal|error): (?:unable to access '[^']*': )?")
_SUGGESTED: Final = 3
_MOST_COMPARED: Final = 500
_LONGEST_COMPARED: Final = 60


def explained(url: str, errors: str) -> RingbinderError:
    """git's stderr as an error."""
    where = shown(url)
    if (found := first_known(_CAUSES, [errors])) is None:
        return TransientError(f"{where} could not be read: {_telling_line(errors)}.")
    if found.code == _TRY_AGAIN:
        return TransientError(f"{where} {found.cause}.")
    advice = found.advice.replace("{https}", _https(url))
    return UserError(found.code, f"{where} {shown(found.cause)}. {advice}".rstrip())


def _https(url: str) -> str:
    """The same repository over https, as the end of a sentence; empty where that is not known."""
    try:
        parts = urlsplit(parse_address(url).url)
    except UserError:
        return ""
    return f": {shown(f'https://{parts.hostname}{parts.path}')}" if parts.scheme in {"ssh", "git"} else ""


def _telling_line(errors: str) -> str:
    lines = [line.strip() for line in log_excerpt([errors]) if not _NO_REASON.search(line)]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return shown(_PREFIX.sub("", (fatal or lines or ["git gave no reason"])[-1])).rstrip(".")


def no_such_ref(url: str, ref: str, found: Iterable[str]) -> UserError:
    """The repository has no `ref`; `found` are the refs that it has."""
    names = [name.removeprefix("refs/heads/").removeprefix("refs/tags/") for name in found if "^" not in name]
    if not names:
        return UserError("ref-not-found", f"The repository {shown(url)} is empty: it has no branch and no tag yet.")
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
