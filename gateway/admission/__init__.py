"""The one place where it is decided whether a call may run, and where its cost is booked.

`commands` are the questions, `decisions` is the pure function, `batch` is one transaction of many of them, `clerk`
is the thread that runs batches.
"""
