"""The options of the builder `kubernetes`: BinderHub's, and ours."""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen, validators
from ringbinder import ByteSize, Duration, option

from .repo2docker import BuildExecutorOptions

NAMESPACE_VARIABLE: Final = "BUILD_NAMESPACE"
_DOCUMENTED_IMAGE: Final = "quay.io/jupyterhub/repo2docker:2026.4.0"


def _socket(value: object) -> object:
    return value.removeprefix("unix://") if isinstance(value, str) else value


@frozen
class KubernetesBuildOptions(BuildExecutorOptions):
    """Sections `BuildExecutor`, `Cleaner`, `KubernetesCleaner` and `KubernetesBuildExecutor`."""

    build_image: str = option(
        _DOCUMENTED_IMAGE, also="BinderHub.build_image", help="Image with repo2docker that build pods run."
    )
    namespace: str = option(
        "", env=NAMESPACE_VARIABLE, also="BinderHub.build_namespace",
        help="Namespace of the build pods; default: the one that we run in.",
    )  # fmt: skip
    docker_host: str | None = option(
        "/var/run/docker.sock", also="BinderHub.build_docker_host", converter=_socket,
        help="Socket of a container engine on the nodes, mounted into build pods; null mounts none.",
    )  # fmt: skip
    push_secret: str = option(
        "binder-build-docker-config", also="BinderHub.push_secret", secret=False,
        help="Secret with docker's `config.json`, for builds that the registry gives no credentials; empty: none.",
    )  # fmt: skip
    use_registry: bool = option(
        True, also="BinderHub.use_registry", help="Push images; false leaves them in the engine that built them."
    )
    image_pull_secrets: tuple[str | dict[str, str], ...] = option(
        (), help="Secrets to pull the build image with: names, or `{name: ...}`.", secret=False
    )
    extra_envs: dict[str, str] = option(factory=dict, help="More environment variables for repo2docker.")
    node_selector: dict[str, str] = option(
        factory=dict, also="BinderHub.build_node_selector", help="Labels of the nodes that build."
    )
    resources: dict[str, Any] = option(factory=dict, help="`requests` and `limits` of a build pod.")
    memory_request: ByteSize = option(
        0, also="BinderHub.build_memory_request", help="Memory that a build pod requests; older than `resources`."
    )
    memory_limit: ByteSize = option(
        0, also="BinderHub.build_memory_limit", help="Memory limit of a build pod; older than `resources`."
    )
    sticky_builds: bool = option(
        False, also="BinderHub.sticky_builds",
        help="Build a repository on the same node each time, as far as it can be, for the sake of its cache.",
    )  # fmt: skip
    pod_template: dict[str, Any] = option(
        factory=dict,
        help="Any further fields of a build pod: merged into it, lists by name as Kubernetes does, null removes.",
    )
    security_context: dict[str, Any] = option(
        factory=lambda: {"allowPrivilegeEscalation": False},
        help="`securityContext` of the container that builds.",
    )  # fmt: skip
    build_timeout: Duration = option(
        14400.0, help="How long a build pod may live (`activeDeadlineSeconds`); 0: for ever."
    )
    idle_timeout: Duration = option(3600.0, help="How long a build may run without a line of output; 0: for ever.")
    pending_timeout: Duration = option(
        600.0, help="How long a build pod may take to start before the build has failed; 0: for ever."
    )
    concurrent_build_limit: int = option(
        32, also="BinderHub.concurrent_build_limit", validator=validators.ge(1),
        help="How many build pods run at the same time, those of all replicas together.",
    )  # fmt: skip
    max_age: Duration = option(
        14400.0, also="BinderHub.build_max_age", help="A build pod older than this is removed; 0: never."
    )
    keep_finished: Duration = option(
        60.0, help="How long a finished build pod is kept, for other replicas that watch it and for `kubectl`."
    )
    cleanup_interval: Duration = option(
        60.0, also="BinderHub.build_cleanup_interval", validator=validators.gt(0),
        help="How often build pods to remove are searched for.",
    )  # fmt: skip
