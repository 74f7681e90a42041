# Made duplicates.json: python duplicates.py > duplicates.json   (Python 3, numpy 2.4.6, faiss-cpu 1.15.1)
# faiss on rows of which many are equal: what "search k + 1 and drop the first" makes of it.
import json

import faiss
import numpy as np

rng = np.random.default_rng(3)
distinct = rng.integers(-2, 3, size=(12, 5)).astype(np.float32)
rows = distinct[rng.integers(0, 12, size=40)]
index = faiss.IndexFlatL2(5)
index.add(rows)
distances, found = index.search(rows, 6)
print(json.dumps({
    "rows": rows.ravel().tolist(),
    "found": found.ravel().tolist(),
    "distances": distances.ravel().tolist(),
}))
