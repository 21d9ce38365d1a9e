"""What BinderHub's configuration means here: its classes and options, and which plugins a file asks for.

Source of the names: BinderHub's traits and its chart's values (protocol reference, sections 2.1 to 2.6).
Pure: nothing is read and nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from ..image_reference import is_docker_hub, is_google, split_domain
from .settings import in_order

Sections = Mapping[str, Mapping[str, Any]]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_REPO_PROVIDER = _names("allowed_specs banned_specs high_quota_specs spec_config git_credentials")
_GITHUB = _REPO_PROVIDER | _names("access_token client_id client_secret hostname api_base_path")
_BUILD_EXECUTOR = _names(
    "appendix builder_info git_credentials memory_limit push_secret registry_credentials repo2docker_extra_args"
)
_CLEANER = _names("max_age")
_DOCKER_REGISTRY = _names("url auth_config_url token_url username password docker_config_path not_found_401")

OPTIONS: Mapping[str, frozenset[str]] = {
    "BinderHub": _names(
        "about_message appendix auth_enabled badge_base_url ban_networks banner_message base_url"
        " block_build_user_agents build_class build_cleaner_class build_cleanup_interval"
        " build_docker_config buildDockerConfig build_docker_host build_image build_max_age"
        " build_memory_limit build_memory_request build_namespace build_node_selector"
        " build_token_check_origin build_token_expires_seconds build_token_secret builder_required"
        " concurrent_build_limit config_file cors_allow_origin debug default_opengraph_title"
        " enable_api_only_mode executor_threads extra_footer_scripts extra_header_html"
        " extra_static_path extra_static_url_prefix health_handler_class hub_api_token hub_url"
        " hub_url_local image_prefix launch_quota_class log_level log_tail_lines normalized_origin"
        " per_repo_quota per_repo_quota_higher pod_quota port push_secret registry_class"
        " repo_providers sticky_builds template_path template_variables tornado_settings"
        " use_named_servers use_registry"
    ),
    "BuildExecutor": _BUILD_EXECUTOR,
    "KubernetesBuildExecutor": _BUILD_EXECUTOR
    | _names(
        "build_image docker_host extra_envs image_pull_secrets log_tail_lines memory_request"
        " namespace node_selector resources sticky_builds"
    ),
    "LocalRepo2dockerBuild": _BUILD_EXECUTOR,
    "Cleaner": _CLEANER,
    "KubernetesCleaner": _CLEANER,
    "DockerRegistry": _DOCKER_REGISTRY,
    "GoogleArtifactRegistry": _DOCKER_REGISTRY,
    "ExternalRegistryHelper": _DOCKER_REGISTRY | _names("service_url auth_token"),
    "RepoProvider": _REPO_PROVIDER,
    "GitHubRepoProvider": _GITHUB,
    "GistRepoProvider": _GITHUB | _names("allow_secret_gist"),
    "GitLabRepoProvider": _REPO_PROVIDER | _names("hostname access_token private_token"),
    "GitRepoProvider": _REPO_PROVIDER | _names("allowed_protocols"),
    "ZenodoProvider": _REPO_PROVIDER,
    "FigshareProvider": _REPO_PROVIDER,
    "HydroshareProvider": _REPO_PROVIDER,
    "DataverseProvider": _REPO_PROVIDER,
    "CKANProvider": _REPO_PROVIDER,
    "Launcher": _names(
        "allow_named_servers named_server_limit_per_user retries retry_delay launch_timeout pre_launch_hook"
    ),
    "LaunchQuota": _names("total_quota"),
    "KubernetesLaunchQuota": _names("total_quota namespace"),
    "RateLimiter": _names("limit period_seconds clean_seconds"),
    "EventLog": _names("handlers_maker"),
    "HubOAuth": _names("hub_host base_url oauth_client_id oauth_redirect_uri access_scopes"),
}
"""BinderHub's classes and their options."""

GONE: Mapping[tuple[str, str], str] = {
    ("BinderHub", "google_analytics_code"): "BinderHub has removed it; put the script into extra_footer_scripts",
    ("BinderHub", "google_analytics_domain"): "BinderHub has removed it; put the script into extra_footer_scripts",
}
"""Options that BinderHub has, or had, and that cannot work here: why, and what to do instead."""

SNIPPETS: Mapping[str, str] = {
    "EventLog.handlers_maker": "write config.EventLog.handlers_maker as module:name of that function, or choose "
    "a sink in config.Ringbinder.sinks",
    "Launcher.pre_launch_hook": "write config.Launcher.pre_launch_hook as module:name of that function",
    "BinderHub.badge_base_url": "write config.BinderHub.badge_base_url as an address, or as module:name of that "
    "function",
    "BinderHub.repo_providers": "providers are plugins: install them with the chart's value plugins, and turn off "
    "what you do not want with config.Ringbinder.disabled_plugins",
    "BinderHub.template_variables": "write the variables below config.BinderHub.template_variables",
    "event_loop_interval_seconds": "leave it out: Ringbinder runs on no tornado",
}
"""What Python snippets of BinderHub's chart do (a text that they contain), and how to say it here."""

OTHER_SNIPPETS = "write what it sets below config, or write a plugin"
"""The answer to any other snippet."""

NAMED_IN_CHART = "in the chart, extraFiles puts the module into /etc/binderhub/python"
"""How a function comes to be where ``module:name`` finds it."""

CHART_VALUES = _names(
    "pdb replicas resources rbac nodeSelector tolerations image registry service config extraConfig"
    " extraFiles extraPodSpec initContainers lifecycle extraVolumes extraVolumeMounts extraEnv"
    " podAnnotations jupyterhub deployment imageBuilderType dind pink imageCleaner httpRoute ingress"
    " hpa networkPolicy cors global binderhub plugins"
)
"""Top-level keys of a Helm values file for BinderHub's chart, and `plugins`, which ours adds."""

GONE_VALUES: Mapping[tuple[str, ...], str] = {
    ("hub",): "use jupyterhub.hub, and config.BinderHub.hub_url",
    ("github",): "use config.GitHubRepoProvider",
    ("gitlab",): "use config.GitLabRepoProvider",
    ("build",): "use config.KubernetesBuildExecutor",
    ("perRepoQuota",): "use config.BinderHub.per_repo_quota",
    ("registry", "host"): "use config.DockerRegistry.url",
    ("registry", "authHost"): "use config.DockerRegistry.auth_config_url",
    ("registry", "tokenUrl"): "use config.DockerRegistry.token_url",
    ("registry", "prefix"): "use config.BinderHub.image_prefix",
    ("registry", "enabled"): "use config.BinderHub.use_registry",
    ("cors", "allowOrigin"): "use config.BinderHub.cors_allow_origin",
    ("jupyterhub", "custom", "cors", "allowOrigin"): "use jupyterhub.hub.config.BinderSpawner.cors_allow_origin",
    ("dind", "enabled"): "use imageBuilderType: dind",
    ("imageCleaner", "host", "enabled"): "use imageBuilderType",
    ("imageCleaner", "host", "dockerSocket"): "use imageCleaner.host.dockerSocketDir and dockerSocketName",
}
"""Values that the chart has dropped and what replaced them."""

BINDERHUBS_IMAGES = ("k8s-binderhub", "binderhub")
"""Last parts of the names of images that hold BinderHub."""

BINDERHUBS_IMAGE = "holds BinderHub, which Ringbinder cannot run on; leave image.name out, or name Ringbinder's image"

_DEPLOYMENT_OPTIONS = ("hub_url", "hub_url_local", "use_registry", "image_prefix")
_DEPLOYMENT_SECTIONS = (
    "KubernetesBuildExecutor",
    "KubernetesCleaner",
    "KubernetesLaunchQuota",
    "DockerRegistry",
    "GoogleArtifactRegistry",
    "ExternalRegistryHelper",
)
_ON_THIS_MACHINE = ("local", "fake")
_BUILDS_HERE = "LocalRepo2dockerBuild"

REGISTRY_CLASSES: Mapping[str, str] = {
    "DockerRegistry": "",
    "ExternalRegistryHelper": "helper",
    "FakeRegistry": "fake",
    "GoogleArtifactRegistry": "gcr",
}
"""Plugins that stand for what `BinderHub.registry_class` names; empty: the host that is named decides."""

REGISTRY_SECTION = "DockerRegistry"
"""The section that the Helm chart's `registry:` block stands behind."""


@frozen
class Choice:
    """The plugins that do the work, and for each why: ``reasons["builder"]``."""

    builder: str | tuple[str, ...] = "local"
    registry: str = "local"
    launcher: str = "local"
    reasons: Mapping[str, str] = field(factory=dict)

    @property
    def builders(self) -> tuple[str, ...]:
        """`builder` as a tuple."""
        return in_order(self.builder)

    @property
    def names(self) -> dict[str, str]:
        """The plugins of each kind, in words."""
        return {"builder": ", ".join(self.builders), "registry": self.registry, "launcher": self.launcher}


def of_hubs_service(environ: Mapping[str, str], given: Collection[str]) -> dict[str, Any]:
    """Options of `BinderHub` that a JupyterHub tells its service, but for those that are `given`.

    Source: the variables that JupyterHub sets for a service that it has been given an address of.
    """
    found: dict[str, Any] = {}
    if prefix := environ.get("JUPYTERHUB_SERVICE_PREFIX"):
        found["base_url"] = prefix
    with suppress(ValueError):
        if port := urlsplit(environ.get("JUPYTERHUB_SERVICE_URL", "")).port:
            found["port"] = port
    return {option: value for option, value in found.items() if option not in given}


def answer_snippet(code: str) -> str:
    """How to say here what a Python snippet of `extraConfig` does."""
    answers = [f"{what}: {answer}" for what, answer in SNIPPETS.items() if what in code]
    if any("module:name" in answer for answer in answers):
        answers.append(NAMED_IN_CHART)
    return "; ".join(answers) or OTHER_SNIPPETS


def known(section: str, option: str) -> bool:
    """Whether BinderHub has, or had, this option."""
    return option in OPTIONS.get(section, ()) or (section, option) in GONE


def choose(sections: Sections, chart: Collection[str] = (), registry_url: str = "", makes: str = "") -> Choice:
    """Which builder, registry and launcher a configuration asks for.

    `chart` names the Helm chart's values that the files have (``registry``, ``jupyterhub``); `registry_url`
    is the `registry.url` among them; `makes` is the kind of image that the builder of `Ringbinder.builder` makes, as
    far as it is known. What section `Ringbinder` names wins; a deployment's sections mean Kubernetes and JupyterHub;
    with neither, everything runs on this machine, but for what does not fit the builder.
    """
    own = sections.get("Ringbinder", {})
    chosen: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for kind in ("builder", "registry", "launcher"):
        name = own.get(kind)
        if kind == "builder" and isinstance(name, list | tuple):
            name = tuple(name)
        if isinstance(name, str | tuple):
            chosen[kind], reasons[kind] = name, f"Ringbinder.{kind} names it"
    builders = in_order(chosen.get("builder", ()))

    deployment = _deployment(sections, chart)
    found: dict[str, Any] = dict.fromkeys(("builder", "registry", "launcher"), "local")
    named = f"Ringbinder.builder ({', '.join(map(str, builders))})"
    if makes == "folder":
        because = dict.fromkeys(found, f"{named} makes images of kind folder")
    elif here := _stays_here(builders, chosen.get("launcher", "")):
        because = dict.fromkeys(found, f"Ringbinder.{here} stays on this machine")
    else:
        because = dict.fromkeys(found, deployment or "nothing asks for anything else")
        if makes == "oci" and not deployment:
            found["launcher"], because["launcher"] = "jupyterhub", f"{named} makes images of kind oci"
        if deployment:
            found |= {"builder": "kubernetes", "launcher": "jupyterhub"}
        if deployment and (engine := _engine_here(sections)):
            found["builder"], because["builder"] = "docker", engine
        if deployment or makes == "oci":
            found["registry"], because["registry"] = _registry(sections, registry_url)
    return Choice(**(found | chosen), reasons=because | reasons)


def _stays_here(builders: Collection[str], launcher: str) -> str:
    """The kind of the plugin that `Ringbinder` names and that works on this machine alone; empty if none does."""
    if any(builder in _ON_THIS_MACHINE for builder in builders):
        return "builder"
    return "launcher" if launcher in _ON_THIS_MACHINE else ""


def _deployment(sections: Sections, chart: Collection[str]) -> str:
    """What says that this is a deployment on a cluster, in words; empty if nothing does."""
    for option in _DEPLOYMENT_OPTIONS:
        if option in sections.get("BinderHub", {}):
            return f"BinderHub.{option} is set, so this is a deployment"
    for section in _DEPLOYMENT_SECTIONS:
        if section in sections:
            return f"section {section} is there, so this is a deployment"
    if engine := _engine_here(sections):
        return f"{engine}, so this is a deployment"
    if chart:
        return f"`{min(chart)}` is a value of BinderHub's Helm chart, so this is a deployment"
    return ""


def _engine_here(sections: Sections) -> str:
    """What says that a container engine of this machine builds, in words; empty if nothing does."""
    if str(sections.get("BinderHub", {}).get("build_class", "")).endswith(_BUILDS_HERE):
        return f"BinderHub.build_class is {_BUILDS_HERE}"
    return f"section {_BUILDS_HERE} is there" if _BUILDS_HERE in sections else ""


def _registry(sections: Sections, registry_url: str) -> tuple[str, str]:
    """Name of the registry plugin, and the reason."""
    named = _registry_class(sections)
    if plugin := REGISTRY_CLASSES.get(named):
        return plugin, f"BinderHub.registry_class is {named}"
    hosts = registry_hosts(sections, registry_url)
    if not hosts:
        return "dockerhub", "no registry is named, which means Docker Hub"
    source, host = next(iter(hosts.items()))
    if is_google(host):
        return "gcr", f"{source} is at Google ({host})"
    if is_docker_hub(host):
        return "dockerhub", f"{source} is at Docker Hub"
    return "oci", f"{source} is at {host}"


def _registry_class(sections: Sections) -> str:
    """The name of the class, without its module; empty if none is named."""
    return str(sections.get("BinderHub", {}).get("registry_class") or "").rpartition(".")[2]


def registry_hosts(sections: Sections, registry_url: str = "") -> dict[str, str]:
    """The registry hosts that are named, by where they stand; first the one that images are pushed to."""
    named = {
        "BinderHub.image_prefix": _prefix_host(sections.get("BinderHub", {}).get("image_prefix")),
        "DockerRegistry.url": _url_host(sections.get("DockerRegistry", {}).get("url")),
        "registry.url": _url_host(registry_url),
    }
    return {source: host for source, host in named.items() if host}


def registry_defaults(registry: Mapping[str, Any], sections: Sections) -> dict[str, Any]:
    """What the Helm chart's `registry:` block says in terms of section `DockerRegistry`.

    User name and password are left out where the configuration asks another registry than theirs: they must
    not be sent there.
    """
    given = {name: registry[name] for name in ("url", "username", "password") if registry.get(name)}
    if stranded_credentials(registry, sections):
        given = {name: value for name, value in given.items() if name == "url"}
    return given


def stranded_credentials(registry: Mapping[str, Any], sections: Sections) -> str:
    """Why no one uses the user name and password of the `registry:` block; empty if they are used.

    The block without `url` means Docker Hub. Source: `buildDockerConfig` of BinderHub's chart.
    """
    section = sections.get(REGISTRY_SECTION, {})
    theirs = _url_host(registry.get("url")) or "docker.io"
    asked = (
        _url_host(section.get("auth_config_url"))
        or _url_host(section.get("url"))
        or _url_host(registry.get("url"))
        or _prefix_host(sections.get("BinderHub", {}).get("image_prefix"))
        or theirs
    )
    one = (
        asked == theirs or (is_docker_hub(asked) and is_docker_hub(theirs)) or (is_google(asked) and is_google(theirs))
    )
    if one or not registry.get("password"):
        return ""
    missing = "" if registry.get("url") else ", since registry.url is not set"
    return f"registry.username and password are for {theirs}{missing}; they are not sent to {asked}"


def lone_credentials(registry: Mapping[str, Any], sections: Sections, choice: Choice) -> str:
    """What is odd in a user name without a password, or the other way round; empty if that is not so.

    Google's registries know the user by the form of the password.
    """
    own = {"gcr": "GoogleArtifactRegistry", "helper": "ExternalRegistryHelper"}.get(choice.registry, "")
    named = {**registry, **sections.get(REGISTRY_SECTION, {}), **sections.get(own, {})}
    username, password = bool(named.get("username")), bool(named.get("password"))
    if username and not password:
        return f"{own or REGISTRY_SECTION}.username is not used: it is set without a password"
    if password and not username and choice.registry in ("oci", "custom", "dockerhub"):
        return f'{REGISTRY_SECTION}.password is set without a username: the registry gets the user name "token"'
    return ""


def disagreements(sections: Sections, registry_url: str = "") -> list[str]:
    """Warnings: what is said of the registry, and cannot be followed or does not go together."""
    found: list[str] = []
    named = _registry_class(sections)
    if named and named not in REGISTRY_CLASSES and not sections.get("Ringbinder", {}).get("registry"):
        message = "is no class of BinderHub's own, so it is not used; choose a plugin with Ringbinder.registry"
        found.append(f"BinderHub.registry_class: {named} {message}")
    hosts = registry_hosts(sections, registry_url)
    if len({"docker.io" if is_docker_hub(host) else host for host in hosts.values()}) > 1:
        named = ", ".join(f"{source} names {host}" for source, host in hosts.items())
        found.append(
            f"{named}: images are searched for at one host and pushed to another, unless both are one registry"
        )
    return found


def half_sandboxed(sections: Sections, choice: Choice) -> str:
    """What is wrong with a sandbox for notebooks without one for builds; empty if that is not so."""
    modes = ("auto", "required")
    launcher, builder = (sections.get(name, {}).get("sandbox") for name in ("LocalLauncher", "LocalBuilder"))
    local = choice.launcher == "local" and "local" in choice.builders
    if not local or launcher not in modes or builder in modes:
        return ""
    return (
        f"LocalLauncher.sandbox is {launcher}, and LocalBuilder.sandbox is off: code of repositories (postBuild, "
        "setup.py) runs outside of the sandbox while images are built. Set LocalBuilder.sandbox, too."
    )


def sandboxed(sections: Sections, choice: Choice) -> bool:
    """Whether code of repositories runs in a sandbox or not at all."""
    modes = [sections.get(name, {}).get("sandbox") for name in ("LocalLauncher", "LocalBuilder")]
    return (choice.launcher, choice.builders, modes) == ("local", ("local",), ["required"] * 2)


def _url_host(url: object) -> str:
    if not isinstance(url, str) or not url:
        return ""
    try:
        return urlsplit(url if "://" in url else f"https://{url}").netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


def _prefix_host(prefix: object) -> str:
    """The host of an image prefix, by Docker's rule: its first part if it looks like one, else Docker Hub."""
    if not isinstance(prefix, str) or not prefix:
        return ""
    return split_domain(prefix.lower())[0] or "docker.io"
