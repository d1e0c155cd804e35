"""The ten lines of the README, on the bundled, synthetic example."""

import alliancedyn as ad

panel = ad.datasets.load("example")  # or ad.read_sessions("export.csv", mapping="mapping.toml")
print(ad.check(panel).text)  # what the data are, and what was found in them
clpm = ad.CLPM().fit(panel)
riclpm = ad.RICLPM().fit(panel)  # full-information maximum likelihood
print(riclpm)  # every parameter, with its interval
print(riclpm.standardized().filter(like="icc", axis=0).to_string())  # how much is between clients
models = ad.compare_models({"CLPM": clpm, "RI-CLPM": riclpm})  # both forms, with intervals
print(models.filter(regex="model|effect|standardized").to_string())
print(ad.compare_directions(riclpm).text)
