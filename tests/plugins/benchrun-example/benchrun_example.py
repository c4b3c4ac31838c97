"""An engine for benchrun in one file: the graph that torch.export captures, run on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import Availability, Backend, Description, Session, Variant

if TYPE_CHECKING:
    from benchrun.backends.contract import Build, Inputs, Point
    from benchrun.backends.models import Model


class ExampleSession(Session):
    def __init__(self, program: Any, model: Model) -> None:
        self.program, self.model, self.call = program, model, program.module()

    def bind(self, inputs: Inputs) -> None:
        import torch

        self.arguments = [torch.from_numpy(inputs.arrays[name]) for name in self.model.input_names]

    def enqueue(self) -> None:
        self.results = self.call(*self.arguments)

    def synchronize(self) -> None:
        pass  # on the CPU a call has finished when it returns

    def outputs(self) -> dict[str, Any]:
        return {name: each.numpy() for name, each in zip(self.model.output_names, self.results, strict=True)}

    def facts(self) -> dict[str, Any]:
        products = [node for node in self.program.graph.nodes if "linear" in str(node.target)]
        dtypes = {str(node.meta["val"].dtype) for node in products}  # read back from the graph, not echoed
        names = {"torch.float32": "fp32"}
        return {"compute_dtypes": {"matmul": "+".join(sorted(names.get(each, each) for each in dtypes))}}


class ExampleBackend(Backend):
    description = Description(
        name="example",
        summary="the graph of torch.export, as an example of a third party's engine",
        distributions=("torch",),
        install="pip install benchrun-example",
        variants=(Variant("export", "the graph as it was captured", devices=("cpu",), dtypes=("fp32",)),),
    )

    def probe(self) -> Availability:
        import torch  # an engine is imported inside functions, never at the top of the module

        return Availability(True, versions={"torch": torch.__version__}, devices=("cpu",), dtypes={"cpu": ("fp32",)})

    def prepare(self, model: Model, point: Point, build: Build) -> Session:
        import torch

        shape = (point.batch, point.seq)
        hidden, ids = torch.zeros(*shape, model.spec.shape.hidden_size), torch.ones(shape, dtype=torch.int64)
        example = tuple(hidden if name == "hidden_states" else ids.clone() for name in model.input_names)
        with build.phase("export"):
            return ExampleSession(torch.export.export(model.module, example), model)
