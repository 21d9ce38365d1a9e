"""A JupyterHub that people log in at, and a Ringbinder that is one of its services."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import structlog
from attrs import frozen
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load
from ringbinder_server.serve import listen, serving

from .real_hub import TOKEN, Hub, Installed, free_ports, hub

PASSWORD: Final = "password-of-everybody-4714"
IMAGES_TOKEN: Final = "hub-token-of-another-service-4715"
ACCESS: Final = "access:services!service=binder"

_PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "log-in-at-a-hub.md"
_BEFORE: Final = """
services, roles = c.JupyterHub.services, c.JupyterHub.load_roles
"""
_AFTER: Final = """
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = {password!r}
c.Authenticator.allow_all = True
c.JupyterHub.allow_named_servers = True
c.JupyterHub.services += [*services[1:], {{"name": "images", "api_token": {images!r}}}]
c.JupyterHub.load_groups["course"] += ["cy", "di", "ed"]
c.JupyterHub.load_roles += [
    *roles[1:], {{"name": "images", "services": ["images"], "scopes": ["access:services!service=binder"]}},
]
"""
"""The users of the group may use Ringbinder; others are known to the hub, and may not."""


def documented(token: str, binder: str) -> str:
    """The hub's configuration as the page has it, with this token and this address."""
    (found, *_) = re.findall(r"```python\n(.+?)```", _PAGE.read_text(), re.DOTALL)
    assert found.count('"..."') == found.count("https://binder.example/") == 1
    return str(found).replace("...", token).replace("https://binder.example/", binder)


@frozen
class LoginHub:
    """The hub, and the address at which it knows a Ringbinder."""

    hub: Hub
    port: int

    @property
    def binder(self) -> str:
        return f"http://127.0.0.1:{self.port}/binder/"

    def token(self, user: str, *scopes: str) -> str:
        """A new token of a user, good for `scopes`."""
        self.hub.ask("POST", f"users/{user}")
        status, made = self.hub.ask("POST", f"users/{user}/tokens", {"scopes": scopes or [ACCESS]})
        assert status == 201, made
        token: str = made["token"]
        return token


@contextmanager
def login_hub(installed: Installed, folder: Path) -> Iterator[LoginHub]:
    (port,) = free_ports(1)
    binder = f"http://127.0.0.1:{port}/binder/"
    config = _BEFORE + documented(TOKEN, binder) + _AFTER.format(password=PASSWORD, images=IMAGES_TOKEN)
    with hub(installed, folder, config) as made:
        yield LoginHub(made, port)


@frozen
class Live:
    """A Ringbinder of a hub."""

    at: LoginHub
    binder: Ringbinder
    client: httpx.AsyncClient
    """Follows no redirects, and has no cookies."""

    @property
    def address(self) -> str:
        return self.at.binder

    async def build(self, path: str, token: str = "", **headers: str) -> list[dict[str, Any]]:
        """The events of a launch or build up to its last one."""
        given = {
            "Accept": "text/event-stream",
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **headers,
        }
        events = []
        async with self.client.stream("GET", f"{self.address}build/{path}", headers=given) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
                    if events[-1]["phase"] in ("ready", "failed"):
                        break
        return events

    async def api(self, method: str, path: str, token: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"token {token}", **more.pop("headers", {})}
        return await self.client.request(method, f"{self.address}api/v1/{path}", headers=headers, **more)


Serve = Callable[..., AbstractAsyncContextManager[Live]]


def serve_for(at: LoginHub, folder: Path) -> Serve:
    """`async with serve(image="broken", sets={...}) as live`: what the hub does with an image, its name says."""

    @asynccontextmanager
    async def serve(image: str = "light", sets: Mapping[str, str] | None = None) -> AsyncIterator[Live]:
        given = {
            "Ringbinder.builder": "fake", "Ringbinder.registry": "fake", "Ringbinder.launcher": "jupyterhub",
            "Ringbinder.extra_plugins": "[fake]", "Ringbinder.disabled_plugins": "[git, gh, gl]",
            "Ringbinder.state_folder": str(folder / "state"), "BinderHub.base_url": "/binder/",
            "BinderHub.auth_enabled": "true", "BinderHub.image_prefix": f"{image}/", "BinderHub.hub_url": at.hub.url,
            "BinderHub.hub_api_token": TOKEN, "Launcher.oauth_client_id": "service-binder",
            "Launcher.oauth_redirect_uri": f"{at.binder}oauth_callback", "Launcher.user_memory": "0",
            "Launcher.retry_delay": "0.2", "Ringbinder.session_grace": "2s", **(sets or {}),
        }  # fmt: skip
        config = load((), environ={}, sets=[f"{name}={value}" for name, value in given.items()])
        sock = listen("127.0.0.1", at.port)
        async with (
            httpx.AsyncClient(trust_env=False, timeout=120) as client,
            running(config, structlog.get_logger()) as binder,
            serving(binder, sock, "127.0.0.1", 0.0),
        ):
            yield Live(at, binder, client)

    return serve


async def log_in(browser: httpx.AsyncClient, address: str, user: str) -> httpx.Response:
    """What a browser gets that opens `address` and logs in at the hub when it is asked to."""
    form = await browser.get(address, follow_redirects=True)
    assert "/hub/login" in str(form.url), form.url
    fields = {"username": user, "password": PASSWORD}
    (fields["_xsrf"],) = set(re.findall(r'name="_xsrf" value="([^"]+)"', form.text))
    return await browser.post(str(form.url), data=fields, follow_redirects=True)
