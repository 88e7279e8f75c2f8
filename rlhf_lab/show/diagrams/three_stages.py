"""The three stages of RLHF: what goes in, what comes out, and the loop of PPO."""

from rlhf_lab.show.diagrams.shapes import PRICE, SCORE, arrow, box, panel, svg, text
from rlhf_lab.show.markup import Html
from rlhf_lab.show.panels import GUIDE, SERIES

WORDS = """\
Three stages from left to right. Stage 1, supervised fine-tuning: the base model imitates \
demonstrations, prompts with good answers by people, and becomes the SFT policy. Stage 2, the \
reward model: the SFT policy writes K responses to each prompt, people rank them, and from the \
rankings the reward model learns to give a response one score. Stage 3, PPO: the policy, a copy \
of the SFT policy that is trained, writes responses. The reward model, now frozen, gives each a \
score. The reference, a frozen copy of the SFT policy, is compared with the policy, which gives \
the KL. The reward is the score minus beta times the KL, and from it PPO updates the policy; \
then the loop begins again. The judge stands apart: it marks responses so that we can see how \
good they are, nothing learns from it, and a real project has none."""


def three_stages() -> str:
    """The picture as SVG; WORDS say the same."""
    parts = [
        panel(16, 204, "1. SFT", "supervised fine-tuning"),
        box(32, 96, 172, "data", "demonstrations", "prompts with good", "answers, by people"),
        box(32, 214, 172, "model", "base model", "is trained to imitate", "the demonstrations"),
        box(32, 338, 172, "model", "SFT policy", "gives such answers", colour=SERIES["sft"]),
        arrow((118, 168), (118, 214)),
        arrow((118, 286), (118, 338)),
        panel(252, 204, "2. Reward model", "learns what people prefer"),
        box(268, 96, 172, "data", "K responses", "to each prompt, by", "the SFT policy"),
        box(268, 214, 172, "data", "rankings", "people say which", "they prefer"),
        box(
            268,
            338,
            172,
            "model",
            "reward model",
            "a copy of the SFT policy",
            "that gives a score",
            colour=SCORE,
        ),
        arrow((204, 374), (236, 374), (236, 132), (268, 132)),
        arrow((354, 168), (354, 214)),
        arrow((354, 286), (354, 338)),
        *_ppo_loop(),
        box(
            16,
            436,
            968,
            "data",
            "the judge",
            "marks responses from 0 to 10, so that we can see how good they are. "
            "Nothing learns from it, and a real project has none.",
            height=58,
            dashes="3 4",
        ),
        text(500, 522, "thick frame: a model · dashed: frozen · round: data", 14, colour=GUIDE),
    ]
    return svg("The three stages of RLHF", WORDS, 1000, 538, parts)


def _ppo_loop() -> list[Html]:
    """Stage 3: policy and responses in the middle, the reward model to the left, the reference to
    the right, the reward below them, and the way back to the policy around the right."""
    left, middle, right = 500, 658, 816
    width, more = 136, "PPO makes likelier what did better than expected"
    return [
        panel(488, 496, "3. PPO", "again and again: respond, score, update"),
        box(middle, 96, width, "model", "policy", "copy of the SFT", "policy, trained"),
        box(right, 96, width, "frozen", "reference", "copy of the SFT", "policy, frozen"),
        box(left, 214, width, "frozen", "reward model", "from stage 2,", "frozen"),
        box(middle, 214, width, "data", "responses", "one to each", "of B prompts"),
        box(right, 214, width, "data", "KL", "how far is policy", "from reference?"),
        box(left, 338, 452, "data", "reward = score − beta × KL", more),
        arrow((440, 374), (472, 374), (472, 250), (left, 250)),
        arrow((726, 168), (726, 214)),
        arrow((middle, 250), (left + width, 250)),
        arrow((middle + width, 250), (right, 250)),
        arrow((884, 168), (884, 214)),
        arrow((568, 286), (568, 338)),
        text(576, 318, "score", 14, "start", colour=SCORE, bold=True),
        arrow((884, 286), (884, 338)),
        text(876, 318, "beta × KL", 14, "end", colour=PRICE, bold=True),
        arrow((952, 374), (970, 374), (970, 76), (726, 76), (726, 96)),
    ]
