"""Reading an engine's layers back, in the spellings of TensorRT's versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchrun.backends.tensorrt_layers import (
    Layer,
    Tensor,
    layer_facts,
    read_inspector,
    read_log,
    spelled_dtype,
)


@pytest.mark.parametrize(
    ("spelled", "dtype"),
    [
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BFloat16", "bf16"),
        ("Int8", "int8"),
        ("FP8", "fp8"),
        ("Int32", "int32"),
        ("Int64", "int64"),
        ("Bool", "bool"),
        ("Row major linear FP16 format", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("Row major linear BF16 format", "bf16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("N/A due to dynamic shapes", "unknown"),
        ("", "unknown"),
    ],
)
def test_types_are_known_by_every_spelling(spelled: str, dtype: str) -> None:
    assert spelled_dtype(spelled) == dtype


def tensor(key: str, spelled: str, *dimensions: int) -> dict[str, Any]:
    return {"Name": "t", "Location": "Device", "Dimensions": list(dimensions), key: spelled}


@pytest.mark.parametrize(("key", "half"), [("Datatype", "Half"), ("Format/Datatype", "Row major linear FP16 format")])
def test_the_inspectors_json_is_read(key: str, half: str) -> None:
    text = json.dumps(
        {
            "Layers": [
                {
                    "Name": "node_MatMul_3_myl0_2",
                    "LayerType": "gemm",
                    "Inputs": [tensor(key, half, -1, 128)],
                    "Constants": [tensor(key, half, 128, 384), tensor(key, "Float", 1)],
                    "Outputs": [tensor(key, half, -1, 384)],
                    "TacticName": "sm80_xmma_gemm_f16f16_f16f32_f32",
                    "Metadata": "[ONNX Layer: node_MatMul_3]",
                },
                {"Name": "a reshape", "LayerType": "NoOp", "Inputs": [tensor(key, "Int64", 1)], "Outputs": []},
            ],
            "Bindings": ["x"],
        }
    )
    first, second = read_inspector(text)
    assert first.inputs == (Tensor("fp16", 0),)
    assert first.constants == (Tensor("fp16", 49152), Tensor("fp32", 1))
    assert (first.layer_class, first.dtype, first.has_weights) == ("matmul", "fp16", True)
    assert (second.layer_class, second.dtype, second.constants) == ("other", "none", None)


def test_an_engine_without_details_gives_names_and_no_types() -> None:
    layers = read_inspector(json.dumps({"Layers": ["node_MatMul_1", "softmax"]}))
    facts = layer_facts(layers, tf32_allowed=False)
    assert facts["layers"] == 2 and facts["compute_dtypes"] == {}
    assert read_inspector("{}") == ()


def logged(name: str, dimensions: str, dtype: str) -> str:
    """A tensor as the builder of TensorRT-RTX 1.7 logs it."""
    strides = "Strides: [1], StrideOrder: [0]"
    return f"{{ Name: {name}, Dimensions: [{dimensions}], {strides}, Datatype: {dtype}, Format: (Linear) Row major }}"


LOG = (
    "Layers:\n"
    "Name: __mye1_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, "
    "Metadata: \n"
    "Name: node_MatMul_5_myl0_1, LayerType: gemm, "
    f"Inputs: [ {logged('a', '-1,128', 'Int8')}], "
    f"Constants: [ {logged('w', '128,512', 'Int8')}, {logged('alpha', '1', 'Float')}], "
    f"Outputs: [ {logged('y', '-1,512', 'Half')}], "
    "TacticName: __stub, StreamId: 0, Metadata: [ONNX Layer: node_MatMul_5]\x1f[ONNX Layer: node_linear]\n"
    "\nI/O Tensors:\n Name: x, IOMode: Input, DataType: Int64"
)


def test_the_builders_log_is_read() -> None:
    empty, product = read_log(["Building.", LOG, "Done."])
    assert (empty.kind, empty.dtype, empty.inputs) == ("shape_call", "none", ())
    assert product.inputs == (Tensor("int8", 0),)
    assert product.constants == (Tensor("int8", 65536), Tensor("fp32", 1))
    assert product.outputs == (Tensor("fp16", 0),)
    assert (product.tactic, product.layer_class, product.dtype) == ("__stub", "matmul", "int8")
    assert "node_linear" in product.origin
    assert read_log(["Building."]) == ()


HALF, FLOAT, WEIGHTS = Tensor("fp16", 0), Tensor("fp32", 0), Tensor("fp16", 4096)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (Layer("_gemm_mha_v2_myl0_7", "kgen", (HALF,), ()), "attention"),
        (Layer("node_MatMul_9_myl0_6", "gemm", (HALF, HALF), (Tensor("fp32", 1),)), "attention"),
        (Layer("node_MatMul_9_myl0_6", "gemm", (HALF,), (WEIGHTS,)), "matmul"),
        (Layer("node_MatMul_9", "gemm", (HALF,), None), "matmul"),
        (Layer("__myl_FcAddDivErfAddMulMul_myl0_15", "runtime_fusion", (HALF,), (WEIGHTS,)), "matmul"),
        (Layer("encoder/dense", "CaskGemmMatrixMultiply", (HALF,), None), "matmul"),
        (Layer("__myl_AddFracMul_myl0_15", "kgen", (HALF,), (WEIGHTS,)), "other"),
        (Layer("__myl_MaxSubExp_myl0_1", "kgen", (HALF,), origin="[ONNX Layer: node_Softmax_74]"), "attention"),
        (Layer("__myl_MeanSubMul_myl0_1", "kgen", (HALF,), origin="[ONNX Layer: node_layer_norm_2]"), "layernorm"),
        (Layer("ln", "LayerNorm", (HALF,)), "layernorm"),
    ],
)
def test_layers_are_put_into_classes(layer: Layer, expected: str) -> None:
    assert layer.layer_class == expected


def test_fp32_in_an_engine_asked_for_in_fp16_shows() -> None:
    """A third-party exporter once got fp32 engines when it asked TensorRT 11 for fp16, and nobody noticed."""
    good = Layer("node_MatMul_1", "gemm", (HALF,), (WEIGHTS,))
    bad = Layer("node_MatMul_2", "gemm", (FLOAT,), (Tensor("fp32", 4096),))
    facts = layer_facts([good, bad, bad], tf32_allowed=False)
    assert facts["compute_dtypes"] == {"matmul": "fp16+fp32"}
    assert facts["layers_by_dtype"] == {"fp16": 1, "fp32": 2}


def test_weights_kept_small_do_not_make_a_product_int8() -> None:
    layer = Layer("node_MatMul_1", "gemm", (HALF,), (Tensor("int8", 4096),))
    assert layer_facts([layer], tf32_allowed=False)["compute_dtypes"] == {"matmul": "fp16"}


def test_tf32_is_told_by_the_flag_or_by_a_kernels_name() -> None:
    layer = Layer("node_MatMul_1", "gemm", (FLOAT,), (Tensor("fp32", 4096),))
    named = Layer("node_MatMul_2", "gemm", (FLOAT,), None, tactic="sm80_xmma_gemm_f32f32_tf32f32_f32")
    norm = Layer("ln", "LayerNorm", (FLOAT,))
    assert layer_facts([layer, norm], tf32_allowed=False)["compute_dtypes"] == {"layernorm": "fp32", "matmul": "fp32"}
    assert layer_facts([layer, norm], tf32_allowed=True)["compute_dtypes"] == {"layernorm": "fp32", "matmul": "tf32"}
    facts = layer_facts([named], tf32_allowed=False)
    assert facts["compute_dtypes"] == {"matmul": "tf32"} and facts["tf32_kernels"] == 1


def test_attention_and_activation_are_named() -> None:
    fused = Layer("_gemm_mha_v2_myl0_7", "kgen", (HALF,), ())
    parts = Layer("node_MatMul_9", "gemm", (HALF, HALF), ())
    erf = Layer("__myl_FcAddDivErf", "runtime_fusion", (HALF,), (WEIGHTS,))
    tanh = Layer("__myl_FcMulTanh", "kgen", (HALF,), (WEIGHTS,))

    def facts(*layers: Layer) -> tuple[str, str]:
        found = layer_facts(layers, tf32_allowed=False)
        return found["attention"], found["activation"]

    assert facts(fused, fused, erf) == ("fused: 2 kernels", "gelu")
    assert facts(parts, tanh, tanh) == ("not fused: 1 kernels", "fast_gelu")
    assert facts(tanh) == ("unknown", "unknown")  # a pooler's
