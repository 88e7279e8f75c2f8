"""Words and what English makes of them, for the lists of `signs.toml`."""

VOWELS = "aeiou"


def forms(word: str) -> set[str]:
    """A word and what English makes of it: hug, hugs, hugged, hugging, kindly, softer, cosiest."""
    if " " in word or "'" in word or len(word) < 3:
        return {word}
    stem = word.removesuffix("e") if word.endswith("e") else word
    if word.endswith("y") and word[-2] not in VOWELS:
        stem = word[:-1] + "i"
        return {
            word,
            f"{stem}es",
            f"{stem}ed",
            f"{word}ing",
            f"{stem}ly",
            f"{stem}er",
            f"{stem}est",
        }
    if word.endswith("le"):
        return {word, f"{word}s", f"{word}d", f"{stem}ing", f"{stem}y", f"{word}r", f"{word}st"}
    short = (
        len(word) < 5
        and word[-1] not in VOWELS + "wxy"
        and word[-2] in VOWELS
        and word[-3] not in VOWELS
    )
    long = stem + word[-1] if short else stem
    plural = f"{word}es" if word.endswith(("s", "sh", "ch", "x")) else f"{word}s"
    return {word, plural, f"{long}ed", f"{long}ing", f"{word}ly", f"{long}er", f"{long}est"}


def listed(text: str, grown: bool = True) -> set[str]:
    """The words and phrases of a list with commas, with their forms."""
    words = [word.strip() for word in text.replace("\n", " ").split(",") if word.strip()]
    return {form for word in words for form in (forms(word) | {f"{word}'s"} if grown else {word})}
