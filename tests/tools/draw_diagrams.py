"""Write the drawn diagrams into docs/.

python tests/tools/draw_diagrams.py
"""

from pathlib import Path

from rlhf_lab.show.diagrams.rollout_tensors import rollout_tensors
from rlhf_lab.show.diagrams.three_stages import three_stages

DOCS = Path(__file__).resolve().parents[2] / "docs"
DIAGRAMS = {"three-stages.svg": three_stages, "rollout.svg": rollout_tensors}

if __name__ == "__main__":
    for name, draw in DIAGRAMS.items():
        (DOCS / name).write_text(draw() + "\n", encoding="utf-8")
