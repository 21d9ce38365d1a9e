"""Repositories that differ by plugin."""

from __future__ import annotations

from ringbinder import GitSource, Repo


def repo(name: str) -> Repo:
    """What the plugin called `name` resolves."""
    return Repo(name, GitSource(name, "abc"), "abc", name, name, name)
