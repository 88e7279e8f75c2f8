"""`python -m rlhf_lab` is `rlhf-lab`, also for `accelerate launch -m rlhf_lab`."""

import sys

from rlhf_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
