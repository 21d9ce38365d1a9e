"""Run in a container, by the environment's Python: waits for its Jupyter, asks it, and prints what it answers as JSON.

python ask.py BASE_URL TOKEN KERNEL...     each KERNEL as name=code, whose output is part of the answer
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable
from typing import Any
from uuid import uuid4

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

ADDRESS = "127.0.0.1:8888"


def request(url: str, token: str, method: str = "GET", body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Authorization": f"token {token}"}, method=method)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def first_page(url: str, token: str) -> str:
    """Where the server leads who asks for it."""
    asked = urllib.request.Request(url, headers={"Authorization": f"token {token}"})
    try:
        urllib.request.build_opener(_Stay).open(asked, timeout=60).close()
    except urllib.error.HTTPError as answer:
        return str(answer.headers.get("Location", answer.code))
    return ""


async def run(url: str, token: str, kernel: str, code: str) -> str:
    """What `code` prints in a new kernel."""
    made = await asyncio.to_thread(request, f"{url}api/kernels", token, "POST", {"name": kernel})
    channels = HTTPRequest(f"ws{url[4:]}api/kernels/{made['id']}/channels", headers={"Authorization": f"token {token}"})
    # What is asked before the kernel is connected may be lost: it tells first who it is.
    connection = await websocket_connect(channels)
    await _ask(connection, "kernel_info_request", {})
    while (await _next(connection))["msg_type"] != "kernel_info_reply":
        pass
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
    mine, printed = await _ask(connection, "execute_request", content), ""
    while True:
        message = await _next(connection)
        if message["parent_header"].get("msg_id") != mine:
            continue
        if message["msg_type"] == "stream":
            printed += message["content"]["text"]
        elif message["msg_type"] == "error":
            printed += f"{message['content']['ename']}: {message['content']['evalue']}"
        elif message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return printed


async def _ask(connection: WebSocketClientConnection, kind: str, content: object) -> str:
    own = uuid4().hex
    header = {"msg_id": own, "msg_type": kind, "username": "", "session": uuid4().hex, "version": "5.3", "date": ""}
    message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
    await connection.write_message(json.dumps({**message, "buffers": []}))
    return own


async def _next(connection: WebSocketClientConnection) -> dict[str, Any]:
    text = connection.read_message()
    assert isinstance(text, Awaitable)
    answer = await text
    assert answer is not None, "the connection to the kernel was closed"
    message: dict[str, Any] = json.loads(answer)
    return {"msg_type": message["header"]["msg_type"], **message}


async def main(base_url: str, token: str, *kernels: str) -> None:
    url = f"http://{ADDRESS}{base_url}"
    while True:
        try:
            await asyncio.to_thread(request, f"{url}api/status", token)
            break
        except OSError:
            await asyncio.sleep(0.1)
    answer = {
        "first_page": await asyncio.to_thread(first_page, url, token),
        "printed": {
            name: await run(url, token, name, code) for name, _, code in (each.partition("=") for each in kernels)
        },
    }
    sys.stdout.write(json.dumps(answer))


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 240))
