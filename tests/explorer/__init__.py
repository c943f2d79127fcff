"""All the orders in which requests can meet in Redis: walked, and judged one by one.

::

    schedule.py   several threads, one baton; one order, or all of them
    catalogue.py  what requests do, and what that comes to in a plain dict
    stage.py      the real middleware and servers, the events, and what lies in Redis
    blob.py       a whole-blob store, the control
    model.py      whether what was seen is what the promises allow; pure
    cases.py      which requests are let loose on each other
    mutants.py    our own code, broken in one place each
    run.py        the command line: python -m explorer.run, from tests/
"""
