"""A question answering model for tests: the last layers of all-MiniLM-L6-v2 and a head, trained on tests/accuracy/questions.json.

Seeded. The layers below are frozen, so what they give is computed once; an epoch then costs two layers on a few thousand tokens.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchrun.backends.tokenisation import TextTokenizer
from benchrun.runner.accuracy.squad_data import SquadData, read_squad
from benchrun.runner.accuracy.windows import Window, WindowRules, make_windows
from tests.backends.minilm import MINILM

QUESTIONS = Path(__file__).with_name("questions.json")
# short, so that the long passage takes several windows and all is quick on two cores
RULES = WindowRules(seq=96, stride=48)
TRAINED_LAYERS = 2
EPOCHS, BATCH, RATE, SEED = 7, 16, 8e-4, 20_261


@dataclass(frozen=True, eq=False)
class Example:
    """A window as tensors: what the frozen layers gave [tokens, hidden], and the places of start and end; 0 (the first token) for none."""

    hidden: torch.Tensor
    start: int
    end: int


def train_model(folder: Path, epochs: int = EPOCHS) -> Path:
    """Train and save config, safetensors and tokeniser to `folder`."""
    from transformers import AutoModelForQuestionAnswering

    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # beside other work a second thread makes it six times slower, not faster
    source = MINILM
    model: Any = AutoModelForQuestionAnswering.from_pretrained(source, attn_implementation="sdpa").float()
    separate_segments(model)
    data = read_squad(QUESTIONS)
    examples = list(make_examples(model, data, make_windows(data.questions, TextTokenizer(source), RULES)))
    fit(model, examples, epochs)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(source / name, folder / name)
    return folder


def separate_segments(model: Any) -> None:
    """Make the second segment's embedding differ as much as words do.

    all-MiniLM was trained on single texts and hardly tells segments apart; a model that was trained for question answering does.
    """
    generator = torch.Generator().manual_seed(SEED)
    table = model.base_model.embeddings.token_type_embeddings.weight
    size = model.base_model.embeddings.word_embeddings.weight.norm(dim=1).mean()
    with torch.no_grad():
        away = torch.randn(table.shape[1], generator=generator)
        table[1] = table[0] + away / away.norm() * size


def make_examples(model: Any, data: SquadData, windows: list[Window]) -> Iterator[Example]:
    """Windows with their targets, through the embeddings and the frozen layers."""
    model.eval()
    encoder = model.base_model.encoder.layer
    frozen = encoder[: len(encoder) - TRAINED_LAYERS]
    places = {each.id: place for place, each in enumerate(data.questions)}
    starts = answer_starts()
    for window in windows:
        question = data.questions[window.asked]
        assert places[question.id] == window.asked
        start, end = find_target(window, *starts[question.id])
        if not start and window.span.start:
            continue  # of the windows without the answer the first one is enough
        ids, types = (torch.tensor([each]) for each in (window.row.ids, window.row.types))
        with torch.no_grad():
            hidden = model.base_model.embeddings(input_ids=ids, token_type_ids=types)
            for layer in frozen:
                hidden = through(layer, hidden, None)
        yield Example(hidden[0], start, end)


def answer_starts() -> dict[str, tuple[int, int]]:
    """First and last character + 1 of the first answer of each question."""
    import json

    raw = json.loads(QUESTIONS.read_text("utf-8"))
    found = {}
    for article in raw["data"]:
        for paragraph in article["paragraphs"]:
            for each in paragraph["qas"]:
                answer = each["answers"][0]
                found[each["id"]] = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    return found


def find_target(window: Window, start: int, stop: int) -> tuple[int, int]:
    """Places of the answer's first and last token in the window; (0, 0) where it is not all in it."""
    first = [place for place, (a, b) in enumerate(window.offsets) if a <= start < b]
    last = [place for place, (a, b) in enumerate(window.offsets) if a < stop <= b]
    if not first or not last:
        return 0, 0
    return window.first + first[0], window.first + last[0]


def through(layer: Any, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """One encoder layer; releases of Transformers differ in what it returns."""
    found = layer(hidden, attention_mask=mask)
    output: torch.Tensor = found[0] if isinstance(found, tuple) else found
    return output


def fit(model: Any, examples: list[Example], epochs: int) -> None:
    """Train the last layers and the head with AdamW on cross entropy of start and end, the rate falling to 0."""
    encoder = model.base_model.encoder.layer
    trained = list(encoder[len(encoder) - TRAINED_LAYERS :])
    parameters = [each for module in (*trained, model.qa_outputs) for each in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    generator = torch.Generator().manual_seed(SEED)
    ordered = sorted(range(len(examples)), key=lambda place: len(examples[place].hidden))
    batches = [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]
    steps = epochs * len(batches)
    done = 0
    for _ in range(epochs):
        total = 0.0
        for place in torch.randperm(len(batches), generator=generator).tolist():
            chosen = [examples[each] for each in batches[place]]
            loss = batch_loss(model, trained, chosen)
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - done / steps) * min(1.0, (done + 1) / 10)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            done += 1
            total += float(loss.detach())
        print(f"loss {total / len(batches):.4f}", file=sys.stderr)


def batch_loss(model: Any, trained: list[Any], examples: list[Example]) -> torch.Tensor:
    """Cross entropy over the tokens of each window."""
    longest = max(len(each.hidden) for each in examples)
    hidden = torch.nn.utils.rnn.pad_sequence([each.hidden for each in examples], batch_first=True)
    real = torch.arange(longest)[None, :] < torch.tensor([len(each.hidden) for each in examples])[:, None]
    mask = torch.zeros(len(examples), 1, 1, longest).masked_fill(
        ~real[:, None, None, :], torch.finfo(torch.float32).min
    )
    for layer in trained:
        hidden = through(layer, hidden, mask)
    logits = model.qa_outputs(hidden).masked_fill(~real[..., None], -1e9)
    targets = torch.tensor([[each.start, each.end] for each in examples])
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2).reshape(-1, longest), targets.reshape(-1))
