"""Climb from the CLPM to the LCM-SR, test each step, and see what can be held equal over sessions.

Run ``python examples/choose_a_model.py``; it needs no data and no network.
"""

import alliancedyn as ad

truth = ad.Dynamics(
    phi=[[0.36, -0.05], [-0.12, 0.45]],
    innovation_cov=[[1.0, -0.25], [-0.25, 1.0]],
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(3.0, 10.0),
)
panel = ad.simulate(truth, clients=250, sessions=8, missing=0.1, seed=7)

ladder = ad.ladder(panel)
columns = ["parameters", "bic_above_best", "admissible", "p_value", "forward", "backward"]
print(ladder[columns].round(3).to_string())
print("\n" + ladder.attrs["recommendation"])
print(f"\nforward is {ladder.attrs['forward']}; the true path, in within SDs, is about -0.11.")

search = ad.constraint_search(panel, ad.RICLPM())
print(f"\n{search}")

later = ad.RICLPM(means="equal", step=5).fit(panel)
print("\nAre the cross-lags others from session 5 on?")
print(ad.likelihood_ratio(search.fit, later))
