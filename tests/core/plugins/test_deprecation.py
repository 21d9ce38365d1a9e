"""The number of the plugin API, and deprecations that name plugin and replacement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import ringbinder
import structlog
from ringbinder import PLUGIN_API, PluginDeprecationWarning, PluginError
from ringbinder.plugins import deprecation as promise
from ringbinder.plugins import hookspecs
from ringbinder.plugins.caller import HookCaller
from ringbinder.plugins.deprecation import Deprecated

if TYPE_CHECKING:
    from tests.core.conftest import Site

GOES = Deprecated(instead="'report'", since="0.3", gone_in="0.5")


class Shelf:
    async def fetch(self, repo: Any, log: Any) -> bool:
        return True


def register(plugin: object) -> None:
    HookCaller(structlog.get_logger()).register(plugin, "provider:shelf")


def test_an_argument_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(promise.ARGUMENTS, ("fetch", "log"), GOES)
    with pytest.warns(PluginDeprecationWarning) as caught:
        register(Shelf())
    assert [str(warning.message) for warning in caught] == [
        "plugin 'provider:shelf' uses the argument 'log' of hook 'fetch', which is deprecated since 0.3 and gone "
        "in 0.5; use 'report' instead"
    ]


def test_a_hook_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(promise.HOOKS, "fetch", GOES)
    with pytest.warns(PluginDeprecationWarning, match="'provider:shelf' uses the hook 'fetch'"):
        register(Shelf())


def test_a_plugin_that_uses_neither_is_not_warned(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setitem(promise.ARGUMENTS, ("fetch", "into"), GOES)
    register(Shelf())
    assert not [warning for warning in recwarn if warning.category is PluginDeprecationWarning]


def test_a_name_that_goes_away_names_the_plugin_that_imports_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(promise.NAMES, "OldError", (GOES, ValueError))
    site.provider("rb-old", "old", "from ringbinder import OldError")
    with pytest.warns(PluginDeprecationWarning, match=r"'provider:old' uses ringbinder\.OldError"):
        assert "old" in site.loaded().providers


def test_a_name_that_never_was() -> None:
    with pytest.raises(AttributeError, match="module 'ringbinder' has no attribute 'Nonsense'"):
        getattr(ringbinder, "Nonsense")  # noqa: B009


@pytest.mark.parametrize(
    ("number", "words"),
    [(PLUGIN_API + 1, "upgrade ringbinder"), (0, "upgrade the plugin"), ("1", "is a number, such as 1")],
)
def test_plugin_of_another_time_is_left_out_and_shown_what_to_do(site: Site, number: object, words: str) -> None:
    site.provider("rb-other", "other", f"plugin_api = {number!r}")
    plugins = site.loaded()
    other = site.row(plugins, "provider", "other")
    assert other.state == "failed"
    assert words in other.reason
    assert plugins.providers == ("gh", "git")


async def test_hook_may_gain_an_argument_unnoticed_by_old_plugins() -> None:
    hooks = HookCaller(structlog.get_logger())
    hooks.register(Shelf(), "provider:shelf")
    arguments = {name: None for name in hookspecs.Hooks.fetch.__annotations__ if name != "return"}
    assert len(arguments) > 2
    assert await hooks._first("fetch", "provider:shelf", **arguments) is True


def test_plugin_without_a_number_is_of_today() -> None:
    promise.check_api(Shelf, "provider:shelf")
    with pytest.raises(PluginError):
        promise.check_api(type("Old", (), {"plugin_api": True}), "provider:old")
