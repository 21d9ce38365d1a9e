"""What a type checker sees of a plugin that is written wrongly: mypy and pyright, on one module."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

WRONG = """
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from attrs import frozen
from ringbinder import (
    Duration, Health, Image, LaunchRequest, Launcher, Link, Log, Plan, Plugin, Policy, Provider, ProviderInfo, Repo,
    Server, Sink, SinkEvent, Ticket, hookimpl, option,
)
from ringbinder.plugins.caller import HookCaller


@frozen
class Options:
    shelf: str = option("novels", help="The shelf.")
    wait: Duration = option(10, help="Seconds.")
    books: tuple[str, ...] = option(factory=tuple, help="Books.")
    port: int = option("80", help="The port.")  # E: option
    rows: int = option(factory=list, help="Rows.")  # E: option


class Door(Policy[Options]):
    async def admit(self, ticket: Ticket) -> bool:  # E: admit
        return self.config.port > 1

    async def health(self) -> dict[str, Any]:  # E: health
        return {}


class Good(Policy[Options]):
    async def admit(self, ticket: Ticket) -> AbstractAsyncContextManager[None] | None:
        ticket.notify(f"{self.config.wait:g}")
        return None

    async def health(self) -> Health | None:
        return Health("door", ok=True)

    async def lifespan(self) -> AsyncIterator[None]:
        yield


class Shelf(Provider[Options]):
    def describe(self) -> ProviderInfo:
        return ProviderInfo("Shelf", ".+", "Book", "emma")

    async def resolve(self, request: str) -> Repo | None:  # E: resolve
        return None

    def recognize(self, link: str) -> Link | None:
        return None


class Timer(Plugin[Options]):
    @hookimpl(wrapper=True)
    def launch(self, request: LaunchRequest) -> Generator[None, Any, Any]:
        return (yield)

    @hookimpl(wrapper=True)  # E: wrapper
    async def resolve(self) -> Repo | None:
        return None


class Short(Launcher[Options]):
    runs = "oci"

    async def launch(self, image: Image, log: Log) -> Server | None:  # E: launch
        return None

    async def stop(self, server: Server) -> bool | None:
        return None


class Post(Sink[Options]):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        del events


async def core(hooks: HookCaller, plan: Plan) -> None:
    await hooks.chek("registry:x", plan=plan, fresh=True)  # E: chek
    await hooks.check("registry:x", plam=plan, fresh=True)  # E: plam
    image: Image | None = await hooks.check("registry:x", plan=plan, fresh=True)
    del image
"""


def expected() -> dict[int, str]:
    lines = enumerate(WRONG.splitlines(), 1)
    return {number: found[1] for number, line in lines if (found := re.search(r"# E: (\w+)", line))}


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "wrong.py").write_text(WRONG)
    return tmp_path / "wrong.py"


def test_mypy_finds_each_wrong_line_and_no_other(module: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--no-error-summary", str(module)]
    done = subprocess.run(command, cwd=module.parent, capture_output=True, text=True, check=False)
    found = {int(line.split(":")[1]): line for line in done.stdout.splitlines() if ": error: " in line}
    assert found.keys() == expected().keys(), done.stdout


def test_pyright_finds_each_wrong_line_and_no_other(module: Path) -> None:
    (module.parent / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "wrong.py"]
    done = subprocess.run(command, cwd=module.parent, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}
    assert lines == expected().keys(), [each["message"] for each in found]
