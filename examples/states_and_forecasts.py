"""Where clients stand, what comes next, how sure that is, and what unseen scores may have been.

Run ``python examples/states_and_forecasts.py``; it needs no data and no network.
"""

import numpy as np

import alliancedyn as ad

truth = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(5.0, 10.0),
)
panel = ad.simulate(truth, clients=300, sessions=10, missing=0.15, seed=7)
held_out = ad.simulate(truth, clients=200, sessions=10, missing=0.15, seed=8)
fit = ad.RICLPM().fit(panel)

states = fit.states(level=0.95)
between = states[(states["part"] == "between") & (states["session"] == 1)]
highest = between[between["variable"] == "symptoms"].nlargest(3, "mean")
print("Clients with the highest stable symptoms:")
print(highest[["client", "mean", "lower", "upper"]].round(2).to_string(index=False))

print("\nForecasts of clients whom the model has never seen:")
print(fit.predict(panel=held_out, level=0.95).head(4).round(2).to_string(index=False))
print(f"\n{fit.calibration(panel=held_out)}")

missing = np.isnan(fit.data.Y[:, -1, 1])
filled = fit.draw_scores(100, seed=1, parameters="drawn")[:, missing, -1, 1]
print(f"\n{missing.sum()} clients have no symptom score at the last session.")
print(f"Theirs would have been {filled.mean():.2f} on average, {filled.std():.2f} SD.")
