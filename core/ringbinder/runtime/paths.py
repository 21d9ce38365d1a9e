"""Folders of an installation."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen


@frozen
class Paths:
    """Folders of this installation. `state` is precious (images, sessions, kept logs), `cache` may be deleted."""

    state: Path
    """What has to survive a restart."""
    cache: Path
    """What may be deleted at any time."""
    configuration: tuple[Path, ...] = ()
    """Files of configuration, which may hold secrets: not for code of strangers."""

    @classmethod
    def of(cls, state: Path | None, cache: Path | None) -> Paths:
        """The given ones, else `default`."""
        default = cls.default()
        return cls(state or default.state, cache or default.cache)

    @classmethod
    def default(cls) -> Paths:
        """``RINGBINDER_STATE`` and ``RINGBINDER_CACHE``, else the platform's folders for user data and caches."""
        import platformdirs

        state = os.environ.get("RINGBINDER_STATE") or platformdirs.user_data_dir("ringbinder", appauthor=False)
        cache = os.environ.get("RINGBINDER_CACHE") or platformdirs.user_cache_dir("ringbinder", appauthor=False)
        return cls(Path(state), Path(cache))
