"""How an event comes to be: scrubbed, validated, thinned out as the operator wishes, then delivered."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from ..config.event_settings import EventLogSettings
from ..errors import PluginError
from ..protocol import SinkEvent
from ..runtime.metrics import Metrics
from ..runtime.private import make_private
from ..secret import redact, redact_encoded, redacted
from .emit_rates import EmitRates
from .schema_registry import Catalogue, SchemaError

if TYPE_CHECKING:
    from ..runtime.log import Logger

CORE: Final = "ringbinder"
_HASH_DIGITS: Final = 32


@define(eq=False)
class Events:
    """Core's side of events, one per application. Only for the event loop's thread."""

    _log: Logger
    _metrics: Metrics
    _rates: EmitRates
    _settings: EventLogSettings = field(factory=EventLogSettings)
    _key: bytes = field(default=b"", repr=False)
    """Of the fields that are hashed: what `hash_key` gives."""
    _deliver: Callable[[SinkEvent], None] | None = None
    """Where events go; None: there is no sink."""
    catalogue: Catalogue = field(factory=Catalogue, init=False)
    _reported: set[tuple[str, str]] = field(factory=set, init=False)

    def warm_up(self) -> None:
        """Makes all validators, which takes a moment: to be called in a thread."""
        for schema in self.catalogue:
            _ = schema.validator

    def emit(
        self, name: str, fields: Mapping[str, Any], *, version: int | None = None, repo: str = "", by: str = CORE
    ) -> None:
        """Tells an event of schema `name`. Returns at once and never raises: what is wrong is reported.

        `version` is by default the newest one; `repo` is `SinkEvent.repo`; `by` names the plugin.
        """
        if self._deliver is None or (by != CORE and not self._rates.take(by)):
            return
        try:
            made = self._made(name, fields, version, repo)
            problem = made if isinstance(made, str) else None
            if isinstance(made, SinkEvent):
                self._metrics.events.labels(made.schema, "emitted").inc()
                self._deliver(made)
        except Exception as error:
            problem = f"it cannot be emitted: {type(error).__name__}: {error}"
        if problem is not None:
            self._metrics.events.labels(name if self.catalogue.get(name) else "(unknown)", "invalid").inc()
            self._report(by, name, problem)

    def _made(self, name: str, fields: Mapping[str, Any], version: int | None, repo: str) -> SinkEvent | str:
        """The event, or what is wrong with it."""
        schema = self.catalogue.get(name, version)
        if schema is None:
            return f"no schema of this name{f' and version {version}' if version else ''} is registered"
        shown = {key: _public(value) for key, value in redacted(fields).items()}
        if problem := schema.problem(shown):
            return problem
        shown = self._thinned(schema.name, shown)
        return SinkEvent(schema.name, schema.version, shown, level=schema.level, repo=redact_encoded(repo))

    def _thinned(self, schema: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        settings = self._settings
        if not settings.drop_fields and not settings.hash_fields:
            return dict(fields)
        kept = {}
        for name, value in fields.items():
            if _named(settings.drop_fields, schema, name):
                continue
            kept[name] = self._hashed(value) if _named(settings.hash_fields, schema, name) else value
        return kept

    def _hashed(self, value: object) -> str:
        return hmac.new(self._key, str(value).encode(), hashlib.sha256).hexdigest()[:_HASH_DIGITS]

    def _report(self, by: str, name: str, problem: str) -> None:
        self._metrics.plugin_errors.labels(by, "emit").inc()
        # Once each: an event that is wrong is wrong every time.
        if (by, name) not in self._reported and len(self._reported) < 1000:
            self._reported.add((by, name))
            self._log.error(
                "an event does not fit its schema and is dropped", plugin=by, schema=name, problem=redact(problem)
            )


@define
class PluginEvents:
    """A plugin's way to emit events of its own; `Context.events`."""

    _plugin: str
    _events: Events

    def register(self, schema: Mapping[str, Any]) -> None:
        """Makes known a JSON Schema under which this plugin will emit.

        The rules: `Schema`; flat and closed; nothing that looks private without saying so. Raises PluginError.
        """
        try:
            self._events.catalogue.register(schema)
        except SchemaError as error:
            raise PluginError(self._plugin, str(error)) from None

    def emit(self, schema: str, /, *, version: int | None = None, **fields: Any) -> None:
        """Tells all sinks. Returns at once and never raises: an event that does not fit is reported, and dropped.

        From within a sink's own `emit`, and beyond `EventLog.plugin_rate`, events are dropped and counted.
        """
        repo = fields.get("repo", "")
        self._events.emit(schema, fields, version=version, repo=repo if isinstance(repo, str) else "", by=self._plugin)


def _named(patterns: tuple[str, ...], schema: str, field_name: str) -> bool:
    full = f"{schema}:{field_name}"
    return any(fnmatchcase(full if ":" in pattern else field_name, pattern) for pattern in patterns)


def _public(value: Any) -> Any:
    return redact_encoded(value) if isinstance(value, str) else value


def hash_key(settings: EventLogSettings, state: Path) -> bytes:
    """Reads the key of hashed fields, or makes it; empty if no field is hashed.

    Raises OSError if it can be neither read nor made.
    """
    if not settings.hash_fields:
        return b""
    return settings.hash_key.reveal().encode() or _kept_key(state / "event-hash-key")


def _kept_key(file: Path) -> bytes:
    """The key in `file`, made if it is not there. Raises OSError if it can be neither read nor made."""
    if not file.exists():
        make_private(file.parent)
        # Linked whole, so that another process never reads half a key.
        fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_hex(32))
            with suppress(FileExistsError):
                os.link(fresh, file)
        finally:
            fresh.unlink()
    return file.read_text().encode()
