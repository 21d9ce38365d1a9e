"""Guesses what a mistyped word was meant to be."""

from __future__ import annotations

from collections.abc import Collection


def did_you_mean(word: str, known: Collection[str], otherwise: str = "") -> str:
    """`` Did you mean "x"?`` if one of `known` is close to `word`, else `otherwise`."""
    return f' Did you mean "{found}"?' if (found := closest(word, known)) else otherwise


def closest(word: str, known: Collection[str]) -> str:
    """The one of `known` that `word` was probably meant to be; empty if none is close."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower()[:200], by_lower, n=1, cutoff=0.7)
    return by_lower[close[0]] if close else ""
