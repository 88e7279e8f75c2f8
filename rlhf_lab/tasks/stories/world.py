"""The facts of the stories: who, where, with what, in which tone and for whom; and which
combinations of tone, hero and place are kept for the held-out prompts alone.

`facts.toml`, `tales.toml` and `signs.toml` hold the facts, the fragments and the judge's words.
"""

from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from rlhf_lab.tasks.writing import is_held_out, read_toml

TONES = ("gentle", "eerie", "funny", "solemn")
STYLES = ("quiet", "lively")


@dataclass(frozen=True)
class Wish:
    """What a story shall be."""

    tone: str
    name: str  # "Mira"
    kind: str  # "fox"
    place: str  # "harbour"
    reader: str = "a grown-up"
    thing: str = ""  # an object that must play a part; "" if none is asked for

    @property
    def facts(self) -> dict:
        """As a prompt carries them."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class World:
    names: dict[str, str]  # "Mira": "she"
    kinds: tuple[str, ...]
    places: dict[str, tuple[str, ...]]  # "harbour": ("in", "boats", "ropes", "gulls")
    things: tuple[str, ...]
    young: tuple[str, ...]  # readers for whom no word may be grim
    old: tuple[str, ...]
    called: dict[str, tuple[str, ...]]  # what people call a tone
    asks: dict[str, tuple[str, ...]]
    company: dict[str, str]  # words for others who may come in: "male", "female", "company"
    tales: dict
    signs: dict

    @cached_property
    def _combinations(self) -> dict[bool, list[Wish]]:
        wishes: dict[bool, list[Wish]] = {False: [], True: []}
        for tone in TONES:
            for name in self.names:
                for kind in self.kinds:
                    for place in self.places:
                        kept = is_held_out(tone, name, kind, place)
                        wishes[kept].append(Wish(tone, name, kind, place))
        return wishes

    def combinations(self, held_out: bool) -> list[Wish]:
        """Every combination of tone, hero and place, held out or not."""
        return self._combinations[held_out]

    @cached_property
    def others(self) -> dict[str, set[str]]:
        """Words for others who may come into a story, and to whom "he" ("male") or "she" ("female")
        may point."""
        listed = {label: set(words.split(", ")) for label, words in self.company.items()}
        return {label: listed[label] | listed["company"] for label in ("male", "female")}

    def where(self, place: str) -> str:
        """ "harbour" as "in the harbour"."""
        return f"{self.places[place][0]} the {place}"


@lru_cache(maxsize=1)
def load_world() -> World:
    """Read the TOML files beside this module."""
    here = Path(__file__).parent
    facts, tales, signs = (read_toml(here / f"{n}.toml") for n in ("facts", "tales", "signs"))
    return World(
        names={name: he for he, listed in facts["names"].items() for name in listed},
        kinds=facts["cast"]["animals"] + facts["cast"]["people"],
        places=facts["places"],
        things=facts["things"]["all"],
        young=facts["readers"]["young"],
        old=facts["readers"]["old"],
        called=facts["tones"],
        asks=facts["asks"],
        company=facts["others"],
        tales=tales,
        signs=signs,
    )


def a(noun: str) -> str:
    """The noun with its article: "a lantern", "an umbrella"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
