"""Take what the notebooks start from out of a finished run, into data/demo.

    python tests/tools/ship_demo.py runs/demo

Models go in half precision, rankings compressed; every other file of the run that the course reads
is copied as it is. What stands there already is replaced.
"""

import gzip
import shutil
import sys
from pathlib import Path

from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy
from rlhf_lab.show import plots

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"


def ship(run: RunFolder, folder: Path = DEMO) -> None:
    """Write data/demo from a run's folder."""
    for model in (run.sft, run.policy):
        save_policy(load_policy(model), load_tokenizer(model), folder / model.name, half=True)
    reward_model = ScalarModel.load(run.reward_model)
    reward_model.save(folder / run.reward_model.name, load_tokenizer(run.reward_model), half=True)
    packed = gzip.compress(run.rankings.read_bytes(), mtime=0)  # the same bytes every time
    (folder / "rankings.jsonl.gz").write_bytes(packed)
    for name in ("config.json", "metrics.jsonl", "summary.json"):
        shutil.copyfile(run.path / name, folder / name)
    picture = plots.to_bytes(plots.reward_and_kl(run.metrics("ppo")), "png")
    (folder / "reward_and_kl.png").write_bytes(picture)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    ship(RunFolder(Path(sys.argv[1])))
