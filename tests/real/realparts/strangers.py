"""Providers as strangers write them, which leave git to Ringbinder: with the base class, and without."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from attrs import field, frozen
from ringbinder import Context, GitSource, LaunchRequest, NoOptions, Provider, ProviderInfo, Repo
from ringbinder.app import Ringbinder
from ringbinder.git import decoded, ref_name
from ringbinder.testing import RecordingLog, memory_app

INFO: Final = ProviderInfo("Stranger", r"[^/]+/.+", "Address", "example: https://git.example.org/a/b")


async def resolved(context: Context, spec: str) -> Repo:
    """What a careless provider makes of ``<address>/<ref>``: the address goes to git as it stands in the link."""
    quoted, _, last = spec.partition("/")
    url, ref = decoded(quoted, "address"), ref_name(last)
    commit = (await context.git.resolve(url, ref)).commit
    return Repo(url, GitSource(url, commit), commit, f"{quoted}/{commit}", url, url)


class Stranger(Provider[NoOptions]):
    """Any git repository."""

    sections = ("StrangerProvider",)

    def describe(self) -> ProviderInfo:
        return INFO

    async def resolve(self, request: LaunchRequest) -> Repo:
        return await resolved(self.context, request.spec)


class Unrelated:
    """Any git repository, by a class that has the hooks and no base class."""

    def __init__(self, config: Any, context: Context) -> None:
        self.context = context

    def describe(self) -> ProviderInfo:
        return INFO

    def recognize(self, link: str) -> None: ...

    async def resolve(self, request: LaunchRequest) -> Repo:
        return await resolved(self.context, request.spec)


STRANGERS: Final[Mapping[str, type[Any]]] = {"base class": Stranger, "no base class": Unrelated}


def points(group: str) -> Iterator[EntryPoint]:
    """What is installed, and the provider `stranger`."""
    yield from entry_points(group=group)
    if group == "ringbinder.providers":
        yield EntryPoint("stranger", f"{__name__}:Stranger", group)


@frozen
class StrangersAsker:
    """An application with a stranger's provider, asked as a client asks it."""

    app: Ringbinder
    log: RecordingLog = field(factory=RecordingLog)

    async def resolve(self, url: str, ref: str = "HEAD", local: bool = False) -> Repo:
        request = LaunchRequest("stranger", f"{quote(url, safe='')}/{quote(ref)}", local=local)
        return await self.app.resolve(request)

    async def fetch(self, repo: Repo, into: Path) -> Path:
        into.mkdir()
        await self.app.pipeline.stages.fetch(repo, into, self.log)
        return into


@asynccontextmanager
async def asked(
    folder: Path, provider: type[Any], sections: Mapping[str, Any] | None = None, *, public: bool = False
) -> AsyncIterator[StrangersAsker]:
    """`provider` in an application with the configuration `sections`; `public`: others can reach it."""
    async with memory_app(folder, {"provider:stranger": provider}, **(sections or {})) as memory:
        memory.app.services.public = public
        yield StrangersAsker(memory.app)
