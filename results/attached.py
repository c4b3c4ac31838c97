"""What hangs on a measurement in tables of its own: samples, scores and attachments, as rows of the store.

Attachments are text. Format 1: its UTF-8 as one zlib stream (RFC 1950), whose checksum reveals damage.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

from sqlalchemy import Connection, insert

from benchrun.results.plain import plain_text
from benchrun.results.rows import Attachment, MeasurementRow, Score
from benchrun.results.samples import FORMAT as SAMPLE_FORMAT
from benchrun.results.samples import DamagedData, encode
from benchrun.results.schema import AttachedText, Base, SampleSet, ScoreValue

TEXT_FORMAT = 1
_MOST_EXPANSION = 1032  # zlib cannot expand further: a larger claim is damage, and must not allocate

Rows = dict[type[Base], list[dict[str, Any]]]


def encode_text(text: str) -> tuple[bytes, int]:
    """A text in the current format, and its size in bytes of UTF-8."""
    plain = plain_text(text).encode()
    return zlib.compress(plain, 6), len(plain)


def decode_text(data: bytes, size_bytes: int, version: int = TEXT_FORMAT) -> str:
    """The text; `DamagedData` where the bytes are not what `encode_text` made of a text of that size."""
    if version != TEXT_FORMAT:
        raise DamagedData(f"an attachment is in format {version}; this benchrun reads format {TEXT_FORMAT}")
    if size_bytes < 0 or size_bytes > _MOST_EXPANSION * len(data):
        raise DamagedData(f"an attachment is damaged: {len(data)} bytes cannot hold {size_bytes}")
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, size_bytes + 1)
        text = plain.decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise DamagedData(f"an attachment is damaged: {error}") from None
    if not stream.eof or len(plain) != size_bytes:
        raise DamagedData("an attachment is damaged: the stream does not end where it should")
    return text


def has_parts(row: MeasurementRow) -> bool:
    """Whether a measurement has rows in other tables."""
    return bool(row.scores or row.attachments or row.host_samples is not None or row.device_samples is not None)


def insert_parts(connection: Connection, numbered: list[tuple[int, MeasurementRow]]) -> None:
    """Write what hangs on measurements, given with their ids."""
    found: Rows = {SampleSet: [], ScoreValue: [], AttachedText: []}
    for number, row in numbered:
        own = {"measurement_id": number}
        for clock, samples in (("host", row.host_samples), ("device", row.device_samples)):
            if samples is not None:
                cells = {"clock": clock, "n": len(samples), "version": SAMPLE_FORMAT, "data": encode(samples)}
                found[SampleSet].append(own | cells)
        found[ScoreValue] += [own | _score_cells(each) for each in row.scores]
        found[AttachedText] += [own | _text_cells(each) for each in row.attachments]
    for table, rows in found.items():
        if rows:
            connection.execute(insert(table), rows)


def read_score(cells: Any) -> Score:
    """A row of the table `scores` as plain data; a score that was not finite is NaN again."""
    value = math.nan if cells["value"] is None else cells["value"]
    return Score(cells["task"], cells["metric"], value, cells["n"], cells["reference"])


def _score_cells(score: Score) -> dict[str, Any]:
    return {name: getattr(score, name) for name in ("task", "metric", "value", "n", "reference")}


def _text_cells(attachment: Attachment) -> dict[str, Any]:
    data, size = encode_text(attachment.text)
    return {"name": attachment.name, "size_bytes": size, "version": TEXT_FORMAT, "data": data}
