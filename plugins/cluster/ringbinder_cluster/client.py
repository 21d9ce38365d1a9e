"""A Kubernetes API server, asked with the client library's own means and answered in plain JSON.

Plain JSON, since objects then keep every field, also one that is newer than the library, and since a list of thousands
of pods costs a tenth of what models do.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from attrs import define, frozen
from ringbinder import PluginError, TransientError, redact
from ringbinder.concurrency import Retry, Silence, retry_after
from ringbinder.untrusted import MalformedError, check_shape, parse_json, read_bounded, read_json

if TYPE_CHECKING:
    import aiohttp

Json = Mapping[str, Any]
Query = Mapping[str, str | int]
T = TypeVar("T")

_IN_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"
_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_CONNECT_SECONDS: Final = 10.0
_MAX_BYTES: Final = 256 * 2**20
"""A list of ten thousand pods has some 80 MB."""
_MAX_VALUES: Final = 20_000_000
_MESSAGE: Final = 2000
SILENT: Final = "The Kubernetes API server has not answered"


class ApiError(Exception):
    """The API server said no. `reason` is its word (``NotFound``), `message` its sentence."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message or reason} ({status})")
        self.retry_after = retry_after
        self.status = status
        self.reason = reason
        self.message = message or reason


class Unreachable(Exception):
    """The API server did not answer, or broke off."""


def _passing(error: Exception) -> bool:
    return isinstance(error, Unreachable) or (isinstance(error, ApiError) and error.status in _AGAIN)


@frozen
class Patience(Retry):
    """When an API server is asked again that does not answer."""

    first: float = 0.2
    longest: float = 5.0
    in_all: float = 120.0
    again: Callable[[Exception], bool] = _passing
    request: float = 30.0
    """Seconds for one answer."""


@define
class Cluster:
    """A connection to one API server; made by `connected`."""

    _client: Any
    plugin: str
    """Whose errors these are."""
    namespace: str
    """The one that we live in, or that the kubeconfig's context names."""
    patience: Patience

    @classmethod
    @asynccontextmanager
    async def connected(cls, plugin: str, patience: Patience | None = None) -> AsyncIterator[Cluster]:
        """By ``KUBECONFIG``, else as the pod that we are in, else by ``~/.kube/config``.

        Raises PluginError if the client library is missing or nothing says where the API server is.
        """
        try:
            # It takes a second or more: the event loop goes on meanwhile.
            library = await asyncio.to_thread(importlib.import_module, "kubernetes.aio.client")
            config = await asyncio.to_thread(importlib.import_module, "kubernetes.aio.config")
        except ImportError:
            message = "it needs the Kubernetes client: pip install 'ringbinder[kubernetes]'"
            raise PluginError(plugin, message) from None
        configuration = library.Configuration()
        try:
            namespace = await _configure(config, configuration)
        except config.ConfigException as error:
            message = f"no Kubernetes API server is configured: {error} Set KUBECONFIG, or run in a pod"
            raise PluginError(plugin, message) from None
        configuration.connection_pool_maxsize = 0
        client = library.ApiClient(configuration)
        client.user_agent = "Ringbinder"
        try:
            yield cls(client, plugin, namespace, patience or Patience())
        finally:
            await client.close()

    async def ask(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Json | None = None,
        shape: Json = {},  # noqa: B006 - never written to
    ) -> Json:
        """One question and its answer, which has at least `shape` (see `check_shape`).

        An API server that does not answer is asked again until the patience is at its end: then TransientError. A
        repeated question may find the work of the first done: 409 for a create, 404 for a delete. Raises ApiError for
        any other answer than a good one.
        """
        return await self.patiently(lambda: self._once(method, path, query, body, shape))

    async def patiently(self, question: Callable[[], Awaitable[T]]) -> T:
        """The answer to `question`, which is asked again while the API server does not answer."""
        try:
            with Silence(SILENT):
                return await self.patience(question)
        except (Unreachable, ApiError) as error:
            if not _passing(error):
                raise
            asked: float | None = getattr(error, "retry_after", None)
            raise TransientError(f"The Kubernetes API server does not answer: {error}", asked) from None

    async def _once(self, method: str, path: str, query: Query | None, body: Json | None, shape: Json) -> Json:
        async with self.open(method, path, query, body=body, seconds=self.patience.request) as response:
            return await shaped_json(response, shape)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Json | None = None,
        seconds: float | None = None,
        silence: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to one request, to be read while entered.

        `seconds` is the limit for all of it, `silence` for the time between two pieces. Raises ApiError and
        Unreachable, also for what happens within.
        """
        import aiohttp

        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS, sock_read=silence)
        response: aiohttp.ClientResponse | None = None
        try:
            request = await self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json, */*", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
            )
            called = await self._client.call_api(*request, _request_timeout=limits)
            response = opened = cast(aiohttp.ClientResponse, called.response)
            if opened.status >= 400:
                raise _refusal(opened, await read_bounded(opened.content.iter_any(), _MAX_BYTES))
            yield opened
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            words = redact(str(error)) or type(error).__name__
            raise Unreachable(f"{method} {path}: {words}") from None
        except MalformedError as error:
            raise Unreachable(f"{method} {path}: the answer {error}") from None
        finally:
            if response is not None:
                response.close()


async def shaped_json(response: aiohttp.ClientResponse, shape: Json) -> Json:
    """Return the answer. Raises MalformedError if it is no JSON of that shape, or does not end."""
    answer: Json = await read_json(response.content.iter_any(), _MAX_BYTES, values=_MAX_VALUES)
    check_shape(answer, shape)
    return answer


async def _configure(config: Any, configuration: Any) -> str:
    """Fills the library's `configuration`; returns the namespace."""
    if _IN_CLUSTER in os.environ and not os.environ.get("KUBECONFIG"):
        config.load_incluster_config(client_configuration=configuration)
        own = await asyncio.to_thread(_read, _OWN_NAMESPACE)
        return own or "default"
    file = _kubeconfig()
    await config.load_kube_config(file, client_configuration=configuration, persist_config=False)
    _, active = await asyncio.to_thread(config.list_kube_config_contexts, file)
    return str(active.get("context", {}).get("namespace") or "default")


def _kubeconfig() -> str:
    """Named to the library, since it looks at the variable only when it is imported."""
    return os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _refusal(response: aiohttp.ClientResponse, content: bytes) -> ApiError:
    """Source: the `Status` object of the Kubernetes API."""
    try:
        reported = parse_json(content)
        reason, message = str(reported.get("reason") or ""), str(reported.get("message") or "")
    except (MalformedError, AttributeError):
        reason, message = "", content.decode(errors="replace").strip()
    status, asked = response.status, retry_after(response.headers.get("Retry-After"), time.time())
    return ApiError(status, reason, redact(message[:_MESSAGE]) or f"status {status}", asked)
