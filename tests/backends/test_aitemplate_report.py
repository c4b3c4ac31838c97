"""Facts from operator records, and sentences from logs. Kernel names and messages are as AITemplate writes them."""

from __future__ import annotations

from typing import Any

import pytest

from benchrun.backends.aitemplate_report import check_built, explain, operator_record, read_back, visible_device
from benchrun.backends.contract import BuildFailed, OutOfMemory, WrongVariant

FP32_SUM = "cutlass_tensorop_f16_s16816gemm_f16_64x64_64x5_tn_align_8_8"
FP16_SUM = "cutlass_tensorop_h16816gemm_128x64_32x6_tn_align_8_8"
PERMUTED = "cutlass_tensorop_f16_s16816gemm_f16_64x64_32x10_tn_perm5d_128_3_2_align_8_8"
HOPPER = "cutlass3x_sm90_tensorop_s64x128x16gemm_f16_f16_f32_f16_f16_256x128x64_2x1x1_0_tnt_align8"


def records(kernel: str = FP32_SUM, activation: str = "gelu") -> list[dict[str, Any]]:
    return [
        operator_record("gemm_rcr_bias", "qkv", "float16", [kernel], 1),
        operator_record("flash_attention", "attend", "float16", [""], None),
        operator_record("gemm_rcr_bias_add", "down", "float16", [kernel], 2),
        operator_record("layernorm", "norm", "float16", [], None),
        operator_record(f"gemm_rcr_bias_{activation}", "up", "float16", [kernel], 1),
    ]


def test_facts_are_read_back_from_operators() -> None:
    facts = read_back(records())
    assert facts["compute_dtypes"] == {"matmul": "fp16", "attention": "fp16", "layernorm": "fp16"}
    assert facts["accumulate_dtype"] == "fp32"
    assert facts["attention"] == "flash_attention" and facts["activation"] == "gelu" and facts["operators"] == 5
    assert facts["kernels"]["down"] == f"{FP32_SUM} split_k=2" and facts["kernels"]["qkv"] == FP32_SUM
    check_built(facts, "gelu", "fp32")


@pytest.mark.parametrize(
    ("kernel", "accumulator"),
    [(FP32_SUM, "fp32"), (PERMUTED, "fp32"), (HOPPER, "fp32"), (FP16_SUM, "fp16"), ("DeviceGemmXdl_256", "unknown")],
)
def test_accumulators_are_read_from_kernel_names(kernel: str, accumulator: str) -> None:
    assert read_back(records(kernel))["accumulate_dtype"] == accumulator


def test_without_kernels_the_accumulator_is_unknown() -> None:
    assert read_back([operator_record("gemm_rcr_bias", "qkv", "float16", [], None)])["accumulate_dtype"] == "unknown"


def test_what_was_not_asked_for_is_the_wrong_variant() -> None:
    with pytest.raises(WrongVariant, match="activation 'fast_gelu', not 'gelu'"):
        check_built(read_back(records(activation="fast_gelu")), "gelu", "fp32")
    with pytest.raises(WrongVariant, match="add in fp16, not in fp32"):
        check_built(read_back(records(FP16_SUM)), "gelu", "fp32")


def test_reasons_come_from_the_log() -> None:
    log = (
        "[12:00:00] ./gemm.cu: starting\n"
        "[gemm_rcr_bias_add_4.cu] Got cutlass error: Error Internal at: 199\n"
        "[12:00:01] model_interface.cpp:41: Error: [gemm_rcr_bias_add_4.cu] Got cutlass error: Error Internal at: 199\n"
        "left over\n"
    )
    found = explain(RuntimeError("Error in function: AITemplateModelContainerRun"), log, "running the model")
    assert type(found) is BuildFailed
    assert str(found) == (
        "AITemplate failed while running the model: [gemm_rcr_bias_add_4.cu] Got cutlass error: Error Internal at: 199"
    )


def test_compiler_errors_come_first() -> None:
    log = 'a.cu(12): error: class "cudaDeviceProp" has no member "clockRate"\nmake: *** [a.obj] Error 255\nError: x\n'
    found = explain(RuntimeError("Build has failed."), log, "compiling")
    assert str(found).endswith('compiling: a.cu(12): error: class "cudaDeviceProp" has no member "clockRate"')


def test_an_exception_without_a_log_speaks_for_itself() -> None:
    assert str(explain(ValueError("first\nsecond"), "", "compiling")) == "AITemplate failed while compiling: first"
    assert str(explain(ValueError(), "", "compiling")) == "AITemplate failed while compiling: ValueError"


def test_memory_has_its_own_status() -> None:
    log = "Error: DeviceMalloc(&result, n_bytes) API call failed: out of memory at model_container.cu, line90\n"
    assert isinstance(explain(RuntimeError("Error in function"), log, "loading the library"), OutOfMemory)


def test_profilers_see_the_same_device() -> None:
    assert visible_device(1, {}, "cuda") == "1"
    assert visible_device(1, {"CUDA_VISIBLE_DEVICES": "3, GPU-5a"}, "cuda") == "GPU-5a"
    assert visible_device(0, {"HIP_VISIBLE_DEVICES": "6"}, "rocm") == "6"
