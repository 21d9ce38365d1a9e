"""What the how-tos for plugin authors show works as it stands there."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import ringbinder
from attrs import frozen
from ringbinder import Builder, Context, EventsRejected, Plugin, Sink, TransientError, concurrency, option, process
from ringbinder.testing import memory_app

from .pages import ROOT, block

pytest_plugins = "ringbinder.testing.pytest"

SHOWN = block((ROOT / "docs" / "how-to" / "write-a-plugin.md").read_text(), "python")


def plugin(base: type, hook: str, command: str = "true", **attributes: Any) -> Any:
    """A class with the method of that name that the page shows."""
    shell = ("sh", "-c", command)

    @frozen
    class Options:
        command: tuple[str, ...] = option(shell, help="The builder's command.")
        url: str = option("https://receiver.example/", help="Where the sink sends events.")

    (code,) = (code for code in SHOWN if code.startswith(f"async def {hook}("))
    names = {**vars(ringbinder), "Path": Path, "process": process, "tempfile": tempfile}
    exec(code, names)
    attributes |= {"Config": Options, "sections": ("Shown",), hook: names[hook]}
    return type("Shown", (base,), attributes)


async def test_shown_policy_refuses_other_hosts(tmp_path: Path) -> None:
    async with memory_app(tmp_path, {"policy:shown": plugin(Plugin, "admit")}) as app:
        events = await app.launch("fake/a/b/main")
    assert events[-1].phase == "failed"
    assert "git.example.org" in events[-1].message


async def test_shown_waiting_line_shows_its_place(tmp_path: Path) -> None:
    (code,) = (code for code in SHOWN if code.startswith("class OneAtATime("))
    names: dict[str, Any] = {**vars(ringbinder), **vars(concurrency)}
    names["AbstractAsyncContextManager"] = AbstractAsyncContextManager
    exec(code, names)
    async with memory_app(tmp_path, {"policy:shown": names["OneAtATime"]}) as app:
        launches = await asyncio.gather(*(app.launch("fake/a/b/main") for _ in range(3)))
    assert [events[-1].phase for events in launches] == ["ready"] * 3
    places = [event.data["queue"]["position"] for events in launches for event in events if "queue" in event.data]
    assert places == [1, 2, 1]


@pytest.mark.parametrize(("command", "phase"), [("echo made $IMAGE", "ready"), ("exit 3", "failed")])
async def test_shown_builder_builds(tmp_path: Path, command: str, phase: str) -> None:
    builder = plugin(Builder, "build", command, makes="oci")
    async with memory_app(tmp_path, {"builder:shown": builder}) as app:
        events = await app.launch("fake/a/b/main")
    assert events[-1].phase == phase, events[-1].message
    assert any("made fake-" in event.message for event in events) is (phase == "ready")


@pytest.mark.parametrize(("status", "error"), [(200, None), (422, EventsRejected), (503, TransientError)])
async def test_shown_sink_reports_the_answer(
    plugin_context: Callable[..., Context], status: int, error: type[Exception] | None
) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status)

    shown = plugin(Sink, "emit")
    sink = shown(shown.Config(), plugin_context("shown", answer=answer))
    if error is None:
        await sink.emit([])
    else:
        with pytest.raises(error, match=str(status)):
            await sink.emit([])


WHOLE = [page for page in sorted((ROOT / "docs" / "how-to").glob("*.md")) if "## Its tests" in page.read_text()]


@pytest.mark.parametrize("page", WHOLE, ids=lambda page: page.stem)
def test_shown_plugin_passes_its_shown_tests(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    files = re.findall(r"^`(\w+\.py)`", text, re.MULTILINE)
    for name, code in zip(files, block(text, "python"), strict=True):
        (tmp_path / name).write_text(code)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        tmp_path / "pytest",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_whole_plugins_are_shown() -> None:
    assert {"write-a-launcher", "write-a-wrapper", "write-an-auth-plugin", "test-a-plugin"} == {p.stem for p in WHOLE}
