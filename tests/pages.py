"""Plays the code blocks of a documentation page, each as its reader would.

=========  ==========================================================================
python     is executed, all of a page in one namespace; what begins with ``# name.py``
           is a file of that name, too; what serves for ever runs as a program
console    each command after ``$`` is played, see `Player`; what follows is compared
           where it is curl's
ini        options: the middleware takes them. It lies beside the page's programs, as
           ``site.ini``
conf       a server starts with it
text       is no code
=========  ==========================================================================

``localhost:6379`` stands for the test's server, ``lock-a``, ``lock-b`` and
``lock-c`` for three others, port 8000 for a free one, and a handle (twelve hex digits)
for a session that there is.
"""

from __future__ import annotations

import ast
import http.client
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import ANY

from click.testing import CliRunner
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from servers import Server, free_port, wait_until

from smartredis_wsgi import SessionMiddleware, SessionStore
from smartredis_wsgi.cli import main as command_line
from smartredis_wsgi.ids import Address

LANGUAGES = "python", "console", "ini", "conf", "text"
ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_PROGRAM = re.compile(r"\.serve_forever\(\)|^app\.run\(", re.MULTILINE)
_HANDLE = re.compile(r"[0-9a-f]{12}")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
_SECONDS = 60.0


class Block(NamedTuple):
    """A fenced block, and the line of its page on which it begins."""

    language: str
    text: str
    line: int


def tokens_of(page: Path) -> list[Any]:
    return MarkdownIt().enable("table").parse(page.read_text("utf-8"))


def blocks_of(page: Path) -> list[Block]:
    """All code of a page, in its order; what is indented has no language."""
    return [
        Block(token.info, token.content, token.map[0] + 1)
        for token in tokens_of(page)
        if token.type in ("fence", "code_block")
    ]


class Curl:
    """``curl -s -b jar -c jar [-d data] URL``, for a program on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._jar = ""

    def get(self, path: str, data: str | None = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        form = {} if data is None else {"Content-Type": FORM}
        try:
            method = "GET" if data is None else "POST"
            connection.request(method, path, data, {"Cookie": self._jar, **form})
            answer = connection.getresponse()
            assert answer.status < 500, answer.read()
            self._jar = (answer.getheader("Set-Cookie") or self._jar).partition(";")[0]
            return answer.read().decode()
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return bool(self.get("/"))
        except OSError:
            return False


FORM = "application/x-www-form-urlencoded"


class Program:
    """A program that answers HTTP, begun; it is one of a page, but for its port."""

    def __init__(
        self, words: list[str], folder: Path, port: int, **environment: str
    ) -> None:
        self.curl = Curl(port)
        self.is_asked = False
        self._running = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        )
        try:
            wait_until(self._answers, _SECONDS, "a program of the documentation")
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        assert self._running.poll() is None, "the program has ended"
        return Curl(self.curl.port).answers()

    def close(self) -> None:
        self._running.terminate()
        self._running.wait(_SECONDS)


class Player:
    """Plays one page.

    Of commands, ``pip`` has to name what there is, ``make`` a target, ``curl`` asks
    the program above it, ``smartredis-wsgi``, ``python`` and ``gunicorn`` run,
    ``redis-cli`` is sent to the server, ``export`` counts for those that follow.

    Args:
        folder: An empty one, the current one, in which modules are found.
        places: What stands for the servers that the page names.
    """

    def __init__(
        self, page: Path, folder: Path, server: Server, places: Mapping[str, str]
    ) -> None:
        self._page, self._folder, self._server = page, folder, server
        self._places = places
        self._namespace: dict[str, Any] = {"__name__": page.stem}
        self._program: Program | None = None
        self._environment = {"SMARTREDIS_URL": server.url}
        self.played = 0

    def play(self, **names: Any) -> None:
        """Play all blocks; Python finds these names from the beginning."""
        self._namespace |= names
        try:
            for block in blocks_of(self._page):
                self._play(block)
                self.played += 1
            self._end_program()
        finally:
            if self._program:
                self._program.close()

    def _play(self, block: Block) -> None:
        text = block.text
        for name, place in self._places.items():
            text = text.replace(name, place)
        try:
            assert block.language in LANGUAGES, f"no language: {block.language!r}"
            getattr(self, f"_{block.language}")(block._replace(text=text))
        except BaseException as error:
            error.add_note(f"in the block of {self._page.name}, line {block.line}")
            raise

    # -- languages -------------------------------------------------------------------

    def _python(self, block: Block) -> None:
        if _PROGRAM.search(block.text):
            self._end_program()
            port, path = free_port(), self._folder / "program.py"
            path.write_text(block.text.replace("8000", str(port)), "utf-8")
            self._program = Program([path.name], self._folder, port)
            return
        # So that what is raised names the page's own line.
        code = compile("\n" * block.line + block.text, str(self._page), "exec")
        exec(code, self._namespace)
        if name := re.match(r"# (\w+\.py)\n", block.text):
            (self._folder / name[1]).write_text(block.text, "utf-8")

    def _console(self, block: Block) -> None:
        assert block.text.startswith("$ "), "a console block begins with a command"
        for command, shown in re.findall(
            r"^\$ (.*)\n((?:[^$].*\n)*)", block.text, re.M
        ):
            program, *words = shlex.split(command, comments=True)
            played = self._command(program)(words)
            assert not shown or played == shown, command

    def _ini(self, block: Block) -> None:
        (self._folder / "site.ini").write_text(block.text, "utf-8")
        ini = ConfigParser(interpolation=None)
        ini.read_string(block.text)
        settings = dict(_options_in(ini))
        assert settings, "no option of ours"
        SessionMiddleware.from_settings(ANY, settings)

    def _conf(self, block: Block) -> None:
        lines = [shlex.split(line, comments=True) for line in block.text.splitlines()]
        words = [
            word for name, *rest in filter(None, lines) for word in (f"--{name}", *rest)
        ]
        Server("valkey", *words).start().close()

    def _text(self, block: Block) -> None:
        begins = "$ ", "make ", "pip ", "curl ", "smartredis-wsgi "
        assert not any(line.startswith(begins) for line in block.text.splitlines())
        try:
            ast.parse(block.text)
        except SyntaxError:
            return
        raise AssertionError("this is Python; say so, and it is executed")

    # -- commands --------------------------------------------------------------------

    def _command(self, program: str) -> Callable[[list[str]], str]:
        commands = {
            "pip": _pip,
            "make": _make,
            "export": self._export,
            "curl": self._curl,
            "python": self._run,
            "gunicorn": self._gunicorn,
            "redis-cli": self._redis_cli,
            "smartredis-wsgi": self._smartredis_wsgi,
        }
        assert program in commands, f"no command that can be played: {program}"
        return commands[program]

    def _export(self, words: list[str]) -> str:
        self._environment.update(word.split("=", 1) for word in words)
        return ""

    def _curl(self, words: list[str]) -> str:
        assert self._program, "curl asks a program that stands above it"
        *options, url = words
        data = options[options.index("-d") + 1] if "-d" in options else None
        rest = [word for word in options if word not in ("-d", data)]
        assert rest == ["-s", "-b", "jar", "-c", "jar"]
        self._program.is_asked = True
        return self._program.curl.get(url.removeprefix("http://127.0.0.1:8000"), data)

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self._folder,
            env={**os.environ, **self._environment},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _gunicorn(self, words: list[str]) -> str:
        port = free_port()
        ours = [f"--bind=127.0.0.1:{port}", "--no-control-socket"]
        ours += ["--graceful-timeout=1"]  # a worker that just begins may miss the end
        command = ["-m", "gunicorn", *ours, *words]
        Program(command, self._folder, port, **self._environment).close()
        return ""

    def _redis_cli(self, words: list[str]) -> str:
        with self._server.client() as client:
            client.execute_command(*words)
        return ""

    def _smartredis_wsgi(self, words: list[str]) -> str:
        words = [self._a_handle() if _HANDLE.fullmatch(w) else w for w in words]
        if words[0] == "demo":  # it serves for ever: its words have to be known
            command_line.make_context("smartredis-wsgi", words)
            return ""
        done = CliRunner().invoke(
            command_line, words, input="y\n", env=self._environment
        )
        assert done.exit_code == 0, done.output
        return done.output

    # -- what they need --------------------------------------------------------------

    def _a_handle(self) -> str:
        """The handle of a session of the server's, as the command line shows it."""
        store = SessionStore.from_config(url=self._server.url)
        with store.open() as session:
            session["user"] = "ann"
        return Address.of(session.id).record[-64:][:12]

    def _end_program(self) -> None:
        """End what runs. A program that no console block asks counts visits."""
        if self._program:
            if not self._program.is_asked:
                curl = self._program.curl
                seen = [curl.get("/") for _ in range(2)]
                assert seen == ["visits: 1\n", "visits: 2\n"]
            self._program.close()
            self._program = None


def _options_in(ini: ConfigParser) -> Iterator[tuple[str, str]]:
    """Ours: in [session], of PasteDeploy's filter, and what begins with session."""
    for name, section in ini.items():
        ours = name == "session" or section.get("use") == "egg:smartredis_wsgi"
        for option, value in section.items():
            if ours and option != "use":
                yield f"session.{option}", value
            elif option.startswith("session."):
                yield option, value


def _pip(words: list[str]) -> str:
    """Nothing is installed: the packages and extras that are named have to exist."""
    assert words[0] == "install"
    for word in words[1:]:
        wanted = Requirement(word)
        known = importlib.metadata.metadata(wanted.name).get_all("Provides-Extra") or []
        assert wanted.extras <= set(known), word
    return ""


def _make(words: list[str]) -> str:
    assert words[0] in TARGETS, f"no target {words[0]}"
    assert all(word.startswith("ARGS=") for word in words[1:])
    return ""
