"""What several test files need."""

import pytest

from rlhf_lab.errors import UserError


def refusal(call, *arguments, **named) -> str:
    """The message of the UserError that a call raises: one line."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    return message
