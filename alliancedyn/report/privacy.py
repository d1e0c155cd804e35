"""Keep identifiers out of a document that will be sent around."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# A quotation mark opens after a non-letter and closes before one: client's is not a quotation.
# repr uses double quotes around a value that holds an apostrophe.
_QUOTED = r"(?:(?<!\w)'[^'\n]+'(?!\w)|(?<!\w)\"[^\"\n]*'[^\"\n]*\"(?!\w))"
_ITEM = rf"{_QUOTED}(?: \((?:once|[\d,]+ times)\))?"
_RUN = re.compile(rf"{_ITEM}(?:(?:, | and ){_ITEM})*(?: and (\d[\d,]*) more)?")
_ONE = re.compile(_QUOTED)
_PEOPLE = re.compile(r"\b(?:client|clients|therapist|therapists)\b[^'.;]{0,60}$", re.IGNORECASE)
_COLUMN = re.compile(r"\bcolumns?\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Discretion:
    """Withholds quoted identifiers of clients and therapists from messages.

    Messages of this package quote what they name: ``out of order for 'C03', 'C11' and 7 more``.
    A run that holds a known identifier is withheld, and so is one that directly follows the word
    client or therapist, because a client that was set aside is not among the known ones.
    """

    known: frozenset[str]

    @classmethod
    def of(cls, *identifiers: Iterable[object]) -> Discretion:
        """Collect the identifiers to withhold."""
        return cls(frozenset(str(one) for group in identifiers for one in group))

    def withhold(self, text: str) -> str:
        """Return ``text`` with runs of identifiers replaced by their number."""

        def replaced(run: re.Match[str]) -> str:
            values = [one[1:-1] for one in _ONE.findall(run.group(0))]
            before = text[: run.start()]
            named = any(value in self.known for value in values)
            if not named and (_COLUMN.search(before) or not _PEOPLE.search(before)):
                return run.group(0)
            count = len(values) + int((run.group(1) or "0").replace(",", ""))
            return f"[{count:,} not named here]"

        return _RUN.sub(replaced, text)
