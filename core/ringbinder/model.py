"""What flows through the stages: `LaunchRequest` -> `Repo` -> `Plan` -> `Image` -> `Server`, all frozen.

Each stage gets the earlier result whole; no stage sees the HTTP request.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from attrs import Attribute, field, frozen, validators

from .errors import UserError
from .secret import Secret

LONGEST_SPEC: Final = 2048
"""Bytes of a spec as it was sent."""
_HOME_NETWORK: Final = 64
"""Bits of an IPv6 address that a provider gives out as one: within it, a client has as many as it likes."""

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

ImageKind = Literal["oci", "folder"]
Stage = Literal["resolve", "check", "build", "push", "launch"]


@frozen
class User:
    """Who asks, where a plugin has authenticated them."""

    name: str
    """As the one who authenticated them names them: a user name of JupyterHub."""
    groups: frozenset[str] = frozenset()
    """Names of groups, from the same place."""
    service: bool = False
    """A program with an account of its own: it may build, and has no servers."""

    @property
    def key(self) -> str:
        """Tells apart all who ask: a person and a program may have one name."""
        return f"{'service' if self.service else 'user'}:{self.name}"


@frozen
class Redirect:
    """Answer of `authenticate`, `log_in` and `log_out`: send the browser to `url`."""

    url: str
    """An absolute address, or a path of this server; what each hook may answer is with the hook."""
    cookies: Mapping[str, str | None] = field(factory=dict, repr=False)
    """Cookies that it takes along, by name; None takes one away. They are the server's alone (HttpOnly, SameSite=Lax,
    below its `base_url`) and end with the browser."""


@frozen
class Client:
    """Where a request came from. `ip` is empty for the command line."""

    ip: str = ""
    """Of the client, past trusted proxies, as text: ``192.0.2.1``, ``2001:db8::1``."""
    user_agent: str = ""
    """The request's User-Agent header, as it was sent."""
    origin: str = ""
    """The request's Origin header, else its Sec-Fetch-Site, else empty."""
    host: str = ""
    """The host name that the client addressed; where one is configured for all (`normalized_origin`), that one."""

    @property
    def network(self) -> str:
        """What counts as one client: the address; of IPv6 the network (/64), of whose addresses a home has them all."""
        try:
            address = ipaddress.ip_address(self.ip)
        except ValueError:
            return self.ip
        if isinstance(address, ipaddress.IPv4Address):
            return str(address)
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), _HOME_NETWORK), strict=False))


@frozen
class LaunchRequest:
    """One client's wish. `spec` is as it stands in the link: still percent-encoded."""

    provider: str
    """Name of the provider: the prefix of the link, such as ``gh``."""
    spec: str
    """What stands in the link after the prefix, percent-encoded as it came: ``user/repo/main``."""
    urlpath: str = field(default="", repr=False)
    """What the link asks to open in the server, as in `Link`; it may hold a token."""
    user: User | None = None
    """Who asks; None where no login is needed."""
    client: Client = field(factory=Client)
    """Where the request came from."""
    build_only: bool = False
    """The image is made, and nothing launched."""
    build_token: bool = False
    """The request bore a valid build token."""
    local: bool = False
    """Asked by the person at this machine (the command line): local folders may be launched."""
    launch_host: str = ""
    """Public address of this Ringbinder, with a trailing slash (`binder_launch_host`)."""
    session: str = ""
    """Name derived from the session, safe to show; a launcher may name a server or temporary user after it."""

    @property
    def owner(self) -> str:
        """Who asks, as limits count them: the user, else the client's network."""
        return self.user.key if self.user else self.client.network

    def check_length(self) -> None:
        """Raises UserError ``spec-invalid`` if the spec is longer than any that is kept or passed on."""
        for text in (self.provider, self.spec):
            if len(text.encode(errors="surrogatepass")) > LONGEST_SPEC:
                message = f"This link is too long: its spec has more than {LONGEST_SPEC} bytes."
                raise UserError("spec-invalid", message)

    @property
    def binder_request(self) -> str:
        """The link's path, as in BinderHub's events: ``v2/gh/owner/name/main``."""
        return f"v2/{self.provider}/{self.spec}"

    def persistent(self, repo: Repo) -> str:
        """`binder_persistent_request`: the same link with what `repo` has fixed in place of a branch."""
        return f"v2/{self.provider}/{repo.resolved_spec}"


@frozen
class GitSource:
    """Content at commit `ref` of the repository at `url` (may be a file: URL for a local repository)."""

    url: str
    """An address that git can fetch from, without credentials."""
    ref: str
    """A full commit id, in lower case."""


@frozen
class FolderSource:
    """A folder of this machine as of now, from the command line only; `digest` covers names, modes and contents."""

    path: Path
    """Absolute."""
    digest: str
    """``sha256:`` and 64 hexadecimal digits."""


@frozen
class DoiSource:
    """A record of a data repository."""

    doi: str
    """Without a scheme: ``10.5281/zenodo.3242074``."""
    record: str
    """The record's id at its host."""


@frozen
class ArchiveSource:
    """A downloadable archive. `digest` is ``sha256:...`` where it is known."""

    url: str
    """The address to download it from, without credentials."""
    digest: str | None = None
    """Of the archive's bytes."""


Source = GitSource | FolderSource | DoiSource | ArchiveSource


@frozen
class Repo:
    """What a link means, fixed: the same `Repo` is the same content."""

    url: str
    """Public address for people and programs; without credentials (`repo_url`)."""
    source: Source
    """Where its content is."""
    ref: str
    """The resolved reference: a commit for git.

    It is the image's tag as well: letters, digits, ``.``, ``_`` and ``-``, at most 128.
    """
    resolved_spec: str
    """The spec with `ref` in place of a branch or tag, percent-encoded (`binder_persistent_request`)."""
    ref_url: str
    """Page that shows this content (`binder_ref_url`)."""
    slug: str
    """What the image is named after: any text, escaped and shortened by core, with a hash that tells slugs apart."""
    credentials: Secret | None = None
    """Lines of git's credential format (``username=...``, ``password=...``), for the fetch."""
    private: bool = False
    """Its host shows it only to who has credentials."""
    provider: str = ""
    """Name of the provider that resolved it; filled in by core."""
    notices: tuple[str, ...] = ()
    """Notices for the person about how the link was understood (``main`` was tried, ...)."""
    urlpath: str | None = None
    """What to open instead of the request's `urlpath`, whose beginning turned out to belong to the ref."""
    high_quota: bool = False
    """The operator grants it the higher quota (`RepoProvider.high_quota_specs`)."""
    settings: Mapping[str, Any] = field(factory=dict, hash=False)
    """What the operator has set for it (`RepoProvider.spec_config`), such as ``{"quota": 50}``."""


@frozen
class Plan:
    """An image to find or make."""

    repo: Repo
    """What the image is made of."""
    image: str
    """Full image name with its tag, as the registry knows it."""
    build: str
    """Name of the build: lower case, at most 63 characters."""


@frozen
class Target:
    """Where a builder writes and with what right: a registry reference with credentials, or a folder."""

    kind: ImageKind
    """What the builder has to make."""
    reference: str = ""
    """For kind ``oci``: the image's full name with its tag, ``registry/name:tag``."""
    folder: Path | None = None
    """For kind ``folder``: where the image belongs; None for ``oci``."""
    credentials: Secret | None = None
    """For a registry: JSON ``{"registry", "username", "password"}``, made for this one build."""


@frozen
class Image:
    """A whole image. `path` is set for kind ``folder``."""

    name: str
    """As in `Plan.image`."""
    kind: ImageKind
    """``oci``: in a registry or an engine. ``folder``: at `path`."""
    digest: str = ""
    """``sha256:`` and 64 hexadecimal digits, where it is known."""
    path: Path | None = None
    """The image's folder, absolute."""
    pushed: bool = False
    """The builder has published it already: `push` is skipped."""
    size: int | None = None
    """Bytes, where the registry knows."""
    built_at: float | None = None
    """Unix seconds, where the registry knows."""
    launched_at: float | None = field(default=None, eq=False)
    """When it was launched last, in Unix seconds, where the registry knows."""
    in_use: bool = field(default=False, eq=False)
    """Something runs on it just now, as far as the registry knows."""


def _is_digest(_: Any, attribute: Attribute[str], digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{attribute.name!r} must be sha256: and 64 hexadecimal digits")


@frozen
class Descriptor:
    """Content that a registry has, or is to have: a blob or a manifest.

    Source: the descriptor of the OCI image specification. Raises ValueError if `digest` or `size` is none.
    """

    media_type: str
    """Such as ``application/vnd.oci.image.layer.v1.tar+gzip``."""
    digest: str = field(validator=_is_digest)
    """``sha256:`` and 64 hexadecimal digits."""
    size: int = field(validator=[validators.instance_of(int), validators.ge(0)])
    """Bytes."""


@frozen(slots=False)
class Manifest:
    """What a tag of a registry stands for: `content` is the JSON as it is stored, byte for byte."""

    media_type: str
    """Such as ``application/vnd.oci.image.manifest.v1+json``."""
    content: bytes = field(repr=False)
    """At most 4 MiB."""

    @cached_property
    def descriptor(self) -> Descriptor:
        """How other manifests name it."""
        return Descriptor(self.media_type, digest_of(self.content), len(self.content))


def digest_of(content: bytes | bytearray) -> str:
    """``sha256:`` and the digits for `content`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


Content = Callable[[int], AsyncIterator[bytes]]
"""The bytes of a blob from an offset on: called again where an upload is resumed or repeated."""

BlobOutcome = Literal["present", "mounted", "uploaded"]
"""How a blob came to be in a repository: it was there, was taken from another repository, or was sent."""


@frozen
class Declined:
    """A builder's answer to what it does not build, though another may."""

    reason: str = field(validator=validators.min_len(1))
    """What of the repository asks for another builder, short: ``postBuild``, ``apt.txt needs root``."""
    advice: str = ""
    """What its author can do, in sentences: shown if no other builder takes it either."""


@frozen
class PruneResult:
    """What `prune_images` has done: the images that it removed, or would, and in words how full it was and is."""

    removed: tuple[Image, ...]
    """With `dry_run`, those that would be."""
    summary: str
    """A sentence or two for the operator, sizes in it."""


@frozen
class ImageState:
    """What a launch would find: `image` is there (``ready``), under way, never built (``cold``) or ``broken``.

    ``broken`` means that the last build of exactly this content failed.
    """

    repo: Repo
    image: str
    state: Literal["ready", "building", "broken", "cold"]
    built_at: float | None = None
    """Unix seconds, where that is known."""
    last_build_seconds: float | None = None
    """Of this content, else of the repository at another commit."""
    usual_launch_seconds: float | None = None
    """Median of the last launches, also of those before the last start."""
    place: int | None = None
    """Place among the builds that wait, where there is no slot free."""


@frozen
class Server:
    """A running server of one client. `url` ends with a slash; `token` opens it."""

    id: str
    """Unique among the launcher's servers; `stop` gets it."""
    url: str
    """``http://`` or ``https://``, as the client's browser reaches it."""
    token: Secret
    """Goes to the client alone."""
    image: str = ""
    """Name of the image that runs in it, if the launcher knows."""
    extra: Mapping[str, Any] = field(factory=dict)
    """More keys for the `ready` event, plain JSON (``work_folder``, ...)."""


@frozen
class Work:
    """What a session works on, or has left. `folder` holds its files; times are Unix seconds."""

    id: str
    """The session's name, as in `LaunchRequest.session`."""
    folder: Path
    """Absolute."""
    repo_url: str = ""
    """As in `Repo.url`."""
    ref: str = ""
    """The resolved one of the repository, such as a commit."""
    started: float | None = None
    """None where it is not known."""
    ended: float | None = None
    """None: it runs."""
    reason: str = ""
    """Why it ended."""
    changed: tuple[str, ...] = ()
    """Files that it had changed when it ended."""


@frozen
class Link:
    """How a pasted address is understood."""

    provider: str
    """Name of the provider that understood it: its own `context.name`."""
    spec: str
    """Percent-encoded as in a `/v2/` link."""
    urlpath: str = ""
    """What to open in the server: percent-encoded, relative to its base (``lab/tree/my%20work.ipynb``)."""


@frozen
class ProviderInfo:
    """What the form shows of a provider; the shape of `GET /api/repoproviders` is made from it."""

    display_name: str
    """For people: ``GitHub``."""
    spec_regex: str
    """JavaScript and Python regular expression of a whole spec."""
    repo_label: str
    """What stands beside the field of the repository."""
    repo_placeholder: str
    """What stands in it while it is empty, as an example."""
    repo_url_encode: bool = False
    """The repository part of the spec is percent-encoded whole."""
    ref_enabled: bool = True
    """The form has a field for the ref."""
    ref_default: str = "HEAD"
    """What an empty field of the ref means."""
    detect_regex: str | None = None
    """JavaScript regular expression with a group named ``repo`` that finds the repository in a pasted address."""
    event_name: str = ""
    """`provider` of the launch event, where BinderHub's is not the display name (``Git`` for "Git repository")."""


@frozen
class Health:
    """One line of `/health`. A check with `ignore_failure` does not make the whole unhealthy."""

    service: str
    """Name of the line, such as the registry's."""
    ok: bool
    """Whether it works now."""
    detail: Mapping[str, Any] = field(factory=dict)
    """More about it, plain JSON; shown to all who may read `/health`."""
    ignore_failure: bool = False
    """It is shown, and does not make the whole unhealthy."""


@frozen
class Allowance:
    """How many more builds a client may start (`x-ratelimit-limit`, `-remaining` and `-reset`)."""

    limit: int
    """Builds in a period."""
    remaining: int
    """Builds that may start before `reset`."""
    reset: float
    """Unix seconds at which there is one more."""


@frozen
class Finding:
    """One line of `ringbinder doctor`: what was looked at, how it is, and what to do."""

    level: Literal["ok", "warning", "error"]
    """``error``: it does not work; ``warning``: it works, with something to know."""
    message: str
    """What was found, in a sentence."""
    fix: str = ""
    """What to do, in words; empty if nothing is."""


@frozen
class Failure:
    """What `diagnose` is asked about.

    `tail` holds the last log lines, oldest first, already redacted: each cut at 1 kB, 64 kB in all, none empty.
    """

    stage: Stage
    """The stage that failed."""
    error: BaseException
    """What it raised."""
    tail: tuple[str, ...] = ()
    """Lines of the log."""
    plan: Plan | None = None
    """None before the image's name is known."""


@frozen
class Diagnosis:
    """Why it failed, in words. `line` is the log line that matters."""

    cause: str
    """For the person, in a sentence."""
    line: str = ""
    """As it stands in `Failure.tail`; empty if none does."""
    advice: str = ""
    """What to do, in a sentence; empty if nothing helps."""
    code: str = ""
    """Takes the place of the error's code in the `failed` event; empty: that stays."""
