"""The one kind of error that a user's input can cause."""


class PapersError(Exception):
    """Bad input. The message is one line: what is wrong, and what mends it.

    The command line prints the message alone and exits with code 2; in Python and in a notebook it
    is raised as it is.
    """
