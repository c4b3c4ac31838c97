"""What `--override` may change of a model, and how each value must look. Pure: imports no engine.

Names are those of transformers' configurations. `fast_gelu` is AITemplate's word for the tanh form of GELU.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchrun.backends.contract import OptionValue

# as the user may write them → transformers' name; those that transformers itself writes in Python operators are left out
ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "fast_gelu": "gelu_pytorch_tanh",
    "gelu_fast": "gelu_fast",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
}
SIZES = (
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_labels",
    "type_vocab_size",
    "vocab_size",
)
SHARES = ("attention_probs_dropout_prob", "hidden_dropout_prob")
NAMES = tuple(sorted((*SIZES, *SHARES, "hidden_act", "layer_norm_eps", "pad_token_id")))


def spell_overrides(overrides: Mapping[str, OptionValue]) -> tuple[tuple[str, OptionValue], ...]:
    """The overrides in order, each value in its one spelling, so that equal models have equal point keys.

    Raises ValueError, one sentence, for a name that is not known or a value that it cannot have.
    """
    return tuple((name, _spell(name, value)) for name, value in sorted(overrides.items()))


def _spell(name: str, value: OptionValue) -> OptionValue:
    if name not in NAMES:
        raise ValueError(f"cannot override {name!r}: choose from {', '.join(NAMES)}")
    number = None if isinstance(value, bool) or not isinstance(value, int | float) else value
    if name == "hidden_act":
        if str(value) not in ACTIVATIONS:
            raise ValueError(f"--override hidden_act takes one of {', '.join(ACTIVATIONS)}, not {value!r}")
        return ACTIVATIONS[str(value)]
    if name in SIZES and not (isinstance(number, int) and number >= 1):
        raise ValueError(f"--override {name} takes a positive whole number, not {value!r}")
    if name == "pad_token_id" and not (isinstance(number, int) and number >= 0):
        raise ValueError(f"--override {name} takes a whole number from 0 on, not {value!r}")
    if name in SHARES and not (number is not None and 0 <= number < 1):
        raise ValueError(f"--override {name} takes a share from 0 to below 1, not {value!r}")
    if name == "layer_norm_eps" and not (number is not None and 0 < number < 1):
        raise ValueError(f"--override {name} takes a number between 0 and 1, such as 1e-12, not {value!r}")
    return value
