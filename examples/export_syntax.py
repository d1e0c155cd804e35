"""Write a model and its data for lavaan and for Mplus, and say where each parameter is."""

import sys
from pathlib import Path

import alliancedyn as ad
from alliancedyn.syntax import labels, write_syntax

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "exported")
panel = ad.datasets.load("example")
spec = ad.RICLPM(sessions=(1, 8))

for program in ("lavaan", "mplus"):
    model, data = write_syntax(spec, panel, folder / program, program)
    print(f"{model} reads {data}")

ours = spec.fit(panel).params  # what lavaan must find
for label, name in labels(spec, panel).items():
    if name.startswith("phi["):
        print(f"{label:24} {name:24} {ours[name]: .3f}")
