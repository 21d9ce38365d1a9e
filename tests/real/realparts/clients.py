"""Clients that are in git repositories only, played: the requests that each of them sends, and what it relies on.

Those of the npm registry run unchanged, see `npm` and `thebe`.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
from ringbinder.model import Server
from ringbinder.secret import Secret
from ringbinder.testing.kernel import Kernel

from .npm import Packages, Pages

if TYPE_CHECKING:
    from playwright.async_api import Page

_PATIENCE = aiohttp.ClientTimeout(total=600)


async def binderbot(address: str, repository: str, ref: str, code: str) -> str:
    """What `code` prints. Reads the stream with aiohttp's own headers, and opens the channels of its kernel without
    the token: by the cookie that its first request with one has set. The kernel is where the files are."""
    agent = {"User-Agent": "BinderBot-cli v0.1"}
    async with aiohttp.ClientSession(headers=agent, timeout=_PATIENCE) as client:
        ready: dict[str, Any] = {}
        async with client.get(f"{address}build/gh/{repository}/{ref}") as stream:
            async for line in stream.content:
                if line.startswith(b"data:"):
                    event = json.loads(line.partition(b":")[2])
                    assert event.get("phase") != "failed", event
                    if event.get("phase") == "ready":
                        ready = event
                        break
        own, url = {"Authorization": f"token {ready['token']}"}, ready["url"]
        async with client.post(f"{url}api/kernels", headers=own) as answer:
            assert answer.status == 201, await answer.text()
            kernel = (await answer.json())["id"]
        async with client.ws_connect(f"{url}api/kernels/{kernel}/channels") as channel:
            server = Server("played", url, Secret(ready["token"]), "")
            printed = await Kernel(server, client, kernel, channel).run(code)
        file = {"type": "file", "format": "text", "content": "put by it"}
        async with client.put(f"{url}api/contents/new.txt", headers=own, json=file) as answer:
            assert answer.status == 201, await answer.text()
        async with client.get(f"{url}api/contents/new.txt", headers=own) as answer:
            assert (await answer.json())["content"] == "put by it"
        async with client.delete(f"{url}api/kernels/{kernel}", headers=own) as answer:
            assert answer.status == 204
        async with client.post(f"{url}api/shutdown", headers=own) as answer:  # not binderbot's
            assert answer.status == 200
    return printed


_JUNIPER = """
async ({ url, repo, branch, code }) => {
  const settings = await new Promise((resolve, reject) => {
    const source = new EventSource(`${url}/build/gh/${repo}/${branch}`);
    source.onerror = () => { source.close(); reject(new Error("the stream broke")); };
    source.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.phase == "failed") { source.close(); reject(new Error(message.message)); }
      if (message.phase == "ready") {
        source.close();
        resolve({ baseUrl: message.url, wsUrl: `ws${message.url.slice(4)}`, token: message.token });
      }
    };
  });
  localStorage.setItem("juniper", JSON.stringify({ settings }));
  const headers = { Authorization: `token ${settings.token}`, "Content-Type": "application/json" };
  const body = JSON.stringify({ name: "python3" });
  const made = await fetch(`${settings.baseUrl}api/kernels?${Date.now()}`, { method: "POST", headers, body });
  if (made.status !== 201) throw new Error(`kernels: ${made.status}`);
  const id = (await made.json()).id;
  const socket = new WebSocket(`${settings.wsUrl}api/kernels/${id}/channels?session_id=a&token=${settings.token}`);
  const text = await new Promise((resolve, reject) => {
    socket.onerror = () => reject(new Error("the channels broke"));
    socket.onopen = () => socket.send(JSON.stringify({
      header: { msg_id: "m", msg_type: "execute_request", session: "a", username: "", version: "5.2", date: "" },
      parent_header: {}, metadata: {}, channel: "shell", buffers: [],
      content: { code, silent: false, store_history: true, user_expressions: {}, allow_stdin: false },
    }));
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.msg_type === "stream") resolve(message.content.text);
      if (message.msg_type === "error") reject(new Error(message.content.evalue));
    };
  });
  socket.close();
  return text;
}
"""


async def juniper(page: Page, site: Pages, address: str, repository: str, code: str) -> str:
    """What `code` prints, in a page of another origin: an EventSource, exact phases, the branch ``master``."""
    (site.folder / "juniper.html").write_text('<!doctype html><meta charset="utf-8"><title>Juniper</title>')
    await page.goto(f"{site.origin}/juniper.html")
    given = {"url": address.rstrip("/"), "repo": repository, "branch": "master", "code": code}
    return str(await page.evaluate(_JUNIPER, given))


async def clinder(packages: Packages, address: str, repository: str, ref: str) -> dict[str, Any]:
    """The last event of the npm client, which its action bundles; then its second step, which ends the server."""
    *_, ready = await packages.binderhub_client(address, f"gh/{repository}/{ref}")
    assert ready["phase"] == "ready", ready
    async with aiohttp.ClientSession() as client:
        own = {"Authorization": f"token {ready['token']}"}
        async with client.post(ready["url"] + "api/shutdown", headers=own) as answer:
            assert answer.status == 200, await answer.text()
    return ready


async def repo2docker_action(address: str, repository: str, ref: str) -> str:
    """What its script prints that makes mybinder.org build: the stream, asked for with curl's own headers."""
    curl = await asyncio.create_subprocess_exec(
        "curl", "-s", "-L", "--connect-timeout", "20", "--max-time", "900",
        f"{address}build/gh/{repository}/{ref}", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert curl.stdout is not None
    printed = ""
    try:
        async for line in curl.stdout:
            printed += line.decode()
            if '"phase": "ready"' in printed or '"phase": "failed"' in printed:
                break  # the stream stays open for a minute
    finally:
        curl.terminate()
        await curl.wait()
    return printed


async def binder_api(address: str, repository: str, ref: str) -> dict[str, Any]:
    """The last event of BinderHub's `examples/binder-api.py`, which opens its address; every event has a message."""
    headers, event = {"Accept": "text/event-stream"}, {"phase": ""}
    async with httpx.AsyncClient(trust_env=False, timeout=600, follow_redirects=True) as client:
        async with client.stream("GET", f"{address}build/gh/{repository}/{ref}", headers=headers) as stream:
            assert stream.status_code == 200
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    event = json.loads(line.partition(":")[2])
                    assert isinstance(event["message"], str)
                    if event["phase"] in ("ready", "failed"):
                        break
        assert event["phase"] == "ready", event
        opened = await client.get(event["url"], params={"token": event["token"]})
        assert opened.status_code == 200
        assert str(opened.url).startswith(event["url"])
        ended = await client.post(f"{event['url']}api/shutdown", params={"token": event["token"]})
        assert ended.status_code == 200
    return event
