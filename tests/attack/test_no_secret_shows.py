"""Secrets are planted wherever one can be; then all that Ringbinder shows or keeps is searched for them."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from textwrap import dedent
from urllib.parse import quote

import httpx
import psutil
import pytest
import yaml

CLIENT = "127.0.0.77"
HOOK = "the webhook's password"
PLANTED = {
    "the token of a plugin": "leaky-token-8f3a1c",
    "GitHub's token": "ghp_planted9d2e7b",
    "the webhook's key": "webhook-key-55aa01",
    HOOK: "webhook-pass-7c6b",
    "a header of the webhook": "header-value-31ef",
    "the key of the hashes": "hash-key-0b9d44",
    "the password in a link": "link-pass-e21f90",
    "the token in a path to open": "urlpath-token-66d0",
    "a password in the environment": "environ-pass-4410",
}

LEAKY = """
    from attrs import frozen
    from ringbinder import Secret, UserError, option

    SCHEMA = {
        "$id": "leaky/event", "version": 1, "question": "What leaks?", "type": "object",
        "additionalProperties": False, "properties": {"text": {"type": "string"}},
    }

    @frozen
    class Options:
        token: Secret = option(help="Opens everything.")

    class Leaky:
        Config = Options
        sections = ("Leaky",)

        def __init__(self, config, context):
            self.config, self.context = config, context
            context.events.register(SCHEMA)

        async def build(self, plan, target, log):
            token = self.config.token.reveal()
            self.context.events.emit("leaky/event", text=f"the token is {token}")
            self.context.log.error("building", token=token, text=f"with {token}")
            log.line(f"curl -H 'Authorization: Bearer {token}' https://me:{token}@example.org/?key={token}")
            if "user-error" in plan.repo.url:
                raise UserError("leaky", f"could not use {token}")
            if "internal" in plan.repo.url:
                raise RuntimeError(f"bug with {token}")

        async def diagnose(self, failure):
            from ringbinder import Diagnosis
            token = self.config.token.reveal()
            return Diagnosis(f"cause {token}", f"line {token}", f"advice {token}")

        async def health(self):
            raise RuntimeError(f"unwell with {self.config.token.reveal()}")
"""


@contextmanager
def served(folder: Path, form: str) -> Iterator[tuple[str, Path, psutil.Process]]:
    site = folder / "site"
    info = site / "ringbinder_leaky-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "leaky.py").write_text(dedent(LEAKY))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ringbinder-leaky\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ringbinder.plugins]\nleaky = leaky:Leaky\n")
    config = {
        "Ringbinder": {
            "builder": "fake", "registry": "fake", "launcher": "fake", "extra_plugins": ["fake"],
            "sinks": ["jsonlines", "sqlite", "webhook"], "log_format": form,
            "state_folder": str(folder / "state"), "cache_folder": str(folder / "cache"),
        },
        "Leaky": {"token": PLANTED["the token of a plugin"]},
        "GitHubRepoProvider": {"access_token": PLANTED["GitHub's token"]},
        "WebhookSink": {
            # Nobody listens there: every attempt fails and is told.
            "url": f"http://hook:{PLANTED[HOOK]}@127.0.0.1:1/in",
            "secret": PLANTED["the webhook's key"],
            "headers": {"X-Key": PLANTED["a header of the webhook"]},
        },
        "EventLog": {"hash_fields": ["session"], "hash_key": PLANTED["the key of the hashes"]},
    }  # fmt: skip
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    environ = {
        **os.environ,
        "PYTHONPATH": str(site),
        "GIT_PASSWORD": PLANTED["a password in the environment"],
        "SECRET_TOKEN": PLANTED["a password in the environment"],
    }
    program = "from ringbinder_server.cli import main; main()"
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", "--port", "0", "-c", str(file), "-vv"],
            env=environ, stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, log.read_text()
        yield (
            json.loads(line)["address"] if form == "json" else line.split()[-1],
            log,
            psutil.Process(process.pid),
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def shapes(secret: str) -> set[bytes]:
    """A secret as it is, and as it would stand in an address or a header."""
    coded = base64.b64encode(secret.encode())
    return {secret.encode(), quote(secret, safe="").encode(), coded, secret.encode().hex().encode()}


@pytest.mark.real("git")
@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_shows_anywhere(tmp_path: Path, form: str) -> None:
    shown: dict[str, bytes] = {}
    commands: set[str] = set()
    link_pass, path_token = PLANTED["the password in a link"], PLANTED["the token in a path to open"]
    bad_git = quote(f"http://me:{link_pass}@127.0.0.1:1/repo.git", safe="")
    transport = httpx.HTTPTransport(local_address=CLIENT)
    with (
        served(tmp_path, form) as (url, log, process),
        httpx.Client(transport=transport, trust_env=False, timeout=60) as client,
    ):
        paths = [
            "build/fake/good/repo/main",
            "build/fake/user-error/repo/main",
            "build/fake/internal/repo/main",
            f"build/git/{bad_git}/main",
            f"build/fake/{quote(f'https://me:{link_pass}@e.org', safe='')}/repo/main",
            "",
            f"v2/git/{bad_git}/main?urlpath={quote(f'lab?token={path_token}', safe='')}",
            f"api/v1/link?text={quote(f'https://me:{link_pass}@127.0.0.1/x.git', safe='')}",
            "nowhere",
            "versions",
            "health",
            "metrics",
        ]
        for path in paths:
            headers = {"Accept": "text/event-stream"} if path.startswith("build") else {"Accept": "text/html"}
            with client.stream("GET", url + path, headers=headers) as answer:
                chunks = []
                for chunk in answer.iter_bytes():
                    chunks.append(chunk)
                    for child in [process, *process.children(recursive=True)]:
                        try:
                            commands.add(" ".join(child.cmdline()))
                        except psutil.Error:
                            continue
                    if b'"ready"' in chunk:
                        break
                shown[path] = b"".join(chunks)
        deadline = time.monotonic() + 60
        while b"launch-failed" not in _files(tmp_path / "state") and time.monotonic() < deadline:
            time.sleep(0.1)
    shown["log"] = log.read_bytes()
    shown["files"] = _files(tmp_path / "state") + _files(tmp_path / "cache")
    shown["argv"] = "\n".join(commands).encode()

    assert b'"ready"' in shown[paths[0]]
    assert b"could not use" in shown["log"] or b"cause" in shown[paths[1]]
    assert b"the token is [secret]" in shown["files"]
    assert b"webhook" in shown["health"]
    assert b"sink:webhook" in shown["health"]
    if form == "json":
        lines = [json.loads(line) for line in shown["log"].splitlines() if line.startswith(b"{")]
        assert {"request", "session", "run"} <= set().union(*lines)
    leaks = [
        f"{what} in {place}"
        for what, secret in PLANTED.items()
        for place, text in shown.items()
        if any(shape in text for shape in shapes(secret)) and not _echoes(place, secret)
    ]
    assert leaks == []
    assert CLIENT.encode() not in shown["files"]


def _echoes(place: str, secret: str) -> bool:
    """Whether the answer only gives a client its own link back."""
    return secret in place and place.startswith(("build/fake/", "v2/", "api/v1/link"))


def _files(folder: Path) -> bytes:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".sqlite":
            with closing(sqlite3.connect(path)) as db:
                found += [line.encode() for line in db.iterdump()]
        elif path.is_file() and path.name not in ("lock",):
            found.append(path.read_bytes())
    return b"\n".join(found)
