"""What plugin authors and operators ask about plugins, with the installed program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Program

OPTIONS = """
from attrs import frozen
from ringbinder import Plugin, option

@frozen
class Options:
    flavour: str = option("plain", help="How it tastes.", env="FLAVOUR")

class Plugin(Plugin):
    Config = Options
    sections = ("Strangers",)
    async def health(self): ...
"""


def test_config_schema_has_the_options_of_a_strangers_plugin(ringbinder: Program) -> None:
    broken = ringbinder.plugin("broken", "import no_such_module")
    stranger = ringbinder.plugin("stranger", OPTIONS)
    done = ringbinder("config", "schema", PYTHONPATH=":".join(env["PYTHONPATH"] for env in (broken, stranger)))
    assert done.returncode == 0
    assert "left out: plugin 'plugin:broken'" in done.stderr
    schema = json.loads(done.stdout)
    jsonschema.validate({"Strangers": {"flavour": "sweet"}}, schema)
    jsonschema.validate({"config": {"Strangers": {"flavour": "sweet"}}, "registry": {"url": "x"}}, schema)
    for wrong in ({"Strangers": {"flavour": 1}}, {"Strangers": {"flavor": "sweet"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_show_reports_origin_hooks_options_and_variables(ringbinder: Program) -> None:
    stranger = ringbinder.plugin("stranger", OPTIONS)
    reported = ringbinder("plugins", "show", "stranger", **stranger)
    assert reported.returncode == 0, reported.stderr
    for words in (
        "plugin stranger, of stranger 1.0",
        "state:    active",
        "hooks:    health",
        "flavour (text, default plain)",
        "How it tastes.",
        "RINGBINDER__Strangers__flavour or FLAVOUR",
    ):
        assert words in reported.stdout
    (record,) = json.loads(ringbinder("plugins", "show", "stranger", "--json", **stranger).stdout)
    assert record["options"][0]["variables"] == ["RINGBINDER__Strangers__flavour", "FLAVOUR"]


def test_show_of_a_plugin_with_a_missing_option(ringbinder: Program) -> None:
    needy = ringbinder.plugin("needy", OPTIONS.replace('"plain", help', "help"))
    reported = ringbinder("plugins", "show", "needy", **needy)
    assert reported.returncode == 0, reported.stderr
    for words in (
        "state:    failed: Strangers.flavour: required, but not given; RINGBINDER__Strangers__flavour or FLAVOUR",
        "hooks:    health",
        "sections: Strangers",
        "flavour (text, required)",
        "      RINGBINDER__Strangers__flavour or FLAVOUR",
    ):
        assert words in reported.stdout
    assert "state:    active" in ringbinder("plugins", "show", "needy", **needy, FLAVOUR="sweet").stdout


def test_show_of_a_plugin_whose_options_cannot_be_read(ringbinder: Program) -> None:
    broken = ringbinder.plugin("broken", OPTIONS.replace("flavour: str", "flavour: 'Unknown'"))
    reported = ringbinder("plugins", "show", "broken", **broken)
    assert reported.returncode == 0, reported.stderr
    assert "state:    failed: plugin 'plugin:broken': it cannot be made" in reported.stdout
    assert "NameError" in reported.stdout


def test_show_of_what_is_not_installed(ringbinder: Program) -> None:
    done = ringbinder("plugins", "show", "zenod")
    assert (done.returncode, done.stdout) == (6, "")
    assert 'Did you mean "zenodo"' in done.stderr


def test_our_own_plugins_are_right(ringbinder: Program, tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("1 / 0  # of a repository that is the current folder\n")
    done = ringbinder("plugins", "check")
    assert done.returncode == 0, done.stdout
    assert "error" not in done.stdout
    assert "warning" not in done.stdout


WRONG = {
    "import no_such_module": "No module named 'no_such_module'",
    "import time; time.sleep(1.2)\nfrom ringbinder import Plugin\nclass Plugin(Plugin):\n"
    "    async def health(self): ...": "seconds to import",
    "class Plugin: ...": "it has no hook",
    "class Plugin:\n    def health(self): ...": "write `async def`",
    "class Plugin:\n    async def health(self, helth): ...": "no argument 'helth'",
    "class Plugin:\n    plugin_api = 99\n    async def health(self): ...": "written for plugin API 99",
    "class Plugin:\n    Config = dict\n    async def health(self): ...": "is no attrs class",
    OPTIONS.replace('sections = ("Strangers",)', ""): "no configuration can set them",
    OPTIONS.replace("Strangers", "Ringbinder"): "is Ringbinder's own",
    OPTIONS.replace("Strangers", "ZenodoProvider"): "is that of provider:zenodo",
    OPTIONS.replace('option("plain", help="How it tastes.", env="FLAVOUR")', '"plain"'): "has no help",
    OPTIONS.replace(
        "async def health(self): ...", "async def health(self): ...\n    def __init__(self): ..."
    ): "TypeError",
}


@pytest.mark.parametrize("source", WRONG, ids=list(WRONG.values()))
def test_check_shows_what_is_wrong(ringbinder: Program, source: str) -> None:
    done = ringbinder("plugins", "check", "wrong", **ringbinder.plugin("wrong", source))
    assert WRONG[source] in done.stdout, done.stdout + done.stderr
    assert done.returncode in (0, 6)
    assert (done.returncode == 6) == ("error:" in done.stdout)


def test_check_of_a_project_that_is_not_installed(ringbinder: Program) -> None:
    assert ringbinder("plugins", "new", "sink", "tea").returncode == 0
    done = ringbinder("plugins", "check", "ringbinder-sink-tea")
    assert (done.returncode, done.stdout) == (0, "sink:tea (ringbinder-sink-tea 0.1.0): right\n"), done.stderr


ENDS = {
    "import os; os._exit(3)": "ends the whole process (exit code 3)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "ends the whole process (signal SIGKILL)",
    "import ctypes; ctypes.string_at(0)": "ends the whole process (signal SIGSEGV)",
    "raise KeyboardInterrupt": "ends the whole process",
}


@pytest.mark.parametrize("source", ENDS, ids=["exit", "kill", "crash", "interrupt"])
def test_check_outlives_a_plugin_that_ends_the_process(ringbinder: Program, source: str) -> None:
    project = ringbinder.folder / "project"
    project.mkdir()
    (project / "bad.py").write_text(source)
    (project / "good.py").write_text(
        "print('no newline', end='')\n"
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "from ringbinder import Plugin\nclass Plugin(Plugin):\n    async def health(self): ...\n"
    )
    (project / "pyproject.toml").write_text(
        '[project]\nname = "both"\nversion = "1.0"\n[project.entry-points."ringbinder.plugins"]\n'
        'bad = "bad:Plugin"\ngood = "good:Plugin"\n'
    )
    done = ringbinder("plugins", "check", "project")
    assert done.returncode == 6, done.stderr
    reported = done.stdout.splitlines()
    assert reported[0] == "plugin:bad (both 1.0):"
    assert ENDS[source] in reported[1]
    assert reported[2] == "plugin:good (both 1.0): right"
    assert "no newline" in done.stderr


def test_check_reports_a_plugin_that_hangs_at_import(ringbinder: Program) -> None:
    hanging = ringbinder.plugin("stuck", "import threading; threading.Event().wait()")
    done = ringbinder("plugins", "check", "stuck", "--timeout", "2", **hanging)
    assert done.returncode == 6
    assert "stuck is not imported within 2 seconds, and every command would hang with it" in done.stdout


def test_list_names_the_section_of_each_plugin(ringbinder: Program) -> None:
    stranger = ringbinder.plugin("stranger", OPTIONS)
    heading, *rows = ringbinder("plugins", "list", **stranger).stdout.splitlines()
    fields = {row.split()[0]: row[heading.index("SECTION") :].split()[0] for row in rows if " active " in row}
    assert fields["stranger"] == "Strangers"
    assert fields["gh"] == "GitHubRepoProvider"
