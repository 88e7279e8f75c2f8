"""Chat messages, {"role": "user", "content": "..."}, as a prompt's text and a response.

Pure functions. The tokenizer's chat template turns the messages into text; a tokenizer without a
template gets plain Human:/Assistant: turns.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlhf_lab.disk.jsonl import Row, kind_of

# ShareGPT's messages have the roles "human" and "gpt", and the keys "from" and "value".
ROLES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
}
PLAIN = {"system": "{}", "user": "\n\nHuman: {}", "assistant": "\n\nAssistant: {}"}


@dataclass(frozen=True)
class Message:
    """One message of the system, the user or the assistant."""

    role: str
    content: str


Messages = tuple[Message, ...]


def render(messages: Messages, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
    """The text that the model reads before it responds: the messages and the start of its own turn.

    It has no start token if `text.encode_prompt` adds one. Raises jinja2's TemplateError if the
    chat template does not accept these messages.
    """
    if tokenizer is None or not tokenizer.chat_template:
        turns = "".join(PLAIN[message.role].format(message.content) for message in messages)
        return turns + "\n\nAssistant:"
    text = tokenizer.apply_chat_template(
        [asdict(message) for message in messages], tokenize=False, add_generation_prompt=True
    )
    assert isinstance(text, str)  # as tokenize is False
    adds_start = tokenizer.encode("")[:1] == [tokenizer.bos_token_id]
    return text.removeprefix(tokenizer.bos_token) if adds_start else text


def split_last(messages: Messages) -> tuple[Messages, str | None]:
    """The messages before the assistant's last one, and the text of that; None for the text if the
    last message is not the assistant's."""
    if messages and messages[-1].role == "assistant":
        return messages[:-1], messages[-1].content
    return messages, None


def split_pair(chosen: Messages, rejected: Messages) -> tuple[Messages, str, str] | None:
    """Two dialogues as the messages that they share and the last response of each; None if they
    differ before the last response."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    ends = chosen[shared:], rejected[shared:]
    if any(len(end) != 1 or end[0].role != "assistant" for end in ends):
        return None
    return chosen[:shared], ends[0][0].content, ends[1][0].content


def messages_in(row: Row, field: str, values: Sequence) -> Messages:
    """A field's list as messages, without empty system messages. Raises BadRow if it is not one."""
    messages = tuple(_message(row, field, n, value) for n, value in enumerate(values, 1))
    messages = tuple(m for m in messages if m.content.strip() or m.role != "system")
    if not messages:
        row.refuse(field, "has no messages: leave the row out", "empty text")
    return messages


def _message(row: Row, field: str, number: int, value: object) -> Message:
    which = f"message {number}"
    if type(value) is not dict:
        row.refuse(
            field,
            f"{which} is {kind_of(value)}: give an object with role and content",
            "wrong type",
        )
    said = value.get("role", value.get("from")), value.get("content", value.get("value"))
    role = ROLES.get(said[0]) if isinstance(said[0], str) else None
    if role is None:
        row.refuse(
            field,
            f"{which} has the role {said[0]!r}: the roles are {', '.join(ROLES)}",
            "unknown role",
        )
    content = _joined(said[1])
    if type(content) is not str:
        row.refuse(
            field, f"the content of {which} is {kind_of(content)}: give a text", "wrong type"
        )
    if not content.strip() and role != "system":
        row.refuse(field, f"{which} is empty: leave the row out", "empty text")
    return Message(role, content)


def _joined(content: Any) -> Any:
    """Content that is a list of nothing but texts ({"type": "text", "text": ...}), joined into
    one."""
    if (
        type(content) is list
        and content
        and all(type(part) is dict and type(part.get("text")) is str for part in content)
    ):
        return "".join(part["text"] for part in content)
    return content
