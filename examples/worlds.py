"""Ask four worlds the same question, then read a messy export and check what was found.

Run ``python examples/worlds.py``; it needs no data and no network.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import alliancedyn as ad

print("Lagged effect of alliance on symptoms, estimated and true:")
for name in ("null", "byproduct", "state", "reciprocal"):
    world = ad.worlds.load(name)
    fit = ad.RICLPM().fit(world.simulate(clients=300, sessions=8, seed=1))
    true = world.truth.effect("alliance", "symptoms")
    print(f"  {name:<11} {fit.effect('alliance', 'symptoms')}   true {true:.3f}")

world = ad.worlds.load("rupture_repair")
print(f"\n{world}")
frame = world.simulate(seed=1).frame
met = frame[frame["session"] <= 6].groupby("client")["rupture"].max().mean()
print(f"{met:.0%} of the clients met a rupture in the first six sessions.")

text, key = ad.messy(ad.worlds.load("reciprocal").simulate(clients=90, seed=1), seed=3)
with TemporaryDirectory() as folder:
    export = Path(folder) / "export.csv"
    export.write_text(text, encoding="utf-8")
    panel = ad.read_sessions(export, key.attrs["mapping"])
found = {issue.code for issue in panel.issues}
print("\nPlanted in an export, and whether reading it told:")
for (flaw, code), places in key.groupby(["flaw", "code"]):
    print(f"  {flaw:<17} {len(places):>3} places   {'yes' if code in found else 'no'}")
