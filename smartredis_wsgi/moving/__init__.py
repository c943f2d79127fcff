"""Sessions of other libraries, taken over without logging anybody out.

libraries   what each library's cookie and record look like
pickles     a reader of pickles that executes nothing
cookies     the other library's id in a request
records     the other library's records, and how they become ours
arrival     the same within the life of a session, at its client's next request
"""
