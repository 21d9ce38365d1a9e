"""A git server for the contract tests."""

from __future__ import annotations

import pytest
from ringbinder.testing.gitserver import GitServer


@pytest.fixture
def server(git_server: GitServer) -> GitServer:
    return git_server
