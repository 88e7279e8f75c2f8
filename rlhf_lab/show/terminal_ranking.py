"""Ranking in a terminal, for people without a notebook.

Responses and prompts are untrusted: control characters are written out, and every line of a
response is indented, so that it cannot imitate another response or control the terminal.
"""

import re
import shutil
import string
import sys
import textwrap
from collections.abc import Callable

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.entry import FLAGS
from rlhf_lab.feedback.selection import Item
from rlhf_lab.feedback.session import RankingSession, ranks_from_order
from rlhf_lab.show.markup import visible
from rlhf_lab.text import counted

HELP = """\
Best first, as in {example}; the rest stays unranked.
s skip, f unsafe or f nonsense to flag, u undo, m more of long texts, ? guidelines, q quit."""
OF_TWO = '"b a": b is better; "a=b" is a tie'
OF_MORE = '"b a=c": b is best, a and c share the next place'
WIDTH, INDENT = 96, "    "
SHORT = 2000  # characters of a text that are shown at first; the rest on request


def rank_in_terminal(
    session: RankingSession,
    read: Callable[[str], str] = input,
    write: Callable[[str], None] = print,
    kept: bool = True,
) -> None:
    """Ask until the session is finished or the person quits (q, end of input, Ctrl-C).

    read: shows its argument and returns a line. If the store or the session refuses an answer, the
    reason is shown and the person is asked again. kept: whether the store is a file that stays. A
    labeller with no answers yet sees the guidelines first.
    """
    if session.current and session.progress[0] == 0:
        write(_guidelines(session) + "\n")
    write(help_on(session.current))
    asked = None
    while session.current or _last_taken_back(session, read):
        if session.current is not asked:
            asked = session.current
            write(_page(session))
        line = _line(read, "> ")
        if line.lower() == "q":
            break
        try:
            said = _answer(session, line)
        except UserError as error:
            said = str(error)
        if said:
            write(said)
    done, total = session.progress
    what = (
        "everything up to here is stored" if kept else "nothing was saved (give a store to keep it)"
    )
    write(f"{done} of {total} done; {what}.")


def _line(read: Callable[[str], str], question: str) -> str:
    """The line that the person writes; "q" at the end of input and for Ctrl-C."""
    try:
        return read(question).strip()
    except (EOFError, KeyboardInterrupt):
        return "q"


def _last_taken_back(session: RankingSession, read: Callable[[str], str]) -> bool:
    """Whether the person has undone the last answer, now that no item is left."""
    if session.progress[0] == 0:
        return False
    wish = _line(read, "That was the last one. u to undo it, Enter to finish: ")
    return wish.lower() == "u" and session.undo() is not None


def _answer(session: RankingSession, line: str) -> str:
    """Do what the typed line asks; returns the text to show the person, or ""."""
    match line.lower().split():
        case []:
            return help_on(session.current)
        case ["?"]:
            return _guidelines(session)
        case ["m"]:
            return _page(session, limit=sys.maxsize)
        case ["s"]:
            session.skip()
        case ["u"]:
            return "" if session.undo() else "There is nothing to undo."
        case ["f", reason] if reason in FLAGS:
            session.flag(reason)
        case _:
            session.submit(read_order(line, session.current.shown))
    return ""


def read_order(line: str, shown: tuple[int, ...]) -> list[int | None]:
    """Ranks in stored order, from the letters on screen, best first: "b a=c" or "b > a = c".

    Raises UserError for anything else, and for a letter that appears twice.
    """
    place = dict(zip(string.ascii_lowercase, shown))
    letter, order = f"[{''.join(place)}]", re.sub(r"[\s>]", "", line.lower())
    if not re.fullmatch(f"{letter}(=?{letter})*", order):
        raise UserError(
            f"{visible(line[:40])!r} is not an order: write letters from a to "
            f"{max(place)}, best first, = for a tie; press Enter to see all commands"
        )
    for sign in place:
        if order.count(sign) > 1:
            raise UserError(f"{sign} appears twice: name each response at most once")
    groups = [group.split("=") for group in re.findall(f"{letter}(?:={letter})*", order)]
    return ranks_from_order([[place[sign] for sign in group] for group in groups], len(shown))


# ---- what is shown -------------------------------------------------------------------------------


def help_on(item: Item | None) -> str:
    """What the person can type, with letters that are on screen."""
    return HELP.format(example=OF_TWO if item and len(item.responses) == 2 else OF_MORE)


def _guidelines(session: RankingSession) -> str:
    """The guidelines; they may come from a file, so control characters are written out."""
    return visible(session.guidelines.text.strip())


def _page(session: RankingSession, limit: int = SHORT) -> str:
    """The current item as text: at most `limit` characters of each prompt and response."""
    item = session.current
    done, total = session.progress
    responses = [
        f"[{letter}]\n{_indented(item.responses[i], limit)}"
        for letter, i in zip(string.ascii_lowercase, item.shown)
    ]
    before = [f"Your order was: {order_of(session.restored, item)}"] if session.restored else []
    return "\n\n".join(
        [
            f"\n---- {done + 1} of {total} " + "-" * 60,
            _indented(item.prompt.text, limit),
            *responses,
            *before,
        ]
    )


def order_of(ranks: tuple[int | None, ...], item: Item) -> str:
    """The line that a person would type for these ranks: the inverse of `read_order`."""
    groups: dict[int, list[str]] = {}
    for letter, response in zip(string.ascii_lowercase, item.shown):
        if ranks[response] is not None:
            groups.setdefault(ranks[response], []).append(letter)
    return " ".join("=".join(groups[rank]) for rank in sorted(groups))


def _indented(text: str, limit: int) -> str:
    """The text with control characters written out, wrapped to the terminal and indented."""
    text = text.strip()
    left = counted(len(text) - limit, "character")
    more = f"\n... and {left} more (m)" if len(text) > limit else ""
    shown = visible(text[:limit]) + more if text else "(nothing)"
    width = min(WIDTH, shutil.get_terminal_size().columns)
    return "\n".join(
        textwrap.fill(line, width, initial_indent=INDENT, subsequent_indent=INDENT)
        for line in shown.split("\n")
    )


# ---- the command ---------------------------------------------------------------------------------
