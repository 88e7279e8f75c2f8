"""Two drawn diagrams, as SVG. docs/ has both as files: `python tests/tools/draw_diagrams.py` writes
them again.

three_stages       SFT, reward model and PPO
rollout_tensors    the tensors of a rollout with their shapes
shapes             boxes, arrows and text
"""
