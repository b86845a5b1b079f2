"""Correctness: faults that the kit must catch, rounding of inverses, other libraries through the same checks."""
