"""What a session panel is, and how data become one.

`read_sessions` reads an export, `SessionPanel.from_frame` a data frame; both run the same checks.
What cannot be repaired without guessing is a `DataError` that names the rows and the remedy; what
a reader of the results should know is an `Issue` that travels with the panel. `check` shows them.

The way of the data: bytes to cells (`encoding`, `textfile`, `workbook`), cells to distinct texts
(`table`), texts to ids, numbers and dates (`identifiers`, `numbers`, `dates`), rows to one per
client and session (`duplicates`, `chronology`), and findings (`findings`).
"""

from __future__ import annotations

from alliancedyn.panel.guess import GuessedMapping, guess_mapping
from alliancedyn.panel.issues import Issue
from alliancedyn.panel.panel import Arrays, SessionPanel
from alliancedyn.panel.quality import QualityReport, check
from alliancedyn.panel.read import read_sessions

__all__ = [
    "Arrays",
    "GuessedMapping",
    "Issue",
    "QualityReport",
    "SessionPanel",
    "check",
    "guess_mapping",
    "read_sessions",
]
