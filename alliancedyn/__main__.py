"""Run the command line as ``python -m alliancedyn``."""

from __future__ import annotations

from alliancedyn.cli import main

if __name__ == "__main__":
    main()
