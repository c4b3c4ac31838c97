"""The regression gate: pure statistics. Launches in, the next launches to take or verdicts out; no input or output,
no clock, no randomness.

`settings` every constant of the rule, `launches` the data in, `schedule` which launches to take next, `decision` the
verdicts, `verdict` the data out. Beside them: `limits`, `acceptance`, `baseline`, `tails`, `variance`, `history`. The
rule and its simulated figures are in docs/gating-statistics.md.
"""
