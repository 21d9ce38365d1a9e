"""What all providers over git have in common: `fetch`, and with what right they read."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from ringbinder import Context, GitSource, Log, PluginError, Repo

from ._git import Access, Git
from ._policy import RepoOptions, SpecProvider
from ._remote import Remote

C = TypeVar("C", bound=RepoOptions)


class GitBacked(SpecProvider[C]):
    """A provider whose repositories are fetched with git."""

    def __init__(self, config: C, context: Context) -> None:
        super().__init__(config, context)
        git = Git(context.name, self.retry, self.guard, context.paths.cache / "tmp")
        self.remote = Remote(git, config.resolve_timeout, config.fetch_timeout)

    def access(self, repo: Repo) -> Access:
        """With what right `repo` is read."""
        return Access(repo.credentials)

    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool | None:
        if not isinstance(repo.source, GitSource):
            raise PluginError(self.context.name, f"cannot fetch a {type(repo.source).__name__}", "fetch")
        await self.remote.fetch(repo.source, into, log, self.access(repo))
        return True
