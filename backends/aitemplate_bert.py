"""BERT and RoBERTa encoders as AITemplate graphs: what is built, from which weights, and the graph itself.

`plan_encoder` decides, `pack_weights` arranges the tensors of a Hugging Face module as the graph wants them, and
`build_graph` writes the graph with AITemplate's front-end operators. The operators are passed in, so that the tests run
the same code on operators that compute, against the module it came from.

Sizes: B sequences of S tokens, hidden width H, F intermediate, `heads` heads of D = H / heads. All matrices are
row-major with the output dimension first, as in `torch.nn.Linear`; `gemm_rcr` multiplies by their transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import BuildFailed, Point, Unsupported

if TYPE_CHECKING:
    import torch

STRUCTURE = 1  # part of the artefact's address: raise it whenever build_graph makes another graph
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert")
FLASH_HEAD_SIZES = (8, 16, 32, 64, 128)
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "fast_gelu", "gelu_fast": "fast_gelu", "gelu_pytorch_tanh": "fast_gelu"}
KNOWN_TENSOR = "layer.0.attention.self.query.weight"
OUTPUT = "last_hidden_state"

TensorFactory = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """One encoder for one batch and sequence length. `attention`: `flash`, `mem_eff` or `ck` (composable kernel, ROCm).

    `vocabulary`, `positions` and `token_types` are the rows of the embedding tables; 0 where the graph starts from
    hidden states (head `layers`).
    """

    batch: int
    seq: int
    layers: int
    hidden: int
    heads: int
    intermediate: int
    epsilon: float
    activation: str
    attention: str
    vocabulary: int = 0
    positions: int = 0
    token_types: int = 0

    @property
    def with_embeddings(self) -> bool:
        return self.vocabulary > 0

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def rows(self) -> int:
        """Tokens: the graph sees the batch as B·S rows. With a batch dimension the first layer's operators would differ
        from the others' and be compiled apart."""
        return self.batch * self.seq

    def ingredients(self) -> dict[str, object]:
        """What decides the graph, as plain JSON values."""
        return {"structure": STRUCTURE, **asdict(self)}

    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name → (shape, AITemplate dtype) of the graph's inputs."""
        if self.with_embeddings:
            return dict.fromkeys(("input_ids", "token_type_ids", "position_ids"), ((self.rows,), "int64"))
        return {"hidden_states": ((self.rows, self.hidden), "float16")}

    def constants(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name → (shape, AITemplate dtype) of the tensors that are set when the compiled library is loaded."""
        h, f = self.hidden, self.intermediate
        shapes: dict[str, tuple[int, ...]] = {}
        if self.with_embeddings:
            shapes |= {
                "word_embeddings": (self.vocabulary, h),
                "token_type_embeddings": (self.token_types, h),
                "position_embeddings": (self.positions, h),
                "embeddings_norm_weight": (h,),
                "embeddings_norm_bias": (h,),
            }
        for index in range(self.layers):
            shapes |= {
                f"layer_{index}_qkv_weight": (3 * h, h),
                f"layer_{index}_qkv_bias": (3 * h,),
                f"layer_{index}_projection_weight": (h, h),
                f"layer_{index}_projection_bias": (h,),
                f"layer_{index}_attention_norm_weight": (h,),
                f"layer_{index}_attention_norm_bias": (h,),
                f"layer_{index}_up_weight": (f, h),
                f"layer_{index}_up_bias": (f,),
                f"layer_{index}_down_weight": (h, f),
                f"layer_{index}_down_bias": (h,),
                f"layer_{index}_output_norm_weight": (h,),
                f"layer_{index}_output_norm_bias": (h,),
            }
        found = {name: (shape, "float16") for name, shape in shapes.items()}
        if self.attention == "flash":
            found["sequence_starts"] = ((self.batch + 1,), "int32")
        return found


def plan_encoder(config: Any, point: Point) -> EncoderPlan:
    """The encoder that `point` asks for, from a Hugging Face `config`. Raises Unsupported where there is none."""
    kind = point.device_kind
    if kind not in ("cuda", "rocm"):
        raise Unsupported(f"AITemplate compiles for NVIDIA and AMD GPUs only, not for {kind}")
    if point.variant != kind:
        raise Unsupported(f"ait:{point.variant} does not run on {point.device}: use ait:{kind}")
    if point.dtype != "fp16":
        raise Unsupported(
            f"AITemplate's flash attention and BERT embeddings have no {point.dtype}: this backend builds fp16 only"
        )
    if point.head not in ("layers", "encoder"):
        raise Unsupported(
            f"the AITemplate encoder ends at the last hidden state, without head {point.head!r}: use layers or encoder"
        )
    if point.workload != "padded":
        raise Unsupported(
            "AITemplate's BERT takes no attention mask, so that only sequences of full length get the same answer: "
            "use --workload padded"
        )
    if config.model_type not in FAMILIES:
        raise Unsupported(f"the AITemplate encoder is written for {', '.join(FAMILIES)}, not for {config.model_type}")
    hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
    if hidden % 8 or int(config.intermediate_size) % 8:
        raise Unsupported(
            f"AITemplate's fp16 kernels want widths in multiples of 8, not {hidden} and {config.intermediate_size}"
        )
    if getattr(config, "position_embedding_type", "absolute") not in (None, "absolute"):
        raise Unsupported(f"the AITemplate encoder has absolute positions only, not {config.position_embedding_type}")
    if getattr(config, "pruned_heads", None):
        raise Unsupported("the AITemplate encoder has whole layers only: this checkpoint has pruned heads")
    tables = {}
    if point.head == "encoder":
        tables = {
            "vocabulary": int(config.vocab_size),
            "positions": int(config.max_position_embeddings),
            "token_types": int(config.type_vocab_size),
        }
    return EncoderPlan(
        batch=point.batch,
        seq=point.seq,
        layers=int(config.num_hidden_layers),
        hidden=hidden,
        heads=heads,
        intermediate=int(config.intermediate_size),
        epsilon=float(config.layer_norm_eps),
        activation=_activation(str(config.hidden_act), point),
        attention=_attention(hidden // heads, point),
        **tables,
    )


def _activation(hidden_act: str, point: Point) -> str:
    """`gelu` (erf) or `fast_gelu` (tanh): the model's own, unless the option says otherwise."""
    asked = str(point.option("activation", "auto"))
    if asked == "auto":
        if hidden_act not in ACTIVATIONS:
            raise Unsupported(f"the AITemplate encoder has {', '.join(ACTIVATIONS)}, not the activation {hidden_act!r}")
        asked = ACTIVATIONS[hidden_act]
    if point.device_kind == "rocm" and asked != "fast_gelu":
        raise Unsupported(
            "AITemplate on ROCm has no fused erf gelu: --opt activation=fast_gelu changes the answer a little"
        )
    return asked


def _attention(head_size: int, point: Point) -> str:
    asked = str(point.option("attention", "auto"))
    if point.device_kind == "rocm":
        if asked != "auto":
            raise Unsupported(f"AITemplate on ROCm has composable kernel's attention only, not {asked}")
        return "ck"
    fits = head_size in FLASH_HEAD_SIZES
    if asked == "flash" and not fits:
        raise Unsupported(
            f"AITemplate's flash attention wants heads of {', '.join(map(str, FLASH_HEAD_SIZES))}, not of {head_size}"
        )
    return asked if asked != "auto" else "flash" if fits else "mem_eff"


def pack_weights(state: Mapping[str, torch.Tensor], plan: EncoderPlan) -> dict[str, torch.Tensor]:
    """Tensors of `plan.constants()` from a Hugging Face state dict, in its dtype; BuildFailed where one misfits."""
    import torch

    known = next((name for name in state if name.endswith(KNOWN_TENSOR)), None)
    if known is None:
        raise BuildFailed(f"the model has no tensor …{KNOWN_TENSOR}: it is not a BERT encoder")
    prefix = known.removesuffix(KNOWN_TENSOR)
    packed: dict[str, torch.Tensor] = {}
    if plan.with_embeddings:
        tables = prefix.removesuffix("encoder.") + "embeddings."
        for name in ("word_embeddings", "token_type_embeddings", "position_embeddings"):
            packed[name] = state[f"{tables}{name}.weight"]
        packed["embeddings_norm_weight"] = state[f"{tables}LayerNorm.weight"]
        packed["embeddings_norm_bias"] = state[f"{tables}LayerNorm.bias"]
    for index in range(plan.layers):
        ours, theirs = f"layer_{index}_", f"{prefix}layer.{index}."
        for part in ("weight", "bias"):
            query_key_value = [state[f"{theirs}attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            packed[f"{ours}qkv_{part}"] = torch.cat(query_key_value)
            packed[f"{ours}projection_{part}"] = state[f"{theirs}attention.output.dense.{part}"]
            packed[f"{ours}attention_norm_{part}"] = state[f"{theirs}attention.output.LayerNorm.{part}"]
            packed[f"{ours}up_{part}"] = state[f"{theirs}intermediate.dense.{part}"]
            packed[f"{ours}down_{part}"] = state[f"{theirs}output.dense.{part}"]
            packed[f"{ours}output_norm_{part}"] = state[f"{theirs}output.LayerNorm.{part}"]
    if plan.attention == "flash":
        packed["sequence_starts"] = torch.arange(plan.batch + 1, dtype=torch.int32) * plan.seq
    wanted = plan.constants()
    for name, tensor in packed.items():
        if tuple(tensor.shape) != wanted[name][0]:
            raise BuildFailed(f"tensor {name} has shape {tuple(tensor.shape)}, but the graph wants {wanted[name][0]}")
    return packed


def position_ids(input_ids: torch.Tensor, family: str, padding_id: int) -> torch.Tensor:
    """Positions [B, S] as Hugging Face counts them: from 0; RoBERTa's from `padding_id` + 1, passing over padding."""
    import torch

    if family == "bert":
        return torch.arange(input_ids.shape[1]).expand(input_ids.shape).contiguous()
    real = input_ids.ne(padding_id).long()
    return torch.cumsum(real, dim=1) * real + padding_id


def graph_inputs(
    arrays: Mapping[str, torch.Tensor], plan: EncoderPlan, family: str, padding_id: int
) -> dict[str, torch.Tensor]:
    """The graph's inputs from a batch's [B, S] ids or [B, S, H] hidden states: the same tokens as B·S rows."""
    import torch

    if not plan.with_embeddings:
        return {"hidden_states": arrays["hidden_states"].reshape(plan.rows, plan.hidden)}
    ids = arrays["input_ids"]
    types = arrays.get("token_type_ids", torch.zeros_like(ids))
    found = {"input_ids": ids, "token_type_ids": types, "position_ids": position_ids(ids, family, padding_id)}
    return {name: tensor.reshape(plan.rows) for name, tensor in found.items()}


def build_graph(ops: Any, tensor: TensorFactory, plan: EncoderPlan) -> Any:
    """The graph's output [B·S, H].

    `ops` is `aitemplate.compiler.ops`; `tensor` makes a named graph tensor: `tensor(shape=, dtype=, name=, is_input=)`.
    """
    inputs = {
        name: tensor(shape=list(shape), dtype=dtype, name=name, is_input=True)
        for name, (shape, dtype) in plan.inputs().items()
    }
    weights = {
        name: tensor(shape=list(shape), dtype=dtype, name=name, is_input=False)
        for name, (shape, dtype) in plan.constants().items()
    }
    if plan.with_embeddings:
        state = ops.bert_embeddings()(
            inputs["input_ids"],
            inputs["token_type_ids"],
            inputs["position_ids"],
            weights["word_embeddings"],
            weights["token_type_embeddings"],
            weights["position_embeddings"],
            weights["embeddings_norm_weight"],
            weights["embeddings_norm_bias"],
            plan.epsilon,
        )
    else:
        state = inputs["hidden_states"]
    up = {"gelu": "gemm_rcr_bias_gelu", "fast_gelu": "gemm_rcr_bias_fast_gelu"}[plan.activation]
    for index in range(plan.layers):
        own = {
            name.removeprefix(f"layer_{index}_"): each
            for name, each in weights.items()
            if name.startswith(f"layer_{index}_")
        }
        mixed = ops.reshape()(_attend(ops, state, own, weights, plan), [plan.rows, plan.hidden])
        summed = ops.gemm_rcr_bias_add()(mixed, own["projection_weight"], own["projection_bias"], state)
        state = _normalise(ops, summed, own["attention_norm_weight"], own["attention_norm_bias"], plan)
        wide = getattr(ops, up)()(state, own["up_weight"], own["up_bias"])
        summed = ops.gemm_rcr_bias_add()(wide, own["down_weight"], own["down_bias"], state)
        state = _normalise(ops, summed, own["output_norm_weight"], own["output_norm_bias"], plan)
    return state


def _normalise(ops: Any, x: Any, weight: Any, bias: Any, plan: EncoderPlan) -> Any:
    return ops.layernorm()(x, weight, bias, [plan.hidden], plan.epsilon)


def _attend(ops: Any, x: Any, own: Mapping[str, Any], weights: Mapping[str, Any], plan: EncoderPlan) -> Any:
    """Attention over x [B·S, H] before its output projection: B·S rows of heads × D, in one shape or another."""
    batch, seq, heads, size = plan.batch, plan.seq, plan.heads, plan.head_size
    if plan.attention == "flash":
        packed = ops.gemm_rcr_bias()(x, own["qkv_weight"], own["qkv_bias"])
        packed = ops.reshape()(packed, [plan.rows, 3, heads, size])
        flash = ops.flash_attention(batch_size=batch, dropout=0, max_seq_len=seq, causal=False)
        return flash(packed, weights["sequence_starts"])
    layout = {"layout": "m2n3"} if plan.attention == "ck" else {}
    split = ops.gemm_rcr_bias_permute(shape=(seq, 3, heads), **layout)  # [3, B, heads, S, D]
    query, key, value = ops.split()(split(x, own["qkv_weight"], own["qkv_bias"]), 1, dim=0)
    if plan.attention == "mem_eff":
        each = [batch, heads, seq, size]
        attend = ops.mem_eff_attention(causal=False)
    else:
        each = [batch * heads, seq, size]
        attend = ops.bmm_softmax_bmm_permute(shape=(heads,), scale=size**-0.5, causal=False)
    return attend(*(ops.reshape()(part, each) for part in (query, key, value)))
