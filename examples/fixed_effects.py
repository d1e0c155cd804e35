"""Fixed effects with few and many sessions: what centering costs, and what the correction returns.

Run ``python examples/fixed_effects.py``; it needs no data and no network.
"""

import alliancedyn as ad

truth = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(5.0, 10.0),
)
print(f"{'sessions':>8}  {'':10} {'own lag (.45)':22} cross-lag (-.12)")
for sessions in (6, 8, 12, 20):
    panel = ad.simulate(truth, clients=300, sessions=sessions, missing=0.05, seed=sessions)
    for label, correction in (("plain", None), ("corrected", "half-panel")):
        fit = ad.FixedEffects(bias_correction=correction).fit(panel, strict=False)
        own = fit.effect("symptoms", "symptoms")
        cross = fit.effect("alliance", "symptoms")
        print(f"{sessions:>8}  {label:10} {own!s:22} {cross}")

panel = ad.datasets.load("example")
fit = ad.FixedEffects(direction="both").fit(panel)
print(f"\nThe example: {fit.sample.rows} sessions of {fit.sample.clients} clients. Set aside:")
for reason, count in fit.diagnostics["clients_without"].items():
    print(f"  {count:3} clients with {reason}")
print()
print(fit.table().filter(like="phi", axis=0).round(3))

found = fit.diagnostics
random = found["random_effects"]["estimates"]
print(f"\nRandom effects would say {random['phi[symptoms,alliance]']:.2f} for the cross-lag.")
print(f"Mundlak: chi-square {found['mundlak']['statistic']:.0f} on {found['mundlak']['df']} df.")
print(found["contrast"])
print()
print(ad.compare_directions(fit, seed=1).text)
