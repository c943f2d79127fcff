"""What docs/frameworks.md names; test_docs.py executes what it shows."""

import re
from pathlib import Path

from smartredis_wsgi.integrations import beaker

PAGE = (Path(__file__).parent.parent / "docs" / "frameworks.md").read_text()
CHAPTERS = dict(re.findall(r"^## (.+)\n([\s\S]*?)(?=^## |\Z)", PAGE, re.MULTILINE))


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
