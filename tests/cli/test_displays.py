"""What is shown of a log line, and which address is opened, whatever a repository or a link says."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import UserError
from ringbinder.launches.links import safe_urlpath
from ringbinder.model import Server
from ringbinder.protocol import Event
from ringbinder.secret import Secret
from ringbinder_server.cli.browser import address, has_desktop, tunnel_to
from ringbinder_server.cli.displays import clock, share_done
from ringbinder_server.terminal import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Program

SERVER = Server("a", "http://127.0.0.1:4000/base/", Secret("t&k=1"))
STEERING = st.text(st.sampled_from("\x1b[]0;7mHA\\\x07\x9b\r\n\t\x00\x08ab %é"))


@given(STEERING | st.text())
def test_lines_cannot_steer_a_terminal(message: str) -> None:
    for line in lines(message):
        assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in line)


@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "Zs"], max_codepoint=0x2FF), max_size=20), min_size=1))
def test_ordinary_lines_are_shown_as_they_are(parts: list[str]) -> None:
    message = "\n".join(["start", *parts, "end"])
    assert lines(message + "\n") == ["start", *parts, "end"]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("\x1b[1;32mok\x1b[0m\n", ["ok"]),
        ("10%\r20%\r30%\n", ["30%"]),
        ("windows\r\nline\r\n", ["windows", "line"]),
        ("\x1b]0;title\x07text", ["text"]),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", ["link"]),
        ("a\tb", ["a       b"]),
        ("", [""]),
    ],
)
def test_lines(message: str, shown: list[str]) -> None:
    assert lines(message) == shown


def test_share_of_a_push() -> None:
    half, whole = {"current": 5, "total": 10}, {"current": 30, "total": 30}
    assert share_done(Event("pushing", "", {"progress": {"a": half, "b": whole, "c": "Pushed"}})) == 35 / 40
    for nothing in ({}, {"progress": {"a": "Waiting"}}, {"progress": {"a": {"current": 1}}}):
        assert share_done(Event("pushing", "", nothing)) is None


def test_clock() -> None:
    assert [clock(value) for value in (0.04, 59.94, 61, 3725)] == ["0.0 s", "59.9 s", "1:01", "1:02:05"]


@pytest.mark.parametrize(
    ("urlpath", "opened"),
    [
        ("", "lab?token=t%26k%3D1"),
        ("lab/tree/a b.ipynb", "lab/tree/a%20b.ipynb?token=t%26k%3D1"),
        ("lab/tree/a%20b.ipynb", "lab/tree/a%20b.ipynb?token=t%26k%3D1"),
        ("rstudio?x=1&y=2#top", "rstudio?x=1&y=2&token=t%26k%3D1#top"),
        ("//evil.example/lab", "lab?token=t%26k%3D1"),
    ],
)
def test_address(urlpath: str, opened: str) -> None:
    assert address(SERVER, urlpath) == SERVER.url + opened


@given(st.text() | st.text(st.sampled_from("/\\:@?#%.2eh\t\n[]")))
def test_the_token_goes_to_the_server_alone(urlpath: str) -> None:
    try:
        path = safe_urlpath(urlpath)
    except UserError:
        return
    opened = urlsplit(address(SERVER, path))
    assert (opened.scheme, opened.netloc) == ("http", "127.0.0.1:4000")
    assert opened.path.startswith("/base/")
    assert parse_qs(opened.query)["token"][-1] == "t&k=1"


@pytest.mark.parametrize(
    ("env", "there"),
    [
        ({}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"BROWSER": "firefox"}, True),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, False),
    ],
)
def test_where_there_is_a_desktop(env: dict[str, str], there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", "linux")
    assert has_desktop() is there


def test_a_browser_is_opened_and_its_command_line_shows_no_token(
    ringbinder: Program, fakes: Callable[..., list[str]]
) -> None:
    """The browser is a program that blocks until the launch ends, as one in the terminal would."""
    browser, pipe = ringbinder.folder / "browser", ringbinder.folder / "told"
    os.mkfifo(pipe)
    browser.write_text(f'#!/bin/sh\necho "$@" > {pipe}\nexec sleep 600\n')
    browser.chmod(0o755)
    with ringbinder.start("launch", "fake/a/b/c", *fakes(), BROWSER=str(browser)) as process:
        assert process.stdout is not None
        opened = process.stdout.readline().strip()
        arguments = pipe.read_text().strip()
        token = opened.rpartition("=")[2]
        page = Path(urlsplit(arguments).path)
        assert arguments == page.as_uri()
        assert token not in arguments
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert opened in page.read_text()
        windows = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(60) == 0
        assert not page.exists()
        for window in windows:
            window.kill()
    silent = ringbinder.start("launch", "fake/a/b/c", "--no-browser", *fakes(), BROWSER="/no/such/browser")
    with silent as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.terminate()
        assert process.wait(60) == 0


def test_over_ssh_the_tunnel_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://localhost:4321/lab?token=planted"
    monkeypatch.setenv("LOGNAME", "user")
    for connection, command in (
        ("", ""),
        ("192.0.2.1 50000 192.0.2.2 22", "ssh -N -L 4321:127.0.0.1:4321 user@192.0.2.2"),
        ("192.0.2.1 50000 192.0.2.2 2222", "ssh -N -L 4321:127.0.0.1:4321 -p 2222 user@192.0.2.2"),
        ("2001:db8::1 50000 2001:db8::2 22", "ssh -N -L 4321:127.0.0.1:4321 user@2001:db8::2"),
        ("nonsense", ""),
    ):
        monkeypatch.setenv("SSH_CONNECTION", connection)
        assert tunnel_to(url) == command
