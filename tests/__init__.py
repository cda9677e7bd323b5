"""The tests, whose expected figures hold for a CPU: GPUs are hidden. `CUDA_VISIBLE_DEVICES=0 pytest` shows them one."""

import os

# Here, because tests/forks.py compares the environment with what it was at its import.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
