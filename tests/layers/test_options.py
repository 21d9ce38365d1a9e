"""Options of the builder `layers`: what is wrong is seen when the configuration is checked."""

from __future__ import annotations

from typing import Any

import pytest
from ringbinder_layers.options import LayersBuilderOptions


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"base_image": "Not An Image"}, "'base_image' is no name of an image"),
        ({"base_image": ""}, "'base_image' is no name of an image"),
        ({"platform": "linux/riscv64"}, "'platform' must be in"),
        ({"indexes": ("https://packages.example/simple", "packages.example")}, "'indexes' must be addresses"),
        ({"builds_at_once": 0}, "'builds_at_once' must be >= 1"),
    ],
)
def test_wrong_option_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayersBuilderOptions(**wrong)


def test_defaults_are_right_and_name_a_host() -> None:
    """A name without a host would be a folder for the registry `oci-layout`."""
    assert LayersBuilderOptions(platform="linux/arm64").base_image.partition("/")[0] == "ghcr.io"
