"""What is stable about clients, what is trend, what moves: one simulated panel taken apart.

Run ``python examples/decompose_example.py``; it needs no data and no network.
"""

import alliancedyn as ad

truth = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.5], [-0.5, 1.5]],
)
panel = ad.simulate(truth, clients=200, sessions=10, missing=0.1, seed=7)

parts = ad.decompose(panel)
print(parts)
print("\nTrue share of variance between clients:", truth.icc.round(2).to_dict())

detrended = ad.decompose(panel, trend="linear")
print(f"\nWithin-client correlation: {parts.correlation_within.loc['alliance', 'symptoms']:.2f}")
print(f"after each client's line:  {detrended.correlation_within.loc['alliance', 'symptoms']:.2f}")
