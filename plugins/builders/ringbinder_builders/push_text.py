"""What the text of a push says about its layers.

Three programs print such text, all of them within repo2docker's phase ``building``: `docker push`; `docker buildx
build --push` with docker's own driver; and BuildKit. Only the text after the line that begins a push is taken for it:
a repository's own commands may print anything before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field
from ringbinder.untrusted import Regex

_BEGINS: Final = re.compile(r"The push refers to (?:a )?repository \[[^\]]+\]")
_LAYER: Final = re.compile(r"([0-9a-f]{12,64}): (\S.*)")
_ENDS: Final = re.compile(r"\S+: digest: (sha256:[0-9a-f]{64}) size: \d+")
_STEP: Final = re.compile(r"#(\d+) (pushing \S.*|DONE\b.*|ERROR\b.*|CANCELED\b.*)")
_STEP_LAYER: Final = re.compile(r"pushing layer (\S+)(?: (.*))?")
_AMOUNTS: Final = Regex(r"(?i)([\d.]+) ?([kMGT]?i?B) ?/ ?([\d.]+) ?([kMGT]?i?B)")
_UNITS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_MAX_LAYERS: Final = 500
"""An image has 127 at most; a repository's own commands may print the text of a push, too."""
_STATE_LENGTH: Final = 200
_STATES: Final = (
    "Preparing", "Waiting", "Pushing", "Pushed", "Layer already exists", "Mounted from", "Retrying", "Skipped",
)  # fmt: skip


@define
class PushText:
    """Follows the text of one build, line by line."""

    digest: str = ""
    """Of the image that was pushed, once that is known."""
    _layers: dict[str, Any] = field(factory=dict)
    _begun: bool = False
    _step: str = ""
    """Number of the BuildKit step that pushes."""

    def receive(self, text: str) -> Mapping[str, Any] | None:
        """None if `text` is not of a push; else the state of every layer so far, empty if none is named yet.

        A state is ``{"current": bytes, "total": bytes}`` or a word, as in repo2docker's own ``pushing`` events.
        """
        reason, stripped = False, text.replace("\r", "\n").strip()
        for line in stripped.split("\n"):
            reason = self._line(line.strip()) or reason
        return dict(self._layers) if reason else None

    def _line(self, line: str) -> bool:
        if _BEGINS.fullmatch(line):
            self._begun = True
            self._layers.clear()
            return True
        if found := _STEP.fullmatch(line):
            return self._of_step(found[1], found[2])
        if not self._begun:
            return False
        if found := _ENDS.fullmatch(line):
            self.digest, self._begun = found[1], False
            return True
        if (found := _LAYER.fullmatch(line)) and found[2].startswith(_STATES):
            return self._note(found[1], _state(found[2]))
        return False

    def _note(self, layer: str, state: Any) -> bool:
        if layer not in self._layers and len(self._layers) == _MAX_LAYERS:
            return False
        self._layers[layer] = state
        return True

    def _of_step(self, number: str, text: str) -> bool:
        if not text.startswith("pushing "):
            ours = number == self._step
            self._step = "" if ours else self._step
            return ours
        self._step = number
        if found := _STEP_LAYER.fullmatch(text):
            rest = found[2] or ""
            done = rest.rstrip().endswith("done")
            self._note(found[1][:_STATE_LENGTH], "Pushed" if done else _state(rest or "Pushing"))
        return True


def _state(text: str) -> Any:
    if found := _AMOUNTS.search(text):
        current, total = _bytes(found[1], found[2]), _bytes(found[3], found[4])
        if current is not None and total is not None:
            # The engine's figure for a layer's size is an estimate, and often too small.
            return {"current": current, "total": max(current, total)}
    return text[:_STATE_LENGTH]


def _bytes(amount: str, unit: str) -> int | None:
    """Docker counts by powers of 1000, where a unit has no ``i``."""
    lower = unit.lower().removesuffix("b")
    base = 1024 if lower.endswith("i") else 1000
    try:
        return int(float(amount) * base ** _UNITS[lower.removesuffix("i")])
    except (ValueError, OverflowError):
        return None
