"""The batched backend for torch devices: paged cache, CUDA graphs, sampling on the device."""
