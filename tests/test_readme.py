"""What the README says of the options; test_docs.py executes what it shows."""

import dataclasses
import re
from pathlib import Path

import pytest

from smartredis_wsgi.config import Config

README = (Path(__file__).parent.parent / "README.md").read_text()


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
