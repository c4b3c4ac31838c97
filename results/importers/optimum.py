"""optimum-benchmark (0.2 to 0.7): `benchmark_report.json` with `benchmark_config.json`, or `benchmark.json`.

Seconds; all times of the loop are in the file. PyTorch on a GPU is timed by events without a synchronise between
iterations, everything else by the host clock: two quantities, so two protocol ids. `stdev_` is a coefficient of
variation in per cent. On AMD its VRAM figures (the card's total; a running sum) and device names (the vendor) are
wrong and stay out.
"""

from __future__ import annotations

from typing import Any

from benchrun.results.importers.documents import Node, parse_json
from benchrun.results.importers.foreign import (
    ForeignMeasurement,
    ForeignPoint,
    ForeignResult,
    Source,
    protocol_id,
)
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar
from benchrun.results.importers.values import show, to_unit

FORMAT = "optimum-benchmark"
_BACKENDS = {"pytorch": "torch", "onnxruntime": "ort", "tensorrt-llm": "trt", "openvino": "openvino"}
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "fp32": "fp32", "fp16": "fp16", "bf16": "bf16"}
_HEADS = {"question-answering": "qa", "text-classification": "classification"}
_WITH_POOLER = ("bert", "roberta")  # model types whose plain model computes its pooler too
_BYTES = {"MB": 1_000_000}
_GENERATION = ("generate", "prefill", "decode", "call")


def recognise(source: Source) -> bool:
    """Is this a report of optimum-benchmark's?"""
    return (
        source.data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
        and b'"latency"' in source.data
        and b'"values"' in source.data
        and (b'"load_model"' in source.data or b'"forward"' in source.data or b'"load"' in source.data)
    )


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read a report; its configuration comes from the same file or from the sidecar's `config`."""
    document = parse_json(source)
    config = document.get("config")
    report = document.get("report") or document
    holder = source
    if config is None and (companion := sidecar.companions.get("config")) is not None:
        config, holder = parse_json(companion), companion
    warnings: list[str] = []
    if config is None:
        warnings.append("no configuration: name benchmark_config.json as `config` in a sidecar for backend and shape")
    environment = config.get("environment") if config is not None else None
    amd = _is_amd(environment)
    if amd:
        warnings.append("on AMD this tool's VRAM figures and device names are wrong; they are left out")
    measurement = _measurement(report, config, holder, amd, sidecar)
    version = _text(environment, "optimum_benchmark_version")
    return ForeignResult(
        format=FORMAT,
        tool="optimum-benchmark",
        tool_version=version,
        sha256=source.sha256,
        measurements=(measurement,),
        hardware=_hardware(environment, amd),
        software=_software(environment, config),
        facts={"config": config.kept()} if config is not None else {},
        warnings=tuple(warnings),
    )


def _measurement(report: Node, config: Node | None, holder: Source, amd: bool, sidecar: Sidecar) -> ForeignMeasurement:
    forward = report.get("forward")
    if forward is None:
        other = next((name for name in _GENERATION if report.get(name) is not None), None)
        if other is not None:
            raise report.failed(f"is a report of '{other}'; benchrun compares encoders, which have 'forward'")
        raise report.failed("'forward' is missing")
    latency = forward.need("latency")
    samples = _samples(latency)
    point, events = _point(config, holder, sidecar)
    throughput = forward.get("throughput")
    rate = None
    if throughput is not None:
        unit = throughput.need("unit")
        if unit.value != "samples/s":
            raise unit.failed(f"{show(unit.value)} is not samples/s")
        rate = throughput.need("value").rate()
    memory = forward.get("memory")
    clock = {"device_ns": samples} if events else {"host_ns": samples}
    return ForeignMeasurement(
        point=point,
        trust="samples",
        place="forward",
        throughput_seq_s=rate,
        throughput_isolated=None if rate is None else not events,
        load_s=_first(report, "load_model") or _first(report, "load"),
        first_run_s=_first(report, "first_forward"),
        warmup_n=_scenario_count(config, "warmup_runs"),
        peak_host_bytes=_bytes(memory, "max_ram"),
        peak_device_bytes=None if amd else _bytes(memory, "max_process_vram"),
        peak_allocator_bytes=_bytes(memory, "max_allocated"),
        flags=("queued",) if events else (),
        facts={"energy": energy.kept()} if (energy := forward.get("energy")) is not None else {},
        **clock,  # type: ignore[arg-type]
    )


def _samples(latency: Node) -> tuple[int, ...]:
    unit = latency.need("unit")
    samples = latency.need("values").times_ns(to_unit(unit.value, unit.failed))
    if not samples:
        raise latency.need("values").failed("is empty")
    count = latency.get("count")
    if count is not None and count.count() != len(samples):
        raise count.failed(f"{count.value} is not the number of values, {len(samples)}")
    return samples


def _point(config: Node | None, holder: Source, sidecar: Sidecar) -> tuple[ForeignPoint, bool]:
    """The point, and whether its times come from device events."""
    if config is None:
        protocol = protocol_id("optimum-benchmark", clock=None, sync=None, pct="linear")
        point = ForeignPoint("optimum-benchmark", "unknown", protocol, workload="padded")
        return sidecar.complete(point, holder), False
    backend = config.need("backend")
    name = backend.need("name").name()
    device = _text(backend, "device")
    events = name == "pytorch" and device is not None and device.startswith("cuda")
    scenario = config.get("scenario")
    shapes = scenario.get("input_shapes") if scenario is not None else None
    dtype = backend.get("torch_dtype")
    version = _text(config.get("environment"), "optimum_benchmark_version")
    point = ForeignPoint(
        backend=_BACKENDS.get(name, name),
        variant=_variant(backend, name),
        protocol=protocol_id(
            "optimum-benchmark",
            ".".join(version.split(".")[:2]) if version else None,
            clock="events" if events else "host",
            sync="none" if events else "call",
            pct="linear",
        ),
        model=_model(backend),
        head=_head(backend),
        device=device,
        dtype=_DTYPES.get(dtype.name()) if dtype is not None else None,
        batch=_shape(shapes, "batch_size"),
        seq=_shape(shapes, "sequence_length"),
        workload="padded",  # random ids of full length, the attention mask all ones
    )
    return sidecar.complete(point, holder), events


def _variant(backend: Node, name: str) -> str:
    if name == "pytorch":
        compiled = backend.get("torch_compile")
        return "compile" if compiled is not None and compiled.value is True else "eager"
    provider = backend.get("provider")
    if provider is not None:
        return provider.name().removesuffix("ExecutionProvider").lower()
    return "unknown"


def _head(backend: Node) -> str | None:
    task = _text(backend, "task")
    if task == "feature-extraction":
        return "pooler" if _text(backend, "model_type") in _WITH_POOLER else None
    return _HEADS.get(task) if task is not None else None


def _model(backend: Node) -> str | None:
    """The model's name; of a folder only its last part, so that no path is stored."""
    name = _text(backend, "model")
    if name is None:
        return None
    return name.rstrip("/").rpartition("/")[2] or None if name[:1] in "/.~" else name


def _first(report: Node, target: str) -> float | None:
    """The one time of a target such as `load_model`, in seconds."""
    node = report.get(target)
    latency = node.get("latency") if node is not None else None
    return _samples(latency)[0] / 1e9 if latency is not None else None


def _bytes(memory: Node | None, name: str) -> int | None:
    if memory is None or (figure := memory.get(name)) is None:
        return None
    unit = memory.need("unit")
    if unit.value not in _BYTES:
        raise unit.failed(f"{show(unit.value)} is not {' or '.join(_BYTES)}")
    size = figure.number() * _BYTES[unit.value]
    if size > 2**60:
        raise figure.failed(f"{show(figure.value)} {unit.value} is not believable")
    return round(size)


def _is_amd(environment: Node | None) -> bool:
    gpus = environment.get("gpu") if environment is not None else None
    listed = gpus.value if gpus is not None else []
    names = listed if isinstance(listed, list) else [listed]
    return any(isinstance(each, str) and ("AMD" in each or "Advanced Micro" in each) for each in names)


def _hardware(environment: Node | None, amd: bool) -> dict[str, Any]:
    if environment is None:
        return {}
    found: dict[str, Any] = {}
    for ours, theirs in (("cpu", "cpu"), ("machine", "machine"), ("platform", "platform")):
        if (text := _text(environment, theirs)) is not None:
            found[ours] = text
    for name in ("cpu_count", "gpu_count"):
        if (each := environment.get(name)) is not None:
            found[name] = each.count()
    gpus = environment.get("gpu")
    if gpus is not None and not amd:
        names = list(gpus.items()) if isinstance(gpus.value, list) else [gpus]
        if names:
            found["device"] = names[0].name()
    return found


def _software(environment: Node | None, config: Node | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in environment.object() if environment is not None else ():
        if name.endswith("_version") and environment is not None and (text := _text(environment, name)) is not None:
            found[name.removesuffix("_version")[:60]] = text
    backend = config.get("backend") if config is not None else None
    if backend is not None and (version := _text(backend, "version")) is not None:
        found[backend.need("name").name()] = version
    return found


def _scenario_count(config: Node | None, name: str) -> int | None:
    scenario = config.get("scenario") if config is not None else None
    each = scenario.get(name) if scenario is not None else None
    return each.count() if each is not None else None


def _shape(shapes: Node | None, name: str) -> int | None:
    each = shapes.get(name) if shapes is not None else None
    return each.count(least=1) if each is not None else None


def _text(node: Node | None, name: str) -> str | None:
    each = node.get(name) if node is not None else None
    if each is None or (isinstance(each.value, str) and not each.value.strip()):
        return None
    return each.name()
