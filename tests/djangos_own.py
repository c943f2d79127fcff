"""Django's own tests of session engines and of their middleware, run on ours.

``nox -s django`` fetches Django's sources: the tests are not in its wheel.

    python tests/djangos_own.py FOLDER  # the sources' tests/
"""

from __future__ import annotations

import importlib
import sys
import unittest

import django
from django.conf import settings
from django.test import SimpleTestCase
from servers import Server

ENGINE = "smartredis_wsgi.integrations.django"
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
OF_ANOTHER = {"test_empty_session_saved"}  # it looks into the database's table


def cases() -> list[type[unittest.TestCase]]:
    ours = importlib.import_module(ENGINE)
    theirs = importlib.import_module("sessions_tests.tests")

    class Engine(theirs.SessionTestsMixin, SimpleTestCase):  # type: ignore[misc]
        backend = ours.SessionStore

    class OursInDjangosMiddleware(theirs.SessionMiddlewareTests):  # type: ignore[misc]
        pass

    class OursInOurs(theirs.SessionMiddlewareTests):  # type: ignore[misc]
        @classmethod
        def setUpClass(cls) -> None:
            super().setUpClass()
            theirs.SessionMiddleware = ours.SessionMiddleware

    theirs.DatabaseSession = ours.SessionStore
    return [Engine, OursInDjangosMiddleware, OursInOurs]


def configure(server: Server) -> None:
    settings.configure(
        SECRET_KEY="of a test",
        INSTALLED_APPS=["django.contrib.sessions", "sessions_tests"],
        DATABASES={"default": SQLITE},
        USE_TZ=False,
        SESSION_ENGINE=ENGINE,
        SMARTREDIS={"url": server.url},
        LOGGING_CONFIG=None,
    )
    django.setup()


def suite() -> unittest.TestSuite:
    return unittest.TestSuite(
        case(name)
        for case in cases()
        for name in unittest.defaultTestLoader.getTestCaseNames(case)
        if name not in OF_ANOTHER
    )


def main(folder: str) -> int:
    sys.path.append(folder)  # behind ours, where there is a `servers` too
    with Server("valkey") as server:
        configure(server)
        return 0 if unittest.TextTestRunner().run(suite()).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
