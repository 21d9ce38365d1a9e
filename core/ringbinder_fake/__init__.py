"""The `fake` provider, registry, builder and launcher: for tests, load, and trying the page.

They fetch, keep, build and run nothing, say so in what they put out, and are off unless the configuration
names them. Delays, log lines and failures are configured. Section ``Fake`` holds the options that all have.
"""

from .builder import FakeBuilder
from .launcher import FakeLauncher
from .provider import FakeProvider
from .registry import FakeRegistry

__all__ = ["FakeBuilder", "FakeLauncher", "FakeProvider", "FakeRegistry"]
