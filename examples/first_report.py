"""A first report from Python: what ``alliancedyn demo`` does, for your own script."""

import alliancedyn as ad
from alliancedyn.report import report_analysis
from alliancedyn.studies import analyze

panel = ad.datasets.load("example")  # or ad.read_sessions("export.csv", mapping="mapping.toml")
found = analyze(panel, seed=7)  # the ladder: CLPM, RI-CLPM, LCM-SR, detrended
print(found)
report_analysis("first-report.html", found)
