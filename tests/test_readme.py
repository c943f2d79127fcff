"""What the README shows is executed."""

import dataclasses
import http.client
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import free_port, wait_until

from smartredis_wsgi.config import Config

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]


class Curl:
    """`curl -s -b jar -c jar URL`, as far as the README's dialogue goes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._jar = ""

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path, headers={"Cookie": self._jar})
            answer = connection.getresponse()
            self._jar = (answer.getheader("Set-Cookie") or self._jar).partition(";")[0]
            return answer.read().decode()
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return bool(self.get("/"))
        except OSError:
            return False


@pytest.fixture
def first_program(tmp_path):
    """The first program of the README, as pasted, but for its port."""
    port = free_port()
    program = tmp_path / "program.py"
    program.write_text(PYTHON[0].replace("8000", str(port)))
    with subprocess.Popen(
        [sys.executable, str(program)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    ) as running:
        try:
            wait_until(Curl(port).answers, 20, "the README's program")
            yield port
        finally:
            running.terminate()


def test_the_first_program_answers_curl_as_the_readme_says(first_program):
    dialogue = next(text for _, text in BLOCKS if "curl" in text)
    asked = re.findall(r"\$ curl .*?:8000(/\S*)\n([^$]*)", dialogue)
    curl = Curl(first_program)
    assert len(asked) == 3
    assert [(path, curl.get(path)) for path, _ in asked] == asked


def test_the_other_programs_run():
    assert len(PYTHON) == 2
    exec(compile(PYTHON[1], "README.md", "exec"), {})


def test_the_first_forty_lines_hold_promises_program_and_dialogue():
    start = "\n".join(README.splitlines()[:42])
    assert "serve_forever" in start
    assert "visits: 2" in start


@pytest.mark.parametrize("option", dataclasses.fields(Config), ids=lambda o: o.name)
def test_each_option_stands_in_the_table_with_its_own_words(option):
    assert re.search(
        rf"^\| `{option.name}` \| .+ \| {re.escape(option.metadata['help'])} \|$",
        README,
        re.MULTILINE,
    )


def test_the_table_holds_no_option_that_is_none():
    table = README.partition("## Options")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    assert named == {option.name for option in dataclasses.fields(Config)}
