"""A git server, and providers that ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from realparts.providers import made
from realparts.strangers import STRANGERS, StrangersAsker, asked
from realparts.turned import TurnedClock
from ringbinder.model import LaunchRequest, Repo
from ringbinder.plugins.context import Context
from ringbinder.testing import RecordingLog, make_context
from ringbinder.testing.gitserver import GitServer
from ringbinder_providers.git import GitOptions, GitProvider


@pytest.fixture
def server(git_server: GitServer) -> GitServer:
    return git_server


@pytest.fixture
async def context(tmp_path: Path, clock: TurnedClock) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "git")
    made.services.clock = clock
    yield made
    await made.services.close()


class Asker:
    """The provider `git`, asked as a person would."""

    def __init__(self, provider: GitProvider) -> None:
        self.provider = provider
        self.log = RecordingLog()

    def configured(self, options: GitOptions) -> Asker:
        return Asker(made(GitProvider, options, self.provider.context))

    async def resolve(self, url: str, ref: str = "HEAD", local: bool = False) -> Repo:
        spec = f"{quote(url, safe='')}/{quote(ref)}"
        repo = await self.provider.resolve(LaunchRequest("git", spec, local=local))
        assert repo is not None
        return repo

    async def fetch(self, repo: Repo, into: Path) -> Path:
        into.mkdir()
        assert await self.provider.fetch(repo, into, self.log) is True
        return into


Anyone = Asker | StrangersAsker


@pytest.fixture(params=["git", *STRANGERS])
async def anyone(request: pytest.FixtureRequest, ask: Asker, tmp_path: Path) -> AsyncIterator[Anyone]:
    """The provider `git`, and providers of strangers for which core fetches."""
    if request.param == "git":
        yield ask
        return
    async with asked(tmp_path / "app", STRANGERS[request.param]) as stranger:
        yield stranger


@pytest.fixture
def ask(context: Context) -> Asker:
    return Asker(made(GitProvider, GitOptions(resolve_timeout=60.0, retry_delay=0.01), context))
