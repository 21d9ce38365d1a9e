"""Where JSON is asked for, all output is JSON: results, errors, and what a server writes."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click
import pytest
from ringbinder_server.cli import main
from ringbinder_server.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from tests.cli.conftest import Program

Sets = Callable[..., list[str]]
LINK = ["fake/a/b/c"]
ARGUMENTS = {"launch": LINK, "build": LINK, "resolve": LINK, "show": ["fake"], "rebase": ["--all"]}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each command with `--json`, with the arguments that it needs."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif any(parameter.name == "as_json" for parameter in command.params):
            yield (*path, name, *ARGUMENTS.get(name, []))


@pytest.mark.parametrize("command", list(commands(main)), ids=" ".join)
def test_json_command_answers_an_error_with_json(ringbinder: Program, command: tuple[str, ...]) -> None:
    done = ringbinder(*command, "--json", "--set", "BinderHub.port=many")
    assert done.returncode == ExitCode.CONFIG
    error = json.loads(done.stdout)
    if command[:2] == ("config", "check"):
        assert error["problems"]
    else:
        assert (error["phase"], error["code"]) == ("failed", "configuration-wrong")
        assert "BinderHub.port" in error["message"]
    assert "BinderHub.port" in done.stderr or error["problems"]


@pytest.mark.parametrize(
    ("command", "code", "word"),
    [
        (("resolve", "nonsense"), ExitCode.LINK, "link-not-understood"),
        (("plugins", "show", "nobody"), ExitCode.CONFIG, "configuration-wrong"),
        (("events", "query"), ExitCode.LINK, "no-answer"),
    ],
)
def test_json_error_has_its_code(
    ringbinder: Program, fakes: Sets, command: tuple[str, ...], code: int, word: str
) -> None:
    done = ringbinder(*command, "--json", *fakes())
    assert (done.returncode, json.loads(done.stdout)["code"]) == (code, word)


def test_server_with_a_json_log_writes_json_alone(ringbinder: Program, fakes: Sets) -> None:
    sets = fakes(Ringbinder__log_format="json")
    with ringbinder.start("serve", "--host", "0.0.0.0", "--port", 0, *sets) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = json.loads(process.stdout.readline())["address"]
        process.terminate()
        assert process.wait(60) == 0
        for line in (process.stdout.read() + process.stderr.read()).splitlines():
            json.loads(line)
    assert address.startswith("http://127.0.0.1:")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ringbinder("serve", "--port", port, *sets)
    *_, last = done.stderr.splitlines()
    assert f"port {port} of 127.0.0.1 is in use" in json.loads(last)["event"]


@pytest.mark.parametrize(("host", "here"), [("0.0.0.0", "http://127.0.0.1:"), ("::", "http://[::1]:")])
def test_server_on_every_address_is_reported(ringbinder: Program, fakes: Sets, host: str, here: str) -> None:
    with ringbinder.start("serve", "--host", host, "--port", 0, *fakes()) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        assert process.wait(60) == 0
    assert line.startswith(f"Ringbinder listens at {here}")
    assert "every other address of this machine" in line
