"""Questionnaires known by the names that exports give their columns; no item, no wording.

Each is known by the words at the start of its column names, as letters only: ``wai`` in
``WAI-SR total``, ``phq`` in ``phq9_sum``. A number behind it (9, 7, 45) belongs to its name.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# What exports add to the name of a questionnaire when they mean its total, longest first.
TOTALS = (
    *("gesamtscore", "gesamtwert", "summenscore", "summenwert", "mittelwert", "puntuacion"),
    *("totaalscore", "totalscore", "scoretotal", "somscore", "sumscore", "puntaje", "gesamt"),
    *("totaal", "totale", "summe", "skala", "total", "score", "somme", "suma", "mean", "sum"),
    *("tot", "moyenne", "gemiddelde", "media"),
)
# Words of a questionnaire's name that may follow its first: forms, versions, raters.
FORMS = (
    *("sr", "s", "si", "sf", "short", "revised", "r", "ii", "iii", "iv", "v", "om", "ob", "lt"),
    *("c", "t", "k", "p", "client", "patient", "therapist", "klient", "therapeut", "d", "cs"),
)


@dataclass(frozen=True)
class Instrument:
    """A questionnaire.

    Parameters
    ----------
    name : str
        As people write it.
    kind : {"alliance", "symptoms"}
        What it is usually taken for in a panel.
    higher : {"better", "worse"}
        What a higher total means for the client.
    numbers : tuple of int
        Numbers that belong to its name, such as the 9 of PHQ-9.
    """

    name: str
    kind: str
    higher: str
    numbers: tuple[int, ...] = ()


INSTRUMENTS = {
    "wai": Instrument("WAI", "alliance", "better", (12, 36)),
    "wav": Instrument("WAV", "alliance", "better", (12,)),  # the WAI in Dutch
    "srs": Instrument("SRS", "alliance", "better"),
    "csrs": Instrument("CSRS", "alliance", "better"),
    "haq": Instrument("HAq", "alliance", "better", (2, 11, 19)),
    "sai": Instrument("SAI", "alliance", "better"),
    "calpas": Instrument("CALPAS", "alliance", "better"),
    "stass": Instrument("STA", "alliance", "better"),
    "phq": Instrument("PHQ", "symptoms", "worse", (2, 4, 8, 9, 15)),
    "gad": Instrument("GAD", "symptoms", "worse", (2, 7)),
    "core": Instrument("CORE", "symptoms", "worse", (5, 6, 10, 18, 34)),
    "oq": Instrument("OQ", "symptoms", "worse", (10, 30, 45)),
    "ors": Instrument("ORS", "symptoms", "better"),
    "cors": Instrument("CORS", "symptoms", "better"),
    "bdi": Instrument("BDI", "symptoms", "worse", (1, 2)),
    "bsi": Instrument("BSI", "symptoms", "worse", (18, 53)),
    "bai": Instrument("BAI", "symptoms", "worse"),
    "dass": Instrument("DASS", "symptoms", "worse", (21, 42)),
    "who": Instrument("WHO-5", "symptoms", "better", (5,)),
    "wsas": Instrument("WSAS", "symptoms", "worse"),
    "scl": Instrument("SCL", "symptoms", "worse", (5, 9, 10, 27, 90)),
    "hscl": Instrument("HSCL", "symptoms", "worse", (5, 10, 25)),
    "cesd": Instrument("CES-D", "symptoms", "worse", (10, 20)),
    "bsl": Instrument("BSL", "symptoms", "worse", (23, 95)),
    "hads": Instrument("HADS", "symptoms", "worse"),
    "pcl": Instrument("PCL", "symptoms", "worse", (4, 5)),
    "ccaps": Instrument("CCAPS", "symptoms", "worse", (34, 62)),
    "qids": Instrument("QIDS", "symptoms", "worse", (16,)),
    "madrs": Instrument("MADRS", "symptoms", "worse"),
    "hamd": Instrument("HAM-D", "symptoms", "worse", (17, 21)),
    "hdrs": Instrument("HDRS", "symptoms", "worse", (17, 21)),
    "ybocs": Instrument("Y-BOCS", "symptoms", "worse"),
    "lsas": Instrument("LSAS", "symptoms", "worse"),
    "pswq": Instrument("PSWQ", "symptoms", "worse"),
    "ede": Instrument("EDE", "symptoms", "worse"),
    "k": Instrument("K6 or K10", "symptoms", "worse", (6, 10)),
    "iesr": Instrument("IES-R", "symptoms", "worse"),
    "sdq": Instrument("SDQ", "symptoms", "worse"),
    "swls": Instrument("SWLS", "symptoms", "better"),
    "wemwbs": Instrument("WEMWBS", "symptoms", "better", (7, 14)),
}
# Words that name no questionnaire but say what is measured, and so which end is good.
WORDS = {
    **dict.fromkeys(
        ("alliance", "allianz", "alliantie", "werkalliantie", "alianza", "bond", "bindung"),
        ("alliance", "better"),
    ),
    **dict.fromkeys(
        ("symptoms", "symptom", "symptome", "symptomen", "sintomas", "symptomes", "distress"),
        ("symptoms", "worse"),
    ),
    **dict.fromkeys(
        ("klachten", "belastung", "beschwerden", "malestar", "depression", "depressie"),
        ("symptoms", "worse"),
    ),
    **dict.fromkeys(
        ("depresion", "anxiety", "angst", "ansiedad", "anxiete"),
        ("symptoms", "worse"),
    ),
    "outcome": ("symptoms", ""),
    **dict.fromkeys(("wellbeing", "wohlbefinden", "welzijn", "bienestar"), ("symptoms", "better")),
}
ONLY_WITH_NUMBER = ("k", "who")  # K10, WHO-5
ALSO_WORDS = ("core", "sai", "ede", "who", "k")  # a word behind them is no subscale's


def folded(name: str) -> str:
    """Return a name in lower case letters and digits, without accents and separators."""
    return re.sub(r"[^a-z0-9]+", "", _plain(name))


def _plain(name: str) -> str:
    split = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in split if not unicodedata.combining(letter))


def bare(name: str) -> str:
    """Return a folded name without the words that mean a total."""
    text = folded(name)
    for total in TOTALS:
        if text != total:
            text = text.removesuffix(total)
            text = text.removeprefix(total) if text != total else text
    return text


def says_total(name: str) -> bool:
    """Tell whether a name holds a word that means a total."""
    return bare(name) != folded(name)


def known(name: str) -> tuple[Instrument, str] | None:
    """Return the questionnaire that a column name begins with, and what follows it.

    What follows is cut of the number that belongs to the questionnaire's name; a number left at
    its end is that of an item, a session or a rater.
    """
    text = bare(name)
    words = re.split(r"[^a-z]+", _plain(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)))
    for stem in sorted(INSTRUMENTS, key=len, reverse=True):
        found = re.fullmatch(rf"{stem}([a-z]*)([0-9]*)([a-z0-9]*)", text)
        if found is None:
            continue
        letters, digits, more = found.groups()
        if letters and letters not in FORMS and (stem in ALSO_WORDS or stem not in words):
            continue
        own = not digits.startswith("0") and int(digits or -1) in INSTRUMENTS[stem].numbers
        if own or stem not in ONLY_WITH_NUMBER:
            return INSTRUMENTS[stem], letters + ("" if own else digits) + more
    return None


def good_end(name: str) -> tuple[str, str] | None:
    """Return what a higher score of this column means, as far as its name says, and why.

    Returns
    -------
    higher : {"better", "worse"}
    said : str
        The questionnaire or the word that says so.
    """
    for part in (name, *_suffixes(name)):
        found = known(part)
        if found is not None:
            return found[0].higher, f"the {found[0].name}"
    for word in re.split(r"[^a-z]+", _plain(name)):
        if WORDS.get(word, ("", ""))[1]:
            return WORDS[word][1], f"the name {word!r}"
    return None


def measured(name: str) -> tuple[str, int, str, str] | None:
    """Return what a column seems to measure, how plainly, what its name adds, and who says so.

    Returns
    -------
    kind : {"alliance", "symptoms"}
    plain : int
        0 where the name is a questionnaire's, 1 where one follows a first word, 2 for other words.
    rest : str
        What the name adds, but for forms and totals.
    said : str
        The questionnaire or the word.
    """
    for plain, part in enumerate((name, *_suffixes(name))):
        found = known(part)
        if found is not None:
            rest = "" if found[1] in FORMS else found[1]
            return found[0].kind, min(plain, 1), rest, f"the {found[0].name}"
    for word in re.split(r"[^a-z]+", _plain(name)):
        if word in WORDS:
            return WORDS[word][0], 2, bare(name).replace(word, "", 1), f"the word {word!r}"
    return None


def _suffixes(name: str) -> list[str]:
    """Return what stands behind a first word, such as ``phq9`` in ``pre_phq9``."""
    places = [found.end() for found in re.finditer(r"[^A-Za-z0-9]+", name)]
    return [name[place:] for place in places]
