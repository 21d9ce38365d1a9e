"""The contract of providers, kept by `zenodo`, which is not git, against a stand-in of its API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from realparts.providers import made
from ringbinder.model import Link
from ringbinder.testing import ProviderCase, ProviderContract, make_context
from ringbinder.testing.hosts import ZenodoServer
from ringbinder_providers.zenodo import ZenodoOptions, ZenodoProvider

FILES = {"a.txt": b"first\n", "folder/notebook.ipynb": b"{}\n"}


class TestZenodo(ProviderContract):
    @pytest.fixture
    async def case(self, tmp_path: Path) -> AsyncIterator[ProviderCase]:
        context = make_context(tmp_path, "zenodo")
        async with ZenodoServer.running(records={"42": FILES}, newest={"41": "42"}) as server:
            options = ZenodoOptions(base_url=server.address, doi_base_url=f"{server.address}/doi-resolver")
            yield ProviderCase(
                provider=made(ZenodoProvider, options, context),
                spec="10.5281/zenodo.41",
                files=FILES,
                unknown_repo_spec="10.5281/zenodo.43",
                bad_specs=["", "zenodo.42", "10.5281", "10.5281/", "10.5281/a b", "gh/user/repo"],
                links={
                    "10.5281/zenodo.42": Link("zenodo", "10.5281/zenodo.42"),
                    "https://doi.org/10.5281/zenodo.42": Link("zenodo", "10.5281/zenodo.42"),
                    "https://github.com/u/r": None,
                },
                stalled=server.stalled,
            )
        await context.services.close()
