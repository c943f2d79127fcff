"""One small shop in each framework, as that framework's users write it.

Each module has ``site(**options)``, the shop as a WSGI application, with these pages:

=============  ==========================================================
/              reads: ``user`` and ``cart`` as JSON
/static        does not touch the session
/login         POST: a new id, and the user
/add           POST: reads a list inside the session, then appends to it
/rename        POST: sets the user
/flash         POST: leaves a message (only where the framework has that)
/messages      takes the messages
/logout        POST: ends the session
/stream        sets a field, then answers bit by bit
/crash         sets a field, then raises
/error         sets a field, then answers 500
=============  ==========================================================
"""


def meanwhile():
    """What a test lets happen between the read and the change of /add."""
