"""What makes training and sampling fast, small and parallel. A first reader may skip it.

packed         reads a batch without computing on its padding
fast_gpt2      decodes GPT-2 one token at a time with few calls
recompute      gradient checkpointing
adapters       LoRA
trial          finds out what a model does by reading a few tokens
parallel       one run in several processes
threads        how threads wait while other programs are busy
"""
