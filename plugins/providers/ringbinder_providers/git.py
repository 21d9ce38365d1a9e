"""Provider `git`: any git repository by its address, and folders of this machine from the command line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen
from ringbinder import (
    ByteSize,
    Context,
    Finding,
    FolderSource,
    GitSource,
    LaunchRequest,
    Link,
    Log,
    Provider,
    ProviderInfo,
    Repo,
    Secret,
    UserError,
    hookimpl,
    option,
    process,
)
from ringbinder.git import PROTOCOLS, Access, decoded, parse_address, ref_name
from ringbinder.specs import RepoOptions, shown

from . import _local
from ._specs import escaped, invalid

_NUMBER: Final = re.compile(r"\d+")
_REMOTE: Final = re.compile(r"(?:https?|ssh|git)://[^/\s]+/[^\s?#]*[^/\s?#]|[\w-]+@[\w.-]+:[^\s?#]+", re.IGNORECASE)
_LONGEST: Final = 4000
_PINNING: Final = (2, 37)
"""The version of git that brought ``http.curloptResolve``."""


def _only_known(instance: object, attribute: object, value: frozenset[str]) -> None:
    known = {*PROTOCOLS, "file"}
    if unknown := value - known:
        raise ValueError(f"not allowed: {', '.join(sorted(unknown))}; choose from {', '.join(sorted(known))}")


@frozen
class GitOptions(RepoOptions):
    """Section `GitRepoProvider`."""

    allowed_protocols: frozenset[str] = option(
        default=PROTOCOLS,
        validator=_only_known,
        help="Protocols of the addresses that may be launched, of http, https, git, ssh and file.",
    )
    credential_hosts: frozenset[str] = option(
        default=frozenset(),
        converter=lambda hosts: frozenset(host.lower() for host in hosts),
        help="Hosts, with port if they have one, that `git_credentials` are for. Empty: every host that a link "
        "names gets them if it asks, as in BinderHub.",
    )
    folder_limit: ByteSize = option(
        default=10 * 2**30, help="Most bytes that a folder launched from the command line may hold."
    )


class GitProvider(Provider[GitOptions]):
    """Specs are ``<url-escaped-url>/<ref>`` (BinderHub's grammar); ``user@host:path`` means ``ssh://user@host/path``."""

    Config = GitOptions
    sections = ("RepoProvider", "GitRepoProvider")

    def __init__(self, config: GitOptions, context: Context) -> None:
        super().__init__(config, context)
        self._folders = _local.Folders(context.git, config.folder_limit)
        self._asked_here: set[str] = set()

    def describe(self) -> ProviderInfo:
        return ProviderInfo(
            display_name="Git repository",
            event_name="Git",
            spec_regex=r"[^/]+/.+",
            repo_label="Arbitrary git repository URL",
            repo_placeholder="example: http://git.example.com/repo",
            repo_url_encode=True,
        )

    @hookimpl(trylast=True)
    def recognize(self, link: str) -> Link | None:
        """Any git address that no other provider knows, and paths of folders."""
        link = link.strip()
        if len(link) > _LONGEST or not link.isprintable():
            return None
        if match := _REMOTE.match(link):
            return Link(self.context.name, f"{escaped(match[0])}/HEAD")
        return _local.recognize(self.context.name, link)

    async def resolve(self, request: LaunchRequest) -> Repo:
        quoted, _, last = request.spec.partition("/")
        if not quoted:
            raise invalid(f'Spec is not of the form "url-escaped-url/ref", provided: "{shown(request.spec)}".')
        text = decoded(quoted, "address")
        if not last:
            raise invalid(f'The link names no ref. Did you mean "{shown(quoted)}/HEAD"?')
        ref = ref_name(last)
        if text[:5].lower() == "file:" and request.local:
            source = await self._folders.resolve(text, ref)
            url = source.url if isinstance(source, GitSource) else source.path.as_uri()
            return _repo(url, source, escaped(url))
        if text[:5].lower() == "file:" and "file" not in self.config.allowed_protocols:
            raise UserError("local-not-allowed", "Folders of this machine can be launched from the command line only.")
        address = parse_address(text, self.config.allowed_protocols)
        if request.local:
            self._asked_here.add(address.url)
        access = self._access(address.url, address.credentials)
        found = await self.context.git.resolve(address.url, ref, access)
        # A link's credentials stay out of every name that is made from it.
        public = quoted if address.credentials is None else escaped(address.url)
        needed = address.credentials or (access.credentials if found.private else None)
        return _repo(address.url, GitSource(address.url, found.commit), public, needed)

    def _access(self, url: str, credentials: Secret | None) -> Access:
        protocols = self.config.allowed_protocols - {"file"}
        return Access(
            credentials or self._operators(url),
            protocols,
            own_keys=url in self._asked_here,
            local=url.startswith("file:"),
        )

    def _operators(self, url: str) -> Secret | None:
        """The operator's credentials, if they are for the host of `url`."""
        hosts, parts = self.config.credential_hosts, urlsplit(url)
        if parts.scheme not in {"http", "https"} or (hosts and parts.netloc.lower() not in hosts):
            return None
        return self.config.git_credentials or None

    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool | None:
        if isinstance(repo.source, FolderSource):
            await self._folders.fetch(repo.source, into)
            return True
        return await self.context.git.fetch(repo, into, log, self._access(repo.url, repo.credentials))

    async def doctor(self) -> Sequence[Finding]:
        if shutil.which("git") is None:
            return [Finding("error", "the command git was not found", "Install git.")]
        findings = [Finding("ok", "the command git is there")]
        done = await process.run(["git", "--version"], timeout=10.0)
        version = tuple(int(number) for number in _NUMBER.findall(done.output)[:2])
        if self.context.git.guard.on and version < _PINNING:
            findings.append(
                Finding(
                    "error",
                    "this git cannot be bound to addresses, so links may reach private ones",
                    f"Install git {'.'.join(map(str, _PINNING))} or later.",
                )
            )
        if "ssh" in self.config.allowed_protocols and not self.context.git.guard.on and shutil.which("ssh") is None:
            findings.append(
                Finding(
                    "warning",
                    "there is no ssh program, so ssh addresses cannot be launched",
                    "Install an OpenSSH client, or leave ssh out of GitRepoProvider.allowed_protocols.",
                )
            )
        if self.config.git_credentials and not self.config.credential_hosts:
            findings.append(
                Finding(
                    "warning",
                    "git_credentials are sent to every host that a link names, if it asks for them",
                    "Name the hosts that they are for in GitRepoProvider.credential_hosts.",
                )
            )
        if self.context.public and not self.context.git.guard.on:
            findings.append(
                Finding(
                    "warning",
                    "strangers may launch repositories at private addresses",
                    "Remove RepoProvider.refuse_private_addresses: false.",
                )
            )
        return findings


def _repo(url: str, source: GitSource | FolderSource, quoted: str, credentials: Secret | None = None) -> Repo:
    ref = source.ref if isinstance(source, GitSource) else source.digest
    return Repo(
        url=url,
        source=source,
        ref=ref,
        resolved_spec=f"{quoted}/{ref}",
        ref_url=url,
        slug=url,
        credentials=credentials,
        private=credentials is not None,
    )
