"""Words that several of these modules share."""


def counted(count: int, one: str, several: str = "") -> str:
    """A number with its noun: 1 entry, 2,000 entries. several: its plural, if not with an s."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
