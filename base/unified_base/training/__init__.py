"""The trainer core: what training a decoder and training a tokenizer have in common.

It stands here, below both, since `unified_tokenizers` may not import `unified`, nor the other way
round. The step loop, schedules, the moving average, checkpoints, metric logging, processes and
signals are these files' alone; what a step computes is its caller's. Torch is imported by the
modules that need it and by nothing else of `unified_base`.
"""
