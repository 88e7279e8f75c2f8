"""The error that users read, and its subclass for one bad row of data."""


class UserError(Exception):
    """An error the user can correct; its message is one line: what is wrong, where, what to do."""


class BadRow(UserError):
    """A row of data that cannot be used; a reader may skip it and go on with the next.

    kind: the kind of fault, in the same words for all such rows, so that they can be counted.
    where: file and row.
    """

    def __init__(self, message: str, kind: str = "not right", where: str = ""):
        super().__init__(message)
        self.kind, self.where = kind, where
