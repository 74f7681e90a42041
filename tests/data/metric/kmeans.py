# Made kmeans.json: python kmeans.py > kmeans.json   (Python 3, numpy 2.4.6, scikit-learn 1.9.1)
# Lloyd's iterations by scikit-learn in float64 from given seeds, until nothing changes.
import json

import numpy as np
from sklearn.cluster import KMeans

rng = np.random.default_rng(0)
centres = 2 * rng.normal(size=(9, 4))
points = (centres[np.arange(120) % 9] + rng.normal(size=(120, 4))).astype(np.float32)
seeds = points[rng.choice(120, 9, replace=False)]
found = KMeans(9, init=seeds.astype(np.float64), n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(points.astype(np.float64))
print(json.dumps({
    "points": [float(v) for v in points.ravel()],
    "seeds": [float(v) for v in seeds.ravel()],
    "assignments": found.labels_.tolist(),
    "centroids": found.cluster_centers_.ravel().tolist(),
    "inertia": float(found.inertia_),
}))
