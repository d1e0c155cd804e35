"""A multilevel regression both ways, and the bias of it at these sessions.

In this simulated clinic both directions are equally strong; the symptoms carry on and the alliance
hardly does. Run ``python examples/within_between.py``; it needs no data and no network.
"""

import alliancedyn as ad

truth = ad.Dynamics(
    phi=[[0.1, -0.113], [-0.199, 0.6]],  # .15 within SDs either way
    innovation_cov=[[1.0, -0.4], [-0.4, 1.0]],
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(5.0, 10.0),
    timing={"alliance": "after", "symptoms": "before"},
)
panel = ad.simulate(truth, clients=3000, sessions=5, seed=4)

regression = ad.WithinBetween(direction="both", trend=None).fit(panel)
print(regression)

print("\n--- what the estimator makes up ---\n")
print(ad.bias_diagnosis(regression, 60))
print("lead:", ad.compare_directions(regression).lead)

print("\n--- beside models without person means ---\n")
fits = {
    "Within-between": regression,
    "RI-CLPM": ad.RICLPM().fit(panel),
    "GMM": ad.DynamicPanelGMM(direction="both").fit(panel),
}
columns = ["model", "effect", "standardized", "expected_bias"]
print(ad.compare_models(fits)[columns].round(3).to_string(index=False))
