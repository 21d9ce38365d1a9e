"""What the operator says about specs, for every provider: against a spec as given, and against what it means.

One repository has many spellings (``%65vil/repo``, ``evil/repo.git``, ``https://user@HOST:443//evil/repo``), and one
spelling can look like another repository (``https://good.example@evil.example``). So each list is held against two
forms: the spec as it stands in the link, and its canonical form.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, unquote

from attrs import evolve, field, frozen, validators

from ..errors import Refused
from ..model import Repo
from ..runtime.patterns import Pattern, Regex
from ..secret import Secret, redact, redact_encoded
from .options import Duration, option
from .settings import in_order

SPECS_SECTION: Final = "RepoProvider"
"""The section whose lists hold for every provider."""

_LONGEST_SHOWN: Final = 200
_MOST_DECODED: Final = 5
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)([^#]*)", re.DOTALL)
_SCP: Final = re.compile(r"([^/@:]+)@([^/@:]+):(?!//)(.+)", re.DOTALL)
_PORT: Final = re.compile(r":0*([0-9]*)\Z")
_GIT: Final = re.compile(r"\.git\Z", re.IGNORECASE)
_DOI: Final = re.compile(r"(?:doi:|https?://(?:dx\.)?doi\.org/)+", re.IGNORECASE)
"""How a DOI may begin, beside the bare form."""
_DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ssh": "22", "git": "9418"}
_ESCAPED: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_NAMED_HOST: Final = Regex(r"[A-Za-z0-9-]+(?:\\?\.[A-Za-z0-9-]+)+")
"""A host name in the text of a pattern, its dots escaped or not."""
_ADDRESSES: Final = ("https://{}/a/b", "http://{}/a/b", "ssh://git@{}/a/b", "git@{}:a/b")
_CREDENTIAL_KEYS: Final = frozenset({"username", "password"})
# What JavaScript's encodeURIComponent leaves, beside what `quote` does: BinderHub's pages make specs with it.
_UNQUOTED: Final = "!'()*"


def _names_builders(entry: object, attribute: object, config: Mapping[str, Any]) -> None:
    builder = config.get("builder", "local")
    if not isinstance(builder, str | list) or not builder:
        raise ValueError("builder is the name of a builder, or a list of names")


@frozen
class SpecConfig:
    """One entry of `spec_config`: what holds for the specs that begin with a match of `pattern`."""

    pattern: Pattern
    config: Mapping[str, Any] = field(factory=dict, validator=_names_builders)

    @property
    def builders(self) -> tuple[str, ...]:
        """The builders that it names."""
        return in_order(self.config.get("builder", ()))


def _git_credentials(given: Secret) -> Secret:
    r"""`git_credentials` of a configuration as lines of git's credential format.

    BinderHub's form is one line with a literal ``\n`` between the two (protocol reference, section 3.1); real
    newlines are taken as well. Raises ValueError, without a value.
    """
    if not given:
        return given
    lines = [line for line in given.reveal().replace("\\n", "\n").splitlines() if line.strip()]
    parts = {name: value for name, _, value in (line.strip().partition("=") for line in lines)}
    if parts.keys() ^ _CREDENTIAL_KEYS or not all(parts.values()):
        raise ValueError(r"expected the form username=...\npassword=..., and nothing else")
    return Secret(f"username={parts['username']}\npassword={parts['password']}")


@frozen
class RepoOptions:
    """Section `RepoProvider`, and that of each provider: core's for all of them, beside what their `Config` has."""

    allowed_specs: tuple[Pattern, ...] = option(
        default=(),
        help="Regular expressions, case ignored: only specs that begin so may be launched. End a host name with `%2F`: "
        "`^https%3A%2F%2Fgit\\.example%2F`. Empty: all.",
    )
    banned_specs: tuple[Pattern, ...] = option(
        default=(), help="Regular expressions, case ignored: specs that begin so may not be launched, even if allowed."
    )
    high_quota_specs: tuple[Pattern, ...] = option(
        default=(),
        help="Regular expressions, case ignored: specs that begin so have `BinderHub.per_repo_quota_higher`.",
    )
    spec_config: tuple[SpecConfig, ...] = option(
        default=(),
        help="List of `{pattern: ..., config: {quota: ..., builder: ...}}`; of several that match, later ones win. "
        "`builder` is a name of those in `Ringbinder.builder`, or a list of them.",
    )
    git_credentials: Secret = option(
        factory=lambda: Secret(""),
        converter=_git_credentials,
        inherited=False,
        help="Credentials for git, in the form `username=...\\npassword=...`.",
    )
    refuse_private_addresses: bool | None = option(
        default=None,
        help="Refuse repositories and submodules at loopback, link-local and private addresses; default: where "
        "others than the people of this machine can reach the server.",
    )
    trusted_hosts: frozenset[str] = option(
        default=frozenset(),
        converter=lambda hosts: frozenset(host.lower() for host in hosts),
        help="Host names, without port, that may be at private addresses nevertheless.",
    )
    retries: int = option(
        default=2,
        validator=validators.ge(0),
        help="How often a look-up is repeated that the other side did not answer.",
    )
    retry_delay: Duration = option(default=0.5, help="Wait before the first repetition; doubled with each.")
    resolve_timeout: Duration = option(
        default=40.0, help="How long a git server may take to say what a branch or tag means."
    )
    fetch_timeout: Duration = option(default=540.0, help="How long bringing a repository with its submodules may take.")

    def permit(self, forms: SpecForms) -> None:
        """Raises `Refused` for a spec that is banned in any form, or not allowed in each."""
        if forms.in_any(self.banned_specs) or (self.allowed_specs and not forms.in_each(self.allowed_specs)):
            raise _refused(forms)

    def applied(self, repo: Repo, forms: SpecForms) -> Repo:
        """`repo` with what it is granted. Raises `Refused` if it turned out to be a banned one.

        The higher quota is for what is in its list in each form; `spec_config` holds by the canonical one.
        """
        if SpecForms.of(repo.resolved_spec).in_any(self.banned_specs):
            raise _refused(forms)
        settings = dict(repo.settings)
        for entry in self.spec_config:
            if entry.pattern.ignoring_case.begins_any(forms.canonical):
                settings |= entry.config
        return evolve(repo, high_quota=repo.high_quota or forms.in_each(self.high_quota_specs), settings=settings)


@frozen
class SpecForms:
    """The spellings of one spec.

    `given` is the spec as it stands in the link, and decoded; `canonical` spells what it means, decoded and encoded;
    `aliases` are further ones under which a ban may know it.
    """

    given: tuple[str, ...]
    """In the order in which they are judged."""
    canonical: tuple[str, ...]
    """In the same order."""
    aliases: tuple[str, ...] = ()
    """For bans alone."""

    @classmethod
    def of(cls, spec: str) -> SpecForms:
        """Return the forms of `spec`, as it stands in a link after the provider's prefix."""
        steps = _without_dots(spec.split("/"))
        address, rest = unquote(steps[0]) if steps else "", steps[1:]
        if not (_ADDRESS.match(address) or _SCP.fullmatch(address)):
            address, rest = unquote(spec), []
        decoded, last = spec, ""
        for _ in range(_MOST_DECODED):
            if decoded == last:
                break
            decoded, last = unquote(decoded), decoded
        if found := _address(address):
            spellings = found.spellings(found.protocol)
            by_https = () if found.protocol == "https" else tuple(found.spellings("https"))
            tail = [_clean(unquote(step)) for step in rest]
            return cls(
                (spec, unquote(spec)),
                _spelled([[text, *tail] for text in spellings]),
                (decoded, *_spelled([[text, *tail] for text in by_https]), *_dois(decoded)),
            )
        names = [_path(_clean(unquote(step))) for step in steps]
        bare = [_GIT.sub("", name) for name in names]
        return cls((spec, unquote(spec)), _spelled([bare, names]), (decoded, *_dois(decoded, "/".join(names))))

    def in_any(self, patterns: Sequence[Pattern]) -> bool:
        """Whether one of `patterns` matches, by BinderHub's rule (at the beginning, case ignored), in one form."""
        forms = (self.given, self.canonical, (*self.canonical, *self.aliases))
        return any(pattern.ignoring_case.begins_any(form) for pattern in patterns for form in forms)

    def in_each(self, patterns: Sequence[Pattern]) -> bool:
        """Whether `patterns` match in both forms. What one of them excludes must stand in no spelling."""
        every = (*self.given, *self.canonical, *self.aliases)
        return all(
            any(pattern.ignoring_case.begins_any(form, every) for pattern in patterns)
            for form in (self.given, self.canonical)
        )


def _refused(forms: SpecForms) -> Refused:
    spec = shown(redact_encoded(forms.given[0]))
    return Refused(f"Sorry, {spec} is not allowed to launch. Please contact admins for more info!")


def shown(text: str) -> str:
    """`text` from a link, fit for a message: without credentials, on one line, not too long."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in redact(text))
    return printable if len(printable) <= _LONGEST_SHOWN else printable[: _LONGEST_SHOWN - 1] + "…"


def unended_host(text: str) -> str:
    """Find a host name in the pattern `text` that nothing ends, so that longer names match; empty if there is none.

    >>> unended_host("^https://git.example"), unended_host("^https://git.example/")
    ('git.example', '')
    """
    pattern = Pattern(text)

    def allows(host: str, address: str) -> bool:
        return SpecForms.of(quote(address.format(host), safe="")).in_each((pattern,))

    for name in _NAMED_HOST.finditer(_ESCAPED.sub("/", text)):
        host = str(name[0]).replace("\\", "")
        for address in _ADDRESSES:
            if allows(host, address) and allows(f"{host}.invalid", address) and not allows("invalid", address):
                return host
    return ""


def same_repository(url: str) -> str:
    """A key that is the same for all spellings of a repository's address. Hosts of git ignore case, by and large."""
    found = _address(url)
    return (next(iter(found.spellings("https"))) if found else _GIT.sub("", url)).casefold()


@frozen
class _Address:
    protocol: str
    host: str
    """With its port, if that is not the protocol's own."""
    path: str
    query: str
    by_git: bool
    """The user is ``git``, as hosts of git have it with ssh; other users are no part of an address."""

    def spellings(self, protocol: str) -> Iterator[str]:
        """The address without ``.git``, and as it was; with ssh also with the user ``git``."""
        for path in dict.fromkeys((_GIT.sub("", self.path), self.path)):
            yield f"{protocol}://{self.host}/{path}{self.query}"
            if self.by_git and protocol == "ssh":
                yield f"ssh://git@{self.host}/{path}"
                yield f"git@{self.host}:{path}"


def _address(text: str) -> _Address | None:
    if scp := _SCP.fullmatch(text):
        protocol, user, host, path, query = "ssh", scp[1], scp[2], scp[3], ""
    elif found := _ADDRESS.match(text):
        protocol, path, query = found[1].lower(), found[3], found[4]
        user, _, host = found[2].rpartition("@")
    else:
        return None
    port = ""
    if with_port := _PORT.search(host):
        host = host[: with_port.start()]
        if with_port[1] not in ("", _DEFAULT_PORTS.get(protocol)):
            port = f":{with_port[1]}"
    return _Address(protocol, _host(host) + port, _path(_clean(unquote(path))), _clean(query), user == "git")


def _dois(*spellings: str) -> Iterator[str]:
    """The DOI alone, of spellings that name one with its resolver or scheme."""
    for text in spellings:
        if found := _DOI.match(text):
            yield text[found.end() :]


def _host(text: str) -> str:
    host = _clean(unquote(text)).lower().rstrip(".")
    with suppress(ValueError):
        return f"[{ipaddress.IPv6Address(host[1:-1])}]"
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def _clean(text: str) -> str:
    """Without what cannot be seen, and with one character for those that are the same."""
    return "".join(c for c in unicodedata.normalize("NFKC", text) if c.isprintable()).strip()


def _path(text: str) -> str:
    return "/".join(_without_dots(text.split("/")))


def _without_dots(steps: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for step in steps:
        match unquote(step):
            case "" | ".":
                pass
            case "..":
                del kept[-1:]
            case _:
                kept.append(step)
    return kept


def _spelled(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    plain = ("/".join(steps) for steps in lists)
    encoded = ("/".join(quote(step, safe=_UNQUOTED, errors="replace") for step in steps) for steps in lists)
    return tuple(dict.fromkeys((*plain, *encoded)))
