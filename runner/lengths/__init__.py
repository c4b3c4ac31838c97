"""Sequences of real lengths: where the lengths come from, and how they lie in a call (padded, bucketed or packed)."""
