"""The ten lines of the README, on the bundled, synthetic example."""

import alliancedyn as ad

panel = ad.datasets.load("example")  # or ad.read_sessions("export.csv", mapping="mapping.toml")
print(ad.check(panel).text)  # what the data are, and what was found in them
print(ad.decompose(panel).icc)  # how much is between clients
clpm = ad.CLPM().fit(panel)
riclpm = ad.RICLPM().fit(panel)  # full-information maximum likelihood
print(riclpm)  # every parameter, with its interval
models = ad.compare_models({"CLPM": clpm, "RI-CLPM": riclpm})
print(models[["model", "effect", "standardized", "bic"]])
print(ad.compare_directions(riclpm).text)
