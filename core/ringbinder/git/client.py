"""Git for one plugin, within what the operator allows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import urlsplit

from attrs import define, evolve, field

from ..config.specs import RepoOptions
from ..errors import PluginError
from ..model import GitSource, Repo
from ..protocol import Log
from ..runtime.retry import Retry
from ..runtime.services import Services
from ..secret import Secret
from .addresses import FULL_SHA, check_ref, parse_address
from .command import Access, GitCommand
from .guard import Guard
from .local import Ask, asking
from .remote import Remote, ResolvedRef


@define(eq=False)
class Git:
    """Reads git repositories for the plugin `plugin`: `Context.git`.

    Its limits are the operator's: `options` are those of section `RepoProvider`, and of the provider's own sections.
    """

    plugin: str
    """Its name, for messages."""
    services: Services = field(repr=False)
    """Core's own."""
    options: RepoOptions = field(factory=RepoOptions)
    """The operator's limits."""
    _credentials: dict[str, Secret] = field(factory=dict, init=False, repr=False)
    _trusted: set[str] = field(factory=set, init=False, repr=False)
    _opened: Remote | None = field(default=None, init=False, repr=False)

    def add_host(self, url: str, credentials: Secret | None = None) -> None:
        """Names a host that the operator has configured, by an address on it; for a provider's constructor.

        It may be at a private address, its redirects are followed, and if it asks it gets `credentials`, else the
        operator's `git_credentials`.
        """
        parts = urlsplit(url)
        self._trusted.add((parts.hostname or "").lower())
        if credentials := credentials or self.options.git_credentials:
            self._credentials[f"{parts.scheme}://{parts.netloc.lower()}"] = credentials

    @property
    def guard(self) -> Guard:
        """Judges addresses by the operator's rules (`refuse_private_addresses`, `trusted_hosts`)."""
        refuse = self.options.refuse_private_addresses
        return Guard(
            on=self.services.public if refuse is None else refuse,
            trusted=frozenset({*self.options.trusted_hosts, *self._trusted}),
        )

    @property
    def retry(self) -> Retry:
        """How often and when what was not answered is tried again (`retries`, `retry_delay`)."""
        options = self.options
        return Retry(options.retry_delay, tries=options.retries + 1, clock=self.services.clock)

    async def resolve(
        self, url: str, ref: str, access: Access | None = None, *, words: Sequence[str] = ()
    ) -> ResolvedRef:
        """The commit that `ref` means now: a full commit id as is, else a branch, else a tag (peeled).

        A branch wins over a tag of the same name, as in `git checkout`, `git clone --branch` and BinderHub;
        ``heads/x``, ``tags/x`` and any ``refs/...`` are exact. `words` may follow in the name, with slashes: what
        exists with the fewest of them is meant. Raises `UserError` (``spec-invalid``, ``ref-not-found``,
        ``repo-not-found``, ``address-not-allowed``) or `TransientError`.
        """
        check_ref(ref)
        url, access = self._judged(url, access or Access())
        return await self._remote.resolve(url, ref, access, words)

    async def fetch(self, repo: Repo, into: Path, log: Log, access: Access | None = None) -> bool:
        """Clones what `repo` names into the empty folder `into` and checks out that commit, with its submodules.

        True when that is done, as the hook `fetch` has it. The folder has what `git clone` leaves: all history,
        branches and tags, and the default branch where that is the commit. With `Repo.credentials`, unless `access`
        has others. Raises as `resolve`, and PluginError for a source that is no `GitSource` of a whole commit id.
        """
        source = repo.source
        if not isinstance(source, GitSource):
            problem = f"it gives a {type(source).__name__}, which git cannot fetch: write the hook"
            raise PluginError(self.plugin, problem, "fetch")
        if not FULL_SHA.fullmatch(source.ref):
            raise PluginError(
                self.plugin, f"its GitSource has the ref {source.ref!r}, which is no commit id", "resolve"
            )
        access = access or Access()
        url, access = self._judged(source.url, evolve(access, credentials=access.credentials or repo.credentials))
        await self._remote.fetch(GitSource(url, source.ref), into, log, access)
        return True

    def local(self, top: Path, folder: Path) -> AbstractAsyncContextManager[Ask]:
        """For asking git about `folder`, in the work tree `top` that `find_repository` has found.

        Its arguments are those of git; it gives what git prints, None if git fails. Git works on a mirror of the
        repository and uses nothing of its configuration.
        """
        return asking(self._remote.git, top, folder)

    def is_installed(self) -> bool:
        """Whether this machine has the command."""
        return self._remote.git.is_installed()

    def _judged(self, url: str, access: Access) -> tuple[str, Access]:
        """The address as git is given it, and with what right. Raises UserError."""
        address = parse_address(url, {*access.protocols, *(("file",) if access.local else ())})
        parts = urlsplit(address.url)
        own = self._credentials.get(f"{parts.scheme}://{parts.netloc.lower()}")
        return address.url, evolve(access, credentials=access.credentials or address.credentials or own)

    @property
    def _remote(self) -> Remote:
        if self._opened is None:
            git = GitCommand(self.plugin, self.retry, self.guard, self.services.paths.cache / "tmp")
            self._opened = Remote(git, self.options.resolve_timeout, self.options.fetch_timeout)
        return self._opened
