"""The providers as BinderHub tells its clients of them: `GET /api/repoproviders` and `window.pageConfig`."""

from __future__ import annotations

from typing import Any

from ringbinder.app import Ringbinder
from ringbinder.model import ProviderInfo


def repo_providers(binder: Ringbinder) -> list[dict[str, Any]]:
    """One object a provider, in the order of the configuration (protocol reference, section 1.2)."""
    return [_display_config(prefix, info) for prefix, info in binder.providers().items()]


def _display_config(prefix: str, info: ProviderInfo) -> dict[str, Any]:
    config: dict[str, Any] = {
        "displayName": info.display_name,
        "id": prefix,
        "spec": {"validateRegex": info.spec_regex},
        "repo": {"label": info.repo_label, "placeholder": info.repo_placeholder, "urlEncode": info.repo_url_encode},
        "ref": {"enabled": info.ref_enabled},
    }
    if info.ref_enabled:
        config["ref"]["default"] = info.ref_default
    if info.detect_regex is not None:
        config["detect"] = {"regex": info.detect_regex}
    return config
