"""What a build pod looks like: BinderHub's, and what was missing. Pure.

Source: BinderHub's `KubernetesBuildExecutor` (protocol reference, section 5.3).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from ringbinder import GitSource, Plan, Secret

from ._kubernetes_options import KubernetesBuildOptions
from .repo2docker import docker_auths, git_configuration

COMPONENT: Final = "binderhub-build"
BUILDER: Final = "builder"
IMAGE: Final = "ringbinder.org/image"
"""Annotation: the image that the pod makes. A pod of the same name that makes another one is not ours."""
ATTEMPT: Final = "ringbinder.org/attempt"
"""Annotation: a random word of the replica that created the pod, to know one's own after a broken connection."""

_CREDENTIALS: Final = "ringbinder-credentials"
_DOCKER_CONFIG: Final = "config.json"
_GIT_CONFIG: Final = "gitconfig"
_GIT_CREDENTIALS: Final = "git-credentials"
_BINDERHUBS_FOLDER: Final = "/root/.docker"
_TOLERATED: Final = ("hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated")
_KEYS: Final = ("mountPath", "containerPort", "ip", "name")
"""Lists of objects are merged by the first of these that all of their objects have; others are joined."""


def secret_name(attempt: str, build: str) -> str:
    return f"{build}-{attempt}"


def pod(
    plan: Plan,
    options: KubernetesBuildOptions,
    command: Sequence[str],
    attempt: str,
    private: str,
    *,
    keys: Collection[str] = (),
    nodes: Sequence[str] = (),
) -> dict[str, Any]:
    """The pod that builds `plan`. `keys` are those of its Secret; `nodes` the ones that build, if that matters.

    Credentials are files of the folder `private`, a random word: repo2docker follows the links of a repository and
    shows what is there, so no repository may be able to name them. They are no variables, since links lead to
    ``/proc/self/environ`` as well; a variable that names the folder is read too late for a link to it.
    """
    env: dict[str, str] = {}
    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    secret = secret_name(attempt, plan.build)
    if options.docker_host:
        mounts.append({"name": "docker-socket", "mountPath": "/var/run/docker.sock"})
        source = {"path": options.docker_host, "type": "Socket"}
        volumes.append({"name": "docker-socket", "hostPath": source})
    folder = f"/run/ringbinder/{private}"
    files = dict.fromkeys(sorted(keys), _CREDENTIALS)
    if keys:
        volumes.append({"name": _CREDENTIALS, "secret": {"secretName": secret, "defaultMode": 0o400}})
    if _DOCKER_CONFIG not in keys and options.push_secret and options.use_registry:
        files[_DOCKER_CONFIG] = "docker-config"
        volumes.append({"name": "docker-config", "secret": {"secretName": options.push_secret}})
    # One by one, since docker's client writes into its folder.
    mounts += [
        {"name": volume, "mountPath": f"{folder}/{key}", "subPath": key, "readOnly": True}
        for key, volume in files.items()
    ]
    moved: dict[str, str] = {}
    if _DOCKER_CONFIG in files:
        env |= {"DOCKER_CONFIG": folder, "REGISTRY_AUTH_FILE": f"{folder}/{_DOCKER_CONFIG}"}
        moved = {_BINDERHUBS_FOLDER + end: folder + end for end in ("", "/", f"/{_DOCKER_CONFIG}")}
    if _GIT_CONFIG in files:
        env["GIT_CONFIG_GLOBAL"] = f"{folder}/{_GIT_CONFIG}"
    env |= {name: moved.get(value, value) for name, value in options.extra_envs.items()}
    container = {
        "name": BUILDER,
        "image": options.build_image,
        "args": list(command),
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "resources": _resources(options),
        "securityContext": merged({}, options.security_context),
        "volumeMounts": mounts,
    }
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": volumes,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": dict(options.node_selector),
        "tolerations": [
            {"key": key, "operator": "Equal", "value": "user", "effect": "NoSchedule"} for key in _TOLERATED
        ],
        "imagePullSecrets": [
            dict(name) if isinstance(name, Mapping) else {"name": name} for name in options.image_pull_secrets
        ],
        "affinity": _affinity(nodes, plan.repo.url),
    }
    if options.build_timeout:
        spec["activeDeadlineSeconds"] = max(1, round(options.build_timeout))
    made = merged({"spec": spec}, options.pod_template)
    made["spec"]["restartPolicy"] = "Never"
    metadata = made.setdefault("metadata", {})
    metadata["name"] = plan.build
    metadata.pop("namespace", None)
    metadata["labels"] = {**metadata.get("labels", {}), "name": plan.build, "component": COMPONENT}
    ours = {"binder-repo": plan.repo.url, IMAGE: plan.image, ATTEMPT: attempt}
    metadata["annotations"] = {**metadata.get("annotations", {}), **ours}
    return {**made, "apiVersion": "v1", "kind": "Pod"}


def credentials(plan: Plan, login: Secret | None, options: KubernetesBuildOptions) -> dict[str, str]:
    """The content of the Secret of one build, by key; empty if it needs none.

    `login` is as in `Target.credentials`.
    """
    given: dict[str, str] = {}
    git = plan.repo.credentials or options.git_credentials
    if git and isinstance(plan.repo.source, GitSource):
        # In BinderHub's, a line ends with the two characters that its helper printed as one newline.
        given[_GIT_CREDENTIALS] = git.reveal().replace("\\n", "\n")
        # A variable and not the path: another replica may make this Secret, which does not know the path.
        beside = f'"${{GIT_CONFIG_GLOBAL%/*}}/{_GIT_CREDENTIALS}"'
        given[_GIT_CONFIG] = "[include]\n\tpath = ~/.gitconfig\n" + git_configuration(plan.repo.source.url, beside)
    if login is None and options.registry_credentials is not None:
        login = options.registry_credentials.as_secret()
    if login is not None and options.use_registry:
        given[_DOCKER_CONFIG] = json.dumps({"auths": docker_auths(login)})
    return given


def secret(content: Mapping[str, str], owner: Mapping[str, Any], attempt: str) -> dict[str, Any]:
    """The Secret of the pod `owner`: it goes when the pod goes."""
    name = str(owner["metadata"]["name"])
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": secret_name(attempt, name),
            "labels": {"name": name, "component": COMPONENT},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": owner["metadata"]["uid"]}],
        },
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in content.items()},
    }


def rendezvous(nodes: Collection[str], key: str) -> list[str]:
    """`nodes` in the order in which `key` prefers them; a node that comes or goes changes little.

    Source: BinderHub's `rendezvous_rank`, so that builds stay on the nodes that have their cache.
    """

    def score(node: str) -> tuple[int, str]:
        digest = hashlib.blake2b(f"{key}-{node}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big"), node

    return sorted(nodes, key=score, reverse=True)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` merged into it, in the manner of Kubernetes' strategic merge."""
    result = deepcopy(dict(base))
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, Mapping) else {}, value)
        elif isinstance(value, list | tuple) and isinstance(result.get(key), list):
            result[key] = _merged_lists(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result


def _merged_lists(base: list[Any], over: Sequence[Any]) -> list[Any]:
    both = [*base, *over]
    if not all(isinstance(one, Mapping) for one in both):
        return deepcopy(list(over))
    key = next((key for key in _KEYS if all(key in one for one in both)), None)
    if key is None:
        return deepcopy(both)
    result = deepcopy(base)
    for one in over:
        at = next((at for at, other in enumerate(result) if other[key] == one[key]), None)
        if at is None:
            result.append(deepcopy(dict(one)))
        else:
            result[at] = merged(result[at], one)
    return result


def _resources(options: KubernetesBuildOptions) -> dict[str, Any]:
    older = {"requests": options.memory_request, "limits": options.memory_limit}
    made: dict[str, Any] = {kind: {"memory": str(size)} for kind, size in older.items() if size}
    return merged(made, options.resources)


def _affinity(nodes: Sequence[str], repo: str) -> dict[str, Any]:
    if nodes:
        best = rendezvous(nodes, repo)[0]
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [best]}
        preference = {"weight": 100, "preference": {"matchExpressions": [expression]}}
        return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}
    term = {"labelSelector": {"matchLabels": {"component": COMPONENT}}, "topologyKey": "kubernetes.io/hostname"}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
