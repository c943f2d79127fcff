"""A page to look at, and a table: ``python -m smartredis_wsgi.demo [--once]``.

Everything is on this machine: Valkey servers of its own, and one web server, which has
the same application four times, in three stores of ours and in a naive one::

    /                        the page
    /now                     what lies in Redis for this browser
    /goon                    lets slow requests end
    /crowd/STORE/WORK        fifty requests at once to /STORE/WORK: what each met
    /none/... /single/... /redlock/... /naive/...
                             one act on the session that is kept so, see `acts`

``--once`` sends the same crowds, prints what survived, and ends.
"""
