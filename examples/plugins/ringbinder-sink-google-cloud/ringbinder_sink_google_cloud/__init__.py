"""The sink `google_cloud`: events as structured entries of Google Cloud Logging.

Facts of its API (https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/write): entries of one log
with the same timestamp and `insertId` are taken as one, hence an event that comes twice is kept once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote

from attrs import frozen
from ringbinder import ConfigError, Context, EventsRejected, Sink, SinkEvent, TransientError, option

_SCOPE: Final = "https://www.googleapis.com/auth/logging.write"
_SEVERITY: Final = {"info": "INFO", "warning": "WARNING", "error": "ERROR"}


@frozen
class GoogleCloudOptions:
    """Section `GoogleCloudSink`."""

    log_name: str = option("binderhub-events-text", help="Name of the log within the project.")
    project: str = option("", help="Id of the project; default: the one of the credentials.")
    endpoint: str = option("https://logging.googleapis.com", help="Address of the API.")


class GoogleCloudSink(Sink[GoogleCloudOptions]):
    """Writes batches with the credentials of the environment (Application Default Credentials)."""

    Config = GoogleCloudOptions
    sections = ("GoogleCloudSink",)
    delivery: ClassVar[dict[str, Any]] = {"mode": "at_least_once", "linger": 1.0}

    def __init__(self, config: GoogleCloudOptions, context: Context) -> None:
        super().__init__(config, context)
        self._credentials: Any = None
        self._project = config.project

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Raises ConfigError if the environment has no credentials, or nothing names a project."""
        import google.auth
        from google.auth.exceptions import GoogleAuthError

        try:
            self._credentials, found = await asyncio.to_thread(google.auth.default, scopes=[_SCOPE])
        except GoogleAuthError as error:
            message = f"sink {self.context.name!r}: no credentials for Google Cloud: {error}"
            raise ConfigError([message]) from error
        self._project = self.config.project or found or ""
        if not self._project:
            raise ConfigError(["GoogleCloudSink.project: the credentials name no project; give its id"])
        yield

    async def emit(self, events: Sequence[SinkEvent]) -> None:
        body = {
            "logName": f"projects/{self._project}/logs/{quote(self.config.log_name, safe='')}",
            "resource": {"type": "global"},
            "entries": [self._entry(event) for event in events],
        }
        answer = await self.context.http.post(
            f"{self.config.endpoint}/v2/entries:write",
            json=body,
            headers={"Authorization": f"Bearer {await self._token()}"},
            timeout=None,
        )
        if not answer.is_success:
            # Its message may quote an event: the status says enough.
            message = f"Google Cloud Logging answered {answer.status_code}"
            raise EventsRejected(message) if answer.status_code in (400, 413) else TransientError(message)

    async def _token(self) -> str:
        from google.auth.transport.requests import Request

        if not self._credentials.valid:
            await asyncio.to_thread(self._credentials.refresh, Request())
        return str(self._credentials.token)

    @staticmethod
    def _entry(event: SinkEvent) -> dict[str, Any]:
        return {
            "insertId": event.id,
            "timestamp": datetime.fromtimestamp(event.timestamp, UTC).isoformat(),
            "severity": _SEVERITY.get(event.level, "DEFAULT"),
            "jsonPayload": event.capsule(),
        }
