"""Why replications have no estimates, so that those with one cause are counted together."""

from __future__ import annotations

import re

from alliancedyn.replicate import Failure

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
_PARAMETER = r"'[^'\[\]]+\[[^'\]]*\][^']*'"
_PARAMETERS = re.compile(rf"{_PARAMETER}(?:(?:, | and ){_PARAMETER})*(?: and \d+ more)?")


def cause(failure: Failure) -> str:
    """Return the reason of a failure, alike for those that differ in figures or parameters only.

    Which parameters of a model a failure names varies at random; numbers become ``#``.
    """
    reason = _PARAMETERS.sub("some parameters", failure.reason)
    return f"{failure.error}: {_NUMBER.sub('#', reason)}"
