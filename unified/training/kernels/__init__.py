"""Compiled loops of training on the CPU, in bfloat16 dot products (avx512_bf16)."""
