"""Windows on many machines: Ray starts the workers, keeps weights in them, starts them again and repeats what was lost.

Prompts are read and shards written by the process that was started; workers get the texts of a window and give its estimates
back. So machines need to share no files but the checkpoint and its encoder, which must lie in the same place on each.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from jaxroute.errors import EngineError, JaxrouteError, counted
from jaxroute.storage.cache import keep_compiled
from jaxroute.storage.files import LOCK
from solvers.errors import ProblemError

if TYPE_CHECKING:
    from tqdm.auto import tqdm

    from jaxroute.batch.score_config import ScoreConfig
    from jaxroute.data.estimates import Estimates
    from jaxroute.data.table import Queries

INSTALL = "pip install 'jaxroute[scale]'"
TRIES = 20
"""So often is a window started again whose worker has ended under it: one that takes all memory would go on forever."""
POLL_SECONDS = 0.5
CONNECT_SECONDS = 5.0
FOLDER = "jaxroute-ray-"
YOUNG_SECONDS = 60.0
SETTINGS = {
    # Nothing is reported to Ray's makers.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray on one machine listens on the loopback address alone, as it does on macOS.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # It would start one idle process per core, with none of the variables of the workers that are started next.
    "RAY_prestart_worker_first_driver": "0",
    # Ray's own 15 makes workers wait for whatever else runs on the machine.
    "RAY_worker_niceness": "0",
    # After a kill its processes end so soon, and do not wait for a minute for one that will not come back.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    # Under `uv run` Ray would pack the working directory and start workers by the same command in a copy of it.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Of a Ray that is started here, unless the user has set them."""


@dataclass(frozen=True)
class EngineConfig:
    """Where the work is done: in this process, or by workers on Ray, on this machine or on many."""

    engine: Literal["plain", "ray"] = "plain"
    """plain: this process. ray: workers, each with weights of its own (pip install 'jaxroute[scale]'); the same bytes."""
    address: str | None = None
    """HOST:PORT of a Ray cluster of which this machine is part, or `auto`; default: Ray is started on this machine for this
    run."""
    workers: int | None = None
    """How many; default: one per GPU where there are any, else as many as the cores allow."""
    cores_per_worker: int = 1
    """Cores of each; one is the most efficient where memory holds the weights as many times."""

    @property
    def ray(self) -> bool:
        return self.engine == "ray"

    def __post_init__(self) -> None:
        if not self.ray and (self.address is not None or self.workers is not None or self.cores_per_worker != 1):
            raise EngineError(
                "address, workers and cores_per_worker are for workers on Ray: add --engine ray or leave them out"
            )
        for name in ("workers", "cores_per_worker"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise EngineError(f"{name}={value} must be at least 1")


PLAIN = EngineConfig()


class Job(NamedTuple):
    """One window, as a worker gets it."""

    number: int
    queries: Queries
    place: str


def check_engine(config: EngineConfig) -> None:
    """Raise `EngineError` where Ray is asked for and missing, or does not answer at its address: in seconds."""
    if not config.ray:
        return
    if importlib.util.find_spec("ray") is None:
        raise EngineError(f"engine='ray': Ray is not installed: {INSTALL}")
    if config.address is None or config.address == "auto":
        return
    found = re.fullmatch(r"\[?([^\[\]/]+)\]?:(\d{1,5})", config.address)
    if not found:
        raise EngineError(
            f"address={config.address!r} must be HOST:PORT, as `ray start --head` prints it, or auto. Addresses of Ray's "
            "client (ray://) are not supported: start the command on a machine of the cluster"
        )
    try:
        socket.create_connection((found[1], int(found[2])), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"address={config.address!r} does not answer ({error}): is the cluster running?") from error


def score_on_workers(
    ray: Any, engine: EngineConfig, config: ScoreConfig, checkpoint_sha256: str, jobs: Iterator[Job], bar: tqdm
) -> Iterator[tuple[int, Estimates]]:
    """(number, estimates) of every job, in the order in which they are done; `bar` shows prompts, `ray` is `connected`.

    No more jobs are read than there are workers, and one. What is wrong with a prompt is raised as in this process; raises
    `EngineError` where a job has lost its worker again and again.
    """
    options, count = _options(ray, engine, narrow=config.scoring.dtype != "float32")
    worker = ray.remote(concurrency_groups={"progress": 1})(Worker).options(**options)
    workers = [worker.remote(config, checkpoint_sha256) for _ in range(count)]
    pool, shown = ray.util.ActorPool(workers), _Shown(ray, bar, workers)
    # Only the pool holds them: when it lets one go it ends, and its cores are free for one that was lost elsewhere.
    del workers
    under_way = 0
    while True:
        # One more than there are workers: the pool starts it when it gets a result, so that no worker waits while a shard is
        # written.
        while under_way <= count and (job := next(jobs, None)):
            pool.submit(lambda actor, one: actor.score.remote(*one), job)
            under_way += 1
        if not under_way:
            return
        # None is idle before all jobs are read.
        while idle := pool.pop_idle():
            shown.forget(idle)
        try:
            number, estimates = _translated(ray, lambda: pool.get_next_unordered(timeout=POLL_SECONDS))
        except TimeoutError:
            shown.refresh()
            continue
        under_way -= 1
        shown.finish(number, len(estimates.cut))
        yield number, estimates


@contextmanager
def mapping(engine: EngineConfig) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, or what does the same by tasks on Ray, in any order; Ray repeats those whose worker has ended.

    Files that are read in it must lie in the same place on every machine.
    """
    with connected(engine) as ray:
        if ray is None:
            yield map
            return
        options, _ = _options(ray, engine, devices=False)
        task = ray.remote(_call).options(
            num_cpus=options["num_cpus"], runtime_env=options["runtime_env"], max_retries=TRIES, scheduling_strategy="SPREAD"
        )

        def on_workers(function: Callable[[Any], Any], given: Iterable[Any]) -> Iterator[Any]:
            sent = ray.put(function)
            waiting = [task.remote(sent, one) for one in given]
            while waiting:
                done, waiting = ray.wait(waiting)
                yield _translated(ray, lambda done=done: ray.get(done[0]))

        yield on_workers


@contextmanager
def connected(engine: EngineConfig) -> Iterator[Any | None]:
    """Ray, connected; a Ray that was started for it ends with it, and leaves no process and no file. None without it.

    Call it before JAX computes anything: Ray starts processes by a fork, and JAX has threads by then.
    """
    if not engine.ray:
        yield None
        return
    # Ray reads them when it is imported.
    for name, value in SETTINGS.items() if engine.address is None else ():
        os.environ.setdefault(name, value)
    import ray
    import ray.util

    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if engine.address is None:
        cores = cores_here()
        wanted = (engine.workers or 1) * engine.cores_per_worker
        if wanted > cores:
            raise EngineError(
                f"workers={engine.workers or 1} of {counted(engine.cores_per_worker, 'core')} each: this machine has {cores}"
            )
        options |= {"num_cpus": cores, "include_dashboard": False}
    with _session_folder() if engine.address is None else nullcontext() as folder:
        if folder:
            options["_temp_dir"] = str(folder)
        try:
            try:
                ray.init(address=engine.address, **options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                where = "Ray could not be started" if engine.address is None else f"address={engine.address!r}"
                raise EngineError(f"{where}: {_first_line(error)}") from error
            yield ray
        finally:
            ray.shutdown(wait_for_processes=True)


@contextmanager
def _session_folder() -> Iterator[Path]:
    """A folder for sockets and logs, removed at the end, as are those of processes that were killed: their locks are free."""
    # Paths of sockets are limited to about a hundred characters.
    base = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
    for other in base.glob(f"{FOLDER}*"):
        # One without a lock, or a new one, may be about to be used.
        with suppress(OSError, Timeout):
            if time.time() - (other / LOCK).stat().st_mtime > YOUNG_SECONDS:
                with FileLock(other / LOCK, timeout=0):
                    shutil.rmtree(other, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=base))
    try:
        with FileLock(folder / LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Worker:
    """Weights, in a process of its own, and what they say of one window after the other."""

    def __init__(self, config: ScoreConfig, checkpoint_sha256: str):
        # Where Ray was not started by the command, its variables are not the worker's.
        keep_compiled()
        self.config, self.checkpoint_sha256 = config, checkpoint_sha256
        self.scorer: Any = None
        self.state = (-1, 0)

    def score(self, number: int, queries: Queries, place: str) -> tuple[int, Estimates]:
        """Its number, and the estimates of its prompts."""
        self.state = (number, 0)
        # What is wrong with a checkpoint is an error of the window, which reaches the user, and not of a worker's start.
        self.scorer = self.scorer or self._load()
        return number, self.scorer(queries, place)

    def progress(self) -> tuple[int, int]:
        """The window that it has in hand, and how many of its prompts are done; asked for while it works."""
        return self.state

    def _load(self) -> Any:
        from jaxroute.batch.windows import WindowScorer, load_estimator
        from jaxroute.predictor.checkpoint import description_of
        from jaxroute.storage.digests import file_digest

        estimator = load_estimator(self.config)
        if (found := file_digest(description_of(self.config.checkpoint))) != self.checkpoint_sha256:
            raise EngineError(
                f"checkpoint={str(self.config.checkpoint)!r} is another on machine {socket.gethostname()!r} (its SHA-256 is "
                f"{found[:12]}... and not {self.checkpoint_sha256[:12]}...): it must be the same on every machine"
            )
        return WindowScorer(self.config, estimator, self._count)

    def _count(self, prompts: int) -> None:
        number, done = self.state
        self.state = (number, done + prompts)


class _Shown:
    """The prompts that are done, those too of windows in hand; less again where a worker has ended."""

    def __init__(self, ray: Any, bar: tqdm, workers: list[Any]):
        self.ray, self.bar, self.whole, self.parts = ray, bar, bar.n, dict[int, int]()
        self.asked: dict[Any, Any] = {worker: None for worker in workers}

    def refresh(self) -> None:
        for worker, reference in self.asked.items():
            if reference and self.ray.wait([reference], timeout=0)[0]:
                try:
                    number, done = self.ray.get(reference)
                    if number in self.parts or done:
                        self.parts[number] = done
                except self.ray.exceptions.RayError:
                    pass
                reference = None
            self.asked[worker] = reference or worker.progress.remote()
        self._draw()

    def finish(self, number: int, prompts: int) -> None:
        self.whole += prompts
        self.parts.pop(number, None)
        self._draw()

    def forget(self, worker: Any) -> None:
        self.asked.pop(worker, None)

    def _draw(self) -> None:
        self.bar.update(min(self.bar.total, self.whole + sum(self.parts.values())) - self.bar.n)


def cores_here() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _options(ray: Any, engine: EngineConfig, *, devices: bool = True, narrow: bool = False) -> tuple[dict[str, Any], int]:
    """Ray's options of a worker, and how many there shall be; `narrow`: it computes in bfloat16."""
    cores, there = engine.cores_per_worker, ray.cluster_resources()
    gpus = int(there.get("GPU", 0)) if devices else 0
    count = engine.workers or gpus or int(there.get("CPU", 0)) // cores
    if count < 1:
        raise EngineError(f"cores_per_worker={cores}: the cluster has {counted(int(there.get('CPU', 0)), 'core')}")
    flags = os.environ.get("XLA_FLAGS", "")
    threads = {name: str(cores) for name in ("NPROC", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
    # NPROC is the size of XLA's own pool of threads. Without a pool, products in bfloat16 have other last bits than with one
    # of any size.
    alone = {"XLA_FLAGS": f"{flags} --xla_cpu_multi_thread_eigen=false".strip()} if cores == 1 and not narrow else {}
    environment = threads | alone
    options: dict[str, Any] = {"num_cpus": cores, "runtime_env": {"env_vars": environment}}
    options |= {"max_restarts": -1, "max_task_retries": TRIES}
    return options | ({"num_gpus": 1} if gpus else {}), count


def _translated(ray: Any, call: Callable[[], Any]) -> Any:
    """Errors of ours as they were raised in the worker, and the end of workers in our words."""
    try:
        return call()
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, JaxrouteError | ProblemError):
            raise error.cause from None
        raise
    except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError) as error:
        raise EngineError(
            f"a worker has ended {TRIES} times in the same shard; is memory short? Fewer workers or rows per shard need less. "
            f"Ray says: {_first_line(error)}"
        ) from error


def _call(function: Callable[[Any], Any], one: Any) -> Any:
    return function(one)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
