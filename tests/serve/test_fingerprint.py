"""The fingerprint of an engine, by which its results are cached."""

from __future__ import annotations

from pathlib import Path

import pytest

from refgc.serve.fingerprint import engine_fingerprint


def test_fingerprint_changes_with_the_engine_and_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert engine_fingerprint("correspondence") == engine_fingerprint("correspondence")
    fingerprints = {engine_fingerprint("correspondence"), engine_fingerprint("diffusion")}
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("config.json", "freqmole.safetensors"):
        (adapter / name).write_text("{}")
    monkeypatch.setenv("REFGC_ADAPTER", str(adapter))
    fingerprints.add(engine_fingerprint("diffusion"))
    (adapter / "freqmole.safetensors").write_text("{ }")
    fingerprints.add(engine_fingerprint("diffusion"))
    assert len(fingerprints) == 4
    lora = tmp_path / "learnt.safetensors"
    monkeypatch.setenv("REFGC_ADAPTER", str(lora))
    for content in ("{}", "{ }"):
        lora.write_text(content)
        fingerprints.add(engine_fingerprint("diffusion"))
    assert len(fingerprints) == 6, "a LoRA that was changed in its place is another"
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    without = engine_fingerprint("correspondence")
    (tmp_path / "xfeat.npz").write_bytes(b"fetched by refgc setup")
    assert engine_fingerprint("correspondence") != without
