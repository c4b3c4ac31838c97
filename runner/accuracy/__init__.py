"""Accuracy tasks: reading their data, turning text into windows, answers out of logits, and scores by the official definitions."""
