"""What a request gets while Redis is ill, and what is in the store afterwards.

::

    states.py   the illnesses: how each is brought about, and how it ends
    cells.py    requests that are hit in the middle, and what is seen of each
    table.py    what docs/reliability.md promises
    groups.py   a Sentinel group and a Cluster that fail over
    failover.py that, under load, and what is lost by it
    waits.py    how long requests wait for a server that is paused
    replies.py  whose answer one gets when waits are torn, by torn.py
    holders.py  two who hold one lock at the same time
    eviction.py sessions that were destroyed, and whose tombstones were evicted
"""
