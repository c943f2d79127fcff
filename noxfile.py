"""The suite on other Pythons, with the oldest and newest libraries, and on the wheel.

``make matrix``, or ``pipx run nox``. Paths after ``--`` are the tests to run instead.
A Python that is not on PATH is skipped (pyenv: ``pyenv shell 3.11 3.12 3.13``).
"""

from __future__ import annotations

import shutil
import tomllib
import zipfile
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "venv"

ROOT = Path(__file__).parent
OLDEST_PYTHON, *NEWER_PYTHONS = "3.11", "3.12", "3.13"
PYTEST = ["pytest", "-q", "-n", "auto", "--maxprocesses", "4", "--dist", "worksteal"]
CORE = [
    f"tests/test_{name}.py"
    for name in (
        *("codec", "config", "conflicts", "connect", "cookie", "fields", "ids"),
        *("illness_proxy", "locks", "merge", "middleware", "rotation"),
        *("round_trips", "session", "store", "transport", "wire"),
    )
]
"""What depends on the language and the libraries, and needs no site and no crowd."""


def oldest(library: str) -> str:
    """The oldest version that pyproject.toml allows, as pip takes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = [w for w in project["dependencies"] if w.startswith(f"{library}>=")]
    return wanted.replace(">=", "==")


@nox.session
@nox.parametrize(
    "python",
    [OLDEST_PYTHON, *(nox.param(version, tags=["ci"]) for version in NEWER_PYTHONS)],
)
def core(session: nox.Session) -> None:
    """The core tests, with the newest libraries."""
    session.install("--upgrade", "--upgrade-strategy=eager", "-e", ".[test]")
    session.run(*PYTEST, *(session.posargs or CORE))


@nox.session(python=OLDEST_PYTHON)
@nox.parametrize(
    "library",
    [nox.param("redis", tags=["ci"]), "WebOb", "python-redis-lock", "msgspec"],
)
def lowest(session: nox.Session, library: str) -> None:
    """The core tests, with the oldest version of one library."""
    session.install("-e", ".[test]", oldest(library))
    session.run(*PYTEST, *(session.posargs or CORE))


@nox.session(python=OLDEST_PYTHON, tags=["ci"])
def wheel(session: nox.Session) -> None:
    """The core tests on the built wheel, with the sources out of the way."""
    session.install("build")
    place = Path(session.create_tmp()).resolve()
    shutil.rmtree(place / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(place / "dist"), str(ROOT))
    (made,) = (place / "dist").glob("*.whl")
    scripts = (ROOT / "smartredis_wsgi").rglob("*.lua")
    sources = (ROOT / "smartredis_wsgi").rglob("*.py")
    page = (ROOT / "smartredis_wsgi" / "demo" / "page").iterdir()
    parts = [ROOT / "smartredis_wsgi" / "py.typed", *scripts, *sources, *page]
    missing = {str(part.relative_to(ROOT)) for part in parts}
    missing -= set(zipfile.ZipFile(made).namelist())
    if missing:
        session.error(f"not in the wheel: {sorted(missing)}")
    session.install("--force-reinstall", "--no-deps", str(made))
    session.install(f"{made}[test]")
    shutil.rmtree(place / "away", ignore_errors=True)
    for part in ("tests", "docs"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, place / "away" / part, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", place / "away")  # for pytest's settings
    with session.chdir(place / "away"):
        session.run("python", "-c", IS_INSTALLED)
        session.run(*PYTEST, *(session.posargs or CORE))


@nox.session(python=OLDEST_PYTHON)
def django(session: nox.Session) -> None:
    """Django's own tests of session engines, which only its sources have."""
    session.install("--upgrade", "-e", ".[test]")
    version = session.run("python", "-m", "django", "--version", silent=True)
    wanted = f"Django=={str(version).strip()}"
    place = Path(session.create_tmp()).resolve() / "django"
    shutil.rmtree(place, ignore_errors=True)
    fetch = ["download", "--no-deps", "--no-binary=Django", f"--dest={place}"]
    session.run("python", "-m", "pip", *fetch, wanted)
    (packed,) = place.glob("*.tar.gz")
    shutil.unpack_archive(packed, place, filter="data")
    (tests,) = place.glob("*/tests")
    session.run("python", "tests/djangos_own.py", str(tests))


IS_INSTALLED = """
import pathlib, sysconfig, smartredis_wsgi
place = pathlib.Path(smartredis_wsgi.__file__).resolve()
packages = pathlib.Path(sysconfig.get_path("purelib")).resolve()
assert place.is_relative_to(packages), place
"""
