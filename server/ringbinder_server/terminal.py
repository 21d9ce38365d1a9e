"""Text of strangers on a terminal: what could steer it, or show another text than it says, is taken out."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from ringbinder.protocol import Event

_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC (window title, links), DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# They turn the order of what is seen, also of what stands behind them; and lines that are no lines for a program.
_ORDER: Final = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_REORDERING: Final = re.compile(f"[{_ORDER}]")
_NOT_IN_JSON: Final = re.compile(f"[\x7f-\x9f{_ORDER}]")
_REPLACEMENT: Final = "\ufffd"


def harmless(text: str) -> str:
    """`text` without terminal sequences and control characters, but for newlines and tabs."""
    plain = _CONTROLS.sub("", _ESCAPES.sub("", text))
    return _REORDERING.sub(_REPLACEMENT, plain).encode(errors="replace").decode()


def one_line(text: str) -> str:
    """`harmless`, on one line."""
    return harmless(text).replace("\n", " ")


def lines(message: str) -> list[str]:
    """The lines of a message, `harmless` each; of an overwritten line, its last state."""
    shown = _ESCAPES.sub("", message).rstrip("\r\n").split("\n")
    return [harmless(line.rstrip("\r").rpartition("\r")[2]).expandtabs() for line in shown]


def echo(*texts: str, err: bool = False, nl: bool = True) -> None:
    """Writes each of `texts` as one line, with any content, to stdout or stderr."""
    click.echo("\n".join(map(one_line, texts)), err=err, nl=nl)


def echo_text(text: str, *, err: bool = False) -> None:
    """Writes a text that may have several lines."""
    echo(*text.split("\n"), err=err)


def echo_json(value: Any, *, indent: int | None = 2, sort_keys: bool = False) -> None:
    """Writes JSON to stdout, in which everything beyond ASCII is escaped."""
    click.echo(json.dumps(value, indent=indent, sort_keys=sort_keys))


def echo_event(event: Event) -> None:
    """Writes an event of the protocol to stdout, as one line of JSON, at once."""
    sys.stdout.buffer.write(escaped(event.json.decode()).encode() + b"\n")
    sys.stdout.buffer.flush()


def escaped(json_text: str) -> str:
    """The same JSON, with the escapes that `json` leaves out: of control characters and of what turns the order."""
    return _NOT_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", json_text)
