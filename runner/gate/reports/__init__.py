"""A finished gate run as text for people and machines. Pure: a `GateOutcome` in, text out.

`terminal` the table, `document` JSON, `junit` XML, `markdown` a job summary, `annotations` workflow commands of GitHub,
`bencher` Bencher's metric format. `wording` holds what they share, so that they say the same. Names and reasons come
from elsewhere and may be hostile: each format escapes them.
"""
