"""A first report from Python: what ``alliancedyn demo`` does, for your own script."""

import alliancedyn as ad
from alliancedyn.studies import analyze

panel = ad.datasets.load("example")  # or ad.read_sessions("export.csv", mapping="mapping.toml")
found = analyze(panel, seed=7)  # the ladder: CLPM, RI-CLPM, detrended
print(found)
ad.write_report(
    "first-report.html",
    panel,
    found.fits,
    directions=found.directions,
    decomposition=found.decomposition,
    comparison=found.comparison,
    quality=found.quality,
    failures=found.failures,
    notes=found.notes,
    seed=found.seed,
)
