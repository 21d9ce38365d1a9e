"""What `plugins check` finds without a start; its process of its own is in `tests/cli/test_plugin_commands.py`."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

import pytest
import structlog
from ringbinder import ConfigError, Finding
from ringbinder.plugins.check import examine, rows_of_project
from ringbinder.plugins.discovery import installed

if TYPE_CHECKING:
    from tests.core.conftest import Site

HEAD = """
from __future__ import annotations
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from attrs import Factory, field, frozen
from ringbinder import (
    ByteSize, ConfigError, Duration, Pattern, Plugin, Provider, ProviderInfo, Secret, Sink, option
)
if TYPE_CHECKING:
    from decimal import Decimal
"""
OPTIONS = """
@frozen
class Options:
    {}
class Mine(Plugin[Options]):
    Config = Options
    sections = ("Mine",)
    async def health(self): ...
"""
PROVIDER = """
class Mine(Provider[Any]):
    def describe(self): return ProviderInfo("Mine", {spec!r}, "Thing", "x", detect_regex={detect!r})
    async def resolve(self, request): ...
"""
SINK = """
class Mine(Sink[Any]):
    delivery = {}
    async def emit(self, events): ...
"""
MADE = """
class Mine(Plugin[Any]):
    def __init__(self{}):
        {}
    async def health(self): ...
"""


def options(line: str) -> str:
    return HEAD + OPTIONS.format(line)


async def findings(site: Site, source: str, group: str = "plugins", name: str = "mine") -> list[Finding]:
    site.install("rb-mine", source, {group: {name: "Mine"}})
    (row,) = [row for row in installed(site.entry_points) if row.found.distribution == "rb-mine"]
    found = await examine(row, structlog.get_logger())
    return [finding for finding in found if "does not require ringbinder" not in finding.message]


RIGHT_OPTIONS = [
    'wait: Duration = option(10, help="x")',
    'room: ByteSize = option(2**20, help="x")',
    'names: tuple[str, ...] = option((), help="x")',
    'where: Path | None = option(None, help="x")',
    'form: Pattern | None = option(None, help="x")',
    'password: Secret = option(factory=lambda: Secret(""), help="x")',
    'tokens: dict[str, Secret] = option(factory=dict, help="x")',
    'token_url: str = option("", help="x")',
    'pull_secret: str = option("name", help="x", secret=False)',
    'ratio: float = option(1, help="x")',
    'anything: Any = option(None, help="x")',
    'upper: str = option(None, converter=str, help="x")',
    'needed: str = option(help="x")',
]


@pytest.mark.parametrize("line", RIGHT_OPTIONS)
async def test_right_option_has_no_finding(site: Site, line: str) -> None:
    assert await findings(site, options(line)) == []


WRONG_OPTIONS = {
    'wait: timedelta = option(help="x")': "is of type timedelta, which no value of a configuration can become",
    'waits: dict[str, timedelta] = option(help="x")': "which no value of a configuration can become",
    'price: Decimal = option(help="x")': "cannot be read: NameError",
    'wait: Duration = option("10s", help="x")': "a default '10s' that is not of its type",
    'room: int = option("5", help="x")': "a default '5' that is not of its type",
    'names: tuple[str, ...] = option(factory=list, help="x")': "a default [] that is not of its type",
    'name: str = option(None, help="x")': "a default None that is not of its type",
    'names: list[str] = option([], help="x")': "all instances share",
    'name: str = option(factory=lambda: 1 / 0, help="x")': "cannot be made: ZeroDivisionError",
    'password: str = option("hush", help="x")': "make it a ringbinder.Secret",
    'api_token: str | None = option(None, help="x")': "make it a ringbinder.Secret",
    'client_secrets: dict[str, str] = option(factory=dict, help="x")': "make it a ringbinder.Secret",
    'password: Secret = option("hush", help="x")': "has a default that is not of its type",
}


@pytest.mark.parametrize("line", WRONG_OPTIONS, ids=list(WRONG_OPTIONS.values()))
async def test_wrong_option_is_found(site: Site, line: str) -> None:
    (finding,) = await findings(site, options(line))
    assert finding.level == "error"
    assert WRONG_OPTIONS[line] in f"{finding.message} {finding.fix}"
    assert "hush" not in finding.message


@pytest.mark.parametrize("pattern", ["(?P<repo>.+)", r"\Agit"])
@pytest.mark.parametrize("which", ["spec", "detect"])
async def test_python_regex_for_a_browser_is_found(site: Site, which: str, pattern: str) -> None:
    patterns = {"spec": ".+", "detect": "(?<repo>.+)", which: pattern}
    (finding,) = await findings(site, HEAD + PROVIDER.format(**patterns), "providers")
    assert f"its {which}_regex is for JavaScript, but" in finding.message
    assert "is Python's" in finding.message


async def test_describe_that_raises_is_found_as_such(site: Site) -> None:
    source = HEAD + PROVIDER.format(spec=".+", detect=None).replace("return ProviderInfo", "assert not ProviderInfo")
    (finding,) = await findings(site, source, "providers")
    assert finding.message == "its describe raises AssertionError"


async def test_right_regexes_have_no_finding(site: Site) -> None:
    source = HEAD + PROVIDER.format(spec=".+", detect="^(https://x/)?(?<repo>.+)")
    assert await findings(site, source, "providers") == []


@pytest.mark.parametrize(
    ("delivery", "words"),
    [
        ({"mode": "exactly_once"}, "mode: expected one of 'at_most_once', 'at_least_once'"),
        ({"bach": 5}, 'bach: unknown option. Did you mean "batch"?'),
        ({"batch": 0}, "batch: 'batch' must be >= 1"),
        ("at_least_once", "expected a mapping of options"),
    ],
)
async def test_wrong_delivery_is_the_authors(site: Site, delivery: object, words: str) -> None:
    (finding,) = await findings(site, HEAD + SINK.format(repr(delivery)), "sinks")
    assert "its class attribute 'delivery' is wrong (rb-mine 1.0)" in finding.message
    assert words in finding.message
    with pytest.raises(Exception, match="class attribute 'delivery'") as caught:
        site.loaded(sinks=["mine"])
    assert "EventLog" not in str(caught.value)


@pytest.mark.parametrize("name", ["my sink", "a/b", "-a", "ä"])
async def test_name_that_fits_into_no_link_is_found(site: Site, name: str) -> None:
    (finding,) = await findings(site, HEAD + SINK.format({}), "sinks", name)
    assert "is no name of an entry point here" in finding.message


@pytest.mark.parametrize(
    ("signature", "body", "words"),
    [
        ("", "pass", "TypeError"),
        (", config, context", "1 / 0", "cannot be made with the defaults of its options: ZeroDivisionError"),
        (", config, context", "self.health = 5", "rename the attribute"),
    ],
)
async def test_plugin_that_cannot_be_made_is_found(site: Site, signature: str, body: str, words: str) -> None:
    found = await findings(site, HEAD + MADE.format(signature, body))
    assert [words in finding.message for finding in found] == [True], found


async def test_plugin_that_wants_a_configuration_is_right(site: Site) -> None:
    body = "raise ConfigError(['Mine: give host or address'])"
    assert await findings(site, HEAD + MADE.format(", config, context", body)) == []


async def test_required_option_does_not_hide_the_signature(site: Site) -> None:
    source = options('url: str = option(help="x")') + indent("def __init__(self): ...\n", "    ")
    (finding,) = await findings(site, source)
    assert "TypeError" in finding.message


async def test_name_of_another_plugin_is_found(site: Site) -> None:
    (finding,) = await findings(site, HEAD + PROVIDER.format(spec=".+", detect=None), "providers", "gh")
    assert "there is a provider:gh of ringbinder" in finding.message


def test_misspelt_group_of_a_project_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project.entry-points."ringbinder.provider"]\nx = "x:X"\n')
    with pytest.raises(ConfigError, match=r'"?ringbinder.provider.? is unknown\. Did you mean "ringbinder.providers"'):
        rows_of_project(tmp_path)


@pytest.mark.parametrize("source", ["ArchiveSource", "GitSource"])
@pytest.mark.parametrize("fetch", ["", "    async def fetch(self, repo, into, log): ..."])
async def test_source_that_nothing_fetches_is_found(site: Site, source: str, fetch: str) -> None:
    provider = PROVIDER.format(spec=".+", detect=None)
    found = await findings(site, f"{HEAD}from ringbinder import {source}{provider}{fetch}", "providers")
    expected = ["ArchiveSource"] if source == "ArchiveSource" and not fetch else []
    assert [finding.message for finding in found if "cannot fetch" in finding.message] == [
        f"it has no `fetch`, and its module names {name}, which Ringbinder cannot fetch" for name in expected
    ]
