# Made intervals.json: python intervals.py > intervals.json   (Python 3.11, scipy 1.17.1, statsmodels 0.15.0)
# Wilson's interval by statsmodels; BCa by scipy.stats.bootstrap, once with its 999 resampled means kept (so that our
# formulas can be compared digit for digit) and once with 400,000 resamples (so that our own draws can be compared).
import json
import numpy as np
from scipy.stats import bootstrap
from statsmodels.stats.proportion import proportion_confint

rng = np.random.default_rng(5)
cases = []
for values in (np.round(rng.exponential(size=12), 6), (rng.random(40) < 0.15).astype(float), np.round(rng.normal(size=15), 6)):
    few = bootstrap((values,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(1))
    many = bootstrap((values,), np.mean, n_resamples=400_000, method="BCa", rng=np.random.default_rng(2), batch=50_000)
    cases.append({
        "values": values.tolist(),
        "resampled": sorted(few.bootstrap_distribution.tolist()),
        "interval": list(few.confidence_interval),
        "interval_of_many": list(many.confidence_interval),
    })
wilson = [[k, n, *proportion_confint(k, n, alpha=0.05, method="wilson")]
          for k, n in [(0, 1), (0, 10), (10, 10), (1, 3), (7, 20), (499, 500), (1234, 5678)]]
print(json.dumps({"wilson": wilson, "bca": cases}))
