"""Text of strangers on a terminal: nothing steers it, reorders it, or looks like another line."""

from __future__ import annotations

import ast
import json
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import ringbinder_server.terminal
import structlog
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.protocol import Event
from ringbinder_server import logging
from ringbinder_server.cli.displays import JsonLines, Plain
from ringbinder_server.terminal import echo, echo_text, escaped, harmless, lines, one_line

if TYPE_CHECKING:
    from tests.cli.conftest import Program
    from tests.server.conftest import Serve

Sets = Callable[..., list[str]]

TITLE = "\x1b]0;title\x07"
LINK = "\x1b]8;;https://evil.example\x1b\\github.com\x1b]8;;\x1b\\"
CLIPBOARD = "\x1b]52;c;Y3VybA==\x07"
DEVICE = "\x1bP+q\x1b\\\x90q\x9c"
ERASE = "\x1b[1A\x1b[2K\x9b2J\r"
BIDI = "\u202egpj\u202c\u2066x\u2069\u200f\u200e\u061c"
HOSTILE = f"{TITLE}{LINK}{CLIPBOARD}{DEVICE}{ERASE}{BIDI}\u2028\x08\x00\x7f\x85end"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
ALPHABET = st.text(st.sampled_from(HOSTILE + "\x1b[]0;\\m\n\tab\ud800"))


@given(ALPHABET | st.text())
def test_text_harmless_steers_no_terminal(text: str) -> None:
    assert not STEERING.search(harmless(text))
    assert not STEERING.search("".join(lines(text)))
    assert "\n" not in one_line(text)
    harmless(text).encode()


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"], exclude_characters="\ufffd")))
def test_text_without_controls_stays(text: str) -> None:
    assert harmless(text) == text


@given(st.text())
def test_json_escaped_is_the_same_json(text: str) -> None:
    shown = escaped(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(shown) == {"text": text}
    assert not STEERING.search(shown)


def test_echo_writes_one_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"a{HOSTILE}\nb", "c")
    echo_text("d\ne", err=True)
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (2, "d\ne\n")
    assert not STEERING.search(out)


@pytest.mark.parametrize("display", [Plain(), JsonLines()], ids=["plain", "json"])
def test_display_shows_hostile_events_harmlessly(display: Plain, capfd: pytest.CaptureFixture[str]) -> None:
    display.show(Event("building", f"{HOSTILE}\n"))
    display.failed(Event("failed", f"{HOSTILE}\n", {"line": HOSTILE, "advice": HOSTILE, "code": HOSTILE}), ())
    display.print(HOSTILE)
    display.ready(f"http://127.0.0.1/{HOSTILE}", 1.0)
    display.built(HOSTILE)
    shown = "".join(capfd.readouterr())
    assert "end" in shown
    assert not STEERING.search(shown)


@pytest.mark.parametrize("form", ["console", "json"])
def test_log_shows_hostile_values_harmlessly(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        log = logging.set_up("info", form="json" if form == "json" else "console")
        log.info(f"event {HOSTILE}\nforged", value=f"{HOSTILE}\n2026-01-01 [info] forged", other=[HOSTILE])
        log.error("failed", exc_info=ValueError(HOSTILE))
    finally:
        structlog.configure(**before)
    shown = capfd.readouterr().err
    assert not STEERING.search(shown)
    assert not [line for line in shown.splitlines() if line.startswith(("forged", "2026-01-01"))]
    assert "ValueError" in shown


@pytest.mark.slow
def test_commands_print_hostile_state_harmlessly(ringbinder: Program, fakes: Sets) -> None:
    """What sessions, consents and events hold came from links and repositories."""
    session = ringbinder.folder / "state" / "sessions" / "0123456789abcdef"
    (session / "box" / "work").mkdir(parents=True)
    facts = {
        "image": "i",
        "repo_url": HOSTILE,
        "started": time.time(),
        "ended": time.time(),
        "reason": HOSTILE,
    }
    (session / "session.json").write_text(json.dumps(facts))
    assert ringbinder("consent", "list", *fakes()).returncode == 0
    with sqlite3.connect(ringbinder.folder / "state" / "ringbinder.sqlite") as db:
        db.execute("INSERT INTO consents (repository, given) VALUES (?, ?)", (f"{HOSTILE}\nforged", time.time()))
    db.close()
    argument = HOSTILE.replace("\0", "")
    for command in (
        ["sessions", "list"], ["sessions", "rm", argument], ["consent", "list"], ["consent", "forget", argument],
        ["consent", "forget", "--all"], ["images", "list", *fakes()], ["resolve", argument], ["launch", argument],
        ["plugins", "check", argument], ["doctor", "--set", f"Ringbinder.builder={argument}"],
    ):  # fmt: skip
        done = ringbinder(*command)
        shown = done.stdout + done.stderr
        assert shown.strip(), command
        assert command[-1] != "list" or "github.com" in shown, "what is hostile was not shown at all"
        assert not STEERING.search(shown), command
        assert not [line for line in shown.splitlines() if line.startswith("forged")], command


async def test_pages_isolate_names_that_reorder(serve: Serve) -> None:
    name = quote(f"owner{BIDI}/name{BIDI}")
    async with serve() as live:
        page = (await live.client.get(f"{live.address}v2/fake/{name}/main{quote(BIDI)}")).text
        assert "\u202e" in page, "the name is not shown"
        head, body = page.split("<body", 1)
        assert not STEERING.search(head.partition("<title>")[2].partition("</title>")[0])
        script = re.compile(r"<script.*?</script>", re.DOTALL)
        shown = re.sub(r"<(bdi|code)\b.*?</\1>", "", script.sub("", body), flags=re.DOTALL)
        assert not STEERING.search(re.sub(r"<[^>]*>", "", shown)), "not isolated"


def test_commands_write_by_one_module_alone() -> None:
    folder = Path(ringbinder_server.terminal.__file__).parent
    calls = [
        f"{file.name}:{node.lineno}"
        for file in folder.rglob("*.py")
        if file.name != "terminal.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "click.secho", "print")
    ]
    assert calls == [], "use ringbinder_server.terminal"
