"""The whole application over the small API server: repositories and servers are fakes, what was built is looked up
among the pods that have succeeded."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import structlog
from ringbinder import Image, Plan, Registry, Target
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load
from ringbinder.testing.kubeapi import KubeApi

from .conftest import QuickBuilder


def application(api: KubeApi, folder: Path, **sections: Any) -> AbstractAsyncContextManager[Ringbinder]:
    """One replica, with its state in `folder`."""

    class PodRegistry(Registry[Any]):
        """Has what a pod has pushed."""

        holds = "oci"

        async def check(self, plan: Plan, fresh: bool) -> Image | None:
            pushed = plan.image in api.pushed
            return Image(plan.image, "oci", pushed=True) if pushed else None

        async def target(self, plan: Plan) -> Target:
            return Target("oci", plan.image)

    class Ours(EntryPoint):
        def load(self) -> Any:
            return {"ringbinder.builders": QuickBuilder, "ringbinder.registries": PodRegistry}[self.group]

    def points(group: str) -> Iterable[EntryPoint]:
        if group in ("ringbinder.builders", "ringbinder.registries"):
            return [Ours("ours", "tests:ours", group)]
        return importlib.metadata.entry_points(group=group)

    chosen: dict[str, Any] = {
        "builder": "ours", "registry": "ours", "launcher": "fake", "extra_plugins": ["fake"],
        "max_sessions_per_client": 1000,  # one client stands for all
    }  # fmt: skip
    content = {
        "Ringbinder": {**chosen, "state_folder": str(folder), "cache_folder": str(folder / "cache")},
        "KubernetesBuildExecutor": {"push_secret": ""},
        "RateLimiter": {"limit": 0},
        **sections,
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(content))
    return running(load([file], environ={}), structlog.get_logger(), entry_points=points)
