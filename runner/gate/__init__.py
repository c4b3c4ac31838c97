"""The regression gate. Its core is pure statistics: launches in, the next launches to take or verdicts out; no input or
output, no clock, no randomness.

`settings` every constant of the rule, `launches` the data in, `schedule` which launches to take next, `decision` the
verdicts, `verdict` the data out. Beside them: `limits`, `acceptance`, `baseline`, `tails`, `variance`, `history`. The
rule and its simulated figures are in docs/gating-statistics.md.

Running one for real is kept apart from that: `request` what is asked for, `checkouts`, `interpreters`, `preparation`
set the sides up, `sweep_side` and `command_side` take launches, `control` runs beside them, `session` drives them by
the schedule, `readings` and `stored` lead to and from the store, `running` is the whole of it. `outcome` is what comes
out, `reports` tells it.
"""
