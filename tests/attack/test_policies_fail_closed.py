"""A policy that does not work lets nobody in: the server does not start, or it refuses."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from attrs import frozen
from ringbinder import ConfigError, Plugin, PluginError, Provider, ProviderInfo, Refused, hookimpl, option
from ringbinder.errors import TransientError
from ringbinder.plugins.discovery import installed
from ringbinder.plugins.manager import import_plugin
from ringbinder.testing import memory_app


@frozen
class Hours:
    zone: str = option("Europe/Atlantis", help="Time zone of the opening hours.")


class Policy(Plugin[Any]):
    async def admit(self, ticket: Any) -> Any:
        raise Refused("Closed.")


class BadTimeZone(Policy):
    Config = Hours
    sections = ("OpeningHours",)

    def __init__(self, config: Any, context: Any) -> None:
        super().__init__(config, context)
        self.zone = ZoneInfo(config.zone)


class Unmade(Policy):
    def __init__(self, config: Any, context: Any) -> None:
        raise RuntimeError("no list of members")


class Unstarted(Policy):
    async def lifespan(self) -> AsyncIterator[None]:
        raise RuntimeError("no list of members")
        yield


class Exiting(Policy):
    async def lifespan(self) -> AsyncIterator[None]:
        raise SystemExit(3)
        yield


class Misspelt(Plugin[Any]):
    async def admitt(self, ticket: Any) -> Any:
        raise Refused("Closed.")


class MisspeltAndMarked(Plugin[Any]):
    @hookimpl(tryfirst=True)
    async def admitt(self, ticket: Any) -> Any:
        raise Refused("Closed.")


class MisspeltLogin(Plugin[Any]):
    async def authentificate(self, headers: Any) -> Any:
        return None


class WrongColour(Plugin[Any]):
    def admit(self, ticket: Any) -> Any:
        raise Refused("Closed.")


class WrongWrapper(Plugin[Any]):
    @hookimpl(wrapper=True)  # type: ignore[arg-type]  # what is tested
    async def admit(self, ticket: Any) -> Any:
        return None


class Replaced(Policy):
    def __init__(self, config: Any, context: Any) -> None:
        super().__init__(config, context)
        self.admit = None  # type: ignore[assignment] # what a plugin's author may do


class OddSections(Policy):
    sections = 5  # type: ignore[assignment] # what a plugin's author may write


class FutureApi(Policy):
    plugin_api = 99


BROKEN = {
    BadTimeZone: "No time zone found",
    Unmade: "RuntimeError: no list of members",
    Unstarted: "RuntimeError: no list of members",
    Exiting: "sys.exit(3)",
    Misspelt: "'admitt' is this hook's, misspelt; call it 'admit'",
    MisspeltAndMarked: 'Did you mean "admit"?',
    MisspeltLogin: "call it 'authenticate'",
    WrongColour: "write `async def`",
    WrongWrapper: "a wrapper is a plain generator",
    Replaced: "hides the method",
    OddSections: "TypeError",
    FutureApi: "plugin API 99",
}


@pytest.mark.parametrize("kind", ["policy", "plugin"])
@pytest.mark.parametrize("broken", BROKEN)
async def test_policy_that_is_broken_keeps_the_server_down(
    tmp_path: Path, kind: str, broken: type[Plugin[Any]]
) -> None:
    with pytest.raises((ConfigError, PluginError)) as caught:
        async with memory_app(tmp_path, {f"{kind}:mine": broken}):
            pytest.fail("it runs")
    reported = str(caught.value)
    assert BROKEN[broken] in reported
    for words in (f"{kind}:mine", "Ringbinder.disabled_plugins: [mine]", "Ringbinder.may_fail: [mine]"):
        assert words in reported


async def test_rate_limit_with_a_misspelt_option_keeps_the_server_down(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        async with memory_app(tmp_path, installed=True, RateLimiter={"limt": 1}):
            pytest.fail("it runs")
    assert 'RateLimiter.limt: unknown option. Did you mean "limit"?' in str(caught.value)
    assert "plugin 'policy:ratelimit' of ringbinder" in str(caught.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("RateLimitter", 'RateLimitter: unknown section. Did you mean "RateLimiter"?'),
        ("LaunchQuotas", 'LaunchQuotas: unknown section. Did you mean "LaunchQuota"?'),
        ("LaunchQuota", "LaunchQuota.limt: unknown option."),
    ],
)
async def test_limit_in_a_misspelt_place_keeps_the_server_down(tmp_path: Path, section: str, words: str) -> None:
    sections: dict[str, Any] = {section: {"limt": 1}}
    with pytest.raises(ConfigError) as caught:
        async with memory_app(tmp_path, installed=True, **sections):
            pytest.fail("it runs")
    assert words in str(caught.value)


async def test_section_of_another_plugin_is_no_misspelt_limit(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"KubernetesBuilder": {"memory_limit": "1G"}, "Nothing": {"limt": 1}}
    async with memory_app(tmp_path, installed=True, **sections) as app:
        assert (await app.launch("fake/a/b/main"))[-1].phase == "ready"


async def test_policy_without_a_guarding_hook_keeps_the_server_down(tmp_path: Path) -> None:
    class Permits(Plugin[Any]):
        async def permit(self, ticket: Any) -> Any: ...

    with pytest.raises(PluginError, match="a policy must have the hook admit or authenticate"):
        async with memory_app(tmp_path, {"policy:mine": Permits}):
            pytest.fail("it runs")


@pytest.mark.parametrize("group", ["ringbinder.policy", "ringbinder.Policies", "ringbinder_policies"])
def test_policy_in_a_misspelt_group_keeps_the_server_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    information = tmp_path / "mine-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[{group}]\nmine = mine:Policy\n[ringbinder.tools]\nx = x:y\n")
    monkeypatch.syspath_prepend(tmp_path)
    (row,) = [row for row in installed() if row.found.distribution == "mine"]
    assert (row.found.key, row.must_work) == ("policy:mine", True)
    with pytest.raises(PluginError, match=r"call it 'ringbinder\.policies'"):
        import_plugin(row)


class Admitting(Provider[Any]):
    """A provider that keeps people out besides: as good as a policy."""

    def __init__(self, config: Any, context: Any) -> None:
        raise RuntimeError("no list of members")

    def describe(self) -> ProviderInfo: ...  # type: ignore[empty-body] # it is never made

    async def resolve(self, request: Any) -> None: ...

    async def admit(self, ticket: Any) -> None: ...


async def test_provider_that_admits_and_fails_keeps_the_server_down(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no list of members"):
        async with memory_app(tmp_path, {"provider:mine": Admitting}):
            pytest.fail("it runs")


@pytest.mark.parametrize("broken", BROKEN)
async def test_policy_that_may_fail_is_left_out_and_shown(tmp_path: Path, broken: type[Plugin[Any]]) -> None:
    settings = {"may_fail": ["mine"]}
    async with memory_app(tmp_path, {"policy:mine": broken}, Ringbinder=settings) as app:
        events = await app.launch("fake/a/b/main")
        assert events[-1].phase == "ready", events[-1].message
        (line,) = [line for line in await app.app.health() if line.service == "policy:mine"]
    assert not line.ok
    assert line.ignore_failure
    assert BROKEN[broken] in line.detail["message"]


async def test_policy_that_is_disabled_lets_the_server_start(tmp_path: Path) -> None:
    settings = {"disabled_plugins": ["mine"]}
    async with memory_app(tmp_path, {"policy:mine": Unmade}, Ringbinder=settings) as app:
        assert (await app.launch("fake/a/b/main"))[-1].phase == "ready"


class Dying(Plugin[Any]):
    """Its life span ends with work that fails, as a watch of a list of members may."""

    fail: asyncio.Event

    async def admit(self, ticket: Any) -> Any:
        return None

    async def authenticate(self, headers: Mapping[str, str], target: str) -> Any:
        return None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.fail = asyncio.Event()

        async def work() -> None:
            await self.fail.wait()
            raise RuntimeError("connection lost")

        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            yield


class Vanishing(Dying):
    """Its life span ends without an error: it swallows its own cancellation."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.fail = asyncio.Event()
        task = asyncio.current_task()

        async def work() -> None:
            await self.fail.wait()
            assert task is not None
            task.cancel()

        worker = asyncio.create_task(work())
        try:
            yield
        except asyncio.CancelledError:
            return
        finally:
            worker.cancel()


async def until_ended(app: Any, name: str) -> Any:
    async with asyncio.timeout(60):
        while not (lines := [line for line in await app.app.health() if line.service == name]):
            await asyncio.sleep(0)
    return lines[0]


@pytest.mark.parametrize("dying", [Dying, Vanishing])
async def test_policy_that_dies_while_running_refuses_all(tmp_path: Path, dying: type[Dying]) -> None:
    async with memory_app(tmp_path, {"policy:mine": dying}) as app:
        assert (await app.launch("fake/a/b/main"))[-1].phase == "ready"
        app.app.plugins.get("policy", "mine").fail.set()
        line = await until_ended(app, "policy:mine")
        assert not line.ok
        assert not line.ignore_failure
        last = (await app.launch("fake/a/b/main"))[-1]
        assert last.phase == "failed"
        assert "policy:mine has stopped working" in last.message
        assert "connection lost" not in last.message
        with pytest.raises(TransientError, match="policy:mine has stopped working"):
            await app.app.authenticate({})


async def test_policy_that_may_fail_and_dies_is_left_out(tmp_path: Path) -> None:
    settings = {"may_fail": ["mine"]}
    async with memory_app(tmp_path, {"policy:mine": Dying}, Ringbinder=settings) as app:
        app.app.plugins.get("policy", "mine").fail.set()
        line = await until_ended(app, "policy:mine")
        assert not line.ok
        assert line.ignore_failure
        assert (await app.launch("fake/a/b/main"))[-1].phase == "ready"


class Answering(Plugin[Any]):
    """Its `admit` gives what `answer` makes."""

    @staticmethod
    def answer() -> Any: ...

    async def admit(self, ticket: Any) -> Any:
        return self.answer()


class Swallowing:
    """A context manager that swallows what another policy refuses."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *error: object) -> bool:
        return True


def raising() -> Any:
    raise KeyError("a bug")


ANSWERS = {
    "error": raising,
    "end of the program": lambda: sys.exit("a policy"),
    "boolean": lambda: False,
    "text": lambda: "",
    "coroutine function": lambda: raising,
    "plain context manager": lambda: memoryview(b""),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_admit_that_answers_wrongly_refuses(tmp_path: Path, case: str) -> None:
    policy = type("Wrong", (Answering,), {"answer": staticmethod(ANSWERS[case])})
    async with memory_app(tmp_path, {"policy:mine": policy}) as app:
        assert (await app.launch("fake/a/b/main"))[-1].phase == "failed"


async def test_admit_that_takes_too_long_refuses(tmp_path: Path) -> None:
    class Hanging(Plugin[Any]):
        async def admit(self, ticket: Any) -> None:
            await asyncio.Event().wait()

    limits = {"hook_timeouts": {"admit": 0.01}}
    async with memory_app(tmp_path, {"policy:mine": Hanging}, Ringbinder=limits) as app:
        assert (await app.launch("fake/a/b/main"))[-1].phase == "failed"


async def test_slot_that_swallows_errors_lets_no_one_in(tmp_path: Path) -> None:
    swallowing = type("Swallows", (Answering,), {"answer": staticmethod(Swallowing)})

    class Closed(Plugin[Any]):
        async def admit(self, ticket: Any) -> Any:
            return self.slot()

        @asynccontextmanager
        async def slot(self) -> AsyncIterator[None]:
            raise Refused("Closed.")
            yield

    async with memory_app(tmp_path, {"policy:a": swallowing, "policy:b": Closed}) as app:
        assert (await app.launch("fake/a/b/main"))[-1].phase == "failed"
