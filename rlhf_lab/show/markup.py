"""HTML made by functions: text is escaped unless these functions made it.

Model output is untrusted: it may hold tags, terminal codes, or characters that reverse the
direction of all text after them. A page built with `tag` cannot forget to escape it.
"""

import base64
import html
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, half a character, ends of lines
KEPT = "\n\t\u200c\u200d"  # the last two join letters in many scripts, and emoji
VOID = {"img", "meta", "br", "hr"}  # elements without content


class Html(str):
    """Text that is markup already and is not escaped again."""


def tag(element: str, /, *content, **attributes) -> Html:
    """An element: tag("p", "a < b", class_="note") is <p class="note">a &lt; b</p>.

    content: texts and numbers, which are escaped; Html, which is not; and None, which is left out.
    attributes: an underscore at the end of a name is dropped, others become hyphens.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "" if element in VOID else f"{join(*content)}</{element}>"
    return Html(f"<{element}{given}>{end}")


def join(*content) -> Html:
    """Pieces of a page, one after the other."""
    return Html(
        "".join(
            c if isinstance(c, Html) else html.escape(visible(str(c)))
            for c in content
            if c is not None
        )
    )


def visible(text: str) -> str:
    """The text with every invisible character written out, as ⟨U+001B⟩: control characters, changes
    of direction, zero-width blanks, tag characters. Line breaks, tabs and joiners stay."""
    return "".join(f"⟨U+{ord(c):04X}⟩" if _hidden(c) else c for c in text)


def name_alone(text: str) -> str:
    """The last name of a path that is absolute or leads upwards, so that it does not reveal where
    things are on somebody's machine; any other text as it is."""
    tells = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return PureWindowsPath(text).name if tells or text.startswith(("~", "..")) else text


def names_alone(value: Any) -> Any:
    """`name_alone` applied to every text in a value from JSON."""
    if isinstance(value, dict):
        return {key: names_alone(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [names_alone(entry) for entry in value]
    return name_alone(value) if isinstance(value, str) else value


def picture(content: bytes, alt: str, kind: str = "svg+xml", **attributes) -> Html:
    """An image embedded in the page itself."""
    data = base64.b64encode(content).decode()
    return tag("img", src=f"data:image/{kind};base64,{data}", alt=alt, **attributes)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in UNSEEN and character not in KEPT
