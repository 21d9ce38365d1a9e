"""Ringbinder's core: the hooks, the stages and what flows through them. This module is the public surface.

Beside it plugins may import the modules that the Python API's page lists. Names of types and constants:

- `PLUGIN_API`: goes up when a plugin that was written for the number before would no longer work.
- `Duration`: seconds; in a file a number, or with a unit: ``250ms``, ``90s``, ``10m``, ``2h``, ``1d``.
- `ByteSize`: bytes; in a file a number, or with a unit, by powers of 1024: ``2G``, ``512Mi``.
- `ImageKind`: ``oci`` or ``folder``, what a builder makes, a registry holds and a launcher runs.
- `Content`: gives an iterator over the bytes of a blob from an offset on; called again where an upload is resumed.
- `BlobOutcome`: how a blob came to be in a repository: ``present`` before, ``mounted`` from another, or ``uploaded``.
- `Phase`: what a line of a launch belongs to, as in the event stream.
- `Stage`: ``resolve``, ``check``, ``build``, ``push`` or ``launch``.
- `Source`: where a repository's content is: one of the four classes with this ending.
- `Http`: `httpx.AsyncClient`.
- `Fetch`: ``async (repo, into, log)``, see `Context.fetch`.
- `hookimpl`: decorates a method that is a hook, where it has options, such as ``@hookimpl(wrapper=True)``.
"""

from typing import TYPE_CHECKING

from .config.options import ByteSize, Duration, NoOptions, option
from .errors import (
    BuildError,
    ConfigError,
    CredentialsError,
    DigestMismatch,
    EventsRejected,
    MissingBlob,
    PluginError,
    Refused,
    RingbinderError,
    StoreError,
    TransientError,
    UserError,
)
from .events.emitter import PluginEvents
from .events.query import EventQuery, EventRow
from .model import (
    Allowance,
    ArchiveSource,
    BlobOutcome,
    Client,
    Content,
    Declined,
    Descriptor,
    Diagnosis,
    DoiSource,
    Failure,
    Finding,
    FolderSource,
    GitSource,
    Health,
    Image,
    ImageKind,
    LaunchRequest,
    Link,
    Manifest,
    Plan,
    ProviderInfo,
    PruneResult,
    Redirect,
    Repo,
    Server,
    Source,
    Stage,
    Target,
    User,
    Work,
    digest_of,
)
from .plugins.bases import BlobRegistry, Builder, Launcher, Plugin, Policy, Provider, Registry, Sink
from .plugins.context import Context, Fetch, Servers
from .plugins.deprecation import PLUGIN_API, PluginDeprecationWarning
from .plugins.hookspecs import Ticket, hookimpl
from .plugins.image_registry import ImageRegistry
from .protocol import Event, Log, Phase, SinkEvent
from .runtime.clock import Clock
from .runtime.import_string import load_named
from .runtime.kvstore import KeyValueStore
from .runtime.log import Logger
from .runtime.metrics import PluginMetrics
from .runtime.paths import Paths
from .runtime.patterns import Pattern
from .runtime.services import Http
from .runtime.tasks import Tasks
from .secret import Secret, redact

if not TYPE_CHECKING:  # to a type checker, every name would be one
    from .plugins.deprecation import deprecated_name as __getattr__  # noqa: F401

__all__ = [
    "PLUGIN_API",
    "Allowance",
    "ArchiveSource",
    "BlobOutcome",
    "BlobRegistry",
    "BuildError",
    "Builder",
    "ByteSize",
    "Client",
    "Clock",
    "ConfigError",
    "Content",
    "Context",
    "CredentialsError",
    "Declined",
    "Descriptor",
    "Diagnosis",
    "DigestMismatch",
    "DoiSource",
    "Duration",
    "Event",
    "EventQuery",
    "EventRow",
    "EventsRejected",
    "Failure",
    "Fetch",
    "Finding",
    "FolderSource",
    "GitSource",
    "Health",
    "Http",
    "Image",
    "ImageKind",
    "ImageRegistry",
    "KeyValueStore",
    "LaunchRequest",
    "Launcher",
    "Link",
    "Log",
    "Logger",
    "Manifest",
    "MissingBlob",
    "NoOptions",
    "Paths",
    "Pattern",
    "Phase",
    "Plan",
    "Plugin",
    "PluginDeprecationWarning",
    "PluginError",
    "PluginEvents",
    "PluginMetrics",
    "Policy",
    "Provider",
    "ProviderInfo",
    "PruneResult",
    "Redirect",
    "Refused",
    "Registry",
    "Repo",
    "RingbinderError",
    "Secret",
    "Server",
    "Servers",
    "Sink",
    "SinkEvent",
    "Source",
    "Stage",
    "StoreError",
    "Target",
    "Tasks",
    "Ticket",
    "TransientError",
    "User",
    "UserError",
    "Work",
    "digest_of",
    "hookimpl",
    "load_named",
    "option",
    "redact",
]
