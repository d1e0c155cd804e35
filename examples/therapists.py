"""Whose alliance goes with symptoms? Two simulated clinics with opposite answers.

In the first the therapist's average carries the association, in the second the client's place
within the caseload does. Run ``python examples/therapists.py``; it needs no data and no network.
"""

import alliancedyn as ad


def clinic(therapist_slope, client_slope, seed):
    """Simulate 80 therapists whose levels and whose clients' levels are linked by these slopes."""
    truth = ad.Dynamics(
        phi=[[0.0, 0.0], [-0.1, 0.0]],
        innovation_cov=[[0.5, 0.0], [0.0, 1.0]],
        between_cov=[[0.4, 0.4 * client_slope], [0.4 * client_slope, 0.8]],
        mean=(5.0, 12.0),
        timing={"alliance": "after", "symptoms": "before"},
    )
    levels = [[0.1, 0.1 * therapist_slope], [0.1 * therapist_slope, 0.15]]
    return ad.simulate(
        truth,
        clients=1600,
        sessions=6,
        therapists=ad.Therapists(80, levels),
        missing=0.1,
        seed=seed,
    )


theirs = ad.therapist_partition(clinic(therapist_slope=-0.7, client_slope=0.0, seed=3))
print(theirs)

within = ad.therapist_partition(clinic(therapist_slope=0.0, client_slope=-0.7, seed=3))
print("\n--- the other clinic ---\n")
print(within.table[["share", "estimate", "lower", "upper"]].round(3))
print(f"\ntherapist minus client: {within.slope('difference')}")
