"""Log lines: their form, a level for each plugin, and ids that lead from a request to a line of a build."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from ringbinder.app import running
from ringbinder.config.loading import load
from ringbinder.model import LaunchRequest
from ringbinder.secret import Secret
from ringbinder_server.logging import set_up


@pytest.fixture(autouse=True)
def logging_is_restored() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers), root.level, logging.getLogger("ringbinder").level
    structured = structlog.get_config()
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logging.getLogger("ringbinder").setLevel(before[2])
    structlog.configure(**structured)


def test_json_is_one_object_a_line_and_secrets_are_scrubbed(capsys: pytest.CaptureFixture[str]) -> None:
    secret = Secret("planted-3f8a")
    log = set_up("info", form="json")
    log.info("two\nlines", token="planted-3f8a", number=1, error=f"in {secret.reveal()}")
    log.error("failed", exc_info=RuntimeError(secret.reveal()))
    logging.getLogger("ringbinder.other").info("of %s", "the library")
    first, second, third = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (first["event"], first["level"], first["number"]) == ("two\nlines", "info", 1)
    assert "RuntimeError: [secret]" in second["exception"]
    assert third["event"] == "of the library"
    assert "planted" not in json.dumps([first, second, third])


def test_each_plugin_may_have_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up("info", levels={"gh": "debug", "builder:local": "error", "local": "warning"})
    for plugin in ("provider:gh", "builder:local", "launcher:local", "provider:gl"):
        bound = log.bind(plugin=plugin)
        bound.debug(f"{plugin} debug")
        bound.info(f"{plugin} info")
        bound.warning(f"{plugin} warning")
        bound.error(f"{plugin} error")
    log.debug("core debug")
    log.info("core info")
    lines = capsys.readouterr().err
    shown = {name for name in _all_names() if name in lines}
    assert shown == {
        "provider:gh debug", "provider:gh info", "provider:gh warning", "provider:gh error",
        "builder:local error", "launcher:local warning", "launcher:local error",
        "provider:gl info", "provider:gl warning", "provider:gl error", "core info",
    }  # fmt: skip


def _all_names() -> Iterator[str]:
    for plugin in ("provider:gh", "builder:local", "launcher:local", "provider:gl", "core"):
        for level in ("debug", "info", "warning", "error"):
            yield f"{plugin} {level}"


async def test_lines_of_a_build_have_the_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = {
        "Ringbinder.builder": "fake", "Ringbinder.registry": "fake", "Ringbinder.launcher": "fake",
        "Ringbinder.extra_plugins": "[fake]", "Ringbinder.state_folder": str(tmp_path),
        "Ringbinder.cache_folder": str(tmp_path), "Ringbinder.log_levels": "{builder:fake: debug}",
    }  # fmt: skip
    config = load((), environ={}, sets=[f"{name}={value}" for name, value in sets.items()])
    log = set_up("error", form="json", levels=config.settings.log_levels)
    structlog.contextvars.bind_contextvars(request="of-the-test")
    try:
        async with running(config, log) as app:
            session = app.launch(LaunchRequest("fake", "a/b/main"))
            async for _ in session.read():
                pass
    finally:
        structlog.contextvars.clear_contextvars()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    output = [line for line in lines if line["event"] == "output"]
    assert sum("of 20" in line["line"] for line in output) == 20
    assert session.run is not None
    for line in output:
        ids = (line["request"], line["session"], line["run"], line["plugin"])
        assert ids == ("of-the-test", session.name, session.run.name, "builder:fake")
