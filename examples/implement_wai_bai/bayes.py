"""The same trial by Bayes: what is said with and without a course, and how much of it is prior.

Run ``python examples/implement_wai_bai/bayes.py sessions_long.csv --out figures`` (README.md says
where the file comes from and how it is laid out).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import alliancedyn as ad
from alliancedyn import plot
from alliancedyn.engine.density import density

HERE = Path(__file__).parent
B, G = "phi[anxiety,alliance]", "same[alliance,anxiety]"
SPECS = {
    "no course": ad.DSEM(draws=1500, tune=300),
    "common line": ad.DSEM(trend="linear", draws=1500, tune=300),
}
TIME_ORDERED = ad.DSEM(
    random=("intercept", "phi", "same"),
    same=("alliance<-anxiety",),
    trend="linear",
    draws=4000,
    tune=500,
)


def read(name: str, fit: ad.Fit) -> None:
    """Say how probable an effect is, how much of that is prior, and whether draws can be read."""
    b, d = fit.draws[B], fit.diagnostics
    within = fit.effect("alliance", "anxiety", standardized="within")
    shared = ad.prior_overlap(fit).loc[B, "overlap"]
    print(f"\n{name}")
    print(f"  alliance -> anxiety  {within} within SDs")
    print(
        f"  P(b < 0) = {(b < 0).mean():.3f}; prior and posterior share {shared:.0%} of their area"
    )
    print(
        f"  R-hat {d['rhat_max']:.3f}, effective draws {d['ess_bulk_min']:.0f} (bulk), "
        f"{d['ess_tail_min']:.0f} (tail), sampler {d['sampler']}"
    )
    for sentence in fit.verdicts():
        print(f"  {sentence}")


def draw_densities(fits: dict[str, ad.Fit], name: str, path: Path) -> None:
    """Draw the posterior of a parameter under each model, over its prior."""
    ax = plt.subplots(figsize=(6, 3.2), layout="constrained")[1]
    lower = min(fit.draws[name].quantile(0.001) for fit in fits.values())
    upper = max(fit.draws[name].quantile(0.999) for fit in fits.values())
    grid = np.linspace(lower - 0.1, upper + 0.1, 400)
    prior = next(iter(fits.values())).sampling.prior(name)
    ax.fill_between(grid, prior.density(grid), color="0.85", label=f"prior, {prior}")
    for (label, fit), style in zip(fits.items(), ("-", "--"), strict=True):
        ax.plot(grid, density(fit.draws[name].to_numpy(), grid), style, color="k", label=label)
    ax.axvline(0.0, color="0.5", linewidth=0.8)
    ax.set(xlabel=f"{name}, points per point", yticks=[], ylim=(0, None))
    ax.spines[["left", "top", "right"]].set_visible(False)
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    plot.save(ax, path)


def main() -> None:
    """Fit, read aloud, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    panel = ad.read_sessions(given.export, mapping=HERE / "mapping.toml")

    fits = {name: spec.fit(panel, seed=1) for name, spec in SPECS.items()}
    for name, fit in fits.items():
        read(name, fit)
        print(f"  {ad.posterior_check(fit, seed=1)}")
    print("\nUnseen clients (log predictive density, difference to the best):")
    ranked = ad.compare_loo({name: ad.loo(fit) for name, fit in fits.items()})
    print(ranked[["difference", "difference_se"]].round(1).to_string())
    draw_densities(fits, B, given.out / "prior-posterior.svg")

    fit = TIME_ORDERED.fit(panel, seed=1)
    read("common line, in time order, effects of clients", fit)
    rows = [B, G, "phi_sd[anxiety,alliance]", "same_sd[alliance,anxiety]"]
    print(fit.table().loc[rows, ["estimate", "lower", "upper"]].round(3).to_string())
    shares = ad.prior_overlap(fit).loc[rows, "overlap"]
    print(f"  Shared with the prior: {', '.join(f'{n} {x:.0%}' for n, x in shares.items())}")
    own = fit.client_effects().query("effect == 'same(alliance<-anxiety)'")["estimate"]
    print(f"  Middle half of clients' {G}: {own.quantile(0.25):.3f} to {own.quantile(0.75):.3f}")
    ax = plot.impulse_response(fit, "anxiety", sessions=4, kind="structural", response="alliance")
    plot.save(ax, given.out / "anxiety-to-alliance.svg")


if __name__ == "__main__":
    main()
