"""Runs workers on a Ray cluster.

Each worker is an actor, which Ray places. When its process or node dies, Ray restarts it and repeats its task; training then
resumes from its last resume point. All nodes must see the run folder, or share a `shared_dir`. Reports travel through an actor on
the main process's node, and a request to stop is the signal that a worker on this machine would get.
"""
import logging
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from os import getpid
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mcvqa.base.files import write_text
from mcvqa.base.informing import counted
from mcvqa.base.interrupt import Interrupted
from mcvqa.config import Config, ConfigError
from mcvqa.run.ownership import Owned
from mcvqa.run.project import Project, RunStopped
from mcvqa.run.shared_session import receive
from mcvqa.run.tasks import TaskGraph
from mcvqa.run.workers.pool import SAVING_TAKES, SHORT_BAR, PoolWorker, WorkerPool
from mcvqa.run.workers.ray_node import RayTasks, Reports, ask_to_stop, versions_here

NAMESPACE = "mcvqa"
MOST_DEATHS = 5  # of a worker in one task: one that dies more often has a permanent cause
OWNER_LEAVES = 60.0  # seconds after which Ray has ended the actors of a main process that was killed
STARTS_WITHIN = 60.0  # seconds, after which a line says that no worker has started
ATTEMPTS, SERVER_DIED = 5, "Starting Ray client server failed"
ANSWERS_WITHIN = 45.0  # seconds; Ray itself tries a host:port at which nothing listens for a quarter of an hour
CONNECTS = """\
import sys, ray
try:
    ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
except Exception as error:
    sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
"""


# %% the cluster
def connect(address: str) -> bool:
    """Connect to a Ray cluster, unless this process is connected.

    Args:
        address: 'auto': the cluster of this machine, or the one in RAY_ADDRESS; 'local': a cluster on this machine only, for this
            process; otherwise an address, such as 'ray://head:10001'.

    Returns:
        Whether this call has connected, so that its caller must disconnect.

    Raises:
        ConfigError: ray is not installed, or there is no cluster at the address that this process may use.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("executor=ray needs ray: pip install 'mcvqa[ray]'") from None
    if ray.is_initialized():
        return False
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if address != "local":
            _tried_again(_require_answer, address)
        _tried_again(_init, address)
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray sets its own, which would end the run without saving
                signal.signal(number, handler)
    return True


def _tried_again(connecting: Callable[[str], None], address: str) -> None:
    """Call `connecting`, again if the cluster's server for this client dies at once: Ray forks it while other threads run."""
    for left in reversed(range(ATTEMPTS)):
        try:
            connecting(address)
            return
        except ConfigError as error:
            if not left or SERVER_DIED not in str(error):
                raise
        time.sleep(1)


def _init(address: str) -> None:
    """Connect this process. Raises ConfigError as `connect` does."""
    import ray

    try:
        ray.init(
            address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR,
            runtime_env={"py_modules": [str(files("mcvqa"))], "excludes": ["**/__pycache__"], "env_vars": {
                "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "TQDM_MININTERVAL": "1", "TQDM_BAR_FORMAT": SHORT_BAR,
            }},
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _no_cluster(address, " ".join(str(error).split())) from None


def _require_answer(address: str) -> None:
    """Try to connect in another process, which can be ended if Ray keeps waiting, and which Ray may abort.

    Raises:
        ConfigError: that fails.
    """
    try:
        tried = subprocess.run(
            [sys.executable, "-c", CONNECTS, address], capture_output=True, text=True, errors="replace", timeout=ANSWERS_WITHIN
        )
    except subprocess.TimeoutExpired:
        raise _no_cluster(address, f"nothing within {ANSWERS_WITHIN:.0f} s") from None
    if tried.returncode:
        is_refused = "InvalidAuthToken" in tried.stderr
        said = (tried.stderr.strip().splitlines() or [f"status {tried.returncode}"])[-1]
        raise _no_cluster(address, "InvalidAuthToken" if is_refused else said)


def _no_cluster(address: str, reason: str) -> ConfigError:
    """Make the error for a cluster that cannot be used."""
    if "Auth" in reason:
        return ConfigError(
            f"The Ray cluster at ray_address={address!r} demands its token, and this process has another one or none. Set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token of the cluster (on its machines: ~/.ray/auth_token)."
        )
    if "Version mismatch" in reason:
        return ConfigError(
            f"The Ray cluster at ray_address={address!r} has another version of Ray or Python ({reason[:300]}). "
            "Install the same here."
        )
    if "ray[client]" in reason:
        return ConfigError(
            f"ray_address={address!r} needs Ray's client: pip install 'ray[client]'. Or start the run on a node of the cluster, "
            "with ray_address=auto."
        )
    token = " If it demands a token, set RAY_AUTH_MODE and RAY_AUTH_TOKEN." if address.startswith("ray://") else ""
    return ConfigError(
        f"No Ray cluster answers at ray_address={address!r} ({reason[:300].rstrip('.')}). Start one with `ray start --head`, "
        f"name another, or use --set ray_address=local.{token}"
    )


@dataclass(frozen=True)
class Slots:
    """Describes the share of each worker in the cluster.

    Attributes:
        workers: number of workers.
        gpus, cpus: of each worker.
        nodes: host names or addresses of the cluster's nodes.
    """

    workers: int
    gpus: int
    cpus: int
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        each = counted(self.gpus, "GPU") if self.gpus else counted(self.cpus, "CPU core")
        return (f"{counted(self.workers, 'worker')} with {each} each, on a Ray cluster of {counted(len(self.nodes), 'node')} "
                f"({', '.join(self.nodes[:8])}{', ...' if len(self.nodes) > 8 else ''})")


def slots_of(nodes: Sequence[dict[str, Any]], config: Config, most: int) -> Slots:
    """Divide the cluster: one worker per GPU, or per group of GPUs that a model takes by the settings; one per node without GPUs.

    There are at most `parallel_folds` workers, if that is set.

    Args:
        nodes: result of `ray.nodes()`.
        config: all settings.
        most: number of workers that can be busy at the same time.
    """
    alive = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) + node["Resources"].get("GPU", 0)]
    each = config.gpus_at_least
    gpus = int(sum(node["Resources"].get("GPU", 0) // each for node in alive))
    workers = max(1, min(config.parallel_folds or gpus or len(alive), most))
    with_gpu = [node for node in alive if node["Resources"].get("GPU")] or alive
    smallest = min((int(node["Resources"].get("CPU", 1)) for node in with_gpu), default=1)
    most = int(max((node["Resources"].get("GPU", 0) // each for node in with_gpu), default=0))  # workers on a node
    on_a_node = most or -(-workers // max(1, len(alive)))
    names = [node["NodeManagerHostname"] for node in alive]
    if len({*names}) < len(names):  # several on one machine
        names = [f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}" for node in alive]
    return Slots(workers, each * (gpus > 0), max(1, smallest // on_a_node), tuple(names))


# %% in the main process
@dataclass(kw_only=True)
class RayWorker(PoolWorker):
    """Represents an actor.

    Attributes:
        actor: its handle.
        pool: the pool it belongs to.
        request: its first request; sent along with each task, since Ray may have restarted the actor.
        process, node, host: where it runs now, as it reports when it starts.
        deaths: number of times its process has died during its task.
        stopped: whether it was asked to stop.
        loss: Ray's message after giving it up.
        call: waits for the answer to the last request.
    """

    actor: Any
    pool: "RayWorkers"
    request: dict[str, Any] = field(default_factory=dict)
    process: int = 0
    node: str = ""
    host: str = ""
    deaths: int = 0
    stopped: bool = False
    loss: str = ""
    call: threading.Thread | None = None

    @property
    def shown(self) -> str:
        return f"{self.host}: {super().shown}"

    def send(self, **request: Any) -> None:
        if "task" in request:
            self.deaths = 0
            answer = self.actor.do.remote(request["task"], self.request)
        else:
            self.request = {**request, "shared": self.pool.shared, "versions": versions_here(), "folder": str(Path.cwd())}
            answer = self.actor.begin.remote(self.request)
        self.call = threading.Thread(target=self._await, args=(answer,), daemon=True)
        self.call.start()

    def _await(self, answer: Any) -> None:
        """Pass on the answer to a request, and None when there will be no more."""
        import ray

        try:
            message = ray.get(answer)
        except Exception as error:  # of Ray: what tasks raise is in the answer
            message, self.loss = {}, str(error).strip().splitlines()[0]
        self.stopped = self.stopped or "stopped" in message
        self.pool.take_reports()
        self.pool.messages.put((self, message))
        if not message.keys() & {"ready", "done"}:
            self.pool.messages.put((self, None))

    def end(self) -> None:
        """Let it save its current work and end, by the signal that a process on this machine would get."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self.task is None or not self.node:
            ray.kill(self.actor)
            return
        there = NodeAffinitySchedulingStrategy(self.node, soft=False)
        ray.remote(ask_to_stop).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(self.process)


@dataclass
class RayWorkers(WorkerPool[RayWorker]):
    """Manages actors on a Ray cluster; `program(project, settings)` returns the function that executes a task.

    Attributes:
        slots: the share of each worker.
        connected: whether this run has connected to the cluster, and so disconnects.
        reports: the actor that collects the workers' reports.
        shared: a file of the run folder, and its content, by which a worker checks that it sees that folder; empty with
            `shared_dir`.
        taking: held while reports are taken.
        closed: whether nobody receives reports any more.
    """

    slots: Slots = Slots(1, 0, 1, ())
    connected: bool = False
    reports: Any = None
    shared: tuple[str, str] = ("", "")
    taking: threading.Lock = field(default_factory=threading.Lock)
    closed: threading.Event = field(default_factory=threading.Event)

    def __str__(self) -> str:
        return str(self.slots)

    def _launched(self, number: int) -> RayWorker:
        import ray

        actor = ray.remote(RayTasks).options(
            num_gpus=self.slots.gpus, num_cpus=self.slots.cpus, max_restarts=-1,
            max_task_retries=-1,  # Ray also counts attempts to reach an actor that is being started again, so we count deaths
        ).remote(number, self.program, run_name_of(self.project))
        return RayWorker(name=f"worker {number}", actor=actor, pool=self)

    def listen(self) -> None:
        """Take reports until the pool is closed, and say if no worker starts: Ray waits for free resources silently."""
        told_at = time.monotonic() + STARTS_WITHIN
        while not self.closed.wait(0.5):
            self.take_reports()
            if self.workers and time.monotonic() > told_at and not any(worker.process for worker in self.workers):
                told_at = math.inf
                need = counted(self.slots.gpus, "GPU") if self.slots.gpus else counted(self.slots.cpus, "CPU core")
                tqdm.write(f"  no worker has started yet: no node has {need} free (`ray status`). It is waited for.")

    def take_reports(self) -> None:
        """Pass on the workers' reports so far."""
        import ray

        with self.taking:
            workers, reports = self.workers, self.reports
            if reports is None:  # closed, and Ray would start a new cluster to ask
                return
            try:
                reported = ray.get(reports.take.remote())
            except (ray.exceptions.RayError, ConnectionError):  # the cluster is gone, as the workers' calls will show
                return
            for number, message in reported:
                worker = workers[number]
                if "process" in message:
                    worker.deaths += worker.process > 0 and worker.task is not None
                    worker.process, worker.node, worker.host = (message[name] for name in ("process", "node", "host"))
                if worker.deaths > MOST_DEATHS:
                    ray.kill(worker.actor)
                self.messages.put((worker, message))

    def _take_in(self, worker: RayWorker, message: dict[str, Any], graph: TaskGraph | None) -> None:
        if "done" in message and self.project.config.shared_dir:
            receive(self.project, message["done"])
        super()._take_in(worker, message, graph)

    def _ended(self, worker: RayWorker) -> BaseException:
        name = f"{worker.name.capitalize()} on {worker.host}" if worker.host else worker.name.capitalize()
        doing = f", working on {worker.task!r}," if worker.task else ""
        if worker.stopped:
            return Interrupted(f"{name}{doing} was asked to stop; finished work is saved.")
        if worker.failure:
            return RunStopped(worker.failure if len(self.slots.nodes) == 1 else f"{name}: {worker.failure}")
        return RunStopped(
            f"{name}{doing} was lost: its process died {counted(worker.deaths, 'time')} ({worker.loss}). Finished work is "
            "saved. Run the same command again to continue."
        )

    def close(self) -> None:
        """Let the workers save and end, and wait for them; a second interrupt, or ten minutes, ends them at once."""
        import ray

        workers, until = self.workers, time.monotonic() + SAVING_TAKES
        try:
            for worker in workers:
                worker.end()
            for worker in workers:
                if worker.task is not None and worker.call is not None:
                    worker.call.join(timeout=max(0.1, until - time.monotonic()))
        finally:
            self.closed.set()
            reports, self.reports = self.reports, None
            self.workers = []
            for worker in workers:
                ray.kill(worker.actor)
            if reports is not None:
                ray.kill(reports)
            if self.connected:
                ray.shutdown()
                self.connected = False


def ray_workers(project: Project, program: Callable[..., Any], loaders: int, most: int = 0) -> RayWorkers:
    """Connect to the cluster in the settings, and claim the run there. Actors start later.

    Args:
        project: the run.
        program, loaders: see `WorkerPool`.
        most: number of workers that can be busy at the same time; 0: the number of folds.

    Raises:
        ConfigError: there is no cluster.
        Owned: another main process works on the run.
    """
    connected = connect(project.config.ray_address)
    import ray

    slots = slots_of(ray.nodes(), project.config, most or len(project.config.folds_to_train))
    pool = RayWorkers(project, program, [""] * slots.workers, {}, loaders, slots=slots, connected=connected)
    try:
        pool.reports = _reports_of(project)
        if not project.config.shared_dir:
            file, content = project.paths.experiment / "tasks" / "shared.txt", f"{socket.gethostname()} {getpid()}"
            write_text(file, content)
            pool.shared = str(file.absolute()), content
    except BaseException:
        pool.close()
        raise
    threading.Thread(target=pool.listen, daemon=True).start()
    return pool


def run_name_of(project: Project) -> str:
    """Return the name of a run on the cluster."""
    return str(project.paths.experiment.absolute())


def _reports_of(project: Project) -> Any:
    """Start the actor that collects a run's reports, on this node. It has the run's name, so there is only one main process.

    Raises:
        Owned: another main process has started it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    name, until = run_name_of(project), time.monotonic() + OWNER_LEAVES
    while _is_taken(name) and time.monotonic() < until:
        time.sleep(1)
    try:
        return ray.remote(Reports).options(name=name, num_cpus=0, scheduling_strategy=here).remote()
    except ValueError:
        raise Owned(
            f"Another process is working on the run {project.config.run!r} on this Ray cluster. Wait for it to end, or choose "
            "another name: --set run_name=..."
        ) from None


def _is_taken(name: str) -> bool:
    import ray

    try:
        ray.get_actor(name)
    except ValueError:
        return False
    return True
