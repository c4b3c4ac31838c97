"""From what was asked for to the list of points: pure, imports no engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

from benchrun.backends.catalogue import ModelError, ModelSpec, resolve_spec
from benchrun.backends.contract import (
    DEVICE_KINDS,
    DTYPES,
    HEADS,
    LAYOUTS,
    TRAINING_DTYPES,
    Description,
    Option,
    OptionValue,
    Point,
)
from benchrun.backends.registry import UnknownBackend, find_missing, load_backend
from benchrun.runner.devices import list_devices, usable_cores
from benchrun.runner.errors import UsageError
from benchrun.runner.lists import LARGEST
from benchrun.runner.option_files import check_files, name_files
from benchrun.runner.privacy import hide_home
from benchrun.runner.protocol import Protocol
from benchrun.runner.workloads import canonical, check_point, percentiles, trains, with_layout, workload_settings

TRANSFERS = ("exclude",)


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """A sweep as it was asked for, complete enough to be planned again by `--resume`."""

    backends: tuple[str, ...] = ("torch",)
    models: tuple[str, ...] = ("bert-base",)
    heads: tuple[str, ...] = ("encoder",)
    weights: str | None = None
    overrides: Mapping[str, OptionValue] = field(default_factory=dict)
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    batches: tuple[int, ...] = (1,)
    seqs: tuple[int, ...] = (128,)
    dtypes: tuple[str, ...] = ()
    device: str | None = None
    workloads: tuple[str, ...] = ("padded",)
    layouts: tuple[str, ...] = ()  # each workload in each of them; none: as the workload says
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the workload, see `Assignment.settings`
    threads: int | None = None
    launches: int = 1
    timeout_s: float = 300.0
    try_all: bool = False
    protocol: Protocol = field(default_factory=Protocol)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. The home folder is written `~`, so that no user's name is stored."""
        return dict(hide_home(asdict(self)))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SweepRequest:
        """The inverse of `to_json`; unknown names are ignored, so that newer requests can still be read."""
        known = {name: value for name, value in stored.items() if name in cls.__dataclass_fields__}
        if "workload" in stored:  # as requests were written when a sweep had one workload
            known["workloads"] = (stored["workload"],)
        for name in ("backends", "models", "heads", "batches", "seqs", "dtypes", "workloads", "layouts"):
            if name in known:
                known[name] = tuple(known[name])
        protocol = {k: v for k, v in known.get("protocol", {}).items() if k in Protocol.__dataclass_fields__}
        known["protocol"] = Protocol(**protocol)
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Planned:
    """A point with what its worker needs to load the model.

    `refusal` says why it will be skipped, where that is known.
    """

    point: Point
    spec: ModelSpec
    refusal: str | None = None

    @property
    def loaded(self) -> tuple[object, ...]:
        """What a worker loads, whatever the engine: model, weights, overrides and head."""
        p = self.point
        return (p.model, p.weights, p.overrides, p.head)

    @property
    def group(self) -> tuple[object, ...]:
        """Points with equal groups share a worker process, its model and its engine."""
        p = self.point
        return (*self.loaded, p.backend, p.variant, p.device, p.options)


@dataclass(frozen=True, slots=True)
class Plan:
    """The points of a sweep in measuring order, and the request they came from (with defaults filled in)."""

    request: SweepRequest
    points: tuple[Planned, ...]

    def groups(self, keys: set[str] | None = None) -> list[list[Planned]]:
        """Points by worker, in order; only those of `keys` where given."""
        found: dict[tuple[object, ...], list[Planned]] = {}
        for planned in self.points:
            if keys is None or planned.point.key in keys:
                found.setdefault(planned.group, []).append(planned)
        return list(found.values())

    def sharing(self, planned: Planned) -> tuple[Point, ...]:
        """All points of that one's group that can be tried, measured already or not: the same for every launch of the sweep."""
        return tuple(each.point for each in self.points if each.group == planned.group and not each.refusal)


Missing = Callable[[str, str], str | None]


def make_plan(request: SweepRequest, missing: Missing = find_missing, *, ahead: bool = False) -> Plan:
    """Plan a sweep: check every name, fill in defaults, multiply the lists out.

    `missing` says what the interpreter that will measure lacks for a (backend, variant). With `ahead` the points are to be
    built only, so their device need not be here.
    Raises UsageError in one sentence for anything that no point of the sweep could do.
    """
    check_request(request)
    device = request.device or list_devices()[0]
    device = name_device(device) if ahead else normalise_device(device)
    kind = device.partition(":")[0]
    low = "bf16" if all(trains(each) for each in request.workloads) else "fp16"
    dtypes = request.dtypes or (("fp32",) if kind == "cpu" else (low,))
    if kind == "cpu" and "tf32" in dtypes:
        raise UsageError("dtype tf32 exists on NVIDIA GPUs only: on a CPU pass --dtype fp32, else --device cuda")
    threads = request.threads or usable_cores()
    request = replace(request, device=device, dtypes=dtypes, threads=threads)
    engines = [find_engine(text, kind) for text in request.backends]
    _check_options_used(request.options, engines, dtypes)
    absent = {(each.name, variant): missing(each.name, variant) for each, variant in engines}
    descriptions = [description for description, _ in engines]
    request = spell_workloads(request)
    options, settings = name_files(request.options, request.settings, descriptions)
    request = replace(request, options=options, settings=settings)
    workloads = request.workloads
    specs = [_resolve(model, head, request) for model in request.models for head in request.heads]
    try:
        check_files(request.options, descriptions, specs)
        for spec, workload, seq in product(specs, workloads, request.seqs):
            check_point(workload, spec, spec.head, seq, request.settings)
    except ModelError as error:  # no tokenizer, or one that does not fit
        raise UsageError(str(error)) from error
    planned: list[Planned] = []
    for spec in specs:
        for description, variant in engines:
            for dtype in dtypes:
                for workload, seq in product(workloads, request.seqs):
                    for batch in sorted(request.batches):  # ascending: an oom then tells about all larger batches
                        point = Point(
                            model=spec.name,
                            weights=spec.weights,
                            head=spec.head,
                            backend=description.name,
                            variant=variant,
                            device=device,
                            dtype=dtype,
                            batch=batch,
                            seq=seq,
                            workload=workload,
                            protocol=replace(request.protocol, percentiles=percentiles(workload)).id,
                            overrides=spec.overrides,
                            options=choose_options(description, request.options, threads, kind, dtype),
                        )
                        planned.append(
                            Planned(
                                point,
                                spec,
                                absent[description.name, variant]
                                or refusal(description, variant, kind, dtype, trains=trains(workload)),
                            )
                        )
    if all(each.refusal for each in planned):
        raise UsageError("; ".join(dict.fromkeys(each.refusal or "" for each in planned)))
    points = {each.point.key: each for each in planned}  # torch and torch:eager may be the same
    return Plan(request, tuple(points.values()))


def spell_workloads(request: SweepRequest) -> SweepRequest:
    """The request with each workload in its one spelling, in each of the layouts asked for; what it must know of them, such as where their
    files lie, goes into its settings."""
    asked = [with_layout(each, layout) for each in request.workloads for layout in request.layouts] or request.workloads
    settings = dict(request.settings)
    for each in asked:
        for name, value in workload_settings(each).items():
            settings[name] = {**settings.get(name, {}), **value}
    return replace(request, workloads=tuple(dict.fromkeys(map(canonical, asked))), layouts=(), settings=settings)


def check_request(request: SweepRequest) -> None:
    """Refuse values that are out of their range or list."""
    if request.protocol.transfers == "include":
        raise UsageError(
            "--transfers include is not offered yet: copies to and from the device are always outside the timed call"
        )
    training = {trains(each) for each in request.workloads}
    known = (*(DTYPES if training != {True} else ()), *(TRAINING_DTYPES if True in training else ()))
    for name, value, allowed in (
        ("transfers", request.protocol.transfers, TRANSFERS),
        *(("head", head, HEADS) for head in request.heads),
        *(("dtype", dtype, tuple(dict.fromkeys(known))) for dtype in request.dtypes),
        *(("layout", layout, LAYOUTS) for layout in request.layouts),
    ):
        if value not in allowed:
            raise UsageError(f"unknown {name} {value!r}: choose from {', '.join(allowed)}")
    for name, number, least in (
        ("iterations", request.protocol.iterations, 1),
        ("warmup", request.protocol.warmup, 0),
        ("repeats", request.protocol.repeats, 0),
        ("max-time", request.protocol.max_time_s, 0.001),
        ("timeout", request.timeout_s, 1),
        ("launches", request.launches, 1),
        ("threads", 1 if request.threads is None else request.threads, 1),
    ):
        if not number >= least:
            raise UsageError(f"--{name} {number} is too small: it must be at least {least}")
        if number > LARGEST:
            raise UsageError(f"--{name} {number} is too large: it must be at most {LARGEST}")
    for name, values in (
        ("backend", request.backends),
        ("model", request.models),
        ("batch", request.batches),
        ("seq", request.seqs),
        ("workload", request.workloads),
    ):
        if not values:
            raise UsageError(f"--{name} is empty: give at least one")


def find_engine(text: str, device_kind: str) -> tuple[Description, str]:
    """Backend and variant of `name` or `name:variant`; without a variant the first one for that kind of device."""
    name, _, variant = text.partition(":")
    try:
        description = load_backend(name).description
    except UnknownBackend as error:
        raise UsageError(str(error)) from error
    if not variant:
        fitting = [each.name for each in description.variants if device_kind in each.devices]
        return description, (fitting or [description.variants[0].name])[0]
    if description.variant(variant) is None:
        choices = ", ".join(f"{name}:{each.name}" for each in description.variants)
        raise UsageError(f"unknown variant {text!r}: choose from {choices}")
    return description, variant


def refusal(
    description: Description, variant: str, device_kind: str, dtype: str, *, trains: bool = False
) -> str | None:
    """Why a variant cannot do a device or a dtype at all, or train in it, in one sentence; None where it may."""
    found = description.variant(variant)
    if found is None:
        return f"{description.name} has no variant {variant}"
    if device_kind not in found.devices:
        return f"{description.name}:{variant} runs on {', '.join(found.devices)}, not on {device_kind}"
    if trains and not found.training:
        return f"{description.name}:{variant} makes no training steps: torch:eager and torch:compile do"
    allowed = found.training if trains else found.dtypes
    if dtype not in allowed:
        return f"{description.name}:{variant} {'trains in' if trains else 'runs'} {', '.join(allowed)}, not {dtype}"
    return None


def normalise_device(text: str) -> str:
    """`cuda` becomes `cuda:0`. Raises UsageError for anything that is no device of this machine."""
    present, device = list_devices(), name_device(text)
    if device not in present:
        raise UsageError(f"there is no device {text!r} here: choose from {', '.join(present)}")
    return device


def name_device(text: str) -> str:
    """`cuda` becomes `cuda:0`, whether it is here or not. Raises UsageError for what is no kind of device."""
    kind, _, index = text.partition(":")
    if kind not in DEVICE_KINDS or not (index or "0").isdigit():
        raise UsageError(f"there is no device {text!r} here: choose from {', '.join(list_devices())}")
    return "cpu" if kind == "cpu" and not index else f"{kind}:{index or 0}"


def choose_options(
    description: Description, asked: Mapping[str, OptionValue], threads: int, device_kind: str, dtype: str
) -> tuple[tuple[str, OptionValue], ...]:
    """The options of a point: those asked for (`name` or `backend.name`) that differ from the default and are of use in its dtype.

    On a CPU the threads are among them: there they are part of what is measured.
    """
    chosen: dict[str, OptionValue] = {"threads": threads} if device_kind == "cpu" else {}
    for option in description.options:
        value = asked.get(f"{description.name}.{option.name}", asked.get(option.name, option.default))
        if option.choices and value not in option.choices:
            choices = ", ".join(str(choice) for choice in option.choices)
            raise UsageError(
                f"unknown value {value!r} for option {description.name}.{option.name}: choose from {choices}"
            )
        if value != option.default and dtype in (option.dtypes or (dtype,)):
            chosen[option.name] = value
    return tuple(sorted(chosen.items()))


def _check_options_used(
    asked: Mapping[str, OptionValue], engines: Sequence[tuple[Description, str]], dtypes: Sequence[str]
) -> None:
    """Raises UsageError for an option that no engine knows, or that is of use in no dtype that was asked for."""
    owners: dict[str, list[tuple[Description, Option]]] = {}
    for about in {each.name: each for each, _ in engines}.values():
        for option in about.options:
            for name in (option.name, f"{about.name}.{option.name}"):
                owners.setdefault(name, []).append((about, option))
    for name, value in asked.items():
        if name not in owners:
            listed = sorted(each for each in owners if "." in each)
            raise UsageError(f"unknown option {name!r}: choose from {', '.join(listed) or 'none'}")
        useful = {each for _, option in owners[name] for each in option.dtypes or dtypes}
        if value not in {option.default for _, option in owners[name]} and not useful.intersection(dtypes):
            wanted = " or ".join(sorted(useful))
            raise UsageError(
                f"--opt {name} changes nothing in {', '.join(dtypes)}: ask for --dtype {wanted} too, or leave the option out"
            )


def _resolve(model: str, head: str, request: SweepRequest) -> ModelSpec:
    try:
        spec = resolve_spec(model, head, request.weights, request.overrides)
    except ModelError as error:
        raise UsageError(str(error)) from error
    named = request.settings.get("tokenizers", {}).get(spec.name)  # `benchrun accuracy --tokenizer`
    return replace(spec, tokenizer=str(named)) if named else spec
