"""What docs/frameworks.md shows is executed."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import free_port, wait_until
from test_readme import Curl

from smartredis_wsgi.integrations import beaker

PAGE = (Path(__file__).parent.parent / "docs" / "frameworks.md").read_text()
CHAPTERS = dict(re.findall(r"^## (.+)\n([\s\S]*?)(?=^## |\Z)", PAGE, re.MULTILINE))


def blocks(chapter, language):
    return re.findall(rf"```{language}\n(.*?)```", CHAPTERS[chapter], re.DOTALL)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_program_of_the_chapter_counts_visits(chapter, tmp_path):
    port = free_port()
    program = tmp_path / "program.py"
    program.write_text(blocks(chapter, "python")[0].replace("8000", str(port)))
    for ini in blocks(chapter, "ini"):
        (tmp_path / "site.ini").write_text(ini)
    with subprocess.Popen(
        [sys.executable, program.name],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    ) as running:
        try:
            wait_until(Curl(port).answers, 20, f"the program of {chapter}")
            curl = Curl(port)
            assert [curl.get("/") for _ in range(2)] == ["visits: 1\n", "visits: 2\n"]
        finally:
            running.terminate()


def test_the_other_program_runs():
    others = [text for chapter in CHAPTERS for text in blocks(chapter, "python")[1:]]
    assert len(others) == 1
    exec(compile(others[0], "frameworks.md", "exec"), {})


def test_the_snippets_are_python():
    for text in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL):
        ast.parse(text)


def test_each_framework_has_its_chapter():
    folder = Path(beaker.__file__).parent
    modules = {path.stem for path in folder.glob("[a-z]*.py")}
    named = set(re.findall(r"smartredis_wsgi\.integrations\.(\w+)", PAGE)) | {"paste"}
    assert named == modules
    assert len(CHAPTERS) == len(modules)


def test_each_option_of_beakers_stands_in_the_table():
    known = {*beaker._RENAMED, *beaker._NEEDLESS, *beaker._REFUSED}
    for name in known:
        assert f"`{name}" in CHAPTERS["From Beaker"], name
