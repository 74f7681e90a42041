# Peers of neighbors.rs: faiss-cpu and PyTorch on the same rows, two threads each.
# Needs faiss-cpu==1.15.1, torch==2.11.0, numpy==2.4.6. Started by the bench; talks in lines: a request is
# "NAME k rows-file n d", the answer "seconds processor-seconds peak-MiB agreeing-share".
#
# NAME: flat-l2 (faiss IndexFlatL2), cdist (torch.cdist + topk in blocks of 1,024 queries), k-means (faiss.Kmeans, k
# clusters, 20 iterations, then the search for the assignments; the answer's last number is the inertia). Adding the rows to an index is not timed. Each request
# is answered by a fresh process: peak-MiB is the peak of its resident memory, libraries and rows included.
#
# faiss-cpu brings OpenBLAS 0.3.15, which does not know new processors and falls back to SSE3 kernels there. The bench
# therefore sets OPENBLAS_CORETYPE to the fastest kernels that the processor can run, and unsets OPENBLAS_L2_SIZE.
import os
import resource
import subprocess
import sys
import time


def rows(path, n, d):
    import numpy as np

    return np.fromfile(path, dtype="<f4").reshape(n, d)


class Clock:
    def __init__(self):
        self.start = time.perf_counter(), time.process_time()

    def seconds(self):
        return time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def flat_l2(x, k, threads):
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)
    clock = Clock()
    _, found = index.search(x, k)
    return clock.seconds(), found


def cdist(x, k, threads):
    import torch

    torch.set_num_threads(threads)
    gallery = torch.from_numpy(x)
    found = torch.empty((len(x), k), dtype=torch.int32)
    clock = Clock()
    for at in range(0, len(x), 1024):
        nearest = torch.cdist(gallery[at : at + 1024], gallery).topk(k, largest=False).indices
        found[at : at + 1024] = nearest
    return clock.seconds(), found.numpy()


def kmeans(x, k, threads):
    import faiss

    faiss.omp_set_num_threads(threads)
    clock = Clock()
    clustering = faiss.Kmeans(x.shape[1], k, niter=20, seed=1)
    clustering.train(x)
    distances, _ = clustering.index.search(x, 1)
    return clock.seconds(), float(distances.sum(dtype="f8"))


def measure(name, k, path, n, d, threads):
    import numpy as np

    x = rows(path, n, d)
    work = {"flat-l2": flat_l2, "cdist": cdist, "k-means": kmeans}[name]
    seconds, found = work(x, k, threads)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if name == "k-means":
        return *seconds, peak, found
    # The share of our neighbours that the peer has too. It finds the query itself as well, so it has one fewer.
    ours = np.fromfile(f"{path}.{k}", dtype="<u4").reshape(n, k)[:, : k - 1]
    found[found == np.arange(n)[:, None]] = -1
    same = sum(np.isin(a, b, assume_unique=True).sum() for a, b in zip(ours, found))
    return *seconds, peak, same / ours.size


if __name__ == "__main__":
    if len(sys.argv) > 2:
        name, k, path, n, d, threads = sys.argv[1:]
        print(*measure(name, int(k), path, int(n), int(d), int(threads)))
    else:
        threads = sys.argv[1]
        import importlib.metadata as metadata

        print(*(f"{p} {metadata.version(p)}" for p in ("faiss-cpu", "torch", "numpy")), sep=", ", flush=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        with open("/proc/cpuinfo") as file:
            flags = file.read().split()
        # Idle threads sleep instead of spinning: the same speed, and honest processor times.
        environment["OMP_WAIT_POLICY"] = "passive"
        environment["OPENBLAS_CORETYPE"] = "SkylakeX" if "avx512f" in flags else "Haswell"
        for line in sys.stdin:
            answer = subprocess.run(
                [sys.executable, __file__, *line.split(), threads], env=environment, check=True, stdout=subprocess.PIPE
            )
            print(answer.stdout.decode().strip(), flush=True)
