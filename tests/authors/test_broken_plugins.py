"""Plugins that are broken on purpose: each is named in one message, and nothing else suffers. The table's rows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ringbinder import (
    GitSource,
    LaunchRequest,
    Link,
    Plugin,
    Provider,
    ProviderInfo,
    Repo,
    Sink,
    SinkEvent,
    UserError,
    hookimpl,
)
from ringbinder.testing import MemoryApp, memory_app
from structlog.testing import capture_logs

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "broken-plugins.md"
ROWS = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)


class Shelf(Provider[Any]):
    def describe(self) -> ProviderInfo:
        return ProviderInfo("Shelf", ".+", "Book", "emma")

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        raise NotImplementedError


class WrongColour(Shelf):
    def resolve(self, request: LaunchRequest) -> Repo | None:  # type: ignore[override]
        return None


class Misspelt(Shelf):
    async def fecth(self, repo: Repo, into: Path, log: Any) -> bool:
        return True


class Raising(Shelf):
    async def resolve(self, request: LaunchRequest) -> Repo | None:
        raise KeyError("a bug of the shelf")


class Hanging(Shelf):
    async def resolve(self, request: LaunchRequest) -> Repo | None:
        await asyncio.Event().wait()
        return None


class WrongType(Shelf):
    async def resolve(self, request: LaunchRequest) -> Any:
        return {"url": "https://shelf.example"}


class WrongField(Shelf):
    async def resolve(self, request: LaunchRequest) -> Any:
        address: Any = None
        return Repo(address, GitSource("u", "abc"), "abc", "emma", "u", "emma")


class DescribesWrongly(Shelf):
    def describe(self) -> Any:
        return {"displayName": "Shelf"}


class CannotDescribe(Shelf):
    def describe(self) -> ProviderInfo:
        raise KeyError("a bug of the shelf")


class RecognizesWrongly(Shelf):
    def recognize(self, link: str) -> Any:
        return {"provider": "shelf"}


class CannotRecognize(Shelf):
    def recognize(self, link: str) -> Link | None:
        raise KeyError("a bug of the shelf")


class Unhealthy(Shelf):
    async def health(self) -> Any:
        return {"ok": True}


class ForgetsReturn(Plugin[Any]):
    @hookimpl(wrapper=True)
    def resolve(self, request: LaunchRequest) -> Generator[None, Any, Any]:
        yield


class TakesAway(Plugin[Any]):
    @hookimpl(wrapper=True)
    def resolve(self, request: LaunchRequest) -> Generator[None, Any, Any]:
        result = yield
        return None if request.provider == "fake" and request.spec.startswith("a/taken") else result


class Mutating(Shelf):
    async def resolve(self, request: LaunchRequest) -> Repo | None:
        request.spec = "another"  # type: ignore[misc]
        return None


class NotMade(Shelf):
    def __init__(self, config: Any, context: Any) -> None:
        raise RuntimeError("cannot be made")


class FailingTask(Plugin[Any]):
    async def admit(self, ticket: Any) -> None:
        async def work() -> None:
            raise RuntimeError("a bug in the background")

        self.context.tasks.start(work(), "shelf: tidy up")


class FailingSink(Sink[Any]):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        raise RuntimeError("the sink is broken")


async def healthy(app: MemoryApp) -> None:
    """Whoever has nothing to do with the broken plugin is served."""
    events = await app.launch("fake/a/b/main")
    assert events[-1].phase == "ready", events[-1].message


LEFT_OUT: dict[str, tuple[type[Any], str]] = {
    "wrong-colour": (WrongColour, "hook 'resolve': the method is plain, but this hook is awaited"),
    "cannot-be-made": (NotMade, "it cannot be made"),
    "misspelt-hook": (Misspelt, "call it 'fetch'"),
    "describes-wrongly": (DescribesWrongly, "hook 'describe': it gave a dict instead of a ProviderInfo"),
    "describes-wrongly ": (CannotDescribe, "hook 'describe': it cannot describe itself: KeyError"),
}
FAILING: dict[str, tuple[type[Any], str]] = {
    "raises": (Raising, "provider:shelf"),
    "hangs": (Hanging, "no answer within"),
    "wrong-type": (WrongType, "it gave a dict instead of a Repo or None"),
    "wrong-type ": (WrongField, "it gave a Repo whose 'url' is None instead of a str"),
    "mutates": (Mutating, "provider:shelf"),
}


@pytest.mark.parametrize("row", LEFT_OUT)
async def test_it_is_left_out(row: str, tmp_path: Path) -> None:
    plugin, words = LEFT_OUT[row]
    with capture_logs() as logs:
        async with memory_app(tmp_path, {"provider:shelf": plugin}) as app:
            await healthy(app)
            assert "shelf" not in app.app.providers()
            with pytest.raises(UserError, match=re.escape(words)) as caught:
                app.app.link("shelf/emma")
            session = app.app.launch(LaunchRequest("shelf", "emma"))
            *_, (_, last) = [event async for batch in session.read() for event in batch]
            assert (last.data["code"], caught.value.code) == ("provider-left-out",) * 2
            assert words in last.message
    (reported,) = [entry for entry in logs if entry.get("plugin") == "provider:shelf"]
    assert words in reported["reason"]


@pytest.mark.parametrize("row", FAILING)
async def test_its_own_launches_fail_and_show_whose_bug_it_is(row: str, tmp_path: Path) -> None:
    plugin, words = FAILING[row]
    with capture_logs() as logs:
        async with memory_app(
            tmp_path, {"provider:shelf": plugin}, Ringbinder={"hook_timeouts": {"resolve": 0.2}}
        ) as app:
            events = await app.launch("shelf/emma")
            assert events[-1].phase == "failed"
            assert len([event for event in events if event.phase == "failed"]) == 1
            await healthy(app)
    reported = [f"{entry} {getattr(entry.get('exc_info'), '__notes__', '')}" for entry in logs]
    assert words in events[-1].message or any(words in text for text in reported), (
        events[-1].message,
        reported,
    )


@pytest.mark.parametrize("plugin", [RecognizesWrongly, CannotRecognize])
async def test_provider_failing_to_recognize_is_passed_over(plugin: type[Any], tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with memory_app(tmp_path, {"provider:shelf": plugin}, installed=True) as app:
            assert app.app.link("https://nowhere.example/x").provider != "shelf"
            await healthy(app)
    assert {(line["plugin"], line["hook"]) for line in logs if "hook" in line} == {("provider:shelf", "recognize")}


async def test_health_of_a_wrong_type_is_a_failing_line(tmp_path: Path) -> None:
    async with memory_app(tmp_path, {"provider:shelf": Unhealthy}) as app:
        lines = {line.service: line for line in await app.app.health()}
        await healthy(app)
    assert not lines["provider:shelf"].ok
    assert "hook 'health': it gave a dict instead of a Health" in lines["provider:shelf"].detail["message"]


async def test_wrapper_that_forgets_to_return_is_left_out(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with memory_app(tmp_path, {"plugin:shelf": ForgetsReturn}) as app:
            await healthy(app)
    (reported,) = [line for line in logs if line.get("plugin") == "plugin:shelf"]
    assert "hook 'resolve': the wrapper returns nothing" in reported["reason"]


async def test_wrapper_that_takes_an_answer_away_is_named(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with memory_app(tmp_path, {"plugin:shelf": TakesAway}) as app:
            events = await app.launch("fake/a/taken/main")
            await healthy(app)
    assert events[-1].phase == "failed"
    assert "not your fault" in events[-1].message
    assert any("'plugin:shelf', hook 'resolve': its wrapper gave None" in str(line) for line in logs), logs


async def test_a_task_in_the_background_that_fails_is_named(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with memory_app(tmp_path, {"plugin:shelf": FailingTask}) as app:
            await healthy(app)
    reported = [entry for entry in logs if entry["event"] == "background task failed"]
    assert {entry["task"] for entry in reported} == {"shelf: tidy up"}


async def test_a_sink_that_fails_costs_no_launch(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with memory_app(tmp_path, {"sink:shelf": FailingSink}) as app:
            await healthy(app)
            await app.happened.until("binderhub.jupyter.org/launch")
    assert any("shelf" in str(entry) and "the sink is broken" in str(entry) for entry in logs), logs


TESTED_ELSEWHERE = {
    "stops-while-running": "tests/attack/test_policies_fail_closed.py::test_policy_that_dies_while_running_refuses_all",
    "cannot-be-imported": "tests/core/plugins/test_manager.py::test_a_broken_plugin_that_nothing_needs_is_left_out",
    "missing-option": "tests/cli/test_plugin_commands.py::test_show_of_a_plugin_with_a_missing_option",
    "wrong-option": "tests/core/plugins/test_check.py::test_wrong_option_is_found",
    "secret-as-text": "tests/core/plugins/test_check.py::test_wrong_option_is_found",
    "wrong-delivery": "tests/core/plugins/test_check.py::test_wrong_delivery_is_the_authors",
    "unusable-name": "tests/core/plugins/test_check.py::test_name_that_fits_into_no_link_is_found",
    "python-regex": "tests/core/plugins/test_check.py::test_python_regex_for_a_browser_is_found",
    "slow-import": "tests/cli/test_plugin_commands.py::test_check_shows_what_is_wrong",
    "hangs-at-import": "tests/cli/test_plugin_commands.py::test_check_reports_a_plugin_that_hangs_at_import",
    "ends-the-process": "tests/cli/test_plugin_commands.py::test_check_outlives_a_plugin_that_ends_the_process",
    "registered-twice": "tests/core/plugins/test_manager.py::test_two_providers_of_one_name_are_both_left_out",
    "leaks-tasks": "tests/contract/test_sink_and_policy_contracts_bite.py::test_a_broken_sink_fails",
}


def test_every_row_of_the_table_has_a_test() -> None:
    here = {row.strip() for row in (*LEFT_OUT, *FAILING)} | {"task-fails", "sink-fails"}
    here |= {"recognizes-wrongly", "health-of-wrong-type", "wrapper-forgets-return"}
    assert set(ROWS) == here | set(TESTED_ELSEWHERE)
    for place in TESTED_ELSEWHERE.values():
        file, _, test = place.partition("::")
        assert f"def {test}(" in (PAGE.parents[2] / file).read_text(), f"there is no test {place}"
