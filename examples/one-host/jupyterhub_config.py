# JupyterHub for a Binder on one host: containers that Ringbinder asks for, and nobody logs in.
# Read by `jupyterhub`, which gives `c`. What may differ from host to host comes from variables that `one-host` sets.
import errno
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from dockerspawner import DockerSpawner
from ringbinder_launchers.spawner import BinderAuthenticator, BinderSpawnerMixin

folder = Path(os.environ["ONE_HOST_HOME"])


class BinderSpawner(BinderSpawnerMixin, DockerSpawner):
    """One container for each launch, from the image that Ringbinder has built."""


class HostNetworkSpawner(BinderSpawner):
    """Containers share this machine's network: for engines without one of their own (`ONE_HOST_NETWORK=host`)."""

    async def start(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        return await super().start()

    async def get_ip_and_port(self):
        return "127.0.0.1", self.port


c = get_config()  # noqa: F821 - JupyterHub defines it

# Its parts end with the hub, also with one that is killed or fails at its start.
with_the_hub = ["setpriv", "--pdeathsig", "TERM", "--"]

public = urlsplit(os.environ["ONE_HOST_HUB"])
if public.hostname == "localhost":
    # Clients keep cookies for a name, and not for an address. The proxy listens on 127.0.0.1, and ::1, which browsers
    # may try first, is left to nobody else while the hub runs.
    public = public._replace(netloc=f"127.0.0.1:{public.port or 80}")
    BinderSpawner.held = socket.socket(socket.AF_INET6)
    try:
        BinderSpawner.held.bind(("::1", public.port))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
c.JupyterHub.bind_url = public.geturl()
c.ConfigurableHTTPProxy.command = [*with_the_hub, "configurable-http-proxy"]
c.JupyterHub.hub_bind_url = os.environ["ONE_HOST_HUB_API"]
c.ConfigurableHTTPProxy.api_url = os.environ["ONE_HOST_PROXY_API"]
c.ConfigurableHTTPProxy.pid_file = str(folder / "proxy.pid")
c.JupyterHub.db_url = f"sqlite:///{folder / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(folder / "cookie_secret")
c.JupyterHub.authenticator_class = BinderAuthenticator
c.JupyterHub.template_paths = [str(Path(__file__).parent / "templates")]

c.JupyterHub.spawner_class = BinderSpawner
c.DockerSpawner.allowed_images = "*"  # Ringbinder says which
c.DockerSpawner.pull_policy = "ifnotpresent"
c.DockerSpawner.remove = True
c.DockerSpawner.mem_limit = os.environ.get("ONE_HOST_MEMORY", "2G")
c.BinderSpawnerMixin.cors_allow_origin = os.environ.get("ONE_HOST_CORS_ALLOW_ORIGIN", "")
c.Spawner.start_timeout = 300
c.Spawner.http_timeout = 120
if os.environ.get("ONE_HOST_NETWORK") == "host":
    c.JupyterHub.spawner_class = HostNetworkSpawner
    c.Spawner.ip = "127.0.0.1"
    c.DockerSpawner.network_name = "host"
    c.DockerSpawner.extra_host_config = {"network_mode": "host"}
    c.DockerSpawner.use_internal_ip = True

# Who has not touched a notebook for a while loses it, and with it the temporary user.
idle = int(os.environ.get("ONE_HOST_IDLE_SECONDS", "1800"))
c.JupyterHub.last_activity_interval = max(idle // 6, 1)  # how often the proxy is asked who was active
culler = [*with_the_hub, sys.executable, "-m", "jupyterhub_idle_culler", "--cull-users=True"]
culler += [f"--timeout={idle}", f"--cull-every={max(idle // 10, 1)}"]
c.JupyterHub.services = [
    {"name": "binder", "api_token": os.environ["JUPYTERHUB_API_TOKEN"]},
    {"name": "culler", "command": culler},
]
c.JupyterHub.load_roles = [
    {"name": "binder", "services": ["binder"], "scopes": ["servers", "admin:users"]},
    {
        "name": "culler",
        "services": ["culler"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers", "admin:users"],
    },
]
