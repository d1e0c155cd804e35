"""The same RI-CLPM by maximum likelihood and by Bayes: where the prior speaks, and how loudly."""

import alliancedyn as ad

NAME = "phi[symptoms,alliance]"


def main():
    panel = ad.datasets.load("example")
    spec = ad.RICLPM(means="equal", sessions=(1, 6))
    best = spec.fit(panel)
    print(f"maximum likelihood     {best.derive(lambda p: p[NAME])}")
    for scale in (0.5, 0.1):
        model = ad.Bayes(spec, priors={"phi": ("normal", 0, scale)}, draws=250, sampler="laplace")
        fit = model.fit(panel, seed=1, strict=False)
        k = fit.sampling.statistics["pareto_k"].item()
        print(f"prior normal(0, {scale})     {fit.derive(lambda p: p[NAME])}   Pareto k {k:.2f}")
    print("Priors in raw units:")
    for sentence in fit.diagnostics["priors"]:
        print(" ", sentence)


if __name__ == "__main__":
    main()
