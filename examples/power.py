"""Would I find it? Power of a cross-lagged effect, and how many clients are enough.

Run ``python examples/power.py``; it needs no data and no network. Small on purpose: ask for 200
or more replications, and leave jobs= out, when it matters.
"""

import alliancedyn as ad
from alliancedyn.studies.power import power

truth = ad.Dynamics.time_ordered(
    phi_alliance=0.35, phi_symptoms=0.45, forward=-0.25, backward=-0.05, mean=(3, 10)
)

surface = power(
    ad.RICLPM(means="equal", initial="stationary"),
    truth,
    clients=[30, 60, 90],
    sessions=5,
    dropout=ad.Dropout("unwell", rate=0.3, first=2),
    replications=16,
    seed=7,
    jobs=1,
)
print(f"{surface}\n")
enough = surface.smallest(power=0.8).iloc[0]
print(f"Clients for a power of .80: {enough['clients']:.0f}", end=" ")
print(f"[{enough['lower']:.0f}, {enough['upper']:.0f}] {enough['note']}")
