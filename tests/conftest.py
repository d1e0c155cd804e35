"""Lets every test import the readers of the reference files, whatever the import mode."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
# Workers of pytest-xdist are told how wide the terminal is; the program must not hear of it.
os.environ.pop("COLUMNS", None)
