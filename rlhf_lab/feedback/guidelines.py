"""What labellers are asked to look for; each answer names the version it followed."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Guidelines:
    """Instructions to labellers, in Markdown."""

    name: str
    text: str

    @property
    def version(self) -> str:
        """The name and a fingerprint of the text, so that no change of wording goes unnoticed."""
        return f"{self.name} {hashlib.sha256(self.text.encode()).hexdigest()[:8]}"


def guidelines_of(task) -> Guidelines:
    """Those of a task of one's own, which may have written none; of any other, the support desk's."""
    if not hasattr(task, "guidelines"):
        return GUIDELINES
    return Guidelines(task.name, task.guidelines or "Put the best response first.")


GUIDELINES = Guidelines("support desk", """\
You are the customer. Put the responses in the order in which you would like to receive them.

- **Help comes first**: the one step that solves *this* problem with *this* product.
- **A wrong step, product or amount is worse than none**: you would act on it.
- **No inventions**: a promise or a rule that the shop may not have counts against a response.
- **Manners decide between responses that help alike**: polite beats curt, and curt beats rude.
- **Longer is not better**: of two that say the same, prefer the shorter.
- **Tie** what you cannot tell apart, and leave unranked what is not worth an order.
- **Skip** a prompt you cannot judge; **flag** what is unsafe, or nonsense throughout.
""")
