"""Which registry and launcher fit the chosen builders: all of them deal with one kind of image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from ..config.loading import Config
from ..errors import ConfigError, PluginError
from ..model import ImageKind
from .discovery import EntryPoints, Row, Selection, installed, select
from .imports import import_plugin

FIT: Final[Mapping[str, str]] = {"builder": "makes", "registry": "holds", "launcher": "runs"}
"""The attribute that says which kind of image a plugin deals with."""


def fitted(config: Config, entry_points: EntryPoints | None = None) -> Config:
    """`config` with a registry and a launcher for what its builders make, where they are named and those are not."""
    if "builder" not in config.sections.tree.sections.get("Ringbinder", {}):
        return config
    rows = select(installed(entry_points), config.settings).wanted(["builder"])
    kinds = {_image_kind(row) for row in rows}
    return config.for_images(kinds.pop()) if len(kinds) == 1 else config


def check_fit(selection: Selection) -> None:
    """Raises ConfigError if the active builders, registry and launcher deal with different kinds of image."""
    kinds: set[str] = set()
    words: list[str] = []
    for kind, attribute in FIT.items():
        for row in selection.wanted([kind]):
            image = getattr(row.found.instance, attribute)
            kinds.add(image)
            words.append(f'{kind} "{row.found.name}" {attribute} {image}')
    if len(kinds) == 1:
        return
    fitting = [f"for images of kind {image}: {_that_fit(selection, image)}" for image in get_args(ImageKind)]
    problem = f"Ringbinder: builder, registry and launcher do not fit: {', '.join(words)}."
    raise ConfigError([f"{problem} Installed are {'; '.join(fitting)}."])


def _that_fit(selection: Selection, image: str) -> str:
    """The installed plugins for one kind of image, in words."""
    words: list[str] = []
    for kind in FIT:
        names = sorted(row.found.name for row in selection.rows if row.found.kind == kind and _image_kind(row) == image)
        words.append(f"{kind} {' or '.join(names) or '(none)'}")
    return ", ".join(words)


def _image_kind(row: Row) -> str:
    """The kind of image that the plugin of a row deals with; empty if it is not known."""
    try:
        return str(getattr(import_plugin(row), FIT[row.found.kind], ""))
    except PluginError:
        return ""
