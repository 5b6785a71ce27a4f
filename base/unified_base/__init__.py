"""What all three packages need and none of them owns: files, bounded readers, pages, resampling.

It stands below `unified_data`, `unified_tokenizers` and `unified`, and imports nothing of ours.
"""
