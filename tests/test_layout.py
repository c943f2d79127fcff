"""What the package is made of: directions, names, docstrings, scripts."""

import ast
import builtins
import inspect
import re
from pathlib import Path

import pytest

import smartredis_wsgi
from smartredis_wsgi import Lease, LockStrategy, SmartRedisError, errors

PACKAGE = Path(smartredis_wsgi.__file__).parent
SOURCES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
}
# Whoever stands in a line may import from the lines above it, and from no other.
ORDER = [
    "errors events familiar merge moving moving.pickles",
    "moving.libraries",
    "transport.forks transport.protocol transport.silence",
    "transport.crew",
    "transport.link",
    "transport.idle",
    "transport.any_client transport.held",
    "codec config embedded ids locks.none locks.protocol locks.strategy",
    "connect cookie fields",
    "transport",
    "wire",
    "locks.redlock locks.single",
    "locks owners store moving.cookies",
    "moving.records",
    "engine",
    "everywhere hold",
    "belonging",
    "reading",
    "moving.arrival",
    "life",
    "session",
    "session_store",
    "middleware",
    "__init__",
    "cli.demo cli.rendering cli.settings demo demo.acts demo.sight integrations",
    "demo.crowd demo.naive",
    "demo.site",
    "demo.once",
    "demo.__main__",
    "cli.group cli.sight",
    "cli.check cli.locks cli.moving cli.purge cli.stats",
    "cli.sessions",
    "cli",
    "__main__",
]
RANK = {name: rank for rank, line in enumerate(ORDER) for name in line.split()}


def imports(name):
    """The modules of the package that a module imports."""
    for node in ast.walk(ast.parse(SOURCES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = [PACKAGE.name, *name.split(".")][: -node.level or None]
            start = [*(parents if node.level else []), *filter(None, [node.module])]
            paths = [".".join([*start, alias.name]) for alias in node.names]
        else:
            continue
        for path in paths:
            if path.split(".")[0] == PACKAGE.name:
                yield nearest(path.partition(".")[2])


def nearest(path):
    """The module that a dotted name is, or is in."""
    while path and not {path, f"{path}.__init__"} & SOURCES.keys():
        path = path.rpartition(".")[0]
    return path or "__init__"


def rank(name):
    name = name.removesuffix(".__init__")
    return RANK["integrations" if name.startswith("integrations") else name]


def test_imports_point_one_way():
    for name in SOURCES:
        for other in imports(name):
            assert rank(other) < rank(name), f"{name} -> {other}"


def test_the_store_and_the_locks_are_strangers():
    assert not [other for other in imports("store") if other.startswith("locks")]
    for name in SOURCES:
        if name.startswith("locks"):
            allowed = ("errors", "wire", "connect", "transport", "locks")
            assert all(other.startswith(allowed) for other in imports(name)), name


def test_the_errors_import_nothing():
    assert [*imports("errors")] == []


def test_the_import_test_sees_imports():
    assert {"middleware", "session", "errors", "locks"} <= {*imports("__init__")}
    assert {"fields", "ids", "errors", "store"} <= {*imports("life")}
    assert {"wire", "errors", "locks.protocol"} == {*imports("locks.single")}
    assert {"locks.none", "locks.single"} <= {*imports("locks.__init__")}


def test_all_is_what_can_be_imported():
    found = {
        name
        for name, member in vars(smartredis_wsgi).items()
        if not name.startswith("_") and not inspect.ismodule(member)
    }
    assert found == set(smartredis_wsgi.__all__)
    assert len(smartredis_wsgi.__all__) == len(found)
    assert sorted(smartredis_wsgi.__all__) == smartredis_wsgi.__all__


def public_members():
    for name in smartredis_wsgi.__all__:
        kind = getattr(smartredis_wsgi, name)
        for word, member in vars(kind).items():
            is_verb = inspect.isroutine(member) or isinstance(member, property)
            if is_verb and not word.startswith("_"):
                yield f"{name}.{word}", word, member


def test_everything_public_has_a_docstring():
    for name, path in SOURCES.items():
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), name
    for name in smartredis_wsgi.__all__:
        assert vars(getattr(smartredis_wsgi, name))["__doc__"], name
    promised = {
        word for kind in (Lease, LockStrategy) for word in vars(kind) if word[0] != "_"
    }
    for name, word, member in public_members():
        is_promised = word in promised and not name.startswith("Lease.")
        assert inspect.getdoc(member) or is_promised, name


def test_every_exception_is_drawn_with_its_builtin():
    tree = dict(re.findall(r"\+-- (\w+) +\((\w+)\)", errors.__doc__))
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and kind is not SmartRedisError
    }
    assert tree.keys() == kinds.keys()
    for name, kind in kinds.items():
        assert kind.__bases__ == (SmartRedisError, getattr(builtins, tree[name]))
        assert getattr(smartredis_wsgi, name) is kind


SCRIPTS = sorted((PACKAGE / "scripts").glob("*.lua"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_says_what_it_takes_and_what_it_returns(path):
    text = path.read_text("utf-8")
    header, body = re.fullmatch(r"((?:--.*\n|\n)*)([\s\S]*)", text).groups()
    sections = dict(
        re.findall(r"^-- (KEYS|ARGV|Returns)\b((?:.*\n--   .*)*.*)", header, re.M)
    )
    assert "Returns" in sections
    for word in ("KEYS", "ARGV"):
        assert (word in body) is (word in sections)
        told = set(re.findall(r"\d+", sections.get(word, "")))
        assert set(re.findall(rf"{word}\[(\d+)", body)) <= told


def test_there_is_a_script_for_every_verb():
    found = {path.stem for path in SCRIPTS}
    assert {"load", "create", "update", "destroy", "acquire", "extend"} <= found
