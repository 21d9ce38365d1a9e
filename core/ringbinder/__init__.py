"""Ringbinder's core: the hooks, the stages and what flows through them. This module is the public surface.

With `ringbinder.process` and `ringbinder.testing`: see the promise in the documentation.
"""

from typing import TYPE_CHECKING

from .config.options import ByteSize, Duration, NoOptions, option
from .errors import (
    BuildError,
    ConfigError,
    EventsRejected,
    PluginError,
    Refused,
    RingbinderError,
    TransientError,
    UserError,
)
from .events.query import EventQuery, EventRow
from .model import (
    Allowance,
    ArchiveSource,
    Client,
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
    Plan,
    ProviderInfo,
    PruneResult,
    Redirect,
    Repo,
    Server,
    Source,
    Target,
    User,
    Work,
)
from .plugins.bases import Builder, Launcher, Plugin, Provider, Registry, Sink
from .plugins.context import Context
from .plugins.deprecation import PLUGIN_API, PluginDeprecationWarning
from .plugins.hookspecs import Ticket, hookimpl
from .protocol import Event, Log, Phase, SinkEvent
from .runtime.clock import Clock
from .runtime.log import Logger
from .runtime.paths import Paths
from .runtime.services import Http
from .secret import Secret, redact

if not TYPE_CHECKING:  # to a type checker, every name would be one
    from .plugins.deprecation import deprecated_name as __getattr__  # noqa: F401

__all__ = [
    "PLUGIN_API",
    "Allowance",
    "ArchiveSource",
    "BuildError",
    "Builder",
    "ByteSize",
    "Client",
    "Clock",
    "ConfigError",
    "Context",
    "Diagnosis",
    "DoiSource",
    "Duration",
    "Event",
    "EventQuery",
    "EventRow",
    "EventsRejected",
    "Failure",
    "Finding",
    "FolderSource",
    "GitSource",
    "Health",
    "Http",
    "Image",
    "ImageKind",
    "LaunchRequest",
    "Launcher",
    "Link",
    "Log",
    "Logger",
    "NoOptions",
    "Paths",
    "Phase",
    "Plan",
    "Plugin",
    "PluginDeprecationWarning",
    "PluginError",
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
    "Sink",
    "SinkEvent",
    "Source",
    "Target",
    "Ticket",
    "TransientError",
    "User",
    "UserError",
    "Work",
    "hookimpl",
    "option",
    "redact",
]
