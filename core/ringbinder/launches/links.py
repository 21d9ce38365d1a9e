"""A link as a person has it -> provider, spec and path to open."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from urllib.parse import parse_qsl, quote, unquote

from attrs import evolve

from ..errors import UserError
from ..model import Link, ProviderInfo
from ..runtime.suggest import did_you_mean
from ..secret import redact

_LONGEST = 8000
_LONGEST_URLPATH = 4096
_LONGEST_SHOWN = 200

# What may stand in a path as is; `%` because a spec is kept with the escapes that it came with.
_PATH_SAFE = "/%:@!$&'()*+,;=~"

# What `encodeURI` leaves as is, beside letters and digits: a path may lead to a heading in a notebook.
_ENCODE_URI = ";,/?:@&=+$-_.!~*'()#"

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_QUERY = re.compile(r"[?#]")
_ENCODED_DOT = re.compile("%2e", re.IGNORECASE)
_WEB = re.compile("^https?://", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HOST = re.compile(
    r"(?:https?://[^/?#\s]+|(?:localhost|[^/?#\s]+\.[^/?#\s.:]+|\[[0-9a-f:]+\])(?::\d+)?)/", re.IGNORECASE
)
# Of the time when there was GitHub alone; badges have it with an empty port.
_LEGACY = re.compile(
    r"(?:https?://)?(?:[\w.-]+\.)?mybinder\.org(?::\d*)?/repo/(?P<repo>[^/]+/[^/]+)/?(?P<opened>.*)", re.IGNORECASE
)

# After one of these, a page of a git host names a branch and a file: a `v2` there is the repository's own.
_PAGES = frozenset({"tree", "blob", "raw", "src", "commit", "-"})

_NICKNAMES = {"github": "gh", "github.com": "gh", "gitlab": "gl", "gitlab.com": "gl"}


def parse_link(
    text: str,
    prefixes: Collection[str],
    recognize: Callable[[str], Link | None],
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> Link:
    """What `text` means: a prefix and a spec, a `/v2/` address of any Binder, or what a provider recognizes.

    `prefixes` are the names of the providers; `recognize` asks them about anything else (the hook of that
    name); `left_out` are providers that are installed and not active, each with the reason. The spec keeps its
    percent-encoding. Raises UserError ``link-not-understood`` with the closest thing that would be understood,
    ``provider-left-out``, or ``urlpath-not-allowed``.
    """
    text = text.strip()
    if len(text) > _LONGEST:
        raise UserError("link-not-understood", f"This link is too long: more than {_LONGEST} characters.")
    if text.endswith(")") and "](" in text:
        # A badge in Markdown: [![Binder](badge)](address)
        text = text.rpartition("](")[2][:-1].strip()
    if not text:
        raise UserError("link-not-understood", f"No link was given. {_forms(prefixes)}")
    if _CONTROL.search(text):
        raise UserError("link-not-understood", "This link contains control characters; copy it once more.")

    address, _, query = text.partition("#")[0].partition("?")
    if "gh" in prefixes and (legacy := _LEGACY.fullmatch(address)):
        return Link("gh", f"{quote(legacy['repo'], safe=_PATH_SAFE)}/master", safe_urlpath(legacy["opened"]))
    if found := _binder_address(address, prefixes):
        provider, spec = found
        spec = quote(spec.strip("/"), safe=_PATH_SAFE)
        if not spec:
            raise UserError("link-not-understood", f'"{provider}" alone is no link. {_forms(prefixes)}')
        return Link(provider, spec, path_to_open(query))
    if link := recognize(text):
        return evolve(link, urlpath=safe_urlpath(link.urlpath))
    if name := _named(address, left_out):
        raise provider_left_out(name, left_out[name])
    shown = redact(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")
    raise UserError(
        "link-not-understood", f'"{shown}" was not understood.{_suggestion(address, prefixes)} {_forms(prefixes)}'
    )


def provider_left_out(name: str, reason: str) -> UserError:
    """The error about a link to a provider that is installed and not active."""
    return UserError("provider-left-out", f'The provider "{name}" of this link is installed, but left out: {reason}.')


def v2_path(link: Link) -> str:
    """The link as a path below a Binder's base address: ``v2/gh/user/repo/HEAD?urlpath=lab``."""
    path = f"v2/{link.provider}/{quote(link.spec, safe=_PATH_SAFE)}"
    return f"{path}?urlpath={quote(link.urlpath, safe='/')}" if link.urlpath else path


def split_spec(info: ProviderInfo, spec: str) -> tuple[str, str]:
    """Repository and ref of a spec, for people: by the shape that the provider's form has."""
    if not info.ref_enabled:
        return unquote(spec), ""
    steps = spec.split("/")
    count = 1 if info.repo_url_encode else 2
    return unquote("/".join(steps[:count])), unquote("/".join(steps[count:]))


def path_to_open(query: str) -> str:
    """What the query of a `/v2/` address asks to open, relative to the server's address; empty for nothing.

    ``labpath=x`` is ``doc/tree/x``, else ``filepath=x`` is ``tree/x``, else ``urlpath=x`` is x: in this order
    and with the escapes of JavaScript's ``encodeURI``, as BinderHub's client has it (protocol reference,
    section 8). Raises UserError ``urlpath-not-allowed``.
    """
    try:
        given = dict(reversed(parse_qsl(query, max_num_fields=100)))
    except ValueError:
        return ""
    for parameter, view in (("labpath", "doc/tree/"), ("filepath", "tree/")):
        if file := given.get(parameter, "").strip("/"):
            return safe_urlpath(view + quote(file, safe=_ENCODE_URI))
    return safe_urlpath(given.get("urlpath", ""))


def safe_urlpath(urlpath: str) -> str:
    """`urlpath` relative to the server's address, without slashes in front.

    A browser goes to it with the server's token, so it must not lead anywhere else. Raises UserError
    ``urlpath-not-allowed`` for an absolute address, a backslash, a control character, ``..`` above the
    server, or a path of more than 4 kB.
    """
    path = urlpath.strip(" /")
    if len(path) > _LONGEST_URLPATH:
        message = f"The path to open (urlpath) has more than {_LONGEST_URLPATH} characters."
        raise UserError("urlpath-not-allowed", message)
    depth = 0
    for step in _QUERY.split(path, maxsplit=1)[0].split("/"):
        # Browsers take %2e for a dot; some servers take // for one slash.
        depth += {"..": -1, ".": 0, "": 0}.get(_ENCODED_DOT.sub(".", step), 1)
        if depth < 0:
            break
    if depth < 0 or _SCHEME.match(path) or "\\" in path or _CONTROL.search(path):
        raise UserError(
            "urlpath-not-allowed",
            "The path to open (urlpath) must be a path in the launched server, such as lab/tree/index.ipynb.",
        )
    return path


def _binder_address(address: str, prefixes: Collection[str]) -> tuple[str, str] | None:
    """Provider and spec of `prefix/spec`, `v2/prefix/spec` or a Binder's address, as they stand there."""
    first, _, rest = address.partition("/")
    if first in prefixes:
        return first, rest
    host = _HOST.match(address)
    path = address[host.end() :] if host else address.removeprefix("/")
    if not host and not path.startswith("v2/"):
        return None
    steps = path.split("/")
    for i, step in enumerate(steps[:-1]):
        if step in _PAGES:
            break
        if step == "v2" and steps[i + 1] in prefixes:
            return steps[i + 1], "/".join(steps[i + 2 :])
    return None


def _named(address: str, providers: Collection[str]) -> str:
    """The one of `providers` that a link of any form names; empty if it names none."""
    if found := _binder_address(address, providers):
        return found[0]
    first = _WEB.sub("", address).partition("/")[0]
    name = _NICKNAMES.get(first.lower(), "")
    return name if name in providers else ""


def _forms(prefixes: Collection[str]) -> str:
    known = ", ".join(sorted(prefixes))
    return (
        "A link is provider/spec such as gh/user/repo/HEAD"
        f" (providers: {known}), the address of a repository or of a page of it, or any Binder's /v2/ link."
    )


def _suggestion(address: str, prefixes: Collection[str]) -> str:
    """What may have been meant, as a sentence with a space in front; empty if nothing is close."""
    host = _HOST.match(address)
    path = (address[host.end() :] if host else address).removeprefix("/")
    steps = [step for step in path.split("/") if step]
    if steps[:1] == ["v2"] and len(steps) > 2:
        return f' There is no provider "{steps[1][:40]}" here.{did_you_mean(steps[1], prefixes)}'
    if host or "://" in address:
        if "git" in prefixes and "@" not in address:
            url = address if "://" in address else f"https://{address}"
            return f' If it is a git repository, use "git/{quote(unquote(url), safe="")}/HEAD".'
        return ""
    if len(steps) < 2 or address.startswith((".", "/", "~")):
        return ""
    nickname = _NICKNAMES.get(steps[0].lower())
    if nickname == "gl" and nickname in prefixes and len(steps) > 2:
        project, ref = (steps[1:-1], steps[-1]) if len(steps) > 3 else (steps[1:], "HEAD")
        return f' Did you mean "gl/{quote(unquote("/".join(project)), safe="")}/{ref}"?'
    if nickname in prefixes:
        return f' Did you mean "{nickname}/{"/".join(steps[1:])}"?'
    if close := did_you_mean(steps[0], prefixes):
        return f' There is no provider "{steps[0][:40]}" here.{close}'
    if "gh" in prefixes and len(steps) in (2, 3):
        return f' Did you mean "gh/{"/".join([*steps, "HEAD"][:3])}"? (A folder is written ./{"/".join(steps)})'
    return f' There is no provider "{steps[0][:40]}" here.'
