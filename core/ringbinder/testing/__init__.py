"""Contract tests and helpers for plugin authors. Opt-in: nothing of Ringbinder imports it. Needs pytest.

A plugin's own test file subclasses the contract of its kind and says in one fixture, `case`, what to test with:

    class TestMyProvider(ProviderContract):
        @pytest.fixture
        async def case(self, tmp_path):
            provider = MyProvider(MyOptions(), make_context(tmp_path, "mine"))
            yield ProviderCase(provider=provider, spec="owner/name/main", ...)

The tests are coroutines: run them with pytest-asyncio in its auto mode. ``pytest_plugins =
"ringbinder.testing.pytest"`` adds fixtures. `gitserver` has a real git server, `apiserver` a web API that can be
slow, broken or out of quota, `hosts` those of GitHub, GitLab and Zenodo, `ociregistry` a registry in memory,
`kubeapi` a small Kubernetes API server, and `kernel` runs cells in a launched server.
"""

from .builder import BuilderCase, BuilderContract
from .clock import FakeClock
from .context import RecordedServers, RecordingLog, folder_plan, image_registry, make_context
from .launcher import LauncherCase, LauncherContract
from .memory import MemoryApp, memory_app
from .policy import PolicyCase, PolicyContract, RecordingTicket
from .provider import ProviderCase, ProviderContract
from .registry import RegistryCase, RegistryContract
from .sink import SinkCase, SinkContract
from .stall import Stall
from .trouble import Trouble, troubled

__all__ = [
    "BuilderCase",
    "BuilderContract",
    "FakeClock",
    "LauncherCase",
    "LauncherContract",
    "MemoryApp",
    "PolicyCase",
    "PolicyContract",
    "ProviderCase",
    "ProviderContract",
    "RecordedServers",
    "RecordingLog",
    "RecordingTicket",
    "RegistryCase",
    "RegistryContract",
    "SinkCase",
    "SinkContract",
    "Stall",
    "Trouble",
    "folder_plan",
    "image_registry",
    "make_context",
    "memory_app",
    "troubled",
]
