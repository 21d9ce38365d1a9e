"""What an option names as ``module:name``: a function of the operator's own, where BinderHub takes Python."""

from __future__ import annotations

import importlib
import re
from typing import Any

from ..errors import ConfigError

_NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_named(text: str) -> bool:
    """Whether `text` has the form ``module:name``; an address never has."""
    return _NAMED.fullmatch(text) is not None


def load_named(option: str, text: str) -> Any:
    """What `text`, the value of `option`, names.

    Raises ConfigError if it is not of the form ``module:name``, if the module cannot be imported, or if it has
    no such name.
    """
    module, _, name = text.partition(":")
    if not is_named(text):
        raise ConfigError([f"{option}: {text!r} must be written as module:name"])
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        message = f"{option}: {text!r} cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigError([message]) from error
