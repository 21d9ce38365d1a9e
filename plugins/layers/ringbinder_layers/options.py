"""The options of the `layers` builder."""

from __future__ import annotations

import os
from typing import Final, Literal
from urllib.parse import urlsplit

from attrs import Attribute, frozen, validators
from ringbinder import ByteSize, Duration, option
from ringbinder.image_reference import Reference

from .base import this_platform

DEFAULT_BASE: Final = "ghcr.io/ringbinder/ringbinder-base:1"
"""Made of ``images/base``; the tag is the number of the labels' format."""

_DAY: Final = 86_400.0


def _image_name(_: object, option: Attribute[str], name: str) -> None:
    try:
        Reference.parse(name)
    except ValueError as error:
        raise ValueError(f"'{option.name}' is no name of an image: {error}") from None


def _addresses(_: object, option: Attribute[tuple[str, ...]], addresses: tuple[str, ...]) -> None:
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{option.name}' must be addresses that begin with https:// or http://")


@frozen
class LayersBuilderOptions:
    """Section `LayersBuilder`."""

    base_image: str = option(
        DEFAULT_BASE,
        validator=_image_name,
        help="The image that all images are made on, by tag or digest: one that its labels describe as a base. Of the "
        "registry that images are pushed to it is mounted, of another it is copied once.",
    )
    platform: str = option(
        factory=this_platform,
        validator=validators.in_(("linux/amd64", "linux/arm64")),
        help="What images are made for; default: this machine's.",
    )
    image_prefix: str = option(
        "",
        also="BinderHub.image_prefix",
        help="`BinderHub.image_prefix`: layers are kept in the repository of this name with `layers` behind it.",
    )
    compression: Literal["auto", "zstd", "gzip"] = option(
        "auto",
        help="How new layers are compressed: zstd is smaller and unpacked faster, and needs containerd 1.5 or Docker "
        "23 on the nodes. `auto`: as the base image is, since what pulls an image pulls its base too.",
    )
    keep: Duration = option(
        90 * _DAY, help="How long a layer stays in the registry that no image has used; 0: for ever."
    )
    relock_after: Duration = option(
        7 * _DAY,
        help="How long versions that a repository leaves open stay those that were found first; 0: found again "
        "for each commit.",
    )
    indexes: tuple[str, ...] = option(
        (),
        validator=_addresses,
        help="Addresses of package indexes that repositories may name, besides those of the configuration of uv "
        "(`UV_INDEX`, ...), such as `https://download.pytorch.org/whl/cpu`.",
    )
    conda_channels: tuple[str, ...] = option(
        ("conda-forge",),
        also="LocalBuilder.conda_channels",
        help="Channels for an environment.yml or pixi.toml that names none. Repositories may name these, and those "
        "below `conda_channel_alias`.",
    )
    conda_channel_alias: str = option(
        "https://conda.anaconda.org/",
        also="LocalBuilder.conda_channel_alias",
        help="Address below which a conda channel's name is searched for.",
    )
    builds_at_once: int = option(
        factory=lambda: os.cpu_count() or 1,
        validator=validators.ge(1),
        help="How many builds run at the same time, others wait in line; default: one for each processor core.",
    )
    build_timeout: Duration = option(1800.0, help="How long a build may take; 0: for ever.")
    build_disk_limit: ByteSize = option(
        10 * 1024**3, help="How many bytes its content and its packages' files may have together; 0: no limit."
    )
