"""The contract of builders, kept by `layers`."""

from __future__ import annotations

from pathlib import Path

import pytest
from realparts.package_index import PackageIndex
from ringbinder.model import Plan, Target
from ringbinder.testing import BuilderCase, BuilderContract
from ringbinder.testing.ociregistry import OciServer

from .building import Site
from .smallbase import config, publish


class TestLayersBuilder(BuilderContract):
    @pytest.fixture
    async def case(self, tmp_path: Path, site: Site, index: PackageIndex, server: OciServer) -> BuilderCase:
        index.stalls.add("delta-1.0-py3-none-any.whl")

        def plan(name: str, **files: str) -> Plan:
            return site.plan(tmp_path / name, {file.replace("_", "."): text for file, text in files.items()}, name)

        async def target(plan: Plan) -> Target:
            return Target("oci", plan.image)

        async def new_base() -> None:
            await publish(site.context.registry, f"{server.host}/base", "1", config(Env=["NEW=1"]))

        return BuilderCase(
            builder=site.builder,
            target=target,
            good=plan("good", requirements_txt="gamma\n"),
            broken=plan("broken", requirements_txt="no-such-package-4711\n"),
            endless=plan("endless", requirements_txt="delta\n"),
            endless_line="Making a layer of delta",
            declines=plan("declines", postBuild="#!/bin/sh\n"),
            new_base=new_base,
        )
