"""Requirements files as pip reads them, rewritten into what uv takes.

pip takes more than uv does: an editable package of a git repository, which `pip freeze` writes; a line that is
continued on the next one; any encoding that a file names. So files are read here, and an error names the line. What a
file includes stands in its place.
"""

from __future__ import annotations

import codecs
import optparse
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from attrs import define, field
from ringbinder import UserError
from ringbinder.untrusted import MAX_VALUES, excerpt

from . import files

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from .inside import Inside

_LENGTH: Final = 2000
"""Characters of a requirement without its hashes."""
_LINE_ENDS: Final = re.compile(r"\r\n|\r|\n")
_COMMENT: Final = re.compile(r"(?:^|\s)#")
_OPTION: Final = re.compile(r"(?:^|\s)-")
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DECLARED: Final = re.compile(rb"#.{0,80}?coding[:=][ \t]{0,8}([A-Za-z0-9_.-]{1,40})")
_ENCODINGS: Final = re.compile(
    r"ascii|utf-8|utf-16|utf-32|iso8859-\d+|cp\d+|koi8-\w|mac-roman|gb\w+|big5|euc_\w+|shift_jis"
)
_LOCATION: Final = re.compile(r"(?i)(?:(?:git|hg|svn|bzr)\+|https?:|ftp:|file:|\.)|[^@;<>=!~\s]*[/\\]")
ARCHIVES: Final = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
_OTHER_SYSTEMS: Final = {"hg+": "Mercurial", "svn+": "Subversion", "bzr+": "Bazaar"}
_SSH_STUB: Final = re.compile(r"git\+([\w.-]+@[\w.-]+):(?!/)")
_EGG: Final = re.compile(r"[#&]egg=([A-Za-z0-9][A-Za-z0-9._-]*)")
_MORE_THAN_A_WORD: Final = re.compile(r"[\s\"'\\]")
_BLANKS_OF_A_LIST: Final = re.compile(r",\s+")
_CONDA_LINE: Final = re.compile(r"[\w.-]+=[^=\s]+=\S+")
_ONE_SIGN: Final = re.compile(r"[\w.-]+=[^=]")

_LISTS: Final[Mapping[str, Sequence[str]]] = {
    "requirement": ["-r"], "constraint": ["-c"], "editable": ["-e"], "find_links": ["-f"],
    "index_url": ["-i", "--pypi-url"], "extra_index_url": [], "no_binary": [], "only_binary": [], "hash": [],
    "config_settings": ["-C", "--config-setting"], "trusted_host": [], "use_feature": [],
}  # fmt: skip
"""pip's options that have a value, with their other names."""
_FLAGS: Final = ("no_index", "require_hashes", "pre", "prefer_binary")


class _Parser(optparse.OptionParser):
    """As pip's: an option may be abbreviated, and its value follow with a sign, a blank or nothing between."""

    def get_default_values(self) -> optparse.Values:
        return optparse.Values(dict.fromkeys(_FLAGS, False) | {name: list[str]() for name in _LISTS})

    def error(self, msg: str) -> NoReturn:
        raise ValueError(msg)


def _parser() -> _Parser:
    parser = _Parser(add_help_option=False)
    for name, others in _LISTS.items():
        parser.add_option(*others, f"--{name.replace('_', '-')}", action="append", dest=name)
    for name in _FLAGS:
        parser.add_option(f"--{name.replace('_', '-')}", action="store_true", dest=name)
    return parser


_PASSED_OVER: Final = ("trusted_host", "use_feature", "prefer_binary")
_FREE: Final = ("config_settings", *_PASSED_OVER)
"""They are not written into uv's file."""
_NAMES: Final = ("hash", "no_binary", "only_binary")


@define
class Requirements:
    """What requirements files ask for. The methods block, and raise `UserError`: ``bad-file``, ``missing-file``."""

    inside: Inside
    lines: list[str] = field(factory=list, init=False)
    """Of a file for uv."""
    constraints: list[str] = field(factory=list, init=False)
    arguments: list[str] = field(factory=list, init=False)
    """For uv's command line."""
    notes: list[str] = field(factory=list, init=False)
    """What is done in another way than pip does it, for the log."""
    _index: str = field(default="", init=False)

    def add_file(self, file: str, cwd: str = "", *, constraint: bool = False) -> None:
        """Adds `file`, whose requirements are relative to the folder `cwd`, and all that it includes."""
        if self.inside.is_new(f"{file} of constraints" if constraint else file):
            text = _decoded(files.content(self.inside.tree, file), file)
            for number, line in _logical_lines(text):
                self._add(line, f"{file} (line {number})", file.rpartition("/")[0], cwd, constraint)

    def add_lines(self, lines: Iterable[str], file: str, *, constraint: bool = False) -> None:
        """Adds the `lines` that `file`, an environment.yml or the like, has for pip."""
        folder = file.rpartition("/")[0]
        # A text of YAML or TOML may have several lines, each of which uv would read by itself.
        for line in (part for text in lines for part in _LINE_ENDS.split(text) if part.strip()):
            self._add(_COMMENT.split(line, maxsplit=1)[0].strip(), file, folder, folder, constraint)

    @property
    def content(self) -> list[str]:
        """The lines with the index that was named last, which is the one for pip."""
        return [*([f"--index-url {self._index}"] if self._index else []), *dict.fromkeys(self.lines)]

    def _add(self, line: str, where: str, folder: str, cwd: str, constraint: bool) -> None:
        if len(self.lines) + len(self.constraints) > MAX_VALUES:
            raise UserError("bad-file", f"{where}: there are more than {MAX_VALUES} requirements.")
        option = _OPTION.search(line)
        text = line[: option.start()].strip() if option else line
        words, marker = line[len(text) :].strip(), ""
        if not text and words.startswith(("-e", "--editable")):
            # Beyond pip: blanks between extras, and a marker, with which uv takes it.
            words, semicolon, condition = words.partition(";")
            words = _BLANKS_OF_A_LIST.sub(",", words)
            marker = f" ; {_marker(condition, where)}" if semicolon else ""
        options = self._options(words, where)
        target = self.constraints if constraint else self.lines
        for file in options.requirement:
            self._include(file, where, folder, cwd, constraint)
        for file in options.constraint:
            self._include(file, where, folder, cwd, True)
        for location in options.editable:
            target.append(self._editable(location, where, cwd, constraint) + marker)
        if text:
            hashes = "".join(f" --hash={digest}" for digest in options.hash)
            target.append(self._requirement(text, where, cwd, constraint, options.config_settings) + hashes)
        self._add_settings(options, where, folder, cwd)

    def _add_settings(self, options: Any, where: str, folder: str, cwd: str) -> None:
        for address in options.index_url:
            self.inside.target(address, where, cwd, project=False)
            self._index = address
        for address in options.extra_index_url:
            self.inside.target(address, where, cwd, project=False)
            self.lines.append(f"--extra-index-url {address}")
        for address in options.find_links:
            path = self.inside.target(address, where, folder, project=False)
            _require_one_word(path, where)  # links may lead to any name
            self.lines.append(f"--find-links {self.inside.tree.place / path if path else address}")
        self.lines += [f"--no-binary {names}" for names in options.no_binary]
        self.lines += [f"--only-binary {names}" for names in options.only_binary]
        self.lines += ["--no-index"] if options.no_index else []
        self.lines += ["--require-hashes"] if options.require_hashes else []
        if options.pre:
            self.arguments += ["--prerelease", "allow"]
        for name in _PASSED_OVER:
            if getattr(options, name):
                self.notes.append(f"{where}: --{name.replace('_', '-')} is passed over.")

    def _options(self, words: str, where: str) -> Any:
        try:
            # shlex is slow, and hashes are many.
            split = shlex.split(words) if set(words) & set("\"'\\") else words.split()
            options, rest = _PARSER.parse_args(split)
        except ValueError as error:
            raise UserError(
                "bad-file",
                f"{where}: '{excerpt(words)}' is nothing that pip takes in a requirements file "
                f"({excerpt(str(error))}). Take it out.",
            ) from None
        if rest:
            raise UserError("bad-file", f"{where}: '{excerpt(words)}' is no requirement and no option of one.")
        for name in _LISTS.keys() - _FREE:
            for value in getattr(options, name):
                _require_one_word(value, where, "$" if name in _NAMES else "")
        return options

    def _include(self, name: str, where: str, folder: str, cwd: str, constraint: bool) -> None:
        path = self.inside.target(name, where, folder, project=False)
        if not path:
            (self.constraints if constraint else self.lines).append(f"{'-c' if constraint else '-r'} {name}")
        elif self.inside.tree.kind(path) is None:
            raise UserError(
                "missing-file",
                f"{where} names '{excerpt(name)}', which is not in the repository. Add it, or take the line out.",
            )
        else:
            self.add_file(path, cwd, constraint=constraint)

    def _editable(self, location: str, where: str, cwd: str, constraint: bool) -> str:
        if not location.startswith(("git+", *_OTHER_SYSTEMS)):
            self.inside.requirement(location, where, cwd, editable=True)
            return f"-e {location}"
        self.notes.append(f"{where}: installed from git, but not as editable: {excerpt(location)}")
        return self._requirement(location, where, cwd, constraint, [])

    def _requirement(self, text: str, where: str, cwd: str, constraint: bool, settings: list[str]) -> str:
        """Return the requirement `text` as uv takes it."""
        if len(text) > _LENGTH:
            raise UserError("bad-file", f"{where}: a requirement has more than {_LENGTH} characters.")
        text = _SSH_STUB.sub(r"git+ssh://\1/", text, count=1)
        self.inside.requirement(text, where, cwd)
        if text.endswith("\\"):
            raise UserError("bad-file", f"{where}: '{excerpt(text)}' ends with a backslash.")
        if _LOCATION.match(text) or text.lower().endswith(ARCHIVES):
            _require_git(text, where)
            egg = _EGG.search(text)
            return f"{egg[1]} @ {text}" if constraint and egg else text
        requirement = _parsed(text, where)
        _require_git(requirement.url or "", where)
        for setting in settings:
            self.arguments += ["--config-settings-package", f"{requirement.name}:{setting}"]
        return str(requirement)


_PARSER: Final = _parser()


def _require_one_word(value: str, where: str, also: str = "") -> None:
    # uv would take it for several words, or join it with the next line.
    if _MORE_THAN_A_WORD.search(value) or (also and also in value):
        raise UserError("bad-file", f"{where}: '{excerpt(value)}' has a blank, a quote, a backslash or a dollar sign.")


def _parsed(text: str, where: str) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text.rstrip(";"))
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0]
    advice = "Write such as six==1.17.0 or six>=1.16,<2."
    if _CONDA_LINE.fullmatch(text):
        advice = "This is a line of conda's: put its packages into environment.yml."
    elif _ONE_SIGN.match(text):
        advice = "A version stands after two equals signs, such as six==1.17.0."
    raise UserError("bad-file", f"{where}: '{excerpt(text)}' is no requirement ({excerpt(reason, 100)}). {advice}")


def _marker(text: str, where: str) -> str:
    from packaging.markers import InvalidMarker, Marker

    try:
        return str(Marker(text))
    except InvalidMarker:
        raise UserError(
            "bad-file", f"{where}: '{excerpt(text.strip())}' is no condition such as python_version < '3.12'."
        ) from None


def _require_git(address: str, where: str) -> None:
    for prefix, system in _OTHER_SYSTEMS.items():
        if address.lower().startswith(prefix):
            raise UserError(
                "unsupported-file",
                f"{where} asks for '{excerpt(address)}': of repositories only those of git can be installed, not those "
                f"of {system}. Name a release, or the address of an archive.",
            )


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield what is not empty without comments and continuations, with the number of its first line."""
    begun, pieces = 1, list[str]()
    raws = _LINE_ENDS.split(text)
    for number, raw in enumerate(raws, 1):
        if not pieces:
            begun = number
        comment = _COMMENT.match(raw)
        pieces.append(f" {raw}" if comment else raw.strip("\\") if raw.endswith("\\") else raw)
        if raw.endswith("\\") and not comment and number < len(raws):
            continue
        if line := _COMMENT.split("".join(pieces), maxsplit=1)[0].strip():
            yield begun, line
        pieces.clear()


def _decoded(content: bytes, file: str) -> str:
    """Return the text of a requirements file, which some shells of Windows write in UTF-16."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    for line in content.split(b"\n", 2)[:2]:
        if not encoding and (declared := _DECLARED.match(line)):
            try:
                encoding = codecs.lookup(declared[1].decode()).name
            except LookupError:
                encoding = ""
            encoding = encoding if _ENCODINGS.fullmatch(encoding) else ""
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            "bad-file",
            f"{file} (line {number}) is no text in {(encoding or 'utf-8').upper()}. Save it as UTF-8, or name its "
            "encoding in the first line: # -*- coding: latin-1 -*-",
        ) from None
