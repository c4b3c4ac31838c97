"""The contract between benchrun and an engine: `Point`, `Availability`, `Backend`, `Session`.

A backend prepares and runs a model. It never times anything, never decides a sample count and never
touches the database: the runner owns the clock and applies the same one to every engine.

Exceptions a backend raises, and the status that the point gets::

    BackendError
    ├── Unsupported    `unsupported`   the engine cannot do this point, and says why
    ├── BuildFailed    `build_failed`  export, compilation or loading failed
    ├── OutOfMemory    `oom`           host or device memory ran out
    └── WrongVariant   `invalid`       something else ran than was asked for (a silent fall-back)

Any other exception is `build_failed` while preparing and `error` afterwards.
"""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from benchrun.backends.cache import Artefact, ArtefactCache
    from benchrun.backends.models import Model

    Array = npt.NDArray[np.generic]
    FloatArray = npt.NDArray[np.float32]

ENTRY_POINT_GROUP = "benchrun.backends"
DTYPES = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
TRAINING_DTYPES = ("fp32", "tf32", "bf16", "fp16-amp")  # weights are fp32 in all of them: docs/training.md
HEADS = ("layers", "encoder", "pooler", "qa", "classification")
DEVICE_KINDS = ("cpu", "cuda", "rocm")
LAYOUTS = ("padded", "bucketed", "packed")  # how sequences of different lengths lie in a call
PACKED_TOKENS = "packed_tokens"

OptionValue = str | int | float | bool
BuildPhase = Literal["export", "compile", "load"]


class BackendError(Exception):
    """Something an engine says about a point, in one sentence."""


class Unsupported(BackendError):
    """The engine cannot do this point."""


class BuildFailed(BackendError):
    """Exporting, compiling or loading the model failed."""


class OutOfMemory(BackendError):
    """Host or device memory ran out."""


class WrongVariant(BackendError):
    """The engine ran something else than what was asked for."""


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to measure. Its `key` is what resume, series and gate go by.

    `model` is a name without paths (`bert-base`, `my-folder@1f2e3d4c`), `weights` an id of their content
    (`random:0`, `sha256:…`), `device` a kind with an index (`cpu`, `cuda:0`, `rocm:1`), `batch` counts
    sequences and `seq` tokens a sequence. `options` and `overrides` are sorted (name, value) pairs.
    """

    model: str
    weights: str
    head: str
    backend: str
    variant: str
    device: str
    dtype: str
    batch: int
    seq: int
    workload: str
    protocol: str
    overrides: tuple[tuple[str, OptionValue], ...] = ()
    options: tuple[tuple[str, OptionValue], ...] = ()

    @property
    def key(self) -> str:
        """16 hexadecimal digits: SHA-256 of the point as canonical JSON."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def engine(self) -> str:
        """Backend and variant as the command line spells them: `torch:eager`."""
        return f"{self.backend}:{self.variant}"

    @property
    def device_kind(self) -> str:
        """`cpu`, `cuda` or `rocm`."""
        return self.device.partition(":")[0]

    @property
    def layout(self) -> str:
        """How sequences of different lengths lie in a call: the last part of the workload where that is one of LAYOUTS, else `padded`."""
        last = self.workload.rpartition(":")[2]
        return last if last in LAYOUTS else "padded"

    def with_capacity(self, tokens: int) -> Point:
        """This point for preparing a session of layout `packed` that has room for `tokens` tokens a call, all sequences together.

        Sessions with static shapes (compiled, captured) compute as many tokens in every call; without it they make room for
        batch · seq. It is no part of what is measured: measurements are kept under the point without it.
        """
        kept = tuple((name, value) for name, value in self.options if name != PACKED_TOKENS)
        return replace(self, options=tuple(sorted((*kept, (PACKED_TOKENS, tokens)))))

    def option(self, name: str, default: OptionValue | None = None) -> OptionValue | None:
        """The value of an option, or `default` where it was not given."""
        return dict(self.options).get(name, default)


@dataclass(frozen=True, slots=True)
class Availability:
    """What a backend says of itself on this machine, after importing its engine.

    `versions` maps library to version, `devices` lists usable devices (`cpu`, `cuda:0`), `dtypes` maps a device
    kind to the dtypes that run on it. `reason` says why `ok` is false, and how to mend it.
    """

    ok: bool
    reason: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    dtypes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variant:
    """A named option set of a backend: what it is, and the devices and dtypes it is written for.

    `verified` is the project's own verification level per device kind: `executed`, `built`, `compiled` or `never run`. It holds for padded
    and packed calls and for training alike, as far as the variant offers them; a session that lags behind says so as a fact.
    `distributions` and `install` are set where the variant needs other packages than its backend. `training` lists the dtypes
    (of `TRAINING_DTYPES`) in which it makes training steps: none where it cannot.
    """

    name: str
    summary: str
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    verified: Mapping[str, str] = field(default_factory=dict)
    distributions: tuple[str, ...] = ()
    install: str = ""
    training: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """A backend option that `--opt NAME=VALUE` may set; `choices` is empty where any value of the default's type will do.

    With `is_text_file` the value is the path of a text with one sequence a line, for the model's own tokenizer. It is read and checked
    when a sweep is planned; the point has a name by its content in its place (`text@1a2b3c4d`), and `Build.file` says where it lies.

    `dtypes`: those that it changes anything in, empty for all. Points of other dtypes do not carry it, so that they stay what they are
    without it.
    """

    name: str
    summary: str
    default: OptionValue
    choices: tuple[OptionValue, ...] = ()
    is_text_file: bool = False
    dtypes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a backend without importing its engine.

    `distributions` are the package names whose metadata gives its version (any one of them present is enough unless
    `requires` lists more that must all be there); `install` is the command that installs it. The first variant
    whose devices include the asked device is the default one.
    """

    name: str
    summary: str
    distributions: tuple[str, ...]
    install: str
    variants: tuple[Variant, ...]
    options: tuple[Option, ...] = ()
    requires: tuple[str, ...] = ()

    def variant(self, name: str) -> Variant | None:
        """The variant of that name, or None."""
        return next((each for each in self.variants if each.name == name), None)


@dataclass(frozen=True, eq=False, slots=True)
class Inputs:
    """One input set, on the host.

    `arrays` holds `input_ids`, `attention_mask` and `token_type_ids` as int64 [batch, seq], or, for head `layers`,
    `hidden_states` as float32 [batch, seq, hidden]. `lengths` are the true lengths, in tokens, of the sequences.
    `index` tells rotated sets apart: a session may keep its device copy of a set under this number, unless it is negative: such a
    set comes once only.
    """

    index: int
    arrays: Mapping[str, Array]
    lengths: tuple[int, ...]

    @property
    def full(self) -> bool:
        """True where no sequence is padded."""
        return all(n == next(iter(self.arrays.values())).shape[1] for n in self.lengths)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a training step is made. The batch of the point is that of one micro-batch; a step takes `accumulate` of them.

    The learning rate of step n (from 0) is `rate(n)`: a linear warm-up, then constant. `clip` is the largest global gradient norm,
    None for no clipping. With `dropout` the model's own probabilities hold, else none. `seed` is that of all random numbers.
    """

    optimizer: str
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    accumulate: int = 1
    dropout: bool = True
    clip: float | None = None
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of that step."""
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup_steps))


class Build(Protocol):
    """What `prepare` is given besides model and point: the artefact cache, and the runner's stopwatch.

    Work inside `with build.phase("compile"):` is booked under that name; a phase that a cache hit saved is simply not
    entered. `build.artefact(n_bytes, hit)` tells the size of what was built or loaded, and whether it came from the cache.
    """

    @property
    def cache(self) -> ArtefactCache: ...

    def phase(self, name: BuildPhase) -> AbstractContextManager[None]: ...

    def artefact(self, n_bytes: int, *, hit: bool) -> None: ...

    def file(self, name: str) -> Path:
        """Where the file lies that an option of the point names by content. Raises BuildFailed where nobody said."""
        ...

    def sweep(self) -> Sequence[Point]:
        """All points of this worker, for engines built once for a range of shapes; this point is among them."""
        ...


class Session(abc.ABC):
    """A prepared point. Calls come in this order: `bind`, then `enqueue` and `synchronize` many times, `outputs`, `close`."""

    @abc.abstractmethod
    def bind(self, inputs: Inputs) -> None:
        """Make `inputs` the ones that `enqueue` uses.

        The first call with a set copies it to the device and allocates the output buffers; later calls with the same
        `inputs.index` must be cheap. Always called outside the timed region.
        """

    @abc.abstractmethod
    def enqueue(self) -> None:
        """Start one inference; asynchronous on `stream` where the device has one."""

    @abc.abstractmethod
    def synchronize(self) -> None:
        """Wait until all that was enqueued has finished."""

    @abc.abstractmethod
    def outputs(self) -> Mapping[str, FloatArray]:
        """The results of the last inference, as float32 on the host: `last_hidden_state`, `pooler_output`,
        `start_logits` and `end_logits`, or `logits`, as the head has it."""

    @abc.abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What really ran, as plain JSON values.

        Keys in use: `compute_dtypes` (layer class → dtype), `accumulate_dtype`, `activation`, `attention`,
        `providers` (node count by execution provider), `fallback_nodes`, `cuda_graph`, `threads`,
        `allocator_peak_bytes`. `compute_dtypes["matmul"]` is compared with the dtype that was asked for.
        """

    def poison(self) -> None:
        """Fill output buffers that are reused with NaN, so that an unwritten answer shows. No-op where each call allocates."""
        return None

    def close(self) -> None:
        """Free what the session holds."""
        return None

    @property
    def packed(self) -> bool:
        """True where only true tokens are computed: the layout `packed` is refused for a session that says False.

        Such a session takes, by `bind`, any number of sequences up to the point's batch, each up to its seq, and up to the tokens of
        its capacity (`Point.with_capacity`); `inputs` are padded as everybody's, on the right, and so are `outputs`, with zeros.
        """
        return False

    @property
    def stream(self) -> int | None:
        """Native handle of the stream that `enqueue` uses (`cudaStream_t`, `hipStream_t`; 0 is the default stream).

        None on a device without streams: then only the host clock is read.
        """
        return None


@dataclass(frozen=True, slots=True)
class Update:
    """What one training step did. Names are those of `model.module.named_parameters()`; all arrays are float32 on the host.

    `loss` is what the step itself logged. `gradients` are what its optimizer was given: of the whole step, unscaled and clipped;
    a parameter that took no part is left out. `weights` are those after the step, of every parameter.
    """

    loss: float
    gradients: Mapping[str, FloatArray]
    weights: Mapping[str, FloatArray]


class TrainingSession(Session):
    """A prepared training point: `enqueue` is one optimizer step (forward, backward and update, of `accumulate` micro-batches).

    A set of inputs holds `accumulate` × batch sequences and, besides the model's inputs, the labels of its head (int64,
    `catalogue.LABEL_NAMES`). No step waits for the device beyond what its optimizer needs: losses stay there until they are asked for.
    """

    @abc.abstractmethod
    def check_step(self) -> Mapping[str, FloatArray]:
        """Loss and gradients of a step on the bound inputs, by the same code in the same precision, but without dropout, without
        clipping and without an update.

        `loss` [1]; `gradient_norms` [n], of each parameter of `model.module.named_parameters()` in order; `gradients`, those of all
        parameters with one dimension (biases, normalisations), in that order, joined. None of them scaled.
        """

    @abc.abstractmethod
    def check_update(self) -> Update:
        """What the first step does on the bound inputs: `enqueue` itself, the very call that is timed, with dropout off.

        Called before any step. What it changes is put back: weights, optimizer, loss scale, random numbers, the count and the log of
        steps. A step that a loss scale skips is made again at the lower scale.
        """

    @abc.abstractmethod
    def losses(self) -> FloatArray:
        """The loss of every step so far, in order: the mean over its sequences."""

    def outputs(self) -> Mapping[str, FloatArray]:
        """The loss of the last step."""
        return {"loss": self.losses()[-1:]}


class Backend(abc.ABC):
    """An engine. One instance per worker process; constructed without importing the engine."""

    description: ClassVar[Description]

    @classmethod
    def missing(cls, variant: str) -> str | None:
        """Why a variant cannot be loaded here, and how to install it, in one sentence; None where it is installed.

        Answered from package metadata alone: the engine is not imported.
        """
        about, own = cls.description, cls.description.variant(variant)
        wanted = (own.distributions if own else ()) or about.distributions
        install = (own.install if own else "") or about.install
        absent = [name for name in about.requires if not _installed(name)]
        if wanted and not any(_installed(name) for name in wanted):
            return f"{about.name}:{variant} needs {' or '.join(wanted)}, which is not installed: {install}"
        if absent:
            return f"{about.name}:{variant} needs {', '.join(absent)}, which is not installed: {install}"
        return None

    @classmethod
    def built(cls, cache: ArtefactCache) -> Mapping[str, str]:  # noqa: ARG003 - engines that keep artefacts override this
        """Variants that have something to run in the artefact cache, each with how far that is: `built` or `compiled`.

        Answered without importing the engine.
        """
        return {}

    @abc.abstractmethod
    def probe(self) -> Availability:
        """Import the engine and say what it can do on this machine. Never raises."""

    def probe_variant(self, variant: str) -> Availability:  # noqa: ARG002 - engines whose variants differ override this
        """As `probe`, of one variant: for backends whose variants need different libraries. Never raises."""
        return self.probe()

    @abc.abstractmethod
    def prepare(self, model: Model, point: Point, build: Build) -> Session:
        """Export, compile, build and load `model` for `point`."""

    def prepare_training(self, model: Model, point: Point, recipe: Recipe, build: Build) -> TrainingSession:  # noqa: ARG002
        """Prepare training steps on a copy of `model`, for engines whose variants say in which dtypes they train."""
        raise Unsupported(f"{point.engine} makes no training steps")

    def build_ahead(
        self,
        model: Model,  # noqa: ARG002 - engines that can override this
        points: Sequence[Point],
        target: str,  # noqa: ARG002
        build: Build,  # noqa: ARG002
    ) -> tuple[Artefact, ...]:
        """Put what `points` need into the artefact cache without running it, for `target` (`SM86`; "" for this machine).

        The same points then find it when they are measured. Raises Unsupported where an engine builds nothing ahead of time.
        """
        raise Unsupported(
            f"{points[0].engine} builds nothing ahead of time: what it needs is made on the device that runs it"
        )

    def peak_device_bytes(self) -> int | None:
        """Peak bytes that the engine's own allocator held since `reset_peak`, or None where it does not tell."""
        return None

    def reset_peak(self) -> None:
        """Start a new measurement of `peak_device_bytes`."""
        return None


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
