"""A decoder of the Llama family in compiled loops, exact in any batch."""
