"""One voice says sentences about one wish: it fills the fragments of `tales.toml` with the hero,
the place, the object and the pronouns, and can forget one of them."""

import re
from dataclasses import replace
from random import Random

from rlhf_lab.tasks.stories.world import Wish, World, a
from rlhf_lab.tasks.writing import capital

PRONOUNS = {
    "she": {"he": "she", "him": "her", "his": "her", "himself": "herself"},
    "he": {"he": "he", "him": "him", "his": "his", "himself": "himself"},
}
DRAWN = ("when", "did", "that", "were")  # slots with fragments of the tone


class Voice:
    """Says sentences about one wish. A wish without an object gets one."""

    def __init__(self, world: World, rng: Random, wish: Wish):
        self.world, self.rng = world, rng
        self.wish = wish if wish.thing else replace(wish, thing=rng.choice(world.things))

    def say(self, part: str, tone: str, style: str, **slots: str) -> str:
        """One sentence for this part of a story, in a tone and a style."""
        told = self.world.tales[tone][style]
        templates = told.get(part, ()) + 2 * self.world.tales["frames"].get(part, ())
        return self.fill(self.rng.choice(templates), told, **slots)

    def fault(self, part: str) -> str:
        """One sentence with a fault that tellers have."""
        return self.fill(self.rng.choice(self.world.tales["faults"][part]))

    def fill(self, template: str, told: dict | None = None, **slots: str) -> str:
        """A template with its slots filled: a sentence. told: where its fragments come from."""
        rng, wish, world = self.rng, self.wish, self.world
        place, seen = world.where(wish.place), rng.choice(world.places[wish.place][1:])
        words = PRONOUNS[world.names[wish.name]]
        words = words | {key.capitalize(): capital(word) for key, word in words.items()}
        drawn = {
            slot: rng.choice(told[slot]).format(**words) for slot in DRAWN if told and slot in told
        }
        when = drawn.get("when", "")
        own = {
            "name": wish.name,
            "kind": wish.kind,
            "place": place,
            "Place": capital(place),
            "place_to": f"to the {wish.place}",
            "d": f"the {seen}",
            "D": f"The {seen}",
            "thing": wish.thing,
            "a_thing": a(wish.thing),
            "a_tone": a(wish.tone),
            "found": rng.choice(world.tales["frames"]["found"]),
            "when_small": when[:1].lower() + when[1:],
        }
        return template.format(**(own | words | drawn | slots)).replace("!.", "!")

    # ---- slips of memory -----------------------------------------------------------------------

    def slipped(self, slip: str, parts: list[str], tones: list[str], style: str) -> list[str]:
        """The rest of a story after a slip of memory; [] if the slip does not show."""
        other, slots, shows = self._forgotten(slip)
        speaker, said = Voice(self.world, self.rng, other), []
        for part, tone in zip(parts, tones, strict=True):
            if part == "event" and slip == "thing":
                said.append(self.say(part, tone, style))
            elif part == "event" and slip == "place":
                frame = "{Place} {he} {found} {a_thing} {that}."
                said.append(speaker.fill(frame, self.world.tales[tone][style]))
            else:
                said.append(speaker.say(part, tone, style, **slots))
        return said if shows in f" {' '.join(said)} " else []

    def alone(self, said: list[str]) -> bool:
        """Whether nobody but the hero is in these sentences: every pronoun means the hero."""
        others = self.world.others["male"] | self.world.others["female"]
        words = re.findall(r"[\w']+", " ".join(said).lower())
        return (others - {self.wish.kind}).isdisjoint(words)

    def _forgotten(self, slip: str) -> tuple[Wish, dict[str, str], str]:
        """The wish with one thing forgotten, slots that go with it, and what shows it in a text."""
        wish, world = self.wish, self.world
        match slip:
            case "name":
                name = self._another(list(world.names), wish.name)
                return replace(wish, name=name), {"He": name}, name
            case "kind":
                kind = self._another(list(world.kinds), wish.kind)
                return wish, {"He": f"The {kind}", "name": f"the {kind}"}, f"he {kind} "
            case "place":
                place = self._another(list(world.places), wish.place)
                return replace(wish, place=place), {}, f" the {place} "
            case "thing":
                thing = self._another(list(world.things), wish.thing)
                return replace(wish, thing=thing), {}, f"he {thing} "
        he = world.names[wish.name]
        name = self.rng.choice([name for name in world.names if world.names[name] != he])
        wrong = world.names[name]
        return replace(wish, name=name), {"name": wish.name}, f" {wrong} "

    def _another(self, listed: list[str], own: str) -> str:
        return self.rng.choice([each for each in listed if each != own])
