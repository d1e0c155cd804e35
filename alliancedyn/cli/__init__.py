"""The command line: the only place that prints, shows progress, or ends the process.

`commands` holds what can be typed, `terminal` what is shown, `files` what is read and written.
Nothing heavy is imported before a command runs, so that ``alliancedyn --help`` is there at once.
"""

from __future__ import annotations

from alliancedyn.cli.commands import main, run

__all__ = ["main", "run"]
