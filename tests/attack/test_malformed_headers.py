"""A header that is not what its name promises is no error of the server's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest

if TYPE_CHECKING:
    from tests.server.conftest import Serve


@pytest.mark.parametrize(
    "origin", ["http://[", "http://[x]/", "//]", "http://a]b", "\N{LATIN SMALL LETTER Y WITH DIAERESIS}"]
)
@pytest.mark.parametrize(
    "path", ["", "v2/fake/owner/name/main", "build/fake/owner/name/main?build_token=x", "api/v1/launches"]
)
async def test_malformed_origin_is_no_error_of_the_server(serve: Serve, origin: str, path: str) -> None:
    async with serve() as live:
        response = await live.client.get(live.address + path, headers=[(b"Origin", origin.encode("latin-1"))])
        assert response.status_code < 500
        assert "internal-error" not in response.text


@pytest.mark.parametrize("host", ["[x]", "[::1", "[v1.x]", "a]b", "127.0.0.1:x", "127.0.0.1:99999999", "[::1]:x"])
@pytest.mark.parametrize("path", ["/x", "/x/v2/fake/owner/name/main", "/x/metrics"])
async def test_malformed_host_is_no_error_of_the_server(serve: Serve, host: str, path: str) -> None:
    async with serve({"BinderHub.base_url": "/x/"}) as live:
        response = await live.client.get(urljoin(live.address, path), headers={"Host": host})
        assert response.status_code < 500
