"""Documents as ids, and back."""
