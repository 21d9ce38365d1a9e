"""Small tools for the providers' specs."""

from __future__ import annotations

from urllib.parse import quote

from ringbinder import UserError


def invalid(message: str) -> UserError:
    return UserError("spec-invalid", message)


def escaped(text: str) -> str:
    return quote(text, safe="", errors="replace")
