"""Sessions one, two and four weeks apart: how an effect depends on the lag, and which clock runs.

Run ``python examples/continuous_time.py``; it needs no data and no network.
"""

import alliancedyn as ad

truth = ad.Dynamics(
    phi=[[0.35, -0.10], [-0.15, 0.40]],  # from one week to the next
    innovation_cov=[[1.0, -0.3], [-0.3, 1.0]],
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(0.0, 0.0),
)
gaps = ad.Gaps(weeks=(1, 2, 4), weights=(0.6, 0.25, 0.15), per="week")
panel = ad.simulate(truth, clients=300, sessions=10, gaps=gaps, missing=0.05, seed=3)

clocks = ad.compare_clocks(panel, means="equal")
print(clocks[["loglik", "parameters", "bic_above_best"]].round(1))
print("\n" + clocks.attrs["text"])

by_weeks = ad.ContinuousTime(initial="stationary").fit(panel)
by_sessions = ad.RICLPM(means="equal").fit(panel)
print("\nHow long deviations last:")
for mode in ad.describe_drift(by_weeks).itertuples():
    print(f"  a part of them {mode.meaning} [{mode.lower:.2f}, {mode.upper:.2f}]")

print("\nSymptoms on themselves one week later; in truth 0.40")
print("  gaps as they were:   ", by_weeks.effect("symptoms", "symptoms"))
print("  gaps taken as equal: ", by_sessions.effect("symptoms", "symptoms"))

print("\nOne point more alliance, symptoms after so many weeks:")
effects = ad.effect_by_lag(by_weeks, "alliance", "symptoms", [1, 2, 3, 4])
print(effects[["estimate", "lower", "upper", "gaps_as_long"]].round(3))

figure = ad.plot.effect_by_lag(by_weeks)
print("\n" + ad.plot.alt_text(figure))
