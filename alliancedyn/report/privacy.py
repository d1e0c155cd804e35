"""Keep identifiers out of a document that will be sent around."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from alliancedyn.errors import Message


@dataclass(frozen=True)
class Discretion:
    """Withholds the identifiers of clients and therapists that messages carry.

    A `Message` says itself where it names somebody; ``known`` are those that may stand, word for
    word, inside a longer text.
    """

    known: tuple[Message, ...]

    @classmethod
    def of(cls, *messages: Iterable[str]) -> Discretion:
        """Collect the messages that name somebody."""
        found = [one for group in messages for one in group if isinstance(one, Message)]
        return cls(tuple(one for one in found if one.identifiers))

    def withhold(self, text: str) -> str:
        """Return ``text`` with identifiers replaced by their number."""
        if isinstance(text, Message) and text.identifiers:
            return text.withheld()
        for message in self.known:
            text = text.replace(message.rstrip("."), message.withheld().rstrip("."))
        return text
