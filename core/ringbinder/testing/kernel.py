"""A Python kernel of a launched server, to see that its cells run."""

from __future__ import annotations

import json
from uuid import uuid4

import aiohttp
from attrs import define

from ..model import Server


def api(server: Server) -> aiohttp.ClientSession:
    """A client of its API, for addresses relative to its own: ``api/kernels``."""
    return aiohttp.ClientSession(server.url, headers={"Authorization": f"token {server.token.reveal()}"})


@define
class Kernel:
    """A Python kernel of a running server, spoken to as the notebook does."""

    server: Server
    """That it runs in."""
    client: aiohttp.ClientSession
    """Closed with the kernel."""
    id: str
    """Jupyter's."""
    socket: aiohttp.ClientWebSocketResponse
    """Over which it is spoken to."""

    async def run(self, code: str) -> str:
        """What `code` prints; an error's text stands in it too."""
        name = uuid4().hex
        header = {"msg_id": name, "msg_type": "execute_request", "session": name, "username": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        await self.socket.send_json({**message, "channel": "shell", "buffers": []})
        reason = ""
        async for answer in self.socket:
            data = json.loads(answer.data)
            if data["parent_header"].get("msg_id") != name:
                continue
            match data["msg_type"]:
                case "stream":
                    reason += data["content"]["text"]
                case "error":
                    reason += f"{data['content']['ename']}: {data['content']['evalue']}"
                case "status" if data["content"]["execution_state"] == "idle":
                    return reason
        raise AssertionError(f"the kernel went away; it had said: {reason}")

    async def close(self) -> None:
        await self.socket.close()
        await self.client.close()


async def open_kernel(server: Server) -> Kernel:
    """Starts one; close it when done."""
    client = api(server)
    async with client.post("api/kernels", json={"name": "python3"}) as answer:
        assert answer.status == 201, await answer.text()
        kernel = (await answer.json())["id"]
    socket = await client.ws_connect(f"api/kernels/{kernel}/channels", timeout=aiohttp.ClientWSTimeout())
    return Kernel(server, client, kernel, socket)
