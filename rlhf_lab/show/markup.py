"""HTML made by functions, in which text is escaped unless it was made here.

Model output is untrusted: it may hold tags, terminal codes, or marks that turn the direction of
everything after them. Whoever builds a page from `tag` cannot forget to escape it.
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
    """A text that is markup already."""


def tag(element: str, /, *content, **attributes) -> Html:
    """An element: tag("p", "a < b", class_="note") is <p class="note">a &lt; b</p>.

    content: texts and numbers, which are escaped, and Html, which is not; None is left out.
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
    """The text with every character that one cannot see written out, as ⟨U+001B⟩: controls, turns
    of direction, blanks of no width, tags. Line breaks, tabs and joiners stay."""
    return "".join(f"⟨U+{ord(c):04X}⟩" if _hidden(c) else c for c in text)


def name_alone(text: str) -> str:
    """Of a path that tells where things are on somebody's machine, absolute or upwards, its last
    name; any other text as it is."""
    tells = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return PureWindowsPath(text).name if tells or text.startswith(("~", "..")) else text


def names_alone(value: Any) -> Any:
    """The same of every text in a value as JSON holds it."""
    if isinstance(value, dict):
        return {key: names_alone(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [names_alone(entry) for entry in value]
    return name_alone(value) if isinstance(value, str) else value


def picture(content: bytes, alt: str, kind: str = "svg+xml", **attributes) -> Html:
    """An image whose bytes are in the page itself."""
    data = base64.b64encode(content).decode()
    return tag("img", src=f"data:image/{kind};base64,{data}", alt=alt, **attributes)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in UNSEEN and character not in KEPT
