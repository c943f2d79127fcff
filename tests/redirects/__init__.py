"""Redirects that are followed at once: does a client read what it has just written?

::

    site.py     the application, and a known-bad middleware, as a server imports them
    client.py   follows redirects on raw connections, and counts what was stale
    run.py      the command line: python -m redirects.run, from tests/

The servers are those of `app_servers`.
"""
