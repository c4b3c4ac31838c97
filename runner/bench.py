"""What a worker has at hand for every point: model, engine, artefact cache, clocks, telemetry, and the checks of an answer."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import Backend, BuildFailed, BuildPhase, Inputs, Point, Session, WrongVariant
from benchrun.backends.registry import load_backend
from benchrun.runner import memory
from benchrun.runner.clocks import DeviceClock, open_device_clock
from benchrun.runner.telemetry.interface import open_telemetry
from benchrun.runner.workloads import trains

if TYPE_CHECKING:
    from benchrun.backends.cache import ArtefactCache
    from benchrun.backends.contract import FloatArray
    from benchrun.backends.models import Model
    from benchrun.backends.reference import Reference
    from benchrun.results.rows import Parity
    from benchrun.runner.channel import Progress
    from benchrun.runner.messages import Assignment

VERIFIED_TOKENS = (
    65_536  # the answer is compared for as many whole sequences as fit: a reference for more would take minutes
)


class WorkerBuild:
    """The runner's stopwatch for the phases of a build, and the artefact cache."""

    def __init__(
        self, cache: ArtefactCache, points: Sequence[Point], settings: Mapping[str, Any] | None = None
    ) -> None:
        self._cache = cache
        self._files: Mapping[str, str] = (settings or {}).get("files", {})
        self._points = tuple(points)
        self.seconds: dict[str, float] = {}
        self.artefact_bytes: int | None = None
        self.cache_hit: bool | None = None

    @property
    def cache(self) -> ArtefactCache:
        return self._cache

    @contextmanager
    def phase(self, name: BuildPhase) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def artefact(self, n_bytes: int, *, hit: bool) -> None:
        self.artefact_bytes = (self.artefact_bytes or 0) + n_bytes
        self.cache_hit = hit and self.cache_hit is not False

    def file(self, name: str) -> Path:
        if name not in self._files:
            raise BuildFailed(
                f"{name} names a file by its content, and nothing says where it lies: give the path of the file"
            )
        return Path(self._files[name]).expanduser()

    def sweep(self) -> Sequence[Point]:
        return self._points

    def fields(self) -> dict[str, Any]:
        """What was learnt, as fields of a worker's report."""
        seconds = {f"{phase}_s": taken for phase, taken in self.seconds.items()}
        return seconds | {"artefact_bytes": self.artefact_bytes, "cache_hit": self.cache_hit}


class Answers:
    """Reference answers, computed once for points of this worker that follow each other and share their inputs."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._kept: tuple[object, Mapping[str, FloatArray], Mapping[str, FloatArray] | None] | None = None

    def expected(self, inputs: Inputs, dtype: str) -> tuple[Mapping[str, FloatArray], Mapping[str, FloatArray] | None]:
        """fp32 outputs for `inputs`, and those on weights rounded to `dtype` where that tells precisions apart."""
        from benchrun.runner.parity import LOW_PRECISION

        key = (digest(inputs), inputs.lengths, dtype)
        if self._kept is None or self._kept[0] != key:
            exact = self._reference.exact(inputs)
            rounded = self._reference.rounded(inputs, dtype) if dtype in LOW_PRECISION else None
            self._reference.release()
            self._kept = (key, exact, rounded)
        return self._kept[1], self._kept[2]


class Bench:
    """The tools of one worker process; its points share them."""

    def __init__(self, assignment: Assignment) -> None:
        from benchrun.backends.cache import default_cache

        self.assignment = assignment
        self.protocol = assignment.protocol
        first = assignment.tasks[0].point
        self.points = assignment.sweep or tuple(task.point for task in assignment.tasks)
        self.backend: Backend = load_backend(first.backend)()
        self.cache = default_cache()
        self.telemetry = open_telemetry(first.device)
        self.clock: DeviceClock | None = None  # opened after the first engine has made its context
        self._most_device_bytes: int | None = None
        self._model: Model | None = None
        self._answers: Answers | None = None

    @property
    def model(self) -> Model:
        """The model: loaded once, shared by all points of this worker."""
        from benchrun.backends.models import load_model

        if self._model is None:
            self._model = load_model(self.assignment.spec, self.assignment.max_seq)
            # the libraries' objects live as long as the process: looking at all of them took 0.4 s of each of three collections a point
            gc.freeze()
        return self._model

    @property
    def answers(self) -> Answers:
        """The reference answers of that model."""
        from benchrun.backends.reference import Reference, reference_device

        if self._answers is None:
            self._answers = Answers(Reference(self.model, reference_device(self.points[0])))
        return self._answers

    def open_clock(self) -> None:
        """Open the device's clock where there is one and it is not open yet."""
        if self.clock is None:
            self.clock = open_device_clock(self.points[0].device)

    def device_peak(self) -> int | None:
        """Most bytes of the device in use, all processes together, at any time this was asked for this point; None on a CPU.

        Asked after the build, after the first answers and after the last sample: what an engine takes and gives back in between
        shows in its allocator's own peak only.
        """
        if self.clock is None:
            return None
        try:
            free, total = self.clock.memory()
        except RuntimeError:  # after a device fault the driver answers nothing any more
            return self._most_device_bytes
        self._most_device_bytes = max(total - free, self._most_device_bytes or 0)
        return self._most_device_bytes

    def begin(self, progress: Progress) -> None:
        """The build of a point begins: its peaks of memory count from here, and so does --timeout, for what came before was not the
        engine's work."""
        gc.enable()  # the worker began without
        memory.reset_peak()
        self._most_device_bytes = None
        progress.enter("build")
        self.backend.reset_peak()

    def peaks(self) -> dict[str, int | None]:
        """Peaks of memory since `begin`, as fields of a worker's report."""
        return {
            "peak_host_bytes": memory.peak_bytes(),
            "peak_device_bytes": self.device_peak(),
            "peak_allocator_bytes": self.backend.peak_device_bytes(),
        }


def verify(
    session: Session,
    point: Point,
    exact: Mapping[str, FloatArray],
    rounded: Mapping[str, FloatArray] | None,
    rows: int,
    lengths: Sequence[int] | None = None,
) -> tuple[dict[str, Any], float | None]:
    """One inference into poisoned buffers, its first `rows` sequences compared with the reference.

    `lengths` are the true lengths of all sequences, where some are padded: then only true tokens count.
    Parity as a dict, and for low precisions the distance to fp32 arithmetic on the original or the rounded weights,
    whichever is nearer.
    """
    from benchrun.runner.parity import compare, relative_distance, remainder_problem, true_tokens

    session.poison()
    session.enqueue()
    session.synchronize()
    whole = session.outputs()
    answer: Mapping[str, FloatArray] = {name: array[:rows] for name, array in whole.items()}
    if lengths is not None:
        first = lengths[:rows]
        answer, exact = true_tokens(answer, first, point.seq), true_tokens(exact, first, point.seq)
        rounded = None if rounded is None else true_tokens(rounded, first, point.seq)
    parity: Parity = compare(answer, exact, point.dtype, rounded=rounded)
    if parity.ok and (problem := remainder_problem(whole, point.batch, rows, lengths)):
        parity = replace(parity, ok=False, reason=problem)
    distance = None
    if rounded is not None and parity.ok:
        distance = min(relative_distance(answer, each) for each in (rounded, exact))
    return asdict(parity), distance


def judge(point: Point, parity: Mapping[str, Any], distance: float | None, facts: Mapping[str, Any]) -> None:
    """Raises WrongVariant where the answer or the precision is not what was asked for."""
    from benchrun.runner.parity import precision_problem

    if not parity["ok"]:
        raise WrongVariant(f"wrong answer: {parity['reason']}")
    # gradients have limits of their own, and two logits may be right to many digits by luck
    lucky = trains(point.workload) or point.head == "classification"
    if problem := precision_problem(point.dtype, distance, facts, None if lucky else parity["rel_l2"]):
        raise WrongVariant(problem)


def digest(inputs: Inputs) -> bytes:
    """SHA-256 over the arrays of a set: names, shapes and bytes."""
    found = hashlib.sha256()
    for name, array in sorted(inputs.arrays.items()):
        found.update(f"{name}{array.shape}{array.dtype}".encode())
        found.update(array.tobytes())
    return found.digest()


def first_rows(inputs: Inputs, tokens: int) -> Inputs:
    """The first sequences of a set, as many as hold at most `tokens` tokens, at least one."""
    seq = next(iter(inputs.arrays.values())).shape[1]
    rows = max(1, tokens // seq)
    return Inputs(inputs.index, {name: array[:rows] for name, array in inputs.arrays.items()}, inputs.lengths[:rows])
