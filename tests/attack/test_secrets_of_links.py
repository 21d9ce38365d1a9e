"""What a link calls a password is no tool to blank out what it likes in the logs of others."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import Any

from ringbinder.git import parse_address as parse
from ringbinder.launches.runs import LogWriter
from ringbinder.protocol import Event
from ringbinder.secret import HIDDEN, Secret, begin_launch, redact

_LINE = "Successfully Installed numpy"
_TOKEN = "github_pat_11ABCDEFG0123456789"


def _in_launch(*words: str) -> tuple[Context, list[Any]]:
    """A launch whose link has these passwords, which live as long as the list."""
    context, kept = copy_context(), list[Any]()
    context.run(begin_launch)
    for word in words:
        kept.append(context.run(parse, f"http://u:{word}@host.example/x"))
    return context, kept


def test_a_word_in_a_link_stays_in_the_logs_of_others() -> None:
    own, kept = _in_launch("Installed", "Successfully%20Installed%20numpy")
    other, _ = _in_launch()
    assert redact(_LINE) == other.run(redact, _LINE) == _LINE
    assert "Installed" not in own.run(redact, _LINE)
    assert kept


def test_a_word_in_a_link_is_scrubbed_in_its_own_tasks() -> None:
    own, kept = _in_launch("Installed")
    assert own.copy().run(redact, _LINE) == _LINE.replace("Installed", HIDDEN)
    kept.clear()
    assert own.run(redact, _LINE) == _LINE


def test_a_long_token_in_a_link_is_scrubbed_everywhere() -> None:
    own, kept = _in_launch(_TOKEN)
    assert redact(f"got {_TOKEN}") == own.run(redact, f"got {_TOKEN}") == f"got {HIDDEN}"
    assert kept


def test_a_word_of_the_configuration_is_scrubbed_everywhere() -> None:
    own, _ = _in_launch()
    secret = Secret("Installed")
    assert redact(_LINE) == own.run(redact, _LINE) == _LINE.replace("Installed", HIDDEN)
    assert secret


def test_overlapping_words_leave_nothing_of_either() -> None:
    own, kept = _in_launch("cdefgh")
    secret = Secret("abcdef")
    assert own.run(redact, "<abcdefgh>") == f"<{HIDDEN}>"
    assert kept
    assert secret


async def test_a_log_writer_scrubs_the_words_of_its_launch_in_any_task() -> None:
    """A build's log may come from a task that follows all builds."""
    own, kept = _in_launch("Installed")
    events: list[Event] = []
    writer = own.run(LogWriter, events.append, "building")
    writer.line(_LINE)
    await asyncio.to_thread(writer.line, _LINE)
    await asyncio.sleep(0)
    assert [event.message for event in events] == [_LINE.replace("Installed", HIDDEN)] * 2
    assert kept
