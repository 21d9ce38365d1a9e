"""The options of the launcher: BinderHub's of section `Launcher` and of section `BinderHub`, and ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import attrs
from attrs import frozen, validators
from ringbinder import Duration, Secret, option


def with_slash(url: str) -> str:
    return url.rstrip("/") + "/" if url else ""


def slashes(path: str) -> str:
    return f"/{path.strip('/')}/" if path.strip("/") else "/"


def address(_: Any, option: attrs.Attribute[str], url: str) -> None:
    """Validates the address of a hub."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"'{option.name}' is no address: {error}") from None
    if url and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise ValueError(f"'{option.name}' must begin with https:// or http:// and a host")
    if "@" in parts.netloc:
        raise ValueError(f"'{option.name}' must hold no user name and password; use hub_api_token")


@frozen(kw_only=True)
class HubOptions:
    """Where a JupyterHub is, and what opens it."""

    hub_url: str = option(
        "", converter=with_slash, validator=address, also="BinderHub.hub_url",
        help="Public address of the JupyterHub, where browsers go.",
    )  # fmt: skip
    hub_url_local: str = option(
        "", converter=with_slash, validator=address, also="BinderHub.hub_url_local",
        help="Its address for Ringbinder, if that is another; default: `hub_url`.",
    )  # fmt: skip
    hub_api_url: str = option(
        "", converter=with_slash, validator=address, env="JUPYTERHUB_API_URL", inherited=False,
        help="Address of its API; default: `hub/api/` below `hub_url_local`.",
    )  # fmt: skip
    hub_api_token: Secret = option(
        factory=lambda: Secret(""), also="BinderHub.hub_api_token", env="JUPYTERHUB_API_TOKEN",
        inherited=False,
        help="Token of the hub's service that Ringbinder is; its scopes are `admin:users` and `servers`.",
    )  # fmt: skip
    auth_enabled: bool = option(
        False, also="BinderHub.auth_enabled",
        help="People log in at the hub, and servers are started as them. Default: temporary users.",
    )  # fmt: skip
    oauth_client_id: str = option(
        "", also="HubOAuth.oauth_client_id", env="JUPYTERHUB_CLIENT_ID",
        help="With `auth_enabled`: `oauth_client_id` of the hub's service that Ringbinder is, such as "
        "`service-binder`.",
    )  # fmt: skip
    oauth_redirect_uri: str = option(
        "", also="HubOAuth.oauth_redirect_uri", env="JUPYTERHUB_OAUTH_CALLBACK_URL",
        help="Where the hub sends browsers back to, exactly as in the hub's configuration of the service; default: "
        "`oauth_callback` below `base_url`, at the hub's own address.",
    )  # fmt: skip
    access_scopes: tuple[str, ...] = option(
        (), also="HubOAuth.access_scopes", env="JUPYTERHUB_OAUTH_ACCESS_SCOPES",
        help="Scopes at the hub of which one is needed to use this server; default: "
        "`access:services!service=` and `service_name`.",
    )  # fmt: skip
    service_name: str = option(
        "binder", env="JUPYTERHUB_SERVICE_NAME", help="Name of the hub's service that Ringbinder is."
    )
    service_prefix: str = option(
        "/", converter=slashes, also="BinderHub.base_url", env="JUPYTERHUB_SERVICE_PREFIX", inherited=False,
        help="Path under which browsers find this server: `BinderHub.base_url`.",
    )  # fmt: skip
    user_memory: Duration = option(
        60.0, validator=validators.le(600.0),
        help="How long it is believed whom a token belongs to: for so long, who has logged out at the hub is "
        "still known here.",
    )  # fmt: skip

    @property
    def local_url(self) -> str:
        """The hub's address for us."""
        return self.hub_url_local or self.hub_url

    @property
    def api_url(self) -> str:
        """The address of its API, with a slash at its end; empty if it is not known."""
        return self.hub_api_url or (f"{self.local_url}hub/api/" if self.local_url else "")

    @property
    def callback(self) -> str:
        """Where the hub sends browsers back to; a path alone is one at the hub's own address."""
        return self.oauth_redirect_uri or f"{self.service_prefix}oauth_callback"

    @property
    def needed_scopes(self) -> frozenset[str]:
        """Of these, one is needed."""
        return frozenset(self.access_scopes or (f"access:services!service={self.service_name}",))

    @property
    def no_login(self) -> str:
        """What an operator still has to set before people can log in; empty if nothing."""
        if not self.oauth_client_id:
            return (
                "Launcher.oauth_client_id is not set (nor the variable JUPYTERHUB_CLIENT_ID): the oauth_client_id "
                "of the JupyterHub's service for Ringbinder"
            )
        return self.missing

    @property
    def missing(self) -> str:
        """What an operator still has to set; empty if nothing."""
        if not self.hub_url:
            return "BinderHub.hub_url is not set: the address of the JupyterHub that launches"
        if not self.hub_api_token:
            return (
                "BinderHub.hub_api_token is not set (nor the variable JUPYTERHUB_API_TOKEN): "
                "the token of the JupyterHub's service for Ringbinder"
            )
        return ""


@frozen(kw_only=True)
class LauncherOptions(HubOptions):
    """Section `Launcher`."""

    allow_named_servers: bool = option(
        False, also="BinderHub.use_named_servers", env="JUPYTERHUB_ALLOW_NAMED_SERVERS",
        help="With `auth_enabled`: every launch is a named server of its user; default: the one default server.",
    )  # fmt: skip
    named_server_limit_per_user: int = option(
        0, env="JUPYTERHUB_NAMED_SERVER_LIMIT_PER_USER", validator=validators.ge(0),
        help="How many named servers one user may have; 0: any number.",
    )  # fmt: skip
    retries: int = option(
        4, validator=validators.ge(1),
        help="How often a request is sent in all that gets no answer or a passing error.",
    )  # fmt: skip
    retry_delay: Duration = option(4.0, help="Wait before the second time; doubled with each.")
    spawn_attempts: int = option(
        2, validator=validators.ge(1),
        help="How often a server is started in all that the hub could not start or has lost in a restart. A "
        "broken image fails each time, and some hubs end themselves after a few failures.",
    )  # fmt: skip
    launch_timeout: Duration = option(600.0, help="How long a launch may take, with all repetitions; 0: for ever.")
    resume_time: Duration = option(
        60.0,
        validator=validators.gt(0),
        help="How long a client may go on with a launch that Ringbinder was killed in; then another replica "
        "or the next start takes away at the hub what the launch has begun.",
    )
    watch_interval: Duration = option(
        60.0, validator=validators.gt(0),
        help="How often the hub is asked which servers it has ended, for the event `server-stopped`; it is not asked "
        "while a quota asks it as often.",
    )  # fmt: skip
    pre_launch_hook: str = option(
        "",
        help="`module:name` of a function that is called before a server is started, as "
        "`hook(launcher, image, username, server_name, repo_url)`, and may raise.",
    )
