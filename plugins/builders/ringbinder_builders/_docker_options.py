"""The options of the `docker` builder, and of the cleaner of its engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from attrs import frozen, validators
from ringbinder import Duration, option

from .repo2docker import BuildExecutorOptions


@frozen(slots=False)  # of two bases only one can have slots
class ImageCleanerOptions:
    """Section `ImageCleaner`: the thresholds of the Helm chart's image cleaner."""

    threshold_type: Literal["relative", "absolute"] = option(
        "relative",
        help="What the thresholds mean: `relative`, per cent of the disk (blocks or inodes, whichever is fuller) "
        "that the engine keeps its images on; `absolute`, bytes of all its images.",
    )
    threshold_high: float = option(80.0, validator=validators.ge(0), help="Cleaning begins above this.")
    threshold_low: float = option(60.0, validator=validators.ge(0), help="Cleaning ends below this.")
    every: Duration = option(0.0, help="How often `serve` looks whether to clean; 0: never.")
    min_age: Duration = option(
        1800.0, help="Images that were made more recently stay: they may still be on their way to the registry."
    )
    all_images: bool = option(
        False,
        help="Remove any image that nothing uses, as the chart's cleaner does; default: only those that "
        "repo2docker or a builder of Ringbinder's has made, and what has no name.",
    )

    def __attrs_post_init__(self) -> None:
        if self.threshold_low > self.threshold_high:
            raise ValueError("'threshold_low' must not be above 'threshold_high'")


@frozen
class DockerBuilderOptions(BuildExecutorOptions, ImageCleanerOptions):
    """Sections `BuildExecutor`, `LocalRepo2dockerBuild` and `ImageCleaner`."""

    repo2docker: str = option(
        "jupyter-repo2docker",
        help="Program: a path, or a name that is searched for beside this Python and then on the search path.",
    )
    repo2docker_config: Path | None = option(None, help="Configuration file for repo2docker (`--config`).")
    docker_host: str = option(
        "",
        env="DOCKER_HOST",
        help="Address of the container engine, such as `unix:///run/docker.sock`; default: the first socket that "
        "is there of `/run/docker.sock`, `/var/run/docker.sock` and `~/.docker/run/docker.sock`.",
    )
    docker_config_path: Path | None = option(
        None,
        help="Docker's `config.json`, of which builds get a copy; default: `$DOCKER_CONFIG/config.json`, else "
        "`~/.docker/config.json`.",
    )
    builds_at_once: int = option(
        factory=lambda: os.cpu_count() or 1,
        validator=validators.ge(1),
        help="How many builds run at the same time, others wait in line; default: one for each processor core.",
    )
    build_timeout: Duration = option(
        14400.0, also="BinderHub.build_max_age", help="How long a build may take; 0: for ever."
    )
    idle_timeout: Duration = option(
        1800.0, help="How long a build may be silent before it is taken for stuck; 0: for ever."
    )
