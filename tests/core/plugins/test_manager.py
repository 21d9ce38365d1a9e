"""Which installed plugins become active, with which configuration, and what a broken one does to the rest."""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from ringbinder import ConfigError, LaunchRequest, PluginError
from ringbinder.config.loading import load
from ringbinder.plugins.discovery import OWN
from ringbinder.plugins.manager import Plugins
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services

if TYPE_CHECKING:
    from tests.core.conftest import Site
from structlog.testing import capture_logs


def states(plugins: Plugins) -> dict[str, str]:
    return {found.key: found.state for found in plugins.found}


# -- what is found, and what of it is active --------------------------------------------------------------


def test_providers_general_and_named_plugins_are_active(site: Site) -> None:
    plugins = site.loaded(sinks=["file"])
    assert states(plugins) == {
        "plugin:policy": "active",
        "sink:file": "active",
        "registry:local": "active",
        "registry:oci": "available",
        "builder:local": "active",
        "builder:docker": "available",
        "launcher:local": "active",
        "launcher:jupyterhub": "available",
        "provider:gh": "active",
        "provider:git": "active",
    }
    assert plugins.providers == ("gh", "git")
    assert plugins.sinks == ("file",)
    assert (plugins.registry, plugins.builders, plugins.launcher) == ("local", ("local",), "local")


def test_installed_plugin_is_found_and_uninstalled_one_gone(tmp_path: Path, site: Site) -> None:
    site.provider("ringbinder-osf", "osf", "pass")

    def found() -> dict[str, str]:
        services = Services(structlog.get_logger(), Paths(tmp_path, tmp_path))
        plugins = Plugins.apart(load(environ={}), services)
        return {found.key: f"{found.distribution} {found.target}" for found in plugins.found}

    assert found()["provider:osf"] == "ringbinder-osf ringbinder_osf:Extra"
    site.uninstall("ringbinder-osf")
    assert "provider:osf" not in found()
    site.uninstall("stock")
    ours = {
        f"{name} {point.value}"
        for name in OWN
        for point in distribution(name).entry_points
        if point.group.startswith("ringbinder.")
    }
    assert set(found().values()) == ours


def test_own_plugins_stand_first_and_the_rest_by_distribution(site: Site) -> None:
    for name in ("zz", "aa"):
        site.provider(f"rb-{name}", name, "pass")
    site.install("Ringbinder", "from stock import *", {"providers": {"ours": "GitHub"}}, module="rb_ours")
    assert site.loaded().providers == ("ours", "aa", "zz", "gh", "git")


def test_only_what_is_active_is_imported(site: Site) -> None:
    site.install("rb-heavy", "raise AssertionError('imported')", {"builders": {"heavy": "Heavy"}})
    plugins = site.loaded()
    assert "rb_heavy" not in sys.modules
    assert site.row(plugins, "builder", "heavy").state == "available"


def test_inspection_shows_all_hooks_and_isolates_broken_plugins(site: Site) -> None:
    site.install("rb-heavy", "raise SystemExit('no kubernetes')", {"builders": {"heavy": "Heavy"}})
    site.install("rb-off", "raise AssertionError('imported')", {"sinks": {"off": "Off"}})
    plugins = site.loaded(disabled_plugins=["off"])
    rows = plugins.inspect()
    assert site.row(rows, "builder", "docker").hooks == ("build", "lifespan")
    assert site.row(rows, "builder", "docker").state == "available"
    assert site.row(rows, "provider", "gh").hooks == ("describe", "recognize", "resolve", "fetch", "lifespan")
    assert site.row(rows, "provider", "gh").sections == ("RepoProvider", "GitHubRepoProvider")
    heavy = site.row(rows, "builder", "heavy")
    assert heavy.state == "failed"
    assert "rb_heavy:Heavy of rb-heavy 1.0 cannot be imported: SystemExit: no kubernetes" in heavy.reason
    assert site.row(rows, "sink", "off").state == "disabled"
    assert site.row(plugins, "builder", "heavy").state == "available"


def test_plugin_gets_its_options_its_name_and_a_log_that_has_it(site: Site) -> None:
    sections = {
        "RepoProvider": {"hostname": "all.example"},
        "GitRepoProvider": {"hostname": "git.example", "token": "hush-hush"},
    }
    plugins = site.loaded(sections)
    gh, git = plugins.get("provider", "gh"), plugins.get("provider", "git")
    assert (gh.config.hostname, git.config.hostname) == ("all.example", "git.example")
    assert git.config.token.reveal() == "hush-hush"
    assert git.context.name == "git"
    with capture_logs() as logs:
        git.context.log.info("hello")
    assert logs[0]["plugin"] == "provider:git"


def test_asking_for_what_is_not_active_names_what_is_close(site: Site) -> None:
    plugins = site.loaded()
    with pytest.raises(PluginError, match=r'no provider of this name is active\. Did you mean "git"'):
        plugins.get("provider", "gitt")
    with pytest.raises(PluginError, match=r"no builder of this name is active\. Active: local"):
        plugins.get("builder", "docker")


async def test_general_plugins_are_asked_first_then_sinks_and_so_on(site: Site) -> None:
    body = """
        def __init__(self, config, context):
            self.context = context
        async def health(self):
            return Health(self.context.name, ok=True)
    """
    source = "from ringbinder import Health\nclass Well:" + body
    source += "class File(Well):\n        async def emit(self, events): ..."
    points = {"plugins": {"b": "Well", "a": "Well"}, "sinks": {"s": "File"}}
    site.install("rb-well", source.replace("\n    ", "\n"), points)
    plugins = site.loaded(sinks=["s"])
    assert [name for name, _ in await plugins.hooks._every("health")] == ["plugin:b", "plugin:a", "sink:s"]


# -- what is broken ---------------------------------------------------------------------------------------

BROKEN = {
    "import": ("rb-x", "import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "exit": ("rb-x", "import sys; sys.exit(3)", "SystemExit: 3"),
    "attribute": ("rb-x", "x = 1", "has no attribute 'Extra'"),
    "no class": ("rb-x", "Extra = 5", "rb_x:Extra of rb-x 1.0 is no class"),
    "abstract": ("rb-x", "from ringbinder import Provider\nclass Extra(Provider): ...", "abstract method"),
    "constructor": (
        "rb-x",
        "class Extra:\n    def __init__(self, config, context): raise KeyError('k')",
        "it cannot be made (rb-x 1.0): KeyError",
    ),
    "no hooks": (
        "rb-x",
        "class Extra:\n    def __init__(self, config, context): ...",
        "a provider must have the hooks describe, resolve",
    ),
    "hook": (
        "rb-x",
        "from stock import *\nclass Extra(GitHub):\n    def resolve(self, request): ...",
        "hook 'resolve': the method is plain",
    ),
    "no options": (
        "rb-x",
        "from stock import *\nclass Extra(GitHub):\n    Config = dict",
        "it cannot be made (rb-x 1.0)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_that_nothing_needs_is_left_out(site: Site, case: str) -> None:
    distribution, source, words = BROKEN[case]
    site.install(distribution, source, {"providers": {"x": "Extra"}})
    with capture_logs() as logs:
        plugins = site.loaded()
    assert plugins.providers == ("gh", "git")
    broken = site.row(plugins, "provider", "x")
    assert broken.state == "failed"
    assert words in broken.reason
    assert broken.instance is None
    (entry,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert (entry["plugin"], entry["distribution"], entry["reason"]) == (
        "provider:x",
        "rb-x 1.0",
        broken.reason,
    )
    with pytest.raises(PluginError):
        plugins.hooks.hooks_of("provider:x")


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_named_by_the_configuration_is_an_error(site: Site, case: str) -> None:
    distribution, source, words = BROKEN[case]
    site.install(distribution, source, {"providers": {"x": "Extra"}})
    with capture_logs() as logs, pytest.raises(PluginError) as caught:
        site.loaded(extra_plugins=["x"])
    assert words in str(caught.value)
    assert caught.value.plugin == "provider:x"
    assert logs == []


def test_ctrl_c_while_importing_is_not_swallowed(site: Site) -> None:
    site.install("rb-x", "raise KeyboardInterrupt", {"providers": {"x": "Extra"}})
    with pytest.raises(KeyboardInterrupt):
        site.loaded()


def test_wrong_options_leave_a_provider_out(site: Site) -> None:
    with capture_logs() as logs:
        plugins = site.loaded({"GitRepoProvider": {"hostnam": "x"}})
    assert plugins.providers == ("gh",)
    assert "GitRepoProvider.hostnam: unknown option" in site.row(plugins, "provider", "git").reason
    assert [entry["plugin"] for entry in logs] == ["provider:git"]


def test_all_problems_of_what_is_needed_are_reported_at_once(site: Site) -> None:
    site.install("rb-x", "import no_such_module", {"sinks": {"x": "X"}})
    with pytest.raises(ConfigError) as caught:
        site.loaded(
            {"GitRepoProvider": {"hostname": 5}, "GitHubRepoProvider": {"hostnam": "x"}},
            extra_plugins=["git", "gh"],
            sinks=["x", "fiel"],
            hook_timeouts={"reslove": 5},
            disabled_plugins=["policy"],
        )
    reported = "\n".join(caught.value.problems)
    for words in (
        "GitRepoProvider.hostname",
        "GitHubRepoProvider.hostnam:",
        "plugin 'sink:x': rb_x:X of rb-x 1.0 cannot be imported",
        'Ringbinder.sinks: no sink "fiel" is installed. Did you mean "file"?',
        "Ringbinder.hook_timeouts.reslove",
    ):
        assert words in reported
    assert len(caught.value.problems) == 5
    assert isinstance(caught.value.__cause__, ExceptionGroup)


def test_a_secret_in_an_exception_is_not_shown(site: Site) -> None:
    body = """
        def __init__(self, config, context):
            raise ValueError(f"cannot use {config.token.reveal()}")
    """
    site.provider("rb-x", "x", body)
    with capture_logs() as logs:
        plugins = site.loaded({"ExtraProvider": {"token": "hush-hush"}})
    assert "[secret]" in site.row(plugins, "provider", "x").reason
    assert "hush-hush" not in site.row(plugins, "provider", "x").reason
    assert "hush-hush" not in str([{**entry, "exc_info": None} for entry in logs])


# -- two of one name --------------------------------------------------------------------------------------


def test_two_providers_of_one_name_are_both_left_out(site: Site) -> None:
    site.provider("rb-x", "gh", "pass")
    with capture_logs() as logs:
        plugins = site.loaded()
    assert plugins.providers == ("git",)
    failed = [found for found in plugins.found if found.name == "gh"]
    assert [found.state for found in failed] == ["failed", "failed"]
    assert {found.distribution for found in failed} == {"stock", "rb-x"}
    assert "stock 1.0" in failed[0].reason
    assert "rb-x 1.0" in failed[0].reason
    assert len(logs) == 1
    assert "rb_x" not in sys.modules


@pytest.mark.parametrize(("entry", "left"), [("rb-x:gh", "stock"), ("RB_X:gh", "stock"), ("stock:gh", "rb-x")])
def test_one_of_them_can_be_turned_off(site: Site, entry: str, left: str) -> None:
    site.provider("rb-x", "gh", "pass")
    plugins = site.loaded(disabled_plugins=[entry])
    (active,) = [found for found in plugins.found if found.name == "gh" and found.state == "active"]
    assert active.distribution == left


def test_two_of_a_needed_name_are_an_error_that_names_both(site: Site) -> None:
    site.install("rb-x", "", {"builders": {"local": "X"}, "registries": {"oci": "X"}})
    with pytest.raises(ConfigError) as caught:
        site.loaded()
    (problem,) = caught.value.problems
    for words in ("Ringbinder.builder", '"local"', "stock 1.0", "rb-x 1.0", "Ringbinder.disabled_plugins"):
        assert words in problem


# -- policies ---------------------------------------------------------------------------------------------

GUARD = "class Guard:\n    def __init__(self, config, context): ...\n    async def admit(self): ..."


@pytest.mark.parametrize("kind", ["policies", "plugins"])
def test_two_policies_of_one_name_are_an_error(site: Site, kind: str) -> None:
    for name in ("rb-x", "rb-y"):
        site.install(name, GUARD, {kind: {"mine": "Guard"}})
    with pytest.raises(ConfigError, match=r'"mine" is offered more than once, by rb-x 1\.0 and rb-y 1\.0'):
        site.loaded()
    plugins = site.loaded(disabled_plugins=["rb-x:mine"])
    (active,) = [found for found in plugins.found if found.name == "mine" and found.state == "active"]
    assert active.distribution == "rb-y"


def test_two_policies_of_one_name_that_may_fail_are_left_out(site: Site) -> None:
    for name in ("rb-x", "rb-y"):
        site.install(name, GUARD, {"policies": {"mine": "Guard"}})
    with capture_logs() as logs:
        plugins = site.loaded(may_fail=["mine"])
    assert "none of them is loaded" in logs[0]["event"]
    assert [line.service for line in plugins.health()] == ["policy:mine", "policy:mine"]


def test_a_policy_that_cannot_be_imported_is_an_error(site: Site) -> None:
    site.install("rb-x", "import no_such_module", {"policies": {"mine": "Guard"}})
    with pytest.raises(PluginError, match=r"rb_x:Guard of rb-x 1\.0 cannot be imported.*may_fail: \[mine\]"):
        site.loaded()
    assert site.loaded(disabled_plugins=["mine"]).providers == ("gh", "git")
    assert site.loaded(may_fail=["rb_x:mine"]).health()[0].service == "policy:mine"


def test_a_policy_called_fake_is_loaded(site: Site) -> None:
    site.install("rb-x", GUARD, {"policies": {"fake": "Guard"}})
    assert states(site.loaded())["policy:fake"] == "active"


def test_an_instance_of_a_policy_must_work(site: Site) -> None:
    source = GUARD.replace("...", "context.no_such", 1)
    site.install("rb-x", source, {"policies": {"mine": "Guard"}})
    with pytest.raises(ConfigError, match="policy:other"):
        site.loaded(instances={"other": {"plugin": "mine"}})
    names = ["mine", "other"]
    plugins = site.loaded(instances={"other": {"plugin": "mine"}}, may_fail=names)
    assert [line.service for line in plugins.health()] == [f"policy:{name}" for name in names]


@pytest.mark.parametrize(
    ("entry", "words"),
    [("polcy", 'Did you mean "policy"'), ("local", "no policy, general plugin or provider")],
)
def test_may_fail_names_what_is_installed(site: Site, entry: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"Ringbinder\.may_fail") as caught:
        site.loaded(may_fail=[entry])
    assert words in str(caught.value)


def test_turning_off_provider_and_policy_at_once_is_warned_of(site: Site) -> None:
    site.install("rb-x", GUARD, {"policies": {"gh": "Guard"}})
    with capture_logs() as logs:
        plugins = site.loaded(disabled_plugins=["gh"])
    assert "the policy is rb-x:gh" in logs[0]["event"]
    assert states(plugins)["policy:gh"] == "disabled"


# -- what is turned off -----------------------------------------------------------------------------------


def test_what_is_disabled_is_not_loaded(site: Site) -> None:
    plugins = site.loaded(disabled_plugins=["policy", "stock:git", "oci"])
    assert plugins.providers == ("gh",)
    off = {found.key for found in plugins.found if found.state == "disabled"}
    assert off == {"plugin:policy", "provider:git", "registry:oci"}
    assert site.row(plugins, "plugin", "policy").reason == "policy stands in Ringbinder.disabled_plugins"


@pytest.mark.parametrize("public", [False, True])
def test_providers_left_out_have_a_reason(site: Site, public: bool) -> None:
    site.provider("rb-ill", "ill", "def __init__(self, config, context): raise RuntimeError('no\\n/etc/key')")
    plugins = site.plugins({}, public, disabled_plugins=["git"])
    plugins.load()
    reasons = plugins.left_out
    assert set(reasons) == {"ill", "git"}
    assert reasons["git"] == "git stands in Ringbinder.disabled_plugins"
    assert ("RuntimeError: no /etc/key" in reasons["ill"]) is not public, "strangers get no words of the machine's"
    assert public is ("the log of this service has the reason" in reasons["ill"])


def test_what_is_needed_cannot_be_disabled(site: Site) -> None:
    with pytest.raises(ConfigError, match='"jupyterhub" cannot be used: jupyterhub stands'):
        site.loaded(builder="docker", registry="oci", launcher="jupyterhub", disabled_plugins=["jupyterhub"])


def test_disabling_what_is_not_there_is_worth_a_warning(site: Site) -> None:
    with capture_logs() as logs:
        site.loaded(disabled_plugins=["gitt", "other:git"])
    assert len(logs) == 2
    assert 'Did you mean "git"?' in logs[0]["event"]


def test_test_doubles_are_off_unless_named(site: Site) -> None:
    points = {"providers": {"fake": "GitHub"}, "builders": {"fake": "Uv"}}
    site.install("rb-x", "from stock import *", points)
    plugins = site.loaded()
    assert "fake" not in plugins.providers
    assert site.row(plugins, "provider", "fake").reason == "off unless named"
    assert "fake" in site.loaded(builder="fake").providers
    assert "fake" in site.loaded(extra_plugins=["fake"]).providers
    assert site.loaded(instances={"demo": {"plugin": "fake"}}).providers == ("gh", "git", "demo")


# -- instances --------------------------------------------------------------------------------------------


async def test_one_class_serves_under_several_names(site: Site) -> None:
    sections = {"GitHubRepoProvider": {"hostname": "github.example", "token": "t0ken-of-all"}}
    plugins = site.loaded(sections, instances={"lab": {"plugin": "gh", "hostname": "lab.example"}})
    assert plugins.providers == ("gh", "git", "lab")
    lab = plugins.get("provider", "lab")
    assert lab.context.name == "lab"
    assert lab.config.token.reveal() == "t0ken-of-all"
    request = LaunchRequest("lab", "a/b/main")
    repos = [await plugins.hooks.resolve(f"provider:{name}", request=request) for name in ("gh", "lab")]
    assert [repo and repo.url for repo in repos] == ["github.example", "lab.example"]


def test_an_instance_may_be_of_any_kind(site: Site) -> None:
    plugins = site.loaded(
        instances={
            "audit": {"plugin": "file"},
            "spare": {"plugin": "local", "kind": "registry"},
            "mine": {"plugin": "local", "kind": "builder"},
        },
        sinks=["audit"],
        builder="mine",
        registry="local",
    )
    assert plugins.sinks == ("audit",)
    assert plugins.builders == ("mine",)
    assert plugins.get("builder", "mine").context.name == "mine"
    assert site.row(plugins, "registry", "spare").state == "available"
    assert site.row(plugins, "sink", "file").state == "available"


def test_instance_outlives_its_disabled_plugin(site: Site) -> None:
    instances = {"lab": {"plugin": "gh"}, "other": {"plugin": "git"}}
    plugins = site.loaded(instances=instances, disabled_plugins=["gh", "other"])
    assert plugins.providers == ("git", "lab")


def test_an_instance_takes_the_place_of_what_has_its_name(site: Site) -> None:
    plugins = site.loaded(instances={"gh": {"plugin": "gh", "hostname": "github.example"}})
    assert sorted(plugins.providers) == ["gh", "git"]
    assert plugins.get("provider", "gh").config.hostname == "github.example"


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ({}, "Ringbinder.instances.lab: the option plugin is missing"),
        ({"plugin": 5}, "Ringbinder.instances.lab: the option plugin is missing"),
        ({"plugin": "gth"}, 'no plugin "gth" is installed and not disabled. Did you mean "gh"?'),
        ({"plugin": "file", "kind": "provider"}, 'no provider "file" is installed'),
        ({"plugin": "gh", "kind": "thing"}, "kind must be one of plugin, policy, sink"),
        ({"plugin": "local"}, "several kinds; say which with kind: builder or launcher or registry"),
        ({"plugin": "gh", "hostnam": "x"}, "Ringbinder.instances.lab.hostnam: unknown option"),
        ({"plugin": "gh", "hostname": 5}, "Ringbinder.instances.lab.hostname: expected text"),
    ],
)
def test_a_wrong_instance_is_an_error(site: Site, instance: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        site.loaded(instances={"lab": instance})
    assert words in str(caught.value)


def test_an_instances_name_must_fit_into_a_link(site: Site) -> None:
    with pytest.raises(ConfigError, match=r"instances\.a/b: a name is made of letters"):
        site.loaded(instances={"a/b": {"plugin": "gh"}})


def test_an_instance_of_a_plugin_that_two_offer_is_an_error(site: Site) -> None:
    site.provider("rb-x", "gh", "pass")
    with pytest.raises(ConfigError, match=r"instances\.lab: .* offered more than once"):
        site.loaded(instances={"lab": {"plugin": "gh"}})
    assert "lab" in site.loaded(instances={"lab": {"plugin": "gh"}}, disabled_plugins=["rb-x:gh"]).providers


# -- whether they fit -------------------------------------------------------------------------------------


def test_builder_registry_and_launcher_must_fit(site: Site) -> None:
    site.install("rb-heavy", "import no_such_module", {"builders": {"heavy": "Heavy"}})
    assert site.loaded(builder="docker", registry="oci", launcher="jupyterhub").builders == ("docker",)
    with pytest.raises(ConfigError) as caught:
        site.loaded(builder="local", registry="oci", launcher="local")
    (problem,) = caught.value.problems
    assert 'builder "local" makes folder, registry "oci" holds oci, launcher "local" runs folder' in problem
    assert "for images of kind oci: builder docker, registry oci, launcher jupyterhub" in problem
    assert "for images of kind folder: builder local, registry local, launcher local" in problem


def test_builders_of_a_list_are_all_loaded_and_must_fit(site: Site) -> None:
    site.install("rb-x", "from stock import *", {"builders": {"mine": "Docker"}})
    plugins = site.loaded(builder=["docker", "mine"], registry="oci", launcher="jupyterhub")
    assert plugins.builders == ("docker", "mine")
    assert (states(plugins)["builder:docker"], states(plugins)["builder:mine"]) == ("active", "active")
    with pytest.raises(ConfigError) as caught:
        site.loaded(builder=["docker", "local"], registry="oci", launcher="jupyterhub")
    (problem,) = caught.value.problems
    assert 'builder "local" makes folder' in problem
    assert 'builder "docker" makes oci' in problem
    assert "for images of kind oci: builder docker or mine, registry oci, launcher jupyterhub" in problem


@pytest.mark.parametrize("builders", [[], ["docker", "docker"]])
def test_builders_of_a_list_are_named_once(site: Site, builders: list[str]) -> None:
    with pytest.raises(ConfigError, match="builder is the name of a builder, or a list of different ones"):
        site.loaded(builder=builders, registry="oci", launcher="jupyterhub")


def test_builder_alone_has_a_registry_and_launcher_that_fit(site: Site) -> None:
    points = {"builders": {"mine": "Uv"}, "registries": {"dockerhub": "Oci"}}
    site.install("rb-x", "from stock import *", points)
    for builder, others in (("mine", ("local", "local")), ("docker", ("dockerhub", "jupyterhub"))):
        plugins = site.loaded(builder=builder)
        assert (plugins.registry, plugins.launcher) == others


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"builder": "dokcer"}, r'to be built by "dokcer", which does not stand in Ringbinder\.builder.*docker'),
        ({"builder": ["docker", "mine"]}, r'to be built by "mine"'),
        ({"builder": 5}, "builder is the name of a builder, or a list of names"),
    ],
)
def test_builder_of_a_spec_that_is_not_loaded_is_a_problem(site: Site, rule: dict[str, Any], words: str) -> None:
    specs = [{"pattern": "^a", "config": rule}]
    with pytest.raises(ConfigError, match=words):
        site.loaded(
            {"RepoProvider": {"spec_config": specs}},
            builder="docker",
            registry="oci",
            launcher="jupyterhub",
            extra_plugins=["gh"],
        )


def test_a_builder_shows_what_it_makes(site: Site) -> None:
    source = "from stock import *\nclass Vague(Uv):\n    makes = 'rpm'"
    site.install("rb-x", source, {"builders": {"vague": "Vague"}})
    with pytest.raises(PluginError, match="'makes' must be one of oci, folder"):
        site.loaded(builder="vague", registry="local")


def test_a_missing_builder_is_reported_with_what_is_installed(site: Site) -> None:
    with pytest.raises(ConfigError, match=r'"kubernetes" is installed\. Installed: docker, local\.'):
        site.loaded(builder="kubernetes", registry="oci", launcher="jupyterhub")
