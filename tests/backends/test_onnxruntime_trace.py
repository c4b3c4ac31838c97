"""Reading back what ONNX Runtime executed: profiles, dtypes, fall-backs, kernels named in its log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchrun.backends.onnxruntime_trace import (
    CPU_PROVIDER,
    ExecutedNode,
    Trace,
    attention_kernel,
    captured_output,
    compute_dtypes,
    read_profile,
)

CUDA = "CUDAExecutionProvider"


def node(op_type: str, *types: str, provider: str = CPU_PROVIDER, name: str = "") -> ExecutedNode:
    return ExecutedNode(name or op_type.lower(), op_type, provider, types)


@pytest.mark.parametrize(
    ("executed", "dtype"),
    [
        (node("MatMul", "float16", "float16"), "fp16"),
        (node("MatMul", "float"), "fp32"),
        (node("MultiHeadAttention", "bfloat16", "int32"), "bf16"),
        (node("Gather", "int64", "float"), "fp32"),
        (node("Shape", "int64"), "other"),
        (node("MatMulIntegerToFloat", "uint8", "int8", "float"), "int8"),
        (node("DynamicQuantizeMatMul", "float", "int8"), "int8"),
        (node("QLinearMatMul", "uint8"), "int8"),
        (node("QAttention", "uint8", "int8"), "int8"),
    ],
)
def test_the_dtype_of_a_node(executed: ExecutedNode, dtype: str) -> None:
    assert executed.dtype == dtype


def test_dtypes_by_class() -> None:
    nodes = (node("MatMul", "float16"), node("MatMul", "float"), node("BiasGelu", "float16"), node("Add", "float"))
    assert compute_dtypes(nodes) == {"matmul": "fp16+fp32", "gelu": "fp16"}
    quantised = (node("MatMulIntegerToFloat", "uint8"), node("MultiHeadAttention", "float"))
    assert compute_dtypes(quantised) == {"attention": "fp32", "matmul": "fp32+int8"}
    assert compute_dtypes((node("TensorrtExecutionProvider_TRTKernel_0", "float16"),)) == {}


def test_facts_name_what_fell_back() -> None:
    trace = Trace(
        (
            node("MatMul", "float16", provider=CUDA),
            node("Attention", "float16", provider=CUDA),
            node("BiasGelu", "float16", provider=CUDA),
            node("Shape", "int64", name="node_Shape_2"),
        ),
        "Flash Attention",
    )
    facts = trace.facts(CUDA)
    assert facts["fallback_nodes"] == ["node_Shape_2 (Shape)"]
    assert facts["providers"] == {CUDA: 3, CPU_PROVIDER: 1}
    assert facts["attention"] == "Attention" and facts["attention_kernel"] == "Flash Attention"
    assert facts["activation"] == "gelu" and facts["quantised_products"] == 0
    assert facts["compute_dtypes"] == {"attention": "fp16", "gelu": "fp16", "matmul": "fp16"}
    assert Trace.from_json(trace.to_json()) == trace


def test_facts_of_a_graph_that_a_provider_compiled() -> None:
    name = "TensorrtExecutionProvider_TRTKernel_graph_main_1"
    trace = Trace((ExecutedNode(name, name, "TensorrtExecutionProvider", ("int64",)),))
    facts = trace.facts("TensorrtExecutionProvider")
    assert facts["attention"] == "compiled by the provider" and facts["compiled_subgraphs"] == 1
    assert facts["compute_dtypes"] == {} and facts["fallback_nodes"] == [] and facts["activation"] == "unknown"


def test_tanh_gelu_and_unfused_attention() -> None:
    facts = Trace((node("FastGelu", "float"), node("Softmax", "float"))).facts(CPU_PROVIDER)
    assert facts["activation"] == "fast_gelu" and facts["attention"] == "unfused"


def test_a_profile_is_read_once_per_node(tmp_path: Path) -> None:
    args = {"op_name": "MatMul", "provider": CUDA, "input_type_shape": [{"float16": [2, 5, 8]}]}
    events = [
        {"cat": "Session", "name": "model_run", "args": {}},
        {"cat": "Node", "name": "product_fence_before", "args": {"op_name": "MatMul"}},
        {"cat": "Node", "name": "product_kernel_time", "args": args},
        {"cat": "Node", "name": "product_kernel_time", "args": args},
        {"cat": "Node", "name": "shape_kernel_time", "args": {"op_name": "Shape"}},
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events))
    assert read_profile(path) == (
        ExecutedNode("product", "MatMul", CUDA, ("float16",)),
        ExecutedNode("shape", "Shape", "", ()),
    )


@pytest.mark.parametrize(
    ("log", "kernel"),
    [
        (
            "[V:onnxruntime:Default] ONNX Attention: using Flash Attention (batch=1, q_seq=128, …)\n" * 3,
            "Flash Attention",
        ),
        ("ONNX Attention: using Memory Efficient Attention (batch=1)", "Memory Efficient Attention"),
        ("Attention: using unified unfused path (is_gqa=0, head_size=64)", "unified unfused"),
        (
            "\x1b[36mOperator=MultiHeadAttention Node=a DataType=fp16 SdpaKernel=CUDNN_FLASH_ATTENTION\x1b[0m",
            "CUDNN_FLASH_ATTENTION",
        ),
        ("SdpaKernel=MATH SdpaKernel=FLASH_ATTENTION", "FLASH_ATTENTION+MATH"),
        ("nothing of the kind", ""),
    ],
)
def test_the_kernel_that_a_log_names(log: str, kernel: str) -> None:
    assert attention_kernel(log) == kernel


def test_output_is_captured_from_c_as_well() -> None:
    """In a process of its own, since pytest holds the streams of this one."""
    script = (
        "import os, sys; from benchrun.backends.onnxruntime_trace import captured_output\n"
        "print('before')\n"
        "with captured_output() as log:\n"
        "    print('python'); os.write(1, b'out\\n'); os.write(2, b'err\\n'); sys.stdout.flush()\n"
        "    text = log.read_text()\n"
        "print('after', sorted(text.split()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "before\nafter ['err', 'out', 'python']\n" and done.stderr == ""


def test_the_streams_come_back_after_an_error() -> None:
    before = os.fstat(1).st_ino
    with pytest.raises(RuntimeError), captured_output():
        raise RuntimeError
    assert os.fstat(1).st_ino == before
