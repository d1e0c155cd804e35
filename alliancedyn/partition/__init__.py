"""Split an association over therapists, clients and sessions: whose alliance goes with outcome.

The association of the process at one session with the outcome at the next is split over therapists,
clients within therapists and sessions within clients, twice: with observed means, which carry the
sampling error of the levels below, and with latent means, which do not.
"""

from alliancedyn.partition.estimate import therapist_partition
from alliancedyn.partition.result import TherapistPartition

__all__ = ["TherapistPartition", "therapist_partition"]
