"""The sheet of a custodian: plain text that can be printed, typed from, and read back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from keys.escrow.word_lists import WORDS_IN_LIST, EscrowRecord, WordList
from keys.refusal import Refusal
from mpc.provisioning.signed_document import fingerprint
from mpc.provisioning.times import to_text

MAX_SHEET_BYTES = 64 * 1024
_BEGIN, _END = "----- words -----", "----- end of words -----"
_COLUMNS = 3
_ROWS = -(-WORDS_IN_LIST // _COLUMNS)


def sheet(record: EscrowRecord, position: int, words: Sequence[str]) -> str:
    """The sheet of the custodian at this position, from 0."""
    k, n = record.threshold, len(record.custodians)
    return f"""TANDEM ESCROW: WORD LIST OF ONE CUSTODIAN

Custodian:   {record.custodians[position]}
List:        {position + 1} of {n}
Made:        {to_text(record.created_at)}
Key check:   {fingerprint(record.check)}

SECRET. Any {k} of these {n} lists together are the key of the server.
Whoever has {k} of them has the key: keep this one where no other list is.

{word_table(words)}
"""


def word_table(words: Sequence[str]) -> str:
    """The words with their numbers, between two marks."""
    rows = []
    for row in range(_ROWS):
        cells = [f"{at + 1:2} {words[at]:<10}" for at in range(row, len(words), _ROWS)]
        rows.append("  ".join(cells).rstrip())
    return "\n".join((_BEGIN, *rows, _END))


def sheet_name(record: EscrowRecord, position: int) -> str:
    """A file name that tells whose sheet it is, as far as letters and digits can."""
    plain = re.sub(r"[^a-z0-9]+", "-", record.custodians[position].lower()).strip("-")
    return f"{position + 1:02}-{plain[:40] or 'custodian'}.txt"


def read_sheet(label: str, data: bytes) -> WordList:
    """The list on a sheet, or in a file that has its words in order and nothing else.

    Raises Refusal: "bad_sheet", and what `WordList.read` raises.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("bad_sheet", f"{label}: is not a text file") from None
    if _BEGIN not in text and _END not in text:
        return WordList.read(label, text.split())
    _, _, after = text.partition(_BEGIN)
    table, _, _ = after.partition(_END)
    cells = table.split()
    numbers, words = cells[::2], cells[1::2]
    if not all(number.isascii() and number.isdigit() and len(number) <= 2 for number in numbers):
        raise Refusal("bad_sheet", f"{label}: before each word must stand its number")
    if len(numbers) != len(words) or sorted(map(int, numbers)) != list(range(1, len(words) + 1)):
        raise Refusal("bad_sheet", f"{label}: a number is missing, or stands twice")
    in_order = sorted(zip(map(int, numbers), words, strict=True))
    return WordList.read(label, [word for _, word in in_order])
