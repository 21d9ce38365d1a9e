"""The commands as programs see them: output, exit codes, and how quick the help is."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ringbinder.plugins.discovery import installed
from ringbinder.protocol import PHASES, TERMINAL
from ringbinder.testing.gitserver import GitServer
from ringbinder_server.cli.exitcodes import MEANINGS, ExitCode

if TYPE_CHECKING:
    from tests.cli.conftest import Program

Sets = Callable[..., list[str]]
DOCUMENTED = Path(__file__).parent.parent / "documented"
HEAVY = (
    "quart",
    "hypercorn",
    "aiohttp",
    "httpx",
    "rich",
    "cattrs",
    "attrs",
    "prometheus_client",
    "structlog",
    "ringbinder",
)


def test_help_costs_little_cpu_time(ringbinder: Program) -> None:
    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(3):
        before = spent()
        assert ringbinder.cold("--help").returncode == 0
        times.append(spent() - before)
    assert min(times) < 0.2, f"{times} seconds of CPU; the promise is 0.3"


def imported(names: tuple[str, ...], *arguments: str) -> str:
    """Which of `names` a call of the program with `arguments` has imported."""
    code = (
        "import sys, contextlib\n"
        "from ringbinder_server.cli import main\n"
        f"with contextlib.suppress(SystemExit): main({list(arguments)!r})\n"
        f"print('HEAVY', [name for name in {names!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_help_imports_nothing_heavy() -> None:
    assert imported(HEAVY, "--help") == "HEAVY []"


def test_a_command_imports_only_what_it_needs(fakes: Sets) -> None:
    left_for_later = ("quart", "hypercorn", "aiohttp", "httpx", "rich", "psutil")
    assert imported(left_for_later, "resolve", "fake/a/b/c", *fakes()) == "HEAVY []"


def test_help_reports_every_exit_code(ringbinder: Program) -> None:
    reported = ringbinder("--help").stdout
    assert set(MEANINGS) == set(ExitCode)
    for code, meaning in MEANINGS.items():
        assert f"{code:>3}  {meaning}" in reported


def test_version(ringbinder: Program) -> None:
    from importlib.metadata import version

    assert ringbinder.cold("--version").stdout == f"Ringbinder {version('ringbinder')}\n"


@pytest.mark.parametrize(
    ("command", "other"), [("build", "launch"), pytest.param("launch", "build", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("link", "options", "code", "told"),
    [
        ("no/such/link/at/all", {}, 3, "was not understood"),
        ("fake/a/b", {}, 3, 'not of the form "owner/name/ref"'),
        ("fake/a/b/c", {"Fake__fail_at": "resolve"}, 3, "`fail_at` is 'resolve'"),
        ("fake/a/b/c", {"Fake__fail_at": "build"}, 4, "`fail_at` is 'build'"),
        ("fake/a/b/c", {"Fake__fail_at": "push", "Fake__fail_with": "bug"}, 1, "nternal error"),
        ("fake/a/b/c", {"Fake__fail_at": "check", "Fake__fail_with": "transient"}, 7, "again"),
        ("fake/a/b/c", {"Ringbinder__launcher": "local"}, 6, "do not fit"),
        ("fake/a/b/c", {"FakeBuilder__fail_att": "x"}, 6, "fail_att"),
        ("fake/a/b/c", {"BinderHub__port": "many"}, 6, "BinderHub.port"),
    ],
)  # fmt: skip
def test_failures(
    ringbinder: Program,
    fakes: Sets,
    command: str,
    other: str,
    link: str,
    options: dict[str, str],
    code: int,
    told: str,
) -> None:
    plain = ringbinder(command, link, *fakes(**options))
    assert (plain.returncode, plain.stdout) == (code, "")
    assert told in plain.stderr
    as_json = ringbinder(other, link, "--json", *fakes(**options))
    assert as_json.returncode == code
    events = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [event["phase"] for event in events if event["phase"] in TERMINAL] == ["failed"]
    assert events[-1]["phase"] == "failed"
    assert told in events[-1]["message"]


def test_a_launch_that_fails_has_a_code_of_its_own(ringbinder: Program, fakes: Sets) -> None:
    assert ringbinder("launch", "fake/a/b/c", *fakes(Fake__fail_at="launch")).returncode == ExitCode.LAUNCH


def test_an_option_that_no_one_reads_is_reported(ringbinder: Program, fakes: Sets) -> None:
    done = ringbinder("build", "fake/a/b/c", *fakes(Ringbindr__builder="x"))
    assert done.returncode == 0
    assert "Ringbindr" in done.stderr.splitlines()[0]
    assert 'did you mean "Ringbinder"' in done.stderr.splitlines()[0].replace("Did", "did")


def test_wrong_usage(ringbinder: Program) -> None:
    for arguments in (["launch"], ["lauch", "x"], ["serve", "--port", "-1"], ["build", "x", "--nonsense"]):
        assert ringbinder(*arguments).returncode == ExitCode.USAGE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["launch", "--json"], "Missing argument 'LINK'."),
        (["--json", "launch"], "No such option '--json'."),
        (["lauch", "x", "--json"], "No such command 'lauch'."),
        (["resolve", "x", "--json", "--nonsense"], "No such option '--nonsense'."),
        (["events", "query", "--json", "--since", "soon"], "Invalid value for '--since'"),
        (["consent", "forget", "--json"], "No such option '--json'."),
    ],
)
def test_wrong_usage_under_json_is_json(ringbinder: Program, arguments: list[str], message: str) -> None:
    done = ringbinder(*arguments)
    [event] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, event["phase"], event["code"]) == (ExitCode.USAGE, "failed", "usage-wrong")
    assert event["message"].startswith(message)
    assert message in done.stderr
    plain = ringbinder(*[argument for argument in arguments if argument != "--json"])
    assert plain.stdout == ""


def test_build_prints_the_image_and_plain_lines_beside_it(ringbinder: Program, fakes: Sets) -> None:
    done = ringbinder("build", "fake/a/b/c", *fakes(FakeBuilder__lines=3), FORCE_COLOR="1")
    resolved = json.loads(ringbinder("resolve", "fake/a/b/c", "--json", *fakes()).stdout)
    assert (done.returncode, done.stdout) == (0, resolved["image"] + "\n")
    lines = done.stderr.splitlines()
    assert [line.split()[:6] for line in lines if "line" in line] == [
        ["building", "Fake", "build:", "line", str(number), "of"] for number in (1, 2, 3)
    ]
    assert "\x1b" not in done.stderr
    assert lines.count("pushing   Pushing fake image") == 1, "each state of a push is a line"


def test_json_lines_are_the_protocols_events(ringbinder: Program, fakes: Sets) -> None:
    done = ringbinder("build", "fake/a/b/c", "--json", *fakes(FakeBuilder__lines=3, Ringbinder__sinks="[]"))
    lines = done.stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.dumps(event) for event in events] == lines
    for event in events:
        assert list(event)[:2] == ["phase", "message"]
        assert event["phase"] in PHASES
    phases = list(dict.fromkeys(event["phase"] for event in events))
    assert phases == ["waiting", "building", "pushing", "ready"]
    name = events[-1].pop("imageName")
    assert events[-1] == {"phase": "ready", "message": "Done! Image built\n"}
    assert f"Successfully pushed {name}: a fake" in events[-2]["message"]


def test_resolve_shows_what_a_link_means(ringbinder: Program, fakes: Sets) -> None:
    found: dict[str, Any] = json.loads(ringbinder("resolve", "fake/a/b/c", "--json", *fakes()).stdout)
    ref = found["ref"]
    assert found == {
        "provider": "fake",
        "spec": "a/b/c",
        "resolved_spec": f"a/b/{ref}",
        "ref": ref,
        "repo_url": "https://fake.invalid/a/b",
        "ref_url": f"https://fake.invalid/a/b/tree/{ref}",
        "urlpath": "",
        "image": found["image"],
        "image_exists": False,
    }
    link = "https://mybinder.org/v2/fake/a/b/c?labpath=x.ipynb"
    there = json.loads(ringbinder("resolve", link, "--json", *fakes(FakeRegistry__cached="true")).stdout)
    assert there["image_exists"] is True
    assert there["urlpath"] == "doc/tree/x.ipynb"
    text = ringbinder("resolve", "fake/a/b/c", *fakes()).stdout
    assert f"image          {found['image']}\nimage exists   no\n" in text


@pytest.mark.real("git")
async def test_resolve_finds_where_the_name_of_a_branch_ends(
    ringbinder: Program, fakes: Sets, git_server: GitServer
) -> None:
    repository = git_server.repository("u/r")
    repository.commit({"x": "1"})
    repository.branch("feature/x")
    commit = repository.commit({"folder/x.ipynb": "{}"})
    options = fakes(
        GitHubRepoProvider__clone_base_url=git_server.address,
        GitHubRepoProvider__api_base_path="http://127.0.0.1:1",
        RepoProvider__retries=0,
    )
    link = "https://github.com/u/r/blob/feature/x/folder/x.ipynb"
    done = await asyncio.to_thread(ringbinder, "resolve", link, "--json", *options)
    found = json.loads(done.stdout)
    assert (found["ref"], found["urlpath"]) == (commit, "lab/tree/folder/x.ipynb")
    assert '"feature/x" is meant' in done.stderr


def test_resolve_fails_as_a_launch_does(ringbinder: Program, fakes: Sets) -> None:
    for fault, code in (
        ("user", ExitCode.LINK),
        ("transient", ExitCode.TRY_AGAIN),
        ("bug", ExitCode.INTERNAL),
    ):
        done = ringbinder("resolve", "fake/a/b/c", *fakes(Fake__fail_at="resolve", Fake__fail_with=fault))
        assert done.returncode == code
        assert ("Traceback" in done.stderr) == (fault == "bug")


def test_a_folder_is_found_without_a_dot_before_it(ringbinder: Program) -> None:
    (ringbinder.folder / "work" / "deep").mkdir(parents=True)
    (ringbinder.folder / "work" / "deep" / "a b.ipynb").write_text("{}")
    found = json.loads(ringbinder("resolve", "work/deep/a b.ipynb", "--json").stdout)
    assert found["repo_url"] == (ringbinder.folder / "work" / "deep").as_uri()
    assert found["urlpath"] == "lab/tree/a%20b.ipynb"
    assert ringbinder("resolve", "work/shallow").returncode == ExitCode.LINK


def test_plugins_list(ringbinder: Program, fakes: Sets) -> None:
    listed = json.loads(ringbinder("plugins", "list", "--json").stdout)
    assert {(row["kind"], row["name"]) for row in listed if row["state"] == "active"} == {
        ("provider", "gh"), ("provider", "gl"), ("provider", "git"), ("provider", "gist"), ("provider", "zenodo"),
        ("policy", "quota"), ("policy", "ratelimit"),
        ("registry", "local"), ("builder", "local"), ("launcher", "local"),
    }  # fmt: skip
    sections = {(row["kind"], row["name"]): row["sections"] for row in listed}
    assert sections["provider", "gh"] == ["RepoProvider", "GitHubRepoProvider"]
    fake = next(row for row in listed if (row["kind"], row["name"]) == ("provider", "fake"))
    assert (fake["state"], fake["reason"]) == ("available", "off unless named")

    named = ringbinder("plugins", "list", "--hooks", *fakes())
    assert named.returncode == 0
    assert "hooks: describe, recognize, resolve, fetch" in named.stdout


def test_plugins_list_shows_a_strangers_plugin_and_why_one_fails(ringbinder: Program) -> None:
    good = ringbinder.plugin(
        "counting", "class Plugin:\n    def __init__(s, c, x): ...\n    async def health(s): ...\n"
    )
    bad = ringbinder.plugin("broken", "import no_such_module\n")
    both = {"PYTHONPATH": f"{good['PYTHONPATH']}:{bad['PYTHONPATH']}"}
    done = ringbinder("plugins", "list", "--hooks", "--json", **both)
    rows = {row["name"]: row for row in json.loads(done.stdout) if row["kind"] == "plugin"}
    assert done.returncode == 0
    assert (rows["counting"]["state"], rows["counting"]["hooks"]) == ("active", ["health"])
    assert (rows["counting"]["distribution"], rows["counting"]["version"]) == ("counting", "1.0")
    assert rows["broken"]["state"] == "failed"
    assert "no_such_module" in rows["broken"]["reason"]


def test_plugins_list_ends_with_what_the_configuration_lacks(ringbinder: Program) -> None:
    done = ringbinder("plugins", "list", "--set", "Ringbinder.builder=dokcer")
    assert done.returncode == ExitCode.CONFIG
    assert "NAME" in done.stdout
    assert '"dokcer"' in done.stderr


def test_config_check_of_nothing(ringbinder: Program) -> None:
    done = ringbinder("config", "check")
    assert done.returncode == 0
    assert "builder:  local  (" in done.stdout
    assert done.stdout.endswith("The configuration is right.\n")


@pytest.mark.parametrize(
    ("files", "registry", "reason", "odd"),
    [
        (("config-gcr", "secret-gcr"), "gcr", "BinderHub.image_prefix is at Google (gcr.io)", []),
        (("config-dockerhub", "secret-dockerhub"), "dockerhub", "BinderHub.image_prefix is at Docker Hub", []),
        (
            ("config-custom", "secret-custom"), "oci", "BinderHub.image_prefix is at your-registry.io",
            ["BinderHub.image_prefix names your-registry.io, registry.url names myregistry.io"],
        ),
        (
            ("config-auth-config-url", "secret-dockerhub"), "dockerhub",
            "DockerRegistry.url is at Docker Hub", [],
        ),
        (("config-auth-config-url",), "dockerhub", "DockerRegistry.url is at Docker Hub", []),
    ],
)  # fmt: skip
def test_config_check_takes_the_documented_files_as_they_are(
    ringbinder: Program, files: tuple[str, ...], registry: str, reason: str, odd: list[str]
) -> None:
    values = [DOCUMENTED / f"{name}.yaml" for name in files]
    done = ringbinder("config", "check", "--json", *values)
    verdict = json.loads(done.stdout)
    assert {kind: chosen["name"] for kind, chosen in verdict["choice"].items()} == {
        "builder": "kubernetes", "registry": registry, "launcher": "jupyterhub",
    }  # fmt: skip
    assert verdict["choice"]["registry"]["reason"] == reason
    assert all(chosen["reason"] for chosen in verdict["choice"].values())
    for warning, reported in zip(verdict["warnings"], odd, strict=True):
        assert warning.startswith(reported)
    there = {row.found.key for row in installed()}
    missing = [
        f'Ringbinder.{kind}: no {kind} "{chosen["name"]}" is installed.'
        for kind, chosen in verdict["choice"].items()
        if f"{kind}:{chosen['name']}" not in there
    ]
    for problem, reported in zip(verdict["problems"], missing, strict=True):
        assert problem.startswith(reported)
    assert (verdict["ok"], done.returncode) == (not missing, ExitCode.CONFIG if missing else ExitCode.OK)
    printed = ringbinder("config", "check", *values).stdout
    assert f"builder:  kubernetes  ({verdict['choice']['builder']['reason']})\n" in printed
    assert f"registry: {registry}  ({reason})\n" in printed
    assert not any(secret in printed + done.stdout for secret in ("yyy", "some-password", "2f1d9b0d", "<REPLACE>"))


def test_config_check_finds_every_problem_and_shows_no_secret(ringbinder: Program) -> None:
    file = ringbinder.folder / "wrong.yaml"
    file.write_text(
        "BinderHub: {port: many}\n"
        "GitLabRepoProvider: {hostnam: x, access_token: [hunter2secret]}\n"
        "LocalBuilder: {build_timeout: soon}\n"
        "GitHubRepoProvidr: {hostname: x}\n"
    )
    first = ringbinder("config", "check", file)
    assert first.returncode == ExitCode.CONFIG
    assert "BinderHub.port" in first.stdout
    file.write_text(file.read_text().replace("many", "8080"))
    then = ringbinder("config", "check", file)
    assert then.returncode == ExitCode.CONFIG
    for reported in ("hostnam", "build_timeout", "GitHubRepoProvidr"):
        assert reported in then.stdout
    assert "hunter2secret" not in first.stdout + first.stderr + then.stdout + then.stderr
    assert then.stdout.count("GitHubRepoProvidr") == 1


def test_config_check_of_unreadable_files(ringbinder: Program) -> None:
    (ringbinder.folder / "bad.yaml").write_text("a: [")
    for name in ("bad.yaml", "missing.yaml"):
        done = ringbinder("config", "check", name)
        assert done.returncode == ExitCode.CONFIG
        assert name in done.stdout


def test_a_reader_that_goes_ends_the_build(ringbinder: Program, fakes: Sets) -> None:
    slow = fakes(FakeBuilder__lines=10**6, FakeBuilder__lines_per_second=1000)
    with ringbinder.start("build", "fake/a/b/c", "--json", *slow) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) != 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
