"""The options of core's own two sections, `Ringbinder` and `BinderHub`."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from attrs import frozen, validators

from ..runtime.import_string import is_named
from ..runtime.patterns import Pattern
from ..secret import Secret
from .options import ByteSize, Duration, option

_CRAWLERS = tuple(
    map(
        Pattern,
        (
            # "bot" at the end of a word, but not the client BinderBot, nor the phones of Cubot.
            r"(?:^|[^ru]|(?:^|[^c])u|(?:^|[^e])r|(?:^|[^d])er|(?:^|[^n])der|(?:^|[^i])nder|(?:^|[^b])inder)bot\b",
            "crawl",
            "spider",
            "slurp",
            "facebookexternalhit",
        ),
    )
)


def _networks(option: object, attribute: object, networks: Collection[str]) -> None:
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ValueError(f"{network!r} is no network such as 10.0.0.0/8") from None


def _hexadecimal(option: object, attribute: object, value: Secret | None) -> None:
    try:
        if value and len(bytes.fromhex(value.reveal())) >= 16:
            return
    except ValueError:
        pass
    if value:
        raise ValueError("at least 32 hexadecimal digits, such as `openssl rand -hex 32` makes")


def _not_guessed(option: object, attribute: object, value: Secret | None) -> None:
    # An empty one would be what everybody sends who sends none.
    if value is not None and len(value.reveal()) < 8:
        raise ValueError(
            "access_token has at least 8 characters, such as `openssl rand -hex 32` makes; leave it out for none"
        )


def in_order(builder: str | Collection[str]) -> tuple[str, ...]:
    """The names of builders in an option that has one or several."""
    return (builder,) if isinstance(builder, str) else tuple(builder)


def _builder_names(option: object, attribute: object, value: str | Collection[str]) -> None:
    names = in_order(value)
    if not names or len(set(names)) < len(names):
        raise ValueError("builder is the name of a builder, or a list of different ones")


@frozen
class RingbinderSettings:
    """Section `Ringbinder`: what is chosen, and what core needs."""

    builder: str | tuple[str, ...] = option(
        "local",
        validator=_builder_names,
        help="Name of the builder plugin; or several, which are asked in this order: each builds what those before it "
        "decline.",
    )
    registry: str = option("local", help="Name of the registry plugin.")
    launcher: str = option("local", help="Name of the launcher plugin.")
    sinks: tuple[str, ...] = option((), help="Names of the sinks that receive events.")
    disabled_plugins: tuple[str, ...] = option(
        (), help="Plugins that are not loaded, as `name` or `distribution:name`."
    )
    may_fail: tuple[str, ...] = option(
        (),
        help="Policies without which the server starts nevertheless, and lets everybody past them, if they cannot "
        "be loaded, configured or started; as `name` or `distribution:name`. `/health` then shows it.",
    )
    extra_plugins: tuple[str, ...] = option(
        (), help="Providers and general plugins that are off unless named, such as `fake`."
    )
    instances: dict[str, dict[str, Any]] = option(
        factory=dict,
        repr=False,  # may hold access tokens
        help="More instances of a plugin under names of their own: "
        "`{lab: {plugin: gl, hostname: git.lab.example}}` adds the prefix `lab`.",
    )
    hook_timeouts: dict[str, Duration] = option(
        factory=dict, help="Time limit of one call of a hook, by hook name; others keep their defaults."
    )
    lifespan_timeout: Duration = option(30.0, help="Time limit of starting, and of stopping, one plugin.")
    state_folder: Path | None = option(
        None, help="Folder for images, sessions and kept logs; default: the platform's folder for user data."
    )
    cache_folder: Path | None = option(
        None, help="Folder for what may be deleted at any time; default: the platform's folder for caches."
    )
    session_grace: Duration = option(
        60.0, help="How long a client that left before `ready` may come back before its launch is cancelled."
    )
    session_memory: Duration = option(600.0, help="How long an ended session can still be asked for.")
    max_sessions: int = option(
        5000,
        validator=validators.ge(1),
        help="How many sessions there may be: launches under way, and ended ones that can still be asked for; more "
        "are refused.",
    )
    max_sessions_per_client: int = option(
        100,
        validator=validators.ge(1),
        help="The same for one client: a user who has logged in, else an address, or a network (/64) of IPv6.",
    )
    drain_time: Duration = option(
        0.0,
        help="How long launches under way may go on after SIGTERM, before they are "
        "ended; a second signal ends this time.",
    )
    cancel_unwatched_builds: Duration | None = option(
        None, help="Cancel a build that no one has watched for so long; default: builds finish."
    )
    log_max_events: int = option(100_000, help="Bound of one build's log in memory: number of events.")
    log_max_bytes: ByteSize = option(32 * 1024**2, help="Bound of one build's log in memory: bytes.")
    log_format: Literal["console", "json"] = option(
        "console", help="Form of the log on stderr: `console` for people, `json` for programs, one object a line."
    )
    log_levels: dict[str, Literal["debug", "info", "warning", "error"]] = option(
        factory=dict,
        help="Least level that is logged, by plugin: `{gh: debug, builder:local: error}`; others have that of "
        "the command. `debug` for a builder or launcher also logs the lines that it writes for the client.",
    )
    metrics_repos: int | None = option(
        200,
        validator=validators.optional(validators.ge(0)),
        help="How many repositories the metrics name: the first ones since the start; later ones are counted together "
        "as `(other)`. 0: none is named. Nothing (null): all, as BinderHub does, without a bound.",
    )
    keepalive: Duration = option(
        25.0, validator=validators.gt(0), help="Time between two keepalive comments of an event stream."
    )
    strict_accept: bool = option(
        False,
        help="Serve event streams only to clients that name `text/event-stream`; else also to `*/*`, as curl "
        "and many scripts send.",
    )
    trusted_proxies: tuple[str, ...] = option(
        (),
        validator=_networks,
        help="Networks of the proxies whose X-Forwarded-For, X-Real-Ip, X-Forwarded-Proto and X-Scheme are believed.",
    )
    access_token: Secret | None = option(
        None,
        validator=_not_guessed,
        help="The server demands it: as `?token=...` in an address that is opened once in a browser, which then is "
        "let in for 12 hours, or as `Authorization: Bearer ...`. Default: one is made at each start where code runs "
        "on a person's own machine, and none is demanded elsewhere.",
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        help="Host names by which clients may address this server, besides this machine's loopback names and "
        "the host of `BinderHub.badge_base_url`; `*` allows any.",
    )
    page_sources: tuple[str, ...] = option(
        (),
        validator=validators.deep_iterable(validators.matches_re(r"[^\s;,']+")),
        help="Origins besides this server from which its pages may load, and to which they may send, such as "
        "an operator's pictures and analytics: sources of a Content-Security-Policy.",
    )
    federation_members: tuple[str, ...] = option(
        (),
        validator=validators.deep_iterable(validators.matches_re(r"https?://[^\s;,'*/]+")),
        help="Origins, such as `https://two.example.org`, of the servers to which a redirector in front of this one "
        "sends launches: the launch page follows a launch there. `BinderHub.badge_base_url` is the redirector's "
        "address then, and `BinderHub.build_token_secret` the same on all of them.",
    )

    @property
    def builders(self) -> tuple[str, ...]:
        """`builder` as a tuple."""
        return in_order(self.builder)

    @property
    def chosen(self) -> dict[str, str]:
        """The names under which hooks are called of the one registry and launcher, by kind."""
        return {kind: f"{kind}:{getattr(self, kind)}" for kind in ("registry", "launcher")}


def _with_slashes(path: str) -> str:
    return "/" + path.strip("/") + "/" if path.strip("/") else "/"


def _with_slash(url: str) -> str:
    return url.rstrip("/") + "/" if url else ""


def _address_or_name(text: str) -> str:
    return text if is_named(text) else _with_slash(text)


@frozen
class BinderHubSettings:
    """Section `BinderHub`: the options of BinderHub's that core and the server use, by their names."""

    base_url: str = option(
        "/", converter=_with_slashes, help="Path under which everything is served; slashes at both ends are added."
    )
    port: int = option(
        8585, validator=[validators.ge(0), validators.le(65535)], help="Port to listen on; 0 takes a free one."
    )
    cors_allow_origin: str | tuple[str, ...] = option(
        "", help="Origin, or list of origins, whose pages may start builds; `*` allows all."
    )
    image_prefix: str = option("", help="Prefix of all image names, such as `registry.example/project/binder-`.")
    badge_base_url: str = option(
        "",
        converter=_address_or_name,
        help="Public address for badges and links; default: the address that the client used. Or `module:name` "
        "of a function that returns it: called with an object whose `request` has `host`, `protocol`, "
        "`remote_ip` and `headers`.",
    )
    normalized_origin: str = option(
        "",
        help="What events tell as `origin`, the same for all hosts that this server is known by; default: the host "
        "that the client addressed.",
    )
    ban_networks: dict[str, str] = option(
        factory=dict,
        validator=_networks,
        help="Networks that get nothing but the version and health: `{192.0.2.0/24: name of the network}`.",
    )
    block_build_user_agents: tuple[Pattern, ...] = option(
        _CRAWLERS,
        help="Regular expressions, in any case of letters; a client whose User-Agent has one starts no builds.",
    )
    build_token_secret: Secret | None = option(
        None,
        env="BINDERHUB_BUILD_TOKEN_SECRET",
        validator=_hexadecimal,
        help="Hexadecimal key of the build tokens, the same for all replicas; default: a random one.",
    )
    build_token_expires_seconds: Duration = option(300.0, help="How long a build token of a page is good.")
    build_token_check_origin: bool = option(
        True, help="A build token is good only for pages of the host that it was made for."
    )
    banner_message: str = option("", help="HTML shown on top of every page.")
    about_message: str = option("", help="HTML shown on the page `about`.")
    default_opengraph_title: str = option(
        "Ringbinder: a link opens a notebook", help="Title of previews of pages other than launch pages."
    )
    template_path: Path | None = option(
        None, help="Folder with templates that stand before the packaged ones of the same name."
    )
    template_variables: dict[str, Any] = option(factory=dict, help="More variables for the templates.")
    extra_header_html: dict[str, str] = option(
        factory=dict, help="HTML for the end of every page's head; the keys give the order."
    )
    extra_footer_scripts: dict[str, str] = option(
        factory=dict, help="JavaScript, without the script tag, for the end of every page; the keys give the order."
    )
    extra_static_path: Path | None = option(None, help="Folder whose files are served as well.")
    extra_static_url_prefix: str = option(
        "/extra_static/", converter=_with_slashes, help="Path, under `base_url`, of these files."
    )
    concurrent_build_limit: int = option(32, validator=validators.ge(1), help="How many builds run at the same time.")
    hub_url: str = option("", converter=_with_slash, help="Public address of the JupyterHub that launches.")
    auth_enabled: bool = option(
        False,
        help="Only who has logged in may use this server, and everything runs as them: a plugin says who somebody "
        "is (`jupyterhub`: the hub does). As a hub's service, `base_url` and `port` are by default what the hub "
        "says in JUPYTERHUB_SERVICE_PREFIX and JUPYTERHUB_SERVICE_URL.",
    )
    use_registry: bool = option(True, help="Keep images in a registry.")
    registry_class: str = option(
        "",
        help="BinderHub's class for the registry; here the plugin that stands for it is chosen: `helper` for "
        "`ExternalRegistryHelper`, `gcr` for `GoogleArtifactRegistry`.",
    )
    enable_api_only_mode: bool = option(
        False, help="Serve no pages, and let clients ask for a build without a launch (`build_only=true`)."
    )

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """`cors_allow_origin` as a tuple; empty if no other origin is allowed."""
        origins = self.cors_allow_origin
        return tuple(filter(None, (origins,) if isinstance(origins, str) else origins))
