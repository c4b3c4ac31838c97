"""What AITemplate needs around it: which installation this is, the GPU architecture, headers and compiler flags.

AITemplate's own detection is not used: it knows the H200 neither by name nor through current cuda-python, and with an
unknown GPU it stops. Nothing here imports aitemplate or torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchrun.backends.contract import BuildFailed, Unsupported

INSTALL = "from source with its submodules, as the README of github.com/facebookincubator/AITemplate says"
OLDEST_CUDA = (8, 0)
NEWEST_CUDA_ARCH = 90
ROCM_ARCHES = ("gfx908", "gfx90a")
PROFILER_ARGUMENTS = 4
CUDA_13 = 13
REMOVED_FIELDS = re.compile(r"\bprop\.(?:memoryClockRate|clockRate)\b")
CURAND_HEADER = "curand_kernel.h"
STUB_FLAG = "-static-global-template-stub=false"


@dataclass(frozen=True, slots=True)
class Installation:
    """A source install of Meta's AITemplate. `digest`: SHA-256 (16 digits) over its own source files, so that a local
    change is another engine; `commit` is None where neither git nor pip recorded it."""

    root: Path
    version: str
    digest: str
    commit: str | None

    @property
    def third_party(self) -> Path:
        """Its vendored headers: inside the package where it was installed, beside it in a checkout."""
        inside = self.root / "3rdparty"
        return inside if inside.exists() else self.root.parent.parent / "3rdparty"

    @property
    def static_files(self) -> Path:
        """The runtime's sources, which go into every compiled model."""
        return self.third_party.parent / "static"


def find_installation() -> Installation:
    """The AITemplate that `import aitemplate` would give. Raises Unsupported, with what to do, if it is not Meta's."""
    spec = importlib.util.find_spec("aitemplate")
    if spec is None or spec.origin is None:
        unrelated = _distribution()
        if unrelated is not None:
            raise Unsupported(
                f"the installed package {unrelated.metadata['Name']} {unrelated.version} is unrelated to "
                f"AITemplate and only shares its name: pip uninstall aitemplate, then install Meta's {INSTALL}"
            )
        raise Unsupported(
            f"AITemplate is not installed (the package aitemplate on the index is another): get it {INSTALL}"
        )
    root = Path(spec.origin).parent
    version = _version(root)
    if version is None or not (root / "backend" / "target.py").is_file():
        raise Unsupported(
            f"the module at {root} is unrelated to AITemplate and only shares its name: remove it, then install Meta's "
            f"{INSTALL}"
        )
    found = Installation(root, version, _digest(root), _commit(root))
    if not (found.static_files / "include").is_dir():
        raise Unsupported(f"AITemplate at {root} lacks its folder static: install it {INSTALL}")
    return found


def check_third_party(installation: Installation, kind: str) -> None:
    """Raises Unsupported where vendored headers for that kind of device are missing (a checkout without submodules)."""
    needed = {"cuda": "cutlass/include/cutlass", "rocm": "composable_kernel/include/ck"}[kind]
    for path in (needed, "picojson"):
        if not (installation.third_party / path).is_dir():
            raise Unsupported(
                f"AITemplate at {installation.root} lacks its submodule 3rdparty/{path.partition('/')[0]}: install it "
                f"{INSTALL}"
            )


def cuda_arch(capability: tuple[int, int]) -> tuple[str, dict[str, object]]:
    """AITemplate's name for a compute capability, with facts where code for an older GPU is used."""
    major, minor = capability
    if capability < OLDEST_CUDA:
        raise Unsupported(
            f"AITemplate's attention kernels need compute capability 8.0 or newer; this GPU has {major}.{minor}"
        )
    arch = min(major * 10, NEWEST_CUDA_ARCH)
    facts: dict[str, object] = {"arch": f"sm_{arch}"}
    if arch != major * 10 + minor:
        facts["arch_note"] = f"AITemplate has nothing newer than sm_{arch} for this sm_{major}{minor}"
    return str(arch), facts


def rocm_arch(name: str) -> tuple[str, dict[str, object]]:
    """AITemplate's name for an AMD GPU from the runtime's (`gfx90a:sramecc+:xnack-`)."""
    arch = name.partition(":")[0]
    if arch not in ROCM_ARCHES:
        raise Unsupported(
            f"AITemplate's ROCm target takes {' and '.join(ROCM_ARCHES)} only ('Unsupported GPU Arch'); this is {arch}"
        )
    return arch, {"arch": arch}


def check_rocm_profiler(generator: Callable[..., object]) -> None:
    """Raises Unsupported where `generator`, AITemplate's writer of profilers for a ROCm operator, cannot be called by AITemplate.

    Its caller passes (attributes, folder, file name, dimensions) since 0.1.1; the ROCm operators never took the file name.
    """
    n = len(inspect.signature(generator).parameters)
    if n < PROFILER_ARGUMENTS:
        raise Unsupported(
            f"this AITemplate cannot choose kernels on ROCm: it passes {PROFILER_ARGUMENTS} arguments to gen_profiler, "
            f"and its ROCm operators take {n}"
        )


@dataclass(frozen=True, slots=True)
class Compiler:
    """The compiler AITemplate will call: its full path and version."""

    path: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def find_compiler(kind: str) -> Compiler:
    """nvcc or hipcc. Raises BuildFailed where it is missing or does not answer."""
    name = {"cuda": "nvcc", "rocm": "hipcc"}[kind]
    path = shutil.which(name)
    if path is None:
        raise BuildFailed(
            f"AITemplate compiles with {name}, which is not on the PATH: install the {kind.upper()} toolkit, or add "
            "its bin folder to PATH"
        )
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildFailed(f"{path} --version failed: {error}") from error
    return Compiler(Path(path), parse_compiler_version(text, name))


def parse_compiler_version(text: str, name: str) -> str:
    """`13.0` from nvcc's or `5.2.21153` from hipcc's `--version`. Raises BuildFailed where there is none."""
    found = re.search(r"release (\d+\.\d+)", text) or re.search(r"HIP version: (\d+\.\d+(?:\.\d+)?)", text)
    if found is None:
        raise BuildFailed(f"{name} --version does not tell its version: {text.strip()[:80]!r}")
    return found[1]


def corrections(compiler: Compiler, kind: str) -> dict[str, str]:
    """What is done about CUDA 13, by what it concerns; empty with other compilers."""
    if kind != "cuda" or compiler.major < CUDA_13:
        return {}
    return {
        "cudaDeviceProp.clockRate": "printed as 0 in a corrected copy of the runtime's sources",
        "kernel stubs": STUB_FLAG,
    }


def correct_static_files(source: Path, target: Path) -> int:
    """Copy AITemplate's `static` folder, printing 0 for the clock rates that CUDA 13 took out of cudaDeviceProp.

    They occur in a debug print only. Returns how many places were changed.
    """
    shutil.copytree(source, target, dirs_exist_ok=True)
    path = target / "include" / "cuda_device_functions.h"
    corrected, n = REMOVED_FIELDS.subn("0", path.read_text(encoding="utf-8"))
    path.chmod(0o644)
    path.write_text(corrected, encoding="utf-8")
    return n


def curand_include(compiler: Compiler, search: Iterable[Path], environment: Mapping[str, str]) -> Path | None:
    """Folder to add to CPATH so that cuRAND's headers are found; None where the compiler finds them by itself.

    `search` holds folders of Python packages: NVIDIA's wheels keep headers in nvidia/<name>/include. Raises BuildFailed
    where the headers are nowhere.
    """
    toolkit = compiler.path.resolve().parent.parent
    own = [toolkit / "include", *toolkit.glob("targets/*/include")]
    given = [Path(part) for part in environment.get("CPATH", "").split(os.pathsep) if part]
    if any((folder / CURAND_HEADER).is_file() for folder in own + given):
        return None
    for packages in search:
        for header in sorted(packages.glob(f"nvidia/*/include/{CURAND_HEADER}")):
            return header.parent
    raise BuildFailed(
        f"AITemplate includes {CURAND_HEADER}, which this CUDA toolkit lacks: pip install nvidia-curand, or add the "
        "include folder of cuRAND to CPATH"
    )


def compile_environment(
    compiler: Compiler, kind: str, profiles: Path, curand: Path | None, cores: int, environment: Mapping[str, str]
) -> dict[str, str]:
    """Variables to set while AITemplate compiles. Raises BuildFailed where it is told to skip profiling.

    AITemplate's profile cache is not keyed by GPU, so `profiles` must be a folder of this environment alone.

    Why STUB_FLAG: nvcc 13 gives each object file its own launch stub for a kernel template, while CUTLASS notes "the
    kernel may use that much shared memory now" in a variable that all object files share. The second operator with the
    same kernel would launch a stub that was never allowed it, and fail with "Got cutlass error: Error Internal".
    """
    if environment.get("CI_FLAG") == "CIRCLECI":
        raise BuildFailed(
            "CI_FLAG=CIRCLECI makes AITemplate choose kernels without profiling, which is no figure: unset it"
        )
    found = {"CACHE_DIR": str(profiles), "NUM_BUILDERS": environment.get("NUM_BUILDERS", str(cores))}
    if kind == "cuda":
        if curand is not None:
            found["CPATH"] = os.pathsep.join(part for part in (environment.get("CPATH"), str(curand)) if part)
        if compiler.major >= CUDA_13:
            found["NVCC_APPEND_FLAGS"] = " ".join(
                part for part in (environment.get("NVCC_APPEND_FLAGS"), STUB_FLAG) if part
            )
    return found


def engine_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """AITemplate's own environment variables that are set: they change what is compiled."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith("AIT_") or name == "CUTLASS_DEBUG_TRACE_LEVEL"
    }


def shown_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings as facts: a value that may be a path, which names folders and users, becomes `(a path)`."""
    return {name: "(a path)" if re.search(r"[/\\~]", value) else value for name, value in settings.items()}


@contextmanager
def environment_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while: AITemplate takes these settings from nowhere else."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def environment_id(*parts: str) -> str:
    """16 digits naming a folder for one environment: GPU, architecture, compiler and AITemplate."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _distribution() -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution("aitemplate")
    except importlib.metadata.PackageNotFoundError:
        return None


def _version(root: Path) -> str | None:
    try:
        text = (root / "_libinfo.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"""__version__\s*=\s*["']([^"']+)["']""", text)
    return found[1] if found else None


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.suffix in (".py", ".cuh", ".h", ".cu") and relative.parts[0] not in ("3rdparty", "licenses"):
            digest.update(relative.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _commit(root: Path) -> str | None:
    """The git commit, from pip's record or from the checkout that the package lies in."""
    installed = _distribution()
    recorded = installed.read_text("direct_url.json") if installed is not None else None
    if recorded:
        commit = json.loads(recorded).get("vcs_info", {}).get("commit_id")
        if commit:
            return str(commit)
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()
        top = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--show-toplevel"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return found if (Path(top) / "python" / "aitemplate") == root.resolve() else None
