"""What BinderHub's configuration means here, as one table; the documentation's own files."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ringbinder.config import binderhub as compat
from ringbinder.config.loading import Config, load
from ringbinder.config.settings import BinderHubSettings
from ringbinder.errors import ConfigError

DOCUMENTED = Path(__file__).parents[1].parent / "documented"
LOCAL = ("local", "local", "local")

TABLE: list[tuple[dict[str, Any], set[str], str, tuple[Any, str, str]]] = [
    # sections, values of the chart, registry.url -> builder, registry, launcher
    ({}, set(), "", LOCAL),
    ({"BinderHub": {"port": 80, "base_url": "/b/", "cors_allow_origin": "*"}}, set(), "", LOCAL),
    ({"GitHubRepoProvider": {"access_token": "x"}, "LocalBuilder": {}}, set(), "", LOCAL),
    ({"BinderHub": {"hub_url": "https://hub.example"}}, set(), "", ("kubernetes", "dockerhub", "jupyterhub")),
    ({"BinderHub": {"use_registry": True}}, set(), "", ("kubernetes", "dockerhub", "jupyterhub")),
    ({"BinderHub": {"image_prefix": "some-id/b-"}}, set(), "", ("kubernetes", "dockerhub", "jupyterhub")),
    (
        {"BinderHub": {"image_prefix": "docker.io/some-id/b-"}},
        set(),
        "",
        ("kubernetes", "dockerhub", "jupyterhub"),
    ),
    ({"BinderHub": {"image_prefix": "gcr.io/project/b-"}}, set(), "", ("kubernetes", "gcr", "jupyterhub")),
    ({"BinderHub": {"image_prefix": "eu.gcr.io/project/b-"}}, set(), "", ("kubernetes", "gcr", "jupyterhub")),
    (
        {"BinderHub": {"image_prefix": "europe-west1-docker.pkg.dev/p/r/b-"}},
        set(),
        "",
        ("kubernetes", "gcr", "jupyterhub"),
    ),
    ({"BinderHub": {"image_prefix": "notgcr.io/project/b-"}}, set(), "", ("kubernetes", "oci", "jupyterhub")),
    ({"BinderHub": {"image_prefix": "localhost:5000/b-"}}, set(), "", ("kubernetes", "oci", "jupyterhub")),
    ({"BinderHub": {"image_prefix": "registry:5000/b-"}}, set(), "", ("kubernetes", "oci", "jupyterhub")),
    ({"KubernetesBuildExecutor": {}}, set(), "", ("kubernetes", "dockerhub", "jupyterhub")),
    ({"DockerRegistry": {"url": "https://r.example"}}, set(), "", ("kubernetes", "oci", "jupyterhub")),
    ({"DockerRegistry": {"url": "r.example:5000"}}, set(), "", ("kubernetes", "oci", "jupyterhub")),
    (
        {"DockerRegistry": {"url": "https://registry.hub.docker.com"}},
        {"registry"},
        "https://index.docker.io/v1",
        ("kubernetes", "dockerhub", "jupyterhub"),
    ),
    ({}, {"registry"}, "https://index.docker.io/v1/", ("kubernetes", "dockerhub", "jupyterhub")),
    ({}, {"registry"}, "https://user@gcr.io", ("kubernetes", "gcr", "jupyterhub")),
    ({}, {"registry"}, "https://quay.io/", ("kubernetes", "oci", "jupyterhub")),
    ({}, {"jupyterhub"}, "", ("kubernetes", "dockerhub", "jupyterhub")),
    ({}, {"config"}, "", ("kubernetes", "dockerhub", "jupyterhub")),
    ({"LocalRepo2dockerBuild": {}}, set(), "", ("docker", "dockerhub", "jupyterhub")),
    (
        {
            "BinderHub": {
                "build_class": "binderhub.build_local.LocalRepo2dockerBuild",
                "image_prefix": "r.example/b-",
            }
        },
        set(),
        "",
        ("docker", "oci", "jupyterhub"),
    ),
    # what Ringbinder names wins
    (
        {"Ringbinder": {"builder": "kubernetes"}, "LocalRepo2dockerBuild": {}},
        set(),
        "",
        ("kubernetes", "dockerhub", "jupyterhub"),
    ),
    ({"Ringbinder": {"registry": "oci"}}, {"jupyterhub"}, "", ("kubernetes", "oci", "jupyterhub")),
    ({"Ringbinder": {"builder": "x", "registry": "y", "launcher": "z"}}, {"registry"}, "", ("x", "y", "z")),
    # a builder alone moves nothing, as long as no one knows what it makes
    ({"Ringbinder": {"builder": "docker"}}, set(), "", ("docker", "local", "local")),
    ({"Ringbinder": {"builder": ["a", "b"]}}, set(), "", (("a", "b"), "local", "local")),
    ({"Ringbinder": {"builder": ["a", "fake"]}}, {"config"}, "", (("a", "fake"), "local", "local")),
    ({"Ringbinder": {"builder": "docker"}}, {"registry"}, "https://quay.io", ("docker", "oci", "jupyterhub")),
    # a folder on this machine fits no registry elsewhere
    ({"Ringbinder": {"builder": "local"}, "BinderHub": {"image_prefix": "a/b-"}}, set(), "", LOCAL),
    ({"Ringbinder": {"launcher": "local"}}, {"config", "registry"}, "https://gcr.io", LOCAL),
    ({"Ringbinder": {"builder": "fake"}}, {"config"}, "", ("fake", "local", "local")),
    # nonsense is judged elsewhere and must not hurt here
    (
        {"BinderHub": {"image_prefix": 5}, "DockerRegistry": {"url": "http://[x"}},
        set(),
        "",
        ("kubernetes", "dockerhub", "jupyterhub"),
    ),
    ({"Ringbinder": {"builder": 5}}, set(), "", LOCAL),
]


@pytest.mark.parametrize(("sections", "chart", "url", "chosen"), TABLE)
def test_choose(sections: dict[str, Any], chart: set[str], url: str, chosen: tuple[Any, str, str]) -> None:
    choice = compat.choose(sections, chart, url)
    assert (choice.builder, choice.registry, choice.launcher) == chosen
    assert set(choice.reasons) == {"builder", "registry", "launcher"}
    assert all(choice.reasons.values())


@pytest.mark.parametrize(
    ("makes", "own", "more", "registry", "launcher", "why"),
    [
        ("folder", {}, {}, "local", "local", "x) makes images"),
        ("folder", {}, {"BinderHub": {"hub_url": "https://h.example"}}, "local", "local", "x) makes images"),
        ("folder", {"launcher": "jupyterhub"}, {}, "local", "jupyterhub", "x) makes images"),
        ("oci", {}, {}, "dockerhub", "jupyterhub", "no registry is named"),
        ("oci", {}, {"BinderHub": {"image_prefix": "r.example/b-"}}, "oci", "jupyterhub", "prefix is at r.example"),
        ("oci", {"registry": "mine"}, {}, "mine", "jupyterhub", "Ringbinder.registry names it"),
        ("oci", {"launcher": "mine"}, {}, "dockerhub", "mine", "no registry is named"),
    ],
)  # fmt: skip
def test_choose_for_a_strangers_builder_fits_its_images(
    makes: str, own: dict[str, str], more: dict[str, Any], registry: str, launcher: str, why: str
) -> None:
    choice = compat.choose({"Ringbinder": {"builder": "x", **own}, **more}, makes=makes)
    assert (choice.builder, choice.registry, choice.launcher) == ("x", registry, launcher)
    assert why in choice.reasons["registry"]


@pytest.mark.parametrize(
    ("sections", "url", "count"),
    [
        ({}, "", 0),
        ({"BinderHub": {"image_prefix": "some-id/b-"}}, "https://index.docker.io/v1", 0),
        ({"BinderHub": {"image_prefix": "some-id/b-"}}, "https://quay.io", 1),
        ({"BinderHub": {"image_prefix": "gcr.io/p/b-"}}, "https://gcr.io", 0),
        (
            {"BinderHub": {"image_prefix": "a.example/b-"}, "DockerRegistry": {"url": "https://b.example"}},
            "",
            1,
        ),
    ],
)
def test_disagreements(sections: dict[str, Any], url: str, count: int) -> None:
    assert len(compat.disagreements(sections, url)) == count


HUB, WHO = "https://index.docker.io/v1", {"username": "me", "password": "pw"}


@pytest.mark.parametrize(
    ("registry", "sections", "given"),
    [
        ({}, {}, {}),
        ({"url": None, "username": None, "password": None}, {}, {}),
        ({"url": "https://a.example"}, {}, {"url": "https://a.example"}),
        ({"url": "https://a.example", **WHO}, {}, {"url": "https://a.example", **WHO}),
        # a block without url means Docker Hub
        (WHO, {}, WHO),
        (WHO, {"BinderHub": {"image_prefix": "some-id/b-"}}, WHO),
        (WHO, {"BinderHub": {"image_prefix": "a.example/b-"}}, {}),
        (WHO, {"DockerRegistry": {"url": "https://a.example"}}, {}),
        (WHO, {"DockerRegistry": {"url": "https://registry.hub.docker.com"}}, WHO),
        # both names of Docker Hub, with and without a slash
        ({"url": HUB, **WHO}, {"DockerRegistry": {"auth_config_url": f"{HUB}/"}}, {"url": HUB, **WHO}),
        ({"url": f"{HUB}/", **WHO}, {"DockerRegistry": {"auth_config_url": HUB}}, {"url": f"{HUB}/", **WHO}),
        # a password never goes to another host than its own
        (
            {"url": "https://b.example", **WHO},
            {"DockerRegistry": {"url": "https://a.example"}},
            {"url": "https://b.example"},
        ),
        (
            {"url": "https://b.example", **WHO},
            {"DockerRegistry": {"url": "https://a.example", "auth_config_url": "b.example/"}},
            {"url": "https://b.example", **WHO},
        ),
        # where images are pushed to may have another name
        (
            {"url": "https://b.example", **WHO},
            {"BinderHub": {"image_prefix": "a.example/b-"}},
            {"url": "https://b.example", **WHO},
        ),
        # one account for all of Google
        (
            {"url": "https://gcr.io", **WHO},
            {"DockerRegistry": {"url": "https://eu.gcr.io"}},
            {"url": "https://gcr.io", **WHO},
        ),
    ],
)
def test_the_registry_block(registry: dict[str, Any], sections: dict[str, Any], given: dict[str, Any]) -> None:
    assert compat.registry_defaults(registry, sections) == given
    stranded = compat.stranded_credentials(registry, sections)
    assert bool(stranded) == (bool(registry.get("password")) and "password" not in given)
    assert "pw" not in stranded


def documented(*names: str) -> Config:
    return load([DOCUMENTED / name for name in names], environ={})


@pytest.mark.parametrize(
    ("files", "registry", "url", "odd"),
    [
        (("config-gcr.yaml", "secret-gcr.yaml"), "gcr", "https://gcr.io", 0),
        (("config-dockerhub.yaml", "secret-dockerhub.yaml"), "dockerhub", "", 0),
        (("config-custom.yaml", "secret-custom.yaml"), "oci", "https://myregistry.io", 1),
        (("config-auth-config-url.yaml",), "dockerhub", "https://index.docker.io/v1", 0),
    ],
)
def test_documented_files(files: tuple[str, ...], registry: str, url: str, odd: int) -> None:
    config = documented(*files)
    assert (config.choice.builder, config.choice.registry, config.choice.launcher) == (
        "kubernetes",
        registry,
        "jupyterhub",
    )
    assert config.settings.registry == registry
    assert config.registry_credentials is not None
    assert config.registry_credentials.url == url
    assert config.sections.unused() == ()
    assert len([text for text in config.warnings if "not used by this version" not in text]) == odd


def test_documented_secrets_arrive_and_do_not_show() -> None:
    config = documented("config-custom.yaml", "secret-custom.yaml")
    assert config.registry_credentials is not None
    assert config.registry_credentials.username == "xxx"
    assert config.registry_credentials.password.reveal() == "yyy"
    assert "yyy" not in repr(config.registry_credentials)
    key = documented("secret-gcr.yaml").registry_credentials
    assert key is not None
    assert yaml.safe_load(key.password.reveal())["type"] == "<REPLACE>"


@pytest.mark.parametrize("slash", ["", "/"])
def test_docker_hubs_address_with_and_without_slash(slash: str, tmp_path: Path) -> None:
    content = yaml.safe_load((DOCUMENTED / "config-auth-config-url.yaml").read_text())
    content["registry"]["url"] = f"https://index.docker.io/v1{slash}"
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    config = load([file], environ={})
    assert config.choice.registry == "dockerhub"
    assert all("not used by this version" in text for text in config.warnings)


def test_our_options_in_binderhubs_section_are_binderhubs() -> None:
    assert {a.name for a in BinderHubSettings.__attrs_attrs__} <= compat.OPTIONS["BinderHub"]


@pytest.mark.parametrize(("section", "option"), sorted(compat.GONE))
def test_options_that_cannot_work_show_what_to_do(section: str, option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={}, sets=[f"{section}.{option}=x"])
    [problem] = caught.value.problems
    assert f"--set {section}.{option}: {section}.{option}: cannot be used: " in problem


@pytest.mark.parametrize("gone", sorted(compat.GONE_VALUES))
def test_values_that_the_chart_has_dropped(gone: tuple[str, ...], tmp_path: Path) -> None:
    value: Any = "x"
    for step in reversed(gone):
        value = {step: value}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError) as caught:
        load([file], environ={})
    assert caught.value.problems == (
        f"{file}, line {len(gone)}: {'.'.join(gone)}: no longer a value of the chart; {compat.GONE_VALUES[gone]}",
    )


def test_a_production_file_is_accepted(tmp_path: Path) -> None:
    """The shape of a large public deployment: every documented section, other charts' values beside it."""
    file = tmp_path / "values.yaml"
    file.write_text(
        """
binderhub:
  replicas: 2
  config:
    BinderHub:
      use_registry: true
      per_repo_quota: 100
      per_repo_quota_higher: 200
      cors_allow_origin: "*"
      banner_message: <b>hello</b>
      hub_url: https://hub.example
      badge_base_url: https://binder.example
      image_prefix: registry.example/r2d-
      build_node_selector: {pool: builds}
    LaunchQuota: {total_quota: 300}
    KubernetesBuildExecutor:
      repo2docker_extra_args: ['--DockerEngine.extra_init_args={"timeout":1200}']
      resources: {limits: {memory: 3G}}
    KubernetesCleaner: {max_age: 3600}
    GitHubRepoProvider:
      high_quota_specs: ["^binder/.*"]
      spec_config: [{pattern: "^a/.*", config: {quota: 5}}]
  extraConfig: {}
  registry: {url: null, username: me, password: secret-enough}
  jupyterhub: {hub: {extraConfig: {a: "python"}}}
grafana: {enabled: true}
prometheus: {}
"""
    )
    config = load([file], environ={})
    assert (config.settings.builder, config.settings.registry) == ("kubernetes", "oci")
    assert config.binderhub.allowed_origins == ("*",)
    assert config.binderhub.hub_url == "https://hub.example/"
    assert config.registry_credentials is not None
    assert config.registry_credentials.username == "me"
    assert config.sections.unused() == ()
    assert f"{file}, line 7: BinderHub.per_repo_quota: known, but not used by this version" in config.warnings


@pytest.mark.parametrize(
    ("registry", "sections", "told"),
    [
        ({"username": "me"}, {}, "DockerRegistry.username is not used"),
        ({}, {"DockerRegistry": {"username": "me"}}, "DockerRegistry.username is not used"),
        ({}, {"DockerRegistry": {"password": "pw"}}, 'gets the user name "token"'),
        ({"password": "pw"}, {"DockerRegistry": {"username": "me"}}, ""),
        ({"url": "gcr.io", "password": "pw"}, {}, ""),
        (
            {"url": "gcr.io"},
            {"GoogleArtifactRegistry": {"username": "me"}},
            "GoogleArtifactRegistry.username",
        ),
    ],
)
def test_user_name_or_password_alone_is_a_warning(
    tmp_path: Path, registry: dict[str, str], sections: dict[str, Any], told: str
) -> None:
    file = tmp_path / "c.yaml"
    sections = {"BinderHub": {"hub_url": "https://hub.example"}, **sections}
    file.write_text(yaml.safe_dump({"registry": {"url": "r.example", **registry}, "config": sections}))
    warnings = [text for text in load([file], environ={}).warnings if "set without a" in text]
    assert (len(warnings), told in "".join(warnings)) == (bool(told), True)
