"""Providers made as core makes them, with the options of a test."""

from __future__ import annotations

from typing import Any, TypeVar

from attrs import evolve
from ringbinder import Context, Provider
from ringbinder.git import Git
from ringbinder.specs import RepoOptions

P = TypeVar("P", bound=Provider[Any])


def made(cls: type[P], options: RepoOptions, context: Context) -> P:
    """A provider; its git has the limits that stand in `options`."""
    return cls(options, evolve(context, git=Git(context.name, context.services, options)))
