"""Reading back what AITemplate built, and why it failed. Pure functions; nothing here imports aitemplate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from benchrun.backends.contract import BackendError, BuildFailed, OutOfMemory, WrongVariant

NAMES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float": "fp32"}
# CUTLASS names a GEMM by its accumulator and tensor-core instruction: s16816: 16×8×16, added in single precision
CUTLASS_KERNEL = re.compile(r"tensorop_(?:\w+?_)?([shi])\d+gemm_")
CUTLASS_3_KERNEL = re.compile(r"tensorop_([shi])\d+x\d+x\d+gemm_")
ACCUMULATORS = {"s": "fp32", "h": "fp16", "i": "int32"}
ATTENTION = ("flash_attention", "mem_eff_attention", "bmm_softmax_bmm_permute")
COMPILER_ERROR = re.compile(r": (?:fatal )?error:|\): error:|nvcc fatal|ptxas fatal|hipcc: error")
MESSAGE = re.compile(r"(Got cutlass error: .*|Got error: .*|CUDA error.*|API call failed: .*|Error: .*)")


def operator_record(op: str, name: str, dtype: str, kernels: Iterable[str], split_k: int | None) -> dict[str, Any]:
    """One operator of the compiled graph as plain JSON; `kernels` are the tactics that profiling chose for it."""
    found: dict[str, Any] = {"op": op, "name": name, "dtype": NAMES.get(dtype, dtype)}
    if chosen := sorted(set(filter(None, kernels))):
        found["kernels"] = chosen
    if split_k is not None and split_k > 1:
        found["split_k"] = split_k
    return found


def read_back(operators: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Facts from the compiled graph's operators: dtypes by layer class, accumulator, attention, activation, kernels."""
    found = list(operators)
    products = [each for each in found if each["op"].startswith("gemm")]
    dtypes = {
        "matmul": {each["dtype"] for each in products},
        "attention": {each["dtype"] for each in found if each["op"] in ATTENTION},
        "layernorm": {each["dtype"] for each in found if each["op"] == "layernorm"},
    }
    kernels = {kernel for each in products for kernel in each.get("kernels", ())}
    facts: dict[str, Any] = {
        "compute_dtypes": {layer: "+".join(sorted(names)) for layer, names in dtypes.items() if names},
        "accumulate_dtype": "+".join(sorted({_accumulator(kernel) for kernel in kernels})) or "unknown",
        "attention": "+".join(sorted({each["op"] for each in found if each["op"] in ATTENTION})),
        "activation": "+".join(
            sorted({each["op"].removeprefix("gemm_rcr_bias_") for each in products if each["op"].endswith("gelu")})
        ),
        "operators": len(found),
        "kernels": {
            each["name"]: "+".join(each["kernels"]) + (f" split_k={each['split_k']}" if "split_k" in each else "")
            for each in products
            if "kernels" in each
        },
    }
    return facts


def check_built(facts: Mapping[str, Any], activation: str, accumulate: str) -> None:
    """Raises WrongVariant where the compiled graph is not what was asked for."""
    if facts["activation"] != activation:
        raise WrongVariant(f"AITemplate built the activation {facts['activation']!r}, not {activation!r}")
    if facts["accumulate_dtype"] not in (accumulate, "unknown"):
        raise WrongVariant(f"AITemplate chose kernels that add in {facts['accumulate_dtype']}, not in {accumulate}")


def explain(error: Exception, log: str, doing: str) -> BackendError:
    """One sentence from what AITemplate raised and what it wrote to standard error, where the real reason is."""
    lines = log.splitlines()
    first = next((line.strip() for line in lines if COMPILER_ERROR.search(line)), "")
    last = next(
        (found[1].removeprefix("Error: ").strip() for line in reversed(lines) if (found := MESSAGE.search(line))), ""
    )
    reason = first or last or (str(error).splitlines() or [type(error).__name__])[0]
    sentence = f"AITemplate failed while {doing}: {reason}"
    if re.search(r"out of memory|cudaErrorMemoryAllocation|hipErrorOutOfMemory|no enough GPU memory", log + str(error)):
        return OutOfMemory(sentence)
    return BuildFailed(sentence)


def visible_device(index: int, environment: Mapping[str, str], kind: str) -> str:
    """What CUDA_VISIBLE_DEVICES (HIP_VISIBLE_DEVICES) must be for a profiler to see device number `index` here."""
    listed = environment.get({"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES"}[kind], "")
    names = [name.strip() for name in listed.split(",") if name.strip()]
    return names[index] if index < len(names) else str(index)


def _accumulator(kernel: str) -> str:
    found = CUTLASS_KERNEL.search(kernel) or CUTLASS_3_KERNEL.search(kernel)
    return ACCUMULATORS[found[1]] if found else "unknown"
