"""Timings, each of two or more ways alternated within one run."""
