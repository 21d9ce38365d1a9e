"""What a plugin is given (`Context`) and the base classes that make the usual plugin short.

The hooks are the contract (`hookspecs`); a class that has them and the same constructor needs no base class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ..config.options import ByteSize as ByteSize
from ..config.options import Duration as Duration
from ..config.options import NoOptions
from ..config.options import option as option
from ..errors import PluginError
from ..model import (
    BlobOutcome,
    Content,
    Declined,
    Descriptor,
    Image,
    ImageKind,
    LaunchRequest,
    Link,
    Manifest,
    Plan,
    ProviderInfo,
    Repo,
    Server,
    Target,
)
from ..protocol import Log, SinkEvent
from .context import Context
from .deprecation import PLUGIN_API
from .hookspecs import Hooks, Ticket

C = TypeVar("C")


if TYPE_CHECKING:
    # So that a type checker compares every hook of a plugin with its specification.
    _Hooks = Hooks
else:

    class _Hooks:
        """Empty, since what a class inherits is called: a plugin has no hook that it does not write."""


class Plugin(_Hooks, Generic[C]):
    """Base of the base classes, and of what is none of the kinds: keeps `config` and `context`.

    To a type checker it has every hook (`hookspecs.Hooks`), and so one of another signature is an error; at run time it
    has those alone that are written.

    `Config` is the attrs class of the options; `sections` names the configuration sections that fill it, the general
    ones first (``("RepoProvider", "GitHubRepoProvider")``): a later one overrides.
    """

    Config: ClassVar[type[Any]] = NoOptions
    """An attrs class whose fields are made with `option`."""
    sections: ClassVar[tuple[str, ...]] = ()
    """The last one is the plugin's own, and is named after it."""
    plugin_api: ClassVar[int] = PLUGIN_API
    """The `ringbinder.PLUGIN_API` that it was written for; a plugin that names it gets an error when that is gone."""

    def __init__(self, config: C, context: Context) -> None:
        self.config = config
        self.context = context


class Provider(Plugin[C], ABC):
    """Where repositories come from."""

    @abstractmethod
    def describe(self) -> ProviderInfo: ...

    def recognize(self, link: str) -> Link | None:
        return None

    @abstractmethod
    async def resolve(self, request: LaunchRequest) -> Repo | None: ...

    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool | None:
        """Brings a `GitSource`, with git; a provider of anything else brings it itself."""
        return await self.context.git.fetch(repo, into, log)


class Registry(Plugin[C], ABC):
    """Where images are kept. `holds` is the kind of image that it keeps."""

    holds: ClassVar[ImageKind]
    """What it keeps images as; has to be what the builder makes."""

    @abstractmethod
    async def check(self, plan: Plan, fresh: bool) -> Image | None: ...

    @abstractmethod
    async def target(self, plan: Plan) -> Target | None: ...

    async def push(self, image: Image, target: Target, log: Log) -> Image | None:
        raise PluginError(self.context.name, "this registry cannot push; its builder must", "push")

    async def images(self) -> Sequence[Image]:
        return ()

    async def delete(self, image: Image) -> bool | None:
        return False


class BlobRegistry(Registry[C], ABC):
    """A registry that builders which assemble images themselves can use: see `Context.registry`."""

    holds: ClassVar[ImageKind] = "oci"
    """What it keeps images as; has to be what the builder makes."""

    @abstractmethod
    async def find_blob(self, repository: str, digest: str) -> Descriptor | None: ...

    @abstractmethod
    async def put_blob(
        self, repository: str, blob: Descriptor, content: Content, mount_from: str
    ) -> BlobOutcome | None: ...

    @abstractmethod
    async def read_blob(self, repository: str, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None] | None: ...

    @abstractmethod
    async def read_manifest(self, repository: str, reference: str) -> Manifest | None: ...

    @abstractmethod
    async def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> Descriptor | None: ...

    @abstractmethod
    async def list_tags(self, repository: str) -> Sequence[str] | None: ...

    async def delete_manifest(self, repository: str, reference: str) -> bool | None:
        return None

    async def delete_blob(self, repository: str, digest: str) -> bool | None:
        return None

    async def delete_repository(self, repository: str) -> bool | None:
        return None


class Builder(Plugin[C], ABC):
    """What turns a repository into an image. `makes` is the kind of image that comes out."""

    makes: ClassVar[ImageKind]
    """What its images are."""

    @property
    def builds_at_once(self) -> int | None:
        """How many builds it can do at a time in this process; None: as many as core gives it.

        Core gives it no more than that: others wait in line, and keep no build of another builder waiting. All builders
        together have no more than `BinderHub.concurrent_build_limit`.
        """
        return None

    def place(self, plan: Plan, ticket: Ticket) -> AbstractAsyncContextManager[None]:
        """Hold a place for a build of `plan`, which is built within; `ticket` notifies who waits for one.

        Override it to count builds that others know of too, such as pods of all replicas: then core neither counts the
        builder's builds nor lets them wait. `ringbinder.concurrency.queue_notice` has the words.
        """
        return nullcontext()

    @property
    def image_labels(self) -> Mapping[str, str]:
        """The labels that an image of kind ``oci`` carries: by which builder, of which version, it was made."""
        version = {"org.ringbinder.builder.version": self.context.version} if self.context.version else {}
        return {"org.ringbinder.builder": self.context.name, **version}

    @property
    def builder_info(self) -> Mapping[str, Any]:
        """More for `builder_info` in `/versions`, the same as long as the server runs."""
        return {}

    @abstractmethod
    async def build(self, plan: Plan, target: Target, log: Log) -> Image | Declined | None: ...


class Launcher(Plugin[C], ABC):
    """What runs an image for one client. `runs` is the kind of image that it takes."""

    runs: ClassVar[ImageKind]
    """What it starts: has to be what the builder makes."""

    @abstractmethod
    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server | None: ...

    @abstractmethod
    async def stop(self, server: Server) -> bool | None: ...

    async def servers(self) -> Sequence[Server]:
        raise PluginError(self.context.name, "this launcher does not list its servers", "servers")


class Sink(Plugin[C], ABC):
    """Where events go."""

    @abstractmethod
    async def emit(self, events: Sequence[SinkEvent]) -> int | None: ...


class Policy(Plugin[C]):
    """What lets people in or keeps them out: it has `admit`, `authenticate`, or both."""
