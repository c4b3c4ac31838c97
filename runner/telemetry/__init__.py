"""The state of the machine around a measurement: read before and after it, never during it, and judged by pure rules.

`interface` is what a reader of it needs; `cpu`, `nvidia` and `amd` are adapters; `judgement` says what the readings mean; `energy`
turns two counter readings into joules. What cannot be read is None, with the reason in `notes`: never an error.
"""
