"""Keep the replications of a long study on disk, so that it can be killed and started again.

One text file, one JSON object a line: the first says which study it is, each further one holds one
replication. A line is written whole, with its line feed, and forced to disk before the study goes
on; a line without one was cut off by whatever ended the process, and is taken away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alliancedyn import __version__
from alliancedyn.errors import DataError, SpecificationError, listed
from alliancedyn.replicate import Failure
from alliancedyn.studies.trial import Found, Trial, Verdict

KIND = "recovery study"
_ARRAYS = ("estimates", "errors", "lower", "upper")


class Checkpoint:
    """The replications of one study on disk.

    Parameters
    ----------
    path : path
        The file. It is made where there is none, otherwise read.
    study : mapping of str to str
        What makes a study this one and no other; see `identity`.

    Raises
    ------
    SpecificationError
        If it is a folder, or belongs to another study; the message says in what they differ.
    DataError
        If it is no checkpoint, or damaged otherwise than by its last line being cut off.
    """

    def __init__(self, path: str | os.PathLike[str], study: Mapping[str, str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise SpecificationError(
                f"checkpoint={str(path)!r} is a folder. Name a file in it, such as study.jsonl."
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.study = dict(study)
        self._header: dict[str, Any] = {"kind": KIND, "study": self.study}
        self._known: dict[int, Found | Failure] = {}
        if self.path.exists() and self.path.stat().st_size:
            self._read()
        if not self.path.exists() or not self.path.stat().st_size:  # new, or cut off at once
            self._append([self._header])

    def outcomes(self) -> Mapping[int, Found | Failure]:
        """Return the replications that are done."""
        return self._known

    def keep(self, found: Mapping[int, Found | Failure]) -> None:
        """Write replications down; they are on disk when this returns."""
        self._append([{"replication": r, **_written(one)} for r, one in found.items()])

    def _append(self, records: list[dict[str, Any]]) -> None:
        text = b"".join(_line(record) for record in records)
        place = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            while text:
                text = text[os.write(place, text) :]
            os.fsync(place)
        finally:
            os.close(place)

    def _read(self) -> None:
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if not whole and not _line(self._header).startswith(raw):
            raise self._strange()
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = json.loads(line)
                if number == 1:
                    known = isinstance(record, dict) and record.get("kind") == KIND
                else:
                    self._known[int(record["replication"])] = _read_back(record)
            except (ValueError, KeyError, TypeError):
                if number == 1:
                    raise self._strange() from None
                raise DataError(
                    f"Line {number} of the checkpoint {self.path.name!r} cannot be read. Delete "
                    "that line, and its replication is computed again."
                ) from None
            if number == 1:
                if not known:
                    raise self._strange()
                self._refuse_other(record["study"])
        if len(whole) < len(raw):
            os.truncate(self.path, len(whole))

    def _strange(self) -> DataError:
        return DataError(
            f"{self.path.name!r} is no checkpoint of a study, and is left as it is. Name another "
            "file."
        )

    def _refuse_other(self, theirs: Mapping[str, str]) -> None:
        names = [*self.study, *(name for name in theirs if name not in self.study)]
        differ = [name for name in names if theirs.get(name) != self.study.get(name)]
        if differ:
            first = differ[0]
            raise SpecificationError(
                f"The checkpoint {self.path.name!r} belongs to another study: they differ in "
                f"{listed(differ)}. There, {first} is {_short(theirs.get(first))}; here, "
                f"{_short(self.study.get(first))}. Name another file, or delete it."
            )


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode("ascii") + b"\n"  # floats come back to the last bit


def identity(trial: Trial, seed: int) -> dict[str, str]:
    """Return what a study's replications depend on, each as a text."""
    seen = {name: _plain(value) for name, value in trial.observation.items() if value is not None}
    return {
        "model": repr(trial.spec),
        "truth": repr(trial.truth),
        "clients": str(trial.clients),
        "sessions": str(trial.sessions),
        "observation": repr(dict(sorted(seen.items()))),
        "errors": str(trial.errors),
        "level": repr(float(trial.level)),
        "smallest_effect": repr(float(trial.smallest_effect)),
        "seed": str(seed),
        "version": __version__,
    }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _short(said: str | None) -> str:
    text = str(said)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _written(one: Found | Failure) -> dict[str, Any]:
    if isinstance(one, Failure):
        return {"error": one.error, "reason": one.reason}
    arrays = {name: getattr(one, name).tolist() for name in _ARRAYS}
    verdicts = {
        basis: [said.lead, said.forward, said.backward] for basis, said in one.verdicts.items()
    }
    return {"names": one.names, **arrays, "at_bound": one.at_bound, "verdicts": verdicts}


def _read_back(record: Mapping[str, Any]) -> Found | Failure:
    if "error" in record:
        return Failure(record["error"], record["reason"])
    arrays = {name: np.array(record[name], float) for name in _ARRAYS}
    return Found(
        names=tuple(record["names"]),
        **arrays,
        at_bound=tuple(record["at_bound"]),
        verdicts={basis: Verdict(*said) for basis, said in record["verdicts"].items()},
    )
