"""Engines that misbehave, one variant for each way. PyTorch eager does the honest part of the work.

Variants whose misdeed ends the process or the launch have a worker of their own. Those of `wrong` and `facts` do not: there the
batch size chooses the misdeed (`WRONG`, `FACTS`), so that one worker can go through all of them.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchrun.backends.contract import Availability, Backend, Description, Session, Variant

if TYPE_CHECKING:
    from pathlib import Path

    from benchrun.backends.cache import ArtefactCache
    from benchrun.backends.contract import Build, FloatArray, Inputs, Point, Recipe, TrainingSession
    from benchrun.backends.models import Model

# what variant `wrong` does at batch 1, 2, …
WRONG = {
    1: "nothing",
    2: "nan",  # one value of the answer
    3: "scaled",  # by 1.01
    4: "rounded",  # fp32 arithmetic on weights in the asked dtype, which the facts claim to have computed in
    5: "original",  # the same on the original fp32 weights
    6: "claims",  # computes as asked, but the facts say otherwise
    7: "shape",  # the first sequence only
    8: "missing",  # no output at all
    9: "stale",  # after the first call the output buffer is never written again
    10: "decays",  # right at first, wrong after some calls
}
# what variant `facts` reports at batch 1, 2, …
FACTS: dict[int, Any] = {1: float("nan"), 2: "\udcff\x00", 3: np.float32(2.5), 4: object()}
LONG_MESSAGE = "\x1b[31mred\nand \udcff broken, " + "long " * 200_000
LAST_WORDS = "licence expired: \udcff"
LEAK_BYTES = 1 << 20
CALLS_BEFORE_DECAY = 6


class HostileSession(Session):
    """An eager session with a misdeed."""

    def __init__(self, honest: Session, point: Point) -> None:
        self._honest = honest
        self._point = point
        self._calls = 0
        self._kept: list[Any] = []
        self._buffer: dict[str, FloatArray] | None = None
        self._child: int | None = None
        self.artefact: str | None = None

    def bind(self, inputs: Inputs) -> None:
        self._honest.bind(inputs)

    def enqueue(self) -> None:
        self._honest.enqueue()
        self._calls += 1
        if misdeed := MISDEEDS.get(self._point.variant):
            misdeed(self)

    def synchronize(self) -> None:
        self._honest.synchronize()

    def poison(self) -> None:
        if self._buffer is not None:
            for array in self._buffer.values():
                array.fill(np.nan)

    def outputs(self) -> Mapping[str, FloatArray]:
        found = {name: array.copy() for name, array in self._honest.outputs().items()}
        match self._wrong:
            case "nan":
                next(iter(found.values())).flat[-1] = np.nan
            case "scaled":
                found = {name: array * np.float32(1.01) for name, array in found.items()}
            case "shape":
                found = {name: array[:1] for name, array in found.items()}
            case "missing":
                found = {}
            case "decays" if self._calls > CALLS_BEFORE_DECAY:
                found = {name: -array for name, array in found.items()}
        return found if self._buffer is None else self._buffer

    def facts(self) -> Mapping[str, Any]:
        dtype = self._point.dtype
        if self._wrong == "claims":
            dtype = "fp16" if dtype == "fp32" else "fp32"
        facts: dict[str, Any] = {"compute_dtypes": {"matmul": dtype}, "child": self._child, "artefact": self.artefact}
        if self._point.variant == "facts":
            facts["odd"] = FACTS[self._point.batch]
        return facts

    def close(self) -> None:
        self._honest.close()
        if self._point.variant == "closing" and self._point.batch == 1:
            ctypes.string_at(0)

    @property
    def _wrong(self) -> str | None:
        return WRONG[self._point.batch] if self._point.variant == "wrong" else None

    def segfault(self) -> None:
        ctypes.string_at(0)

    def die_while_measured(self) -> None:
        if self._calls == 5:  # with --warmup 0 the first two calls come before the timed ones
            os.kill(os.getpid(), signal.SIGKILL)

    def exit(self) -> None:
        os.write(1, LAST_WORDS.encode(errors="surrogateescape") + b"\n\n")
        os._exit(7)

    def hang(self) -> None:
        time.sleep(3600)

    def take_memory(self) -> None:
        """Batch 1 has room; batch 2 runs out inside PyTorch, larger ones inside Python."""
        if self._point.batch == 1:
            return
        import torch

        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
        while True:
            self._kept.append(torch.ones(1 << 22) if self._point.batch == 2 else bytearray(1 << 24))

    def complain(self) -> None:
        raise RuntimeError(LONG_MESSAGE)

    def close_files(self) -> None:
        os.closerange(0, 256)

    def mess_about(self) -> None:
        """Noise on every way out, another working directory, and a child that holds on to all it inherited."""
        print("noise on stdout", flush=True)
        os.write(1, b"noise \xff on descriptor 1\n")
        os.chdir("/")
        if self._child is None:
            self._child = os.fork()
            if self._child == 0:
                time.sleep(3600)
                os._exit(0)

    def leak(self) -> None:
        self._kept.append(bytearray(os.urandom(LEAK_BYTES)))

    def stay(self) -> None:
        """Keeps the interpreter from ending."""
        if self._calls == 1:
            atexit.register(time.sleep, 3600)
            threading.Thread(target=time.sleep, args=(3600,)).start()

    def forget(self) -> None:
        if self._wrong == "stale" and self._buffer is None:
            self._buffer = {name: array.copy() for name, array in self._honest.outputs().items()}


MISDEEDS: Mapping[str, Callable[[HostileSession], None]] = {
    "segfault": HostileSession.segfault,
    "killed": HostileSession.die_while_measured,
    "exits": HostileSession.exit,
    "hangs": HostileSession.hang,
    "memory": HostileSession.take_memory,
    "raises": HostileSession.complain,
    "closes": HostileSession.close_files,
    "untidy": HostileSession.mess_about,
    "leaks": HostileSession.leak,
    "stays": HostileSession.stay,
    "wrong": HostileSession.forget,
}
VARIANTS = (*MISDEEDS, "unbuildable", "closing", "facts", "behaved", "ranged")


class HostileBackend(Backend):
    """PyTorch eager with a misdeed; `behaved` has none. `ranged` keeps an artefact for the whole sweep, as an engine
    with a range of shapes does, and can be killed: see `build_for_range`.
    """

    description: ClassVar[Description] = Description(
        name="hostile",
        summary="misbehaves in many ways: for tests",
        distributions=("torch",),
        install="pip install benchrun-hostile",
        variants=(
            *(Variant(name, "see benchrun_hostile", ("cpu",), ("fp32", "fp16", "bf16")) for name in VARIANTS),
            Variant("trainer", "see benchrun_hostile_training", ("cpu",), ("fp32",), training=("fp32", "bf16")),
        ),
    )

    def probe(self) -> Availability:
        raise RuntimeError("a probe must not raise")

    def prepare_training(self, model: Model, point: Point, recipe: Recipe, build: Build) -> TrainingSession:
        from benchrun_hostile_training import HostileTraining

        return HostileTraining(model, point, recipe)

    def prepare(self, model: Model, point: Point, build: Build) -> Session:
        import torch

        from benchrun.backends.models import copy_module
        from benchrun.backends.torch_sessions import EagerSession

        if point.variant == "unbuildable":
            raise ValueError("no kernel for \udcff\n  on this device")
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(point.dtype, torch.float32)
        wrong = WRONG.get(point.batch) if point.variant == "wrong" else None
        module = copy_module(model, torch.device("cpu"), torch.float32 if wrong == "original" else dtype)
        if wrong == "rounded":
            module = module.float()
        session = HostileSession(EagerSession(module, point, torch.device("cpu")), point)
        if point.variant == "ranged":
            session.artefact = build_for_range(point, build)
        return session


def build_for_range(point: Point, build: Build) -> str:
    """The key of an artefact for all shapes of the sweep. With $HOSTILE_KILLS=worker:2 batch 2 kills this process instead, with
    `command:2` the one that started it.
    """
    victim, _, batch = os.environ.get("HOSTILE_KILLS", "").partition(":")
    if batch == str(point.batch):
        os.kill(os.getpid() if victim == "worker" else os.getppid(), signal.SIGKILL)
        time.sleep(3600)
    shapes = sorted([each.batch, each.seq] for each in build.sweep())

    def make(folder: Path) -> None:
        with build.phase("compile"):
            (folder / "engine").write_text(str(shapes))

    artefact = build.cache.obtain("hostile_engine", {"shapes": shapes}, make)
    build.artefact(artefact.n_bytes, hit=artefact.hit)
    return artefact.key


class NamelessBackend(HostileBackend):
    """Without a description."""

    description = None  # type: ignore[assignment]


class UnsureBackend(HostileBackend):
    """Raises when it is asked what is missing, and what it has built."""

    description: ClassVar[Description] = replace(
        HostileBackend.description,
        name="hostile-unsure",
        variants=tuple(each for each in HostileBackend.description.variants if each.name == "behaved"),
    )

    @classmethod
    def missing(cls, variant: str) -> str | None:
        raise RuntimeError("no licence\nfor this question")

    @classmethod
    def built(cls, cache: ArtefactCache) -> Mapping[str, str]:
        raise KeyError("built")


class Stranger:
    """Not a backend at all, though an entry point says so."""
