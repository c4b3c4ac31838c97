"""The adapter as the runner and the command line see it: what is here, what is missing, which GPU can do what."""

from __future__ import annotations

import ctypes
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

from benchrun.backends import tensorrt, tensorrt_artefacts
from benchrun.backends.contract import Unsupported
from benchrun.backends.models import Model, load_model, named_spec
from benchrun.backends.tensorrt import TensorRtBackend, capability_of, check_point, input_shapes
from benchrun.backends.tensorrt_build import RECORD_FILE, TIMING_FILE
from benchrun.backends.tensorrt_device import Gpu, Gpus, list_gpus
from benchrun.backends.tensorrt_names import FLAVOURS, RTX, TENSORRT, Flavour, load_bindings
from tests.backends.build_double import RecordingBuild
from tests.backends.test_tensorrt_session import make_point

H200 = Gpu(0, "NVIDIA H200", (9, 0), 13000)
A6000 = Gpu(1, "NVIDIA RTX A6000", (8, 6), 13000)
NOBODY = Gpus((), "no NVIDIA driver here (libcuda.so.1 is not installed)")


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(named_spec("tiny"), 64)


def with_gpus(*gpus: Gpu) -> TensorRtBackend:
    return TensorRtBackend(lambda: Gpus(gpus))


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Only these flavours can be imported; TensorRT itself is not here, so RTX's bindings stand for its names."""

    def load(flavour: Flavour) -> Any:
        if flavour.name not in names:
            raise Unsupported(f"{flavour.library} is not installed: do this")
        return load_bindings(RTX)

    monkeypatch.setattr(tensorrt, "load_bindings", load)


def test_without_a_gpu_engines_can_be_built_but_not_run() -> None:
    found = TensorRtBackend(lambda: NOBODY).probe("rtx")
    assert not found.ok and found.devices == () and found.dtypes == {}
    assert found.versions == {"TensorRT-RTX": load_bindings(RTX).__version__}
    assert "no NVIDIA driver here" in found.reason
    assert (
        "'benchrun build' can build its engines here, for SM75, SM80, SM86, SM89, SM120, SM121, but not run"
        in found.reason
    )


def test_the_probe_of_both_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    found = with_gpus(A6000).probe()
    assert not found.ok
    assert found.reason == "TensorRT is not installed: do this; TensorRT-RTX is not installed: do this"


def test_rtx_runs_on_ampere_and_not_on_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "rtx")
    found = with_gpus(H200, A6000).probe()
    assert found.ok and found.reason == "" and found.devices == ("cuda:1",)
    assert found.dtypes == {"cuda": ("fp32", "tf32", "fp16", "bf16", "int8")}  # fp8 needs 8.9
    hopper = with_gpus(H200).probe("rtx")
    assert not hopper.ok
    assert "NVIDIA H200 has compute capability 9.0, which TensorRT-RTX 1." in hopper.reason
    assert "does not support (its targets are 7.5, 8.0, 8.6, 8.9, 12.0, 12.1): use trt:tensorrt there" in hopper.reason


def test_tensorrt_runs_on_hopper_with_fp8(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "tensorrt")
    found = with_gpus(H200).probe("tensorrt")
    assert found.ok and found.dtypes == {"cuda": ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")}
    nothing = TensorRtBackend(lambda: NOBODY).probe("tensorrt")
    assert "no NVIDIA driver here" in nothing.reason and "benchrun build" not in nothing.reason


@pytest.mark.parametrize(
    ("gpus", "fields", "message"),
    [
        ((), {}, r"TensorRT-RTX cannot run on cuda:0: no GPU \('benchrun build' can build its engines here"),
        ((A6000,), {"device": "cuda:1"}, "TensorRT-RTX cannot run on cuda:1: the driver lists 1 GPUs"),
        ((A6000,), {"device": "cpu"}, "TensorRT-RTX cannot run on cpu"),
        ((H200,), {}, "compute capability 9.0, which TensorRT-RTX .* does not support"),
        ((A6000,), {"dtype": "fp8"}, r"fp8 needs compute capability 8\.9, and NVIDIA RTX A6000 has 8\.6"),
        ((A6000,), {"workload": "packed"}, "no packed workload"),
        ((A6000,), {"variant": "tensorrt"}, "TensorRT is not installed: pip install tensorrt"),
    ],
)
def test_points_that_cannot_run_say_why_before_anything_is_built(
    model: Model, tmp_path: Path, gpus: tuple[Gpu, ...], fields: dict[str, Any], message: str
) -> None:
    build = RecordingBuild.at(tmp_path)
    backend = TensorRtBackend(lambda: Gpus(gpus, "" if gpus else "no GPU"))
    with pytest.raises(Unsupported, match=message):
        backend.prepare(model, make_point(**fields), build)
    assert build.seconds == {} and build.cache.entries() == ()


def test_a_torch_without_cuda_is_told_apart(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(Unsupported, match="is built without CUDA: install a CUDA build of torch"):
        with_gpus(A6000)._device(make_point())


def test_missing_answers_from_metadata_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: set[str] = set()

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return "1"

    def imported(flavour: Flavour) -> Any:
        raise AssertionError("the engine was imported")

    monkeypatch.setattr(tensorrt, "version", version)
    monkeypatch.setattr(tensorrt, "load_bindings", imported)
    for variant, command in (("tensorrt", TENSORRT.install), ("rtx", RTX.install)):
        reason = TensorRtBackend.missing(variant)
        assert reason is not None and reason.startswith(f"{FLAVOURS[variant].library} is not installed: {command}")
    both = TensorRtBackend.missing()
    assert (
        both is not None and TENSORRT.install in both and RTX.install in both and "NVIDIA's own package index" in both
    )
    installed |= {"tensorrt-rtx-cu13-bindings", "onnx"}
    assert TensorRtBackend.missing("rtx") == "trt needs onnxscript, which is not installed: pip install onnxscript"
    installed.add("onnxscript")
    assert TensorRtBackend.missing() is None and TensorRtBackend.missing("rtx") is None
    assert (TensorRtBackend.missing("tensorrt") or "").endswith("; TensorRT-RTX is installed: --backend trt:rtx")


def test_the_description_is_honest() -> None:
    about = TensorRtBackend.description
    assert about.name == "trt" and [variant.name for variant in about.variants] == list(FLAVOURS)
    levels = {variant.name: variant.verified for variant in about.variants}
    assert levels == {"tensorrt": {"cuda": "never run"}, "rtx": {"cuda": "built"}}
    defaults = {"engine_per_point": "off", "calibration": "", "cuda_graph": "on"}
    assert {option.name: option.default for option in about.options} == defaults
    assert all(option.choices[0] == option.default for option in about.options if not option.is_text_file)


def test_targets_and_capabilities() -> None:
    assert [capability_of(name) for name in ("SM75", "SM86", "SM120")] == [(7, 5), (8, 6), (12, 0)]
    assert [Gpu(0, "", capability, 0).target for capability in ((8, 6), (12, 0))] == ["SM86", "SM120"]
    check_point(make_point(dtype="bf16"), RTX, (8, 0), "SM80")
    check_point(make_point(workload="lengths:uniform"), RTX, (8, 0), "SM80")


def test_input_shapes(model: Model) -> None:
    shapes = input_shapes(model, make_point(batch=2, seq=7))
    assert shapes == dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (2, 7))
    layers = load_model(named_spec("tiny", "layers"), 64)
    assert input_shapes(layers, make_point(batch=2, seq=7)) == {"hidden_states": (2, 7, 128), "attention_mask": (2, 7)}


def test_a_damaged_timing_cache_is_passed_over(tmp_path: Path) -> None:
    build = RecordingBuild.at(tmp_path)
    ingredients: dict[str, object] = {"library": "TensorRT", "version": "11", "target": "SM90", "gpu": "NVIDIA H200"}

    def make(folder: Path) -> None:
        (folder / TIMING_FILE).write_bytes(b"timings")
        (folder / RECORD_FILE).write_text('{"timing_sha256": "of something else"}')

    build.cache.obtain(tensorrt_artefacts.ENGINE_KIND, ingredients, make)
    build.cache.obtain(
        tensorrt_artefacts.ENGINE_KIND, ingredients | {"graph": "b"}, lambda folder: (folder / "x").touch()
    )
    assert tensorrt_artefacts.newest_timing_cache(build.cache, ingredients) == b""


class DriverDouble:
    """Stands for libcuda: writes its answers where the driver would."""

    def __init__(self, status: int = 0, gpus: tuple[Gpu, ...] = (A6000,)) -> None:
        self.status = status
        self.gpus = gpus

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's names
        return self.status

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13000
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        assert size == len(name)
        name.value = self.gpus[device.value].name.encode()
        return 0

    def cuDeviceGetAttribute(self, found: Any, attribute: int, device: Any) -> int:  # noqa: N802
        found._obj.value = self.gpus[device.value].capability[{75: 0, 76: 1}[attribute]]
        return 0


def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda library: DriverDouble(gpus=(H200, A6000)))
    assert list_gpus() == Gpus((H200, A6000))


def test_a_driver_without_gpus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda library: DriverDouble(gpus=()))
    assert list_gpus() == Gpus((), "the NVIDIA driver lists no GPU")
    monkeypatch.setattr(ctypes, "CDLL", lambda library: DriverDouble(status=100))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list_gpus().reason == "the NVIDIA driver finds no usable GPU (cuInit: error 100)"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert list_gpus().reason.endswith("(cuInit: error 100; CUDA_VISIBLE_DEVICES is '')")


def test_no_driver_at_all() -> None:
    assert list_gpus("libnosuchdriver.so.1") == Gpus(
        (), "no NVIDIA driver here (libnosuchdriver.so.1 is not installed)"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestCudaDevice:
    """What stands under a session on a GPU; TensorRT itself is not needed for it."""

    def test_memory_stream_and_capture(self) -> None:
        from benchrun.backends.tensorrt_session import CudaDevice

        before = torch.cuda.current_stream()
        device = CudaDevice(0)
        x = device.zeros((1024,), torch.float32)
        assert device.stream == torch.cuda.current_stream().cuda_stream != before.cuda_stream
        y = device.zeros((1024,), torch.float32)

        def work() -> None:
            torch.add(x, 1, out=y)

        replay = device.capture(work)
        x.fill_(2)
        replay()
        device.synchronize()
        assert float(y.sum()) == 3 * 1024
        device.close()
        assert torch.cuda.current_stream() == before

    def test_the_driver_and_torch_agree(self) -> None:
        found = list_gpus().found
        assert [gpu.capability for gpu in found] == [torch.cuda.get_device_capability(i) for i in range(len(found))]
        assert [gpu.name for gpu in found] == [torch.cuda.get_device_name(i) for i in range(len(found))]
