"""The one error a user is meant to read, and its form for one row among many."""


class UserError(Exception):
    """What the user can put right; the message is one line: what is wrong, where, what to do."""


class BadRow(UserError):
    """A row of data that cannot be used: a reader may pass it over and go on with the next.

    kind: what is wrong with it, in words that other such rows share, to count by. where: file and
    row.
    """

    def __init__(self, message: str, kind: str = "not right", where: str = ""):
        super().__init__(message)
        self.kind, self.where = kind, where
