"""The jsonlines sink: whole lines, in a file that others may move, or on standard output."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringbinder.errors import ConfigError
from ringbinder.plugins.context import Context
from ringbinder.protocol import SinkEvent
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from ringbinder.secret import Secret
from ringbinder_sinks.jsonlines import JsonLinesOptions, JsonLinesSink
from structlog.testing import capture_logs

Make = Callable[[str | Path], JsonLinesSink]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    services = Services(structlog.get_logger(), Paths(tmp_path / "state", tmp_path / "cache"))
    context = Context("jsonlines", services, services.log)
    yield lambda path: JsonLinesSink(JsonLinesOptions(str(path)), context)
    await services.close()


def event(number: int, **more: object) -> SinkEvent:
    return SinkEvent("example.org/test", 3, {"number": number, **more}, timestamp=1_700_000_000.5)


def numbers(path: Path) -> list[int]:
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line)["number"] for line in text.splitlines()]


def test_found_by_its_entry_point() -> None:
    (entry,) = entry_points(group="ringbinder.sinks", name="jsonlines")
    assert entry.load() is JsonLinesSink


async def test_capsules_are_appended_line_by_line(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "deep" / "events.jsonl"
    sink = make(path)
    async with sink.lifespan():
        assert path.read_bytes() == b""
        await sink.emit([event(1, text="two\nlines, ünïcode \udcff")])
        await sink.emit([event(2), event(3)])
    first, *_ = path.read_text().splitlines()
    assert json.loads(first) == {
        "timestamp": "2023-11-14T22:13:20.500000Z",
        "schema": "example.org/test",
        "version": 3,
        "number": 1,
        "text": "two\nlines, ünïcode \udcff",
    }
    again = make(path)
    async with again.lifespan():
        await again.emit([event(4)])
    assert numbers(path) == [1, 2, 3, 4]


@given(
    batches=st.lists(
        st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.booleans(), max_size=4))
    )
)
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_fields_come_back(
    make: Make, tmp_path_factory: pytest.TempPathFactory, batches: list[list[dict[str, object]]]
) -> None:
    path = tmp_path_factory.mktemp("any") / "events.jsonl"
    sink = make(path)
    async with sink.lifespan():
        for batch in batches:
            await sink.emit([SinkEvent("s", 1, fields, timestamp=0.0) for fields in batch])
    written = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    capsule = {"timestamp": "1970-01-01T00:00:00.000000Z", "schema": "s", "version": 1}
    assert written == [capsule | fields for batch in batches for fields in batch]


async def test_a_file_that_is_not_open_to_everybody(make: Make, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with make(tmp_path / "events.jsonl").lifespan():
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "events.jsonl").stat().st_mode) == 0o640


async def test_a_relative_path_and_the_default_are_in_the_state_folder(make: Make, tmp_path: Path) -> None:
    assert JsonLinesOptions().path == "events.jsonl"
    sink = make("sub/events.jsonl")
    async with sink.lifespan():
        await sink.emit([event(1)])
    assert numbers(tmp_path / "state" / "sub" / "events.jsonl") == [1]


async def test_home_is_understood(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with make("~/events.jsonl").lifespan():
        pass
    assert (tmp_path / "events.jsonl").exists()


@pytest.mark.parametrize("name", ["folder", "file/events.jsonl"])
async def test_a_path_that_cannot_be_a_file_is_refused_at_the_start(make: Make, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        async with make(tmp_path / name).lifespan():
            pass
    (problem,) = caught.value.problems
    assert "JsonLinesSink.path" in problem
    assert "'jsonlines'" in problem
    assert str(tmp_path / name) in problem
    assert "directory" in problem


@pytest.mark.parametrize("how", ["rename", "delete", "delete folder", "replace"])
async def test_file_that_is_moved_away_is_made_again(make: Make, tmp_path: Path, how: str) -> None:
    path, moved = tmp_path / "logs" / "events.jsonl", tmp_path / "events.jsonl.1"
    sink = make(path)
    async with sink.lifespan():
        await sink.emit([event(1)])
        if how == "delete":
            path.unlink()
        else:
            path.rename(moved)
        if how == "delete folder":
            path.parent.rmdir()
        if how == "replace":
            path.write_text('{"number": 0}\n')
        await sink.emit([event(2)])
        await sink.emit([event(3)])
    assert numbers(path) == ([0, 2, 3] if how == "replace" else [2, 3])
    if how != "delete":
        assert numbers(moved) == [1]


async def test_a_file_that_is_truncated_goes_on_from_its_start(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = make(path)
    async with sink.lifespan():
        await sink.emit([event(1)])
        os.truncate(path, 0)
        await sink.emit([event(2)])
    assert numbers(path) == [2]


async def test_a_torn_line_is_ended_first(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"number": 1}\n{"num')
    sink = make(path)
    async with sink.lifespan():
        await sink.emit([event(2)])
    assert path.read_text().splitlines()[1] == '{"num'
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()[::2]] == [1, 2]


async def test_a_full_disk_is_reported_and_the_next_line_is_whole(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = make(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with sink.lifespan():
        await sink.emit([event(1)])
        # No file of this process may grow beyond this size, as on a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30, limits[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                await sink.emit([event(2)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        await sink.emit([event(2)])
    first, torn, last = path.read_text().splitlines()
    assert len(torn) == 30
    assert [json.loads(line)["number"] for line in (first, last)] == [1, 2]


async def test_what_is_not_json_is_left_out_and_named(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    loop: list[object] = []
    loop.append(loop)
    bad = [Secret("hunter22"), object(), float("nan"), loop, {(1, 2): 3}]
    sink = make(path)
    with capture_logs() as logs:
        async with sink.lifespan():
            await sink.emit([event(1), *[event(0, bad=value) for value in bad], event(2)])
    assert numbers(path) == [1, 2]
    assert [entry["schema"] for entry in logs] == ["example.org/test"] * len(bad)
    assert "hunter22" not in str(logs)


async def test_writers_at_once_do_not_mix_lines(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sinks = [make(path) for _ in range(3)]
    await asyncio.gather(
        *[
            sink.emit([event(sign * 1000 + number, padding="x" * 5000) for number in range(20)])
            for sign, sink in enumerate(sinks * 3)
        ]
    )
    assert len(numbers(path)) == 180
    starts = [number // 1000 for number in numbers(path)][::20]
    assert sorted(starts) == list(range(9))
    assert [number % 1000 for number in numbers(path)] == list(range(20)) * 9
    for sink in sinks:
        async with sink.lifespan():
            pass


async def test_standard_output(make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sink = make("-")
    async with sink.lifespan():
        await sink.emit([event(1), event(2)])
    assert [json.loads(line)["number"] for line in capsys.readouterr().out.splitlines()] == [1, 2]
    assert list(tmp_path.iterdir()) == []


def test_closed_pipe_as_standard_output_is_the_sinks_error() -> None:
    code = """
import asyncio, os, sys
from pathlib import Path
import structlog
from ringbinder.plugins.context import Context
from ringbinder.protocol import SinkEvent
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from ringbinder_sinks.jsonlines import JsonLinesOptions, JsonLinesSink
sys.stdin.readline()
services = Services(structlog.get_logger(), Paths(Path("/nonexistent"), Path("/nonexistent")))
sink = JsonLinesSink(JsonLinesOptions("-"), Context("jsonlines", services, services.log))
try:
    asyncio.run(sink.emit([SinkEvent("s", 1, {})]))
except BrokenPipeError:
    os.close(1)
    os._exit(7)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.wait(60) == 7
