"""A token server for the real registry: signs tokens, and is as particular as three others are."""

from __future__ import annotations

import base64
import datetime
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import jwt
from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

Behaviour = Literal["hub", "gcr", "strict"]
ISSUER = "token-server-of-the-tests"
READER = "reader"
"""A user who may push nothing."""


@define(eq=False)
class TokenServer:
    """`behaviour`:

    * ``hub``: everybody gets a token; one without a right in it, where there is none.
    * ``gcr``: takes the two user names of Google's, and answers with `token` alone.
    * ``strict``: no token for nobody, one `service` and nothing that it does not know, answers with
      `access_token` alone and does not say how long it lasts.
    """

    behaviour: Behaviour
    service: str
    users: dict[str, str]
    url: str = ""
    scopes: list[str] = field(factory=list)
    """What it was asked for."""
    expired: int = 0
    """So many of the next tokens have ended before they are given out, as if much time had passed since."""
    _key: rsa.RSAPrivateKey = field(init=False)
    _certificate: x509.Certificate = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def write_certificate(self, path: Path) -> None:
        path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def write_key_and_certificate(self, path: Path) -> None:
        key = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(key + self._certificate.public_bytes(serialization.Encoding.PEM))

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadingHTTPServer(("127.0.0.1", 0), _handler(self)) as server:
            self.url = f"http://127.0.0.1:{server.server_port}/token"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def answer(self, query: dict[str, list[str]], authorization: str) -> tuple[int, dict[str, Any]]:
        user = None
        if authorization.startswith("Basic "):
            user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
            if self.users.get(user) != password:
                return 401, {"details": "incorrect username or password"}
        if self.behaviour == "strict":
            if user is None:
                return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}
            # `account` is docker's own habit.
            known = set(query) - {"account"} == {"service", "scope"}
            if not known or query["service"] != [self.service] or query.get("account", [user]) != [user]:
                return 400, {"errors": [{"code": "UNSUPPORTED", "message": f"unexpected: {query}"}]}
        scopes = [one for scope in query.get("scope", []) for one in scope.split()]
        self.scopes += scopes
        token = self._sign(user, scopes)
        if self.behaviour == "strict":
            return 200, {"access_token": token}
        lasts = {"expires_in": 300, "issued_at": datetime.datetime.now(datetime.UTC).isoformat()}
        return 200, {"token": token, **lasts, **({"access_token": token} if self.behaviour == "hub" else {})}

    def _sign(self, user: str | None, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":", 2)
            # Docker Hub: what is nobody's, or somebody else's, cannot be told apart.
            mine = user is not None and (self.behaviour != "hub" or name.startswith(f"{user}/"))
            rights = [action for action in actions.split(",") if mine and (user, action) != (READER, "push")]
            access.append({"type": kind, "name": name, "actions": rights})
        now = int(time.time())
        if self.expired:
            self.expired -= 1
            now -= 3600
        claims = {
            "iss": ISSUER, "sub": user or "", "aud": self.service, "exp": now + 300, "nbf": now - 10,
            "iat": now, "jti": uuid.uuid4().hex, "access": access,
        }  # fmt: skip
        der = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"x5c": [der]})


def _handler(server: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            status, content = server.answer(query, self.headers.get("Authorization", ""))
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler
