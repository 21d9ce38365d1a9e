"""A stand-in for Jupyter in servers of the tests that need no kernel: it starts at once, and knows its token.

It takes what the hub's side gives to a Jupyter: its arguments, and the token in JUPYTER_TOKEN; or, where people log
in, an address, and then it answers to nobody.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

given = dict(argument[2:].split("=", 1) for argument in sys.argv if argument.startswith("--ServerApp."))
token = os.environ.get("JUPYTER_TOKEN")
own = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
base = given.get("ServerApp.base_url", own.path)
ip, port = (
    given.get("ServerApp.ip", own.hostname or "127.0.0.1"),
    int(given.get("ServerApp.port", own.port or 0)),
)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = token is not None and self.headers.get("Authorization", "") == f"token {token}"
        self.send_response(404 if self.path != f"{base}api/status" else 200 if known else 403)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


ThreadingHTTPServer((ip, port), Handler).serve_forever()
