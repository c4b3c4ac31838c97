"""With AITemplate itself: off unless BENCHRUN_TEST_AIT is set, since it comes from a source install only.

BENCHRUN_TEST_AIT=compile   generates and compiles for sm_90 with nvcc, without a GPU and so without choosing kernels
BENCHRUN_TEST_AIT=run       needs a GPU: compiles, runs and compares with the module
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchrun.backends import aitemplate_target
from benchrun.backends.aitemplate import AITemplateBackend, make_target, python_packages
from benchrun.backends.aitemplate_bert import plan_encoder
from benchrun.backends.aitemplate_compile import LIBRARY, REPORT, compile_library, generate
from benchrun.backends.aitemplate_report import check_built, read_back
from benchrun.backends.models import load_model, named_spec
from tests.backends.aitemplate_double import H200
from tests.backends.build_double import RecordingBuild
from tests.backends.test_aitemplate import BATCH, SEQ, inputs, point, reference

ASKED = os.environ.get("BENCHRUN_TEST_AIT", "")


@pytest.mark.skipif(ASKED != "compile", reason="needs AITemplate from source and nvcc: BENCHRUN_TEST_AIT=compile")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("head", "attention"), [("layers", "flash"), ("encoder", "mem_eff")])
def test_it_compiles_for_hopper(head: str, attention: str, tmp_path: Path) -> None:
    installation = aitemplate_target.find_installation()
    compiler = aitemplate_target.find_compiler("cuda")
    target = make_target(H200, compiler, installation, "fp32", tmp_path, python_packages(), os.environ)
    dummies = {"CI_FLAG": "CIRCLECI", "DISABLE_PROFILER_CODEGEN": "1"}
    target = replace(target, environment={**target.environment, **dummies})
    model = load_model(named_spec("tiny", head), SEQ)
    plan = plan_encoder(model.config, point(head, attention=attention))
    compile_library(tmp_path, plan, target, generate)
    facts = read_back(json.loads((tmp_path / REPORT).read_text()))
    check_built(facts, "gelu", "fp32")
    assert facts["attention"] == f"{attention}_attention" and facts["compute_dtypes"]["matmul"] == "fp16"
    if sys.platform == "linux":
        assert ctypes.CDLL(str(tmp_path / LIBRARY)).AITemplateModelContainerRun


@pytest.mark.skipif(ASKED != "run", reason="needs AITemplate from source and a GPU: BENCHRUN_TEST_AIT=run")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", ["on", "engine", "off"])
def test_it_answers_as_the_module_does(mode: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = load_model(named_spec("tiny"), SEQ)
    build = RecordingBuild.at(tmp_path_factory.getbasetemp() / "cache")
    session = AITemplateBackend().prepare(model, point(cuda_graph=mode), build)
    for index in (0, 1, 0):
        given = inputs(model, index)
        session.bind(given)
        session.poison()
        session.enqueue()
        session.synchronize()
        found, wanted = session.outputs()["last_hidden_state"], reference(model, given)
        assert found.shape == (BATCH, SEQ, model.config.hidden_size)
        assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 5e-3
    assert session.facts()["cuda_graph"] is (mode != "off")
    session.close()
