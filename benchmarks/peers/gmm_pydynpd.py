"""Time pydynpd on a two-step difference GMM; prints one line of JSON.

python gmm_pydynpd.py LONG.csv LAST_LAG EFFECT(individual|twoways)
"""

import contextlib
import io
import json
import sys
import time
from importlib.metadata import version

import pandas as pd
from pydynpd import regression

path, last, effect = sys.argv[1:]
frame = pd.read_csv(path).sort_values(["client", "session"])
command = (
    f"symptoms L1.symptoms L1.alliance | gmm(symptoms, 2:{last}) gmm(alliance, 2:{last}) | nolevel"
)
if effect == "twoways":
    command += " timedumm"
with contextlib.redirect_stdout(io.StringIO()):
    clock = time.perf_counter()
    (model,) = regression.abond(command, frame, ["client", "session"]).models
    seconds = time.perf_counter() - clock
table = model.regression_table
print(
    json.dumps(
        {
            "seconds": seconds,
            "phi": float(table["coefficient"][0]),
            "b": float(table["coefficient"][1]),
            "se": float(table["std_err"][1]),
            "hansen": float(model.hansen.test_value),
            "m1": float(model.AR_list[0].AR),
            "m2": float(model.AR_list[1].AR),
            "instruments": int(model.z_information.num_instr),
            "version": version("pydynpd"),
        }
    )
)
