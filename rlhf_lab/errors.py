"""The one error a user is meant to read."""


class UserError(Exception):
    """What the user can put right; the message is one line: what is wrong, where, what to do."""
