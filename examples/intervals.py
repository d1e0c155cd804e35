"""How sure are we? One lagged effect by standard error, by likelihood and by resampling clients.

Run ``python examples/intervals.py``; it needs no data and no network.
"""

import alliancedyn as ad

panel = ad.datasets.load("example")
fit = ad.RICLPM(sessions=(1, 4)).fit(panel)  # four sessions: the likelihood is no parabola

drawn = ad.bootstrap(fit, 300, seed=1)
print(f"{drawn}\n")
print(f"{'':24} {'Wald':24} {'profile':24} bootstrap")
for name in (name for name in fit.params.index if name.startswith("phi[")):
    wald = fit.derive(lambda p, name=name: p[name])
    resampled = drawn.derive(lambda p, name=name: p[name])
    print(f"{name:24} {wald!s:24} {fit.profile(name)!s:24} {resampled}")

persisting = fit.profile(
    lambda p: p["phi[symptoms,alliance]"] / (1.0 - p["phi[symptoms,symptoms]"])
)
print(f"\nSymptom points in the end per alliance point that stays: {persisting}")
print("\nWithout units:")
solution = fit.standardized()
print(solution[~solution.index.str.contains("@")].round(2))
