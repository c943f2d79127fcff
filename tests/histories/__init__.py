"""Histories of real processes: recorded, and judged for whether they can have been.

::

    model.py    what a field is when one request follows the other; pure
    checker.py  whether operations that overlapped could have followed so; pure
    history.py  what the processes tell, made into operations
    visitor.py  a request: what it does to the session, and the faults that hit it
    crew.py     the processes, and rounds of requests on one fresh session each
    hunt.py     some of the explorer's mutants: do the histories show them?
    crowd.py    twenty threads that begin together: is nothing lost?
    run.py      the command line: python -m histories.run, from tests/
"""
