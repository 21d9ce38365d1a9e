"""Run in a container: as much of a JupyterHub as `jupyterhub-singleuser` asks for. Its token is the user's."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER = {
    "name": "somebody", "kind": "user", "admin": False, "groups": [], "session_id": None,
    "scopes": ["access:servers!server=somebody/"],
}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.rstrip("/") == "/hub/api":
            self._send(200, {"version": "5.0.0"})
        else:
            self._send_authorized(USER)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send_authorized({})

    def _send_authorized(self, content: object) -> None:
        self._send(200 if self.headers.get("Authorization") == f"token {sys.argv[1]}" else 403, content)

    def _send(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", 8081), Hub).serve_forever()
