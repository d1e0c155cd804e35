"""A posterior read aloud: random lagged effects, what the prior says, what clients say.

Run ``python examples/dsem.py``; it needs no data and no network.
"""

import alliancedyn as ad

truth = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
)
panel = ad.simulate(truth, clients=80, sessions=15, missing=0.1, seed=7)

spec = ad.DSEM(random=("intercept", "phi"), draws=1500, tune=500)
print(ad.prior_predictive(spec, panel, seed=1).table.filter(like="within", axis=0).round(2))

fit = spec.fit(panel, seed=1, strict=False)
print("\n".join(fit.verdicts()))
print(fit.table().filter(like="phi", axis=0).round(3))
print(ad.prior_overlap(fit).filter(like="phi_sd", axis=0).round(2))

print("\nIn words:")
print(ad.posterior_statements(fit))
print(ad.posterior_check(fit, seed=1))

print("\nThe middle half of clients, alliance -> symptoms:")
own = fit.client_effects().query("effect == 'symptoms<-alliance'")["estimate"]
print(own.quantile([0.25, 0.5, 0.75]).round(3).to_string())
