"""Training of the tiny DipRefGC: its step is that of inference, only LoRAs learn, and a run ends with what loads."""

from __future__ import annotations

import math
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refgc.dataset.triplets import load_pictures
from refgc.diptych import loras
from refgc.diptych.controlnets import ControlNets, known_latents
from refgc.diptych.pipeline import DipRefGCPipeline
from refgc.diptych.settings import DrawingSettings
from refgc.diptych.training_step import DiptychBatch, DiptychStep
from refgc.engine import no_progress
from refgc.errors import EngineError, InputError
from refgc.flux.prompts import PromptEmbeddings
from refgc.imaging.image import open_image
from refgc.model.losses import flow_matching_loss
from refgc.model.tokens import unpack
from refgc.training import checkpoint
from refgc.training.cache_files import read_prompt
from refgc.training.generator import run_generator
from refgc.training.generator_cache import conditions_of, open_cache, read_split
from refgc.training.order import Pass, generator_for
from refgc.training.settings import GeneratorRun
from tests.support.command import assert_one_sentence, run_inside
from tests.support.generator_run import changed, generator_cached, generator_parts, lines_of, opened  # noqa: F401
from tests.support.tiny_diptych import tiny_canny, tiny_diptych, tiny_inpainting, watched
from tests.support.tiny_models import tiny_transformer
from tests.support.training_run import write_run

CPU = torch.device("cpu")


def test_the_step_gives_the_networks_what_the_pipeline_gives_them(generator_parts: Path) -> None:  # noqa: F811
    """All arguments of both ControlNets and of the transformer, and so the velocity."""
    pipeline = DipRefGCPipeline.from_pretrained(
        generator_parts / "base", generator_parts / "inpainting", generator_parts / "canny"
    )
    diptych = tiny_diptych()
    tokens, pooled, _ = pipeline.encode_prompt("a cup", None)
    how = DrawingSettings(num_inference_steps=1, guidance_scale=2.0, controlnet_conditioning_scale=1.0)
    networks = (*pipeline.controlnet.nets, pipeline.transformer)
    with watched(networks[0]) as inpainting, watched(networks[1]) as canny, watched(networks[2]) as transformer:
        pipeline._draw(diptych, PromptEmbeddings(tokens, pooled), how, "latent", no_progress)
    height, width = (side // 8 for side in diptych.mask.shape)
    noise, condition, edges = (
        unpack(one, height, width)
        for one in (
            transformer[0]["hidden_states"],
            inpainting[0]["controlnet_cond"][..., :16],
            canny[0]["controlnet_cond"],
        )
    )
    known = known_latents(diptych.mask, (height, width))[None]
    mask = torch.zeros(1, 1, height, width // 2)
    # Noise alone, as at the first step of inference.
    batch = DiptychBatch(torch.zeros_like(noise), condition, edges, known, mask, noise, torch.ones(1), tokens, pooled)
    step = DiptychStep(pipeline.transformer, pipeline.controlnet, guidance=2.0, object_weighted=False)
    with torch.no_grad(), ExitStack() as watching:
        given = [watching.enter_context(watched(network)) for network in networks]
        step(batch)
    for (found,), (expected,) in zip(given, (inpainting, canny, transformer), strict=True):
        for name, value in expected.items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(found[name], value, msg=name)
            elif name.endswith("_samples") and value is not None:
                torch.testing.assert_close(list(found[name]), list(value), msg=name)
    assert inpainting[0]["controlnet_cond"].shape[-1] == 20, "latents and mask"


def test_the_loss_falls_on_one_pass(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    task, training = opened(changed(generator_cached, tmp_path, optimisation={"warmup": 0}))
    batch = task.batch(Pass(0, (0,)), CPU)
    found = []
    for _ in range(30):
        terms = training.module(batch)
        terms.total.backward()
        training.optimiser.step()
        training.optimiser.zero_grad()
        found.append(terms.total.item())
    assert found[-1] < 0.7 * found[0]


@pytest.mark.parametrize("projections", ["all", "attention"])
def test_gradients_reach_both_loras_and_nothing_else(
    generator_cached: GeneratorRun,  # noqa: F811
    tmp_path: Path,
    projections: str,
) -> None:
    task, training = opened(changed(generator_cached, tmp_path, model={"projections": projections}))
    before = {name: parameter.detach().clone() for name, parameter in task.module.named_parameters()}
    for step in range(3):
        training.module(task.batch(Pass(0, (step,)), CPU)).total.backward()
        learning = {name for name, parameter in task.module.named_parameters() if parameter.grad is not None}
        assert learning == {f"controlnets.{name}" for name, _ in task.trained()}
        # The factors A get a gradient as soon as B is not 0 any more.
        still = [name for name, one in task.trained() if "lora_B" in name and (one.grad is None or not one.grad.any())]
        assert not still
        training.optimiser.step()
        training.schedule.step()
        training.optimiser.zero_grad()
    moved = {name for name, parameter in task.module.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {f"controlnets.{name}" for name, _ in task.trained()}
    assert {name.split(".")[1] for name in moved} == {"nets"}
    assert {name.split(".")[2] for name in moved} == {"0", "1"}, "both ControlNets"
    assert any(".ff." in name for name in moved) == (projections == "all")


def test_blocks_that_act_on_nothing_get_no_lora() -> None:
    """Of three outputs for two blocks of the transformer the third is left over."""
    transformer = tiny_transformer()
    nets = ControlNets(tiny_inpainting(num_layers=3), tiny_canny(), transformer)
    assert [nets.acting_blocks(one) for one in nets.nets] == [(2, 0), (1, 2)]
    loras.add(nets, rank=2, alpha=2, which="all", seed=0)
    names = [name for name, _ in loras.trained(nets)]
    assert any("nets.0.transformer_blocks.1." in name for name in names)
    assert not any("nets.0.transformer_blocks.2." in name for name in names)


def test_loras_are_precise_on_an_imprecise_base_and_the_seed_decides_them() -> None:
    def added(seed: int) -> dict[str, Tensor]:
        nets = ControlNets(tiny_inpainting().bfloat16(), tiny_canny().bfloat16(), tiny_transformer().bfloat16())
        state = torch.get_rng_state()
        loras.add(nets, rank=2, alpha=2, which="attention", seed=seed)
        assert torch.equal(torch.get_rng_state(), state), "nobody else's random numbers are moved"
        return {name: parameter.detach() for name, parameter in loras.trained(nets)}

    one, same, other = added(1), added(1), added(2)
    assert all(tensor.dtype == torch.float32 for tensor in one.values())
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_half_precision_trains_loras_in_single_precision(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    """As on a GPU: base and embeddings in bfloat16, latents and LoRAs in float32."""
    task, training = opened(changed(generator_cached, tmp_path, optimisation={"warmup": 0}))
    batch = task.batch(Pass(0, (0,)), CPU)
    precise = task.module(batch).total.item()
    half = DiptychStep(
        task._step.transformer.bfloat16(), task.controlnets.bfloat16(), guidance=3.5, object_weighted=False
    )
    for _, parameter in task.trained():
        parameter.data = parameter.data.float()
    found = []
    for _ in range(10):
        terms = half(batch)
        terms.total.backward()
        assert all(one.grad is not None and one.grad.dtype == torch.float32 for _, one in task.trained())
        training.optimiser.step()
        training.optimiser.zero_grad()
        found.append(terms.total.item())
    assert found[0] == pytest.approx(precise, rel=0.05)
    assert found[-1] < 0.95 * found[0]


def moved_target(batch: DiptychBatch, columns: slice) -> DiptychBatch:
    """The same noisy latents with another velocity as their target in some columns."""
    shift = torch.zeros_like(batch.noise)
    shift[..., columns] = 1.0
    sigma = batch.sigma.view(-1, 1, 1, 1)
    return batch._replace(ground_truth=batch.ground_truth + sigma * shift, noise=batch.noise - (1 - sigma) * shift)


@torch.no_grad()
@pytest.mark.parametrize("weighted", [False, True])
def test_the_left_panel_does_not_count(
    generator_cached: GeneratorRun,  # noqa: F811
    tmp_path: Path,
    weighted: bool,
) -> None:
    task, _ = opened(changed(generator_cached, tmp_path, objective={"object_weighted": weighted}))
    batch = task.batch(Pass(0, (0, 1)), CPU)
    half = batch.noise.shape[3] // 2
    whole = task.module(batch).total
    torch.testing.assert_close(task.module(moved_target(batch, slice(0, half))).total, whole)
    assert (task.module(moved_target(batch, slice(half, None))).total - whole).abs() > 0.01


@torch.no_grad()
def test_the_object_counts_by_its_area(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    plain, _ = opened(changed(generator_cached, tmp_path))
    weighted, _ = opened(changed(generator_cached, tmp_path, objective={"object_weighted": True}))
    batch = plain.batch(Pass(0, (0, 1)), CPU)
    velocity = plain._step._velocity(batch)
    half = batch.noise.shape[3] // 2
    ours, clean, noise = (one[..., half:] for one in (velocity, batch.ground_truth, batch.noise))
    torch.testing.assert_close(plain.module(batch).total, flow_matching_loss(ours, clean, noise))
    expected = flow_matching_loss(ours, clean, noise, batch.object_mask)
    torch.testing.assert_close(weighted.module(batch).total, expected)
    assert not torch.allclose(expected, flow_matching_loss(ours, clean, noise))


def test_dropped_conditions(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    whole, _ = opened(changed(generator_cached, tmp_path))
    dropped, _ = opened(changed(generator_cached, tmp_path, data={"drop_edges": 1.0, "drop_prompt": 1.0}))
    full, empty = (task.batch(Pass(0, (0, 1)), CPU) for task in (whole, dropped))
    assert not empty.edges.any()
    assert full.edges.any()
    assert torch.equal(full.noise, empty.noise)
    assert torch.equal(full.sigma, empty.sigma)
    assert torch.equal(full.condition, empty.condition)
    assert torch.equal(empty.prompt_embeds[0], empty.prompt_embeds[1])
    assert not torch.equal(full.prompt_embeds, empty.prompt_embeds)


@pytest.fixture(scope="module")
def finished(generator_cached: GeneratorRun, tmp_path_factory: pytest.TempPathFactory) -> GeneratorRun:  # noqa: F811
    """A run that has ended."""
    settings = changed(
        generator_cached, tmp_path_factory.mktemp("finished") / "run", optimisation={"average": 0.5, "warmup": 0}
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("REFGC_DEVICE", "cpu")
        run_generator(settings)
    return settings


def test_a_run_leaves_figures_pictures_and_checkpoints(finished: GeneratorRun) -> None:
    folder, lines = Path(finished.folder), lines_of(finished)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert math.isfinite(line["loss"]["total"])
        assert min(line["gradient_norm"][name] for name in ("inpainting", "canny")) > 0
    scored = [line["validation"] for line in lines if "validation" in line]
    assert [line["step"] for line in lines if "validation" in line] == [4, 6]
    for scores in scored:
        assert 0 <= scores["outline_overlap"] <= 1
        assert scores["psnr"] > 0
        assert scores["high_frequencies"] > 0
        assert -1 <= scores["ssim"] <= 1
    assert [one.name for one in checkpoint.checkpoints(folder)] == ["step_00000002", "step_00000004", "step_00000006"]
    assert (checkpoint.checkpoints(folder)[0] / "adapter" / "canny").is_dir()
    assert not any("base" in str(file) for file in folder.rglob("*.safetensors"))


def test_the_finished_loras_draw_what_validation_drew_and_something_else_than_none(
    finished: GeneratorRun,
    generator_parts: Path,  # noqa: F811
    triplets: Path,
) -> None:
    """Loaded by the pipeline of inference; a square HRGT fills 48 by 48 pixels of its panel."""
    ((pair, cached),) = open_cache(finished).validation
    diptych = conditions_of(load_pictures(triplets, pair), finished.data.panel_size)
    prompt = read_prompt(cached.prompt).to(CPU, torch.float32)

    def drawn(loras: Path | None) -> Any:
        pipeline = DipRefGCPipeline.from_pretrained(
            generator_parts / "base", generator_parts / "inpainting", generator_parts / "canny", loras=loras
        )
        noise = generator_for(finished.run.seed, 0, f"{pair.id}/validation")
        how = DrawingSettings(num_inference_steps=2, generator=noise, controlnet_conditioning_scale=1.0)
        return pipeline.draw(diptych, prompt, how).generated

    folder = Path(finished.folder)
    row = open_image(folder / "pictures" / "step_00000006" / f"{pair.id}.png", name="row").pixels
    assert row.shape == (48, 3 * 48, 3), "HRRI, LRGI and HRGT"
    learnt = drawn(folder / "adapter")
    assert np.abs(row[:, 48:96].astype(int) - learnt).max() <= 1
    assert np.abs(drawn(None).astype(int) - learnt).max() > 1


def test_the_card_says_what_was_done(finished: GeneratorRun) -> None:
    card = (Path(finished.folder) / "adapter" / "README.md").read_text()
    for part in (
        "5 pairs on 5 objects",
        "CC BY 4.0 (5)",
        "curves.png",
        "learning.learning_rate = 0.01",
        "6 steps of 2 samples",
        "Validation outline_overlap",
    ):
        assert part in card
    assert (Path(finished.folder) / "adapter" / "curves.png").is_file()


def test_a_run_that_learns_nothing_is_one_sentence(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    """At a learning rate that no weight in single precision is moved by."""
    settings = changed(generator_cached, tmp_path, learning={"learning_rate": 1e-300}, validation={"every": 0})
    with pytest.raises(EngineError, match="change nothing: nothing was learnt; take more steps"):
        run_generator(settings, max_steps=1)


def test_a_single_step_within_the_warm_up_learns(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    settings = changed(generator_cached, tmp_path, optimisation={"warmup": 100}, validation={"every": 0})
    assert run_generator(settings, max_steps=1) == tmp_path / "adapter"
    assert lines_of(settings)[0]["learning_rate"]["canny"] == pytest.approx(0.01 / 101)


@pytest.mark.parametrize(
    "tables",
    [
        {"optimisation": {"average": 0.9}, "data": {"drop_edges": 0.5, "drop_prompt": 0.5}},
        {
            "optimisation": {"schedule": "cosine"},
            "run": {"samples_at_once": 2},
            "model": {"gradient_checkpointing": False},
        },
        {"model": {"quantization": "int8"}},
    ],
    ids=["average", "two at once", "8 bits"],
)
def test_a_run_in_two_parts_is_the_same_run(
    generator_cached: GeneratorRun,  # noqa: F811
    tmp_path: Path,
    tables: dict[str, Any],
) -> None:
    tables = {"run": {"steps": 4}, "validation": {"every": 0}} | tables
    tables["run"] = {"steps": 4} | tables["run"]
    whole, parts = (changed(generator_cached, tmp_path / name, **tables) for name in ("whole", "parts"))
    run_generator(whole)
    run_generator(parts, max_steps=2)
    run_generator(parts)
    for one, other in zip(lines_of(whole), lines_of(parts), strict=True):
        assert one["loss"] == other["loss"]
        assert one["gradient_norm"] == other["gradient_norm"]


def test_another_setting_is_refused(finished: GeneratorRun, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    with pytest.raises(InputError, match=r"another model\.rank"):
        opened(changed(finished, folder, model={"rank": 3}))


def test_parts_that_do_not_go_together_are_one_sentence(
    generator_cached: GeneratorRun,  # noqa: F811
    tmp_path: Path,
    tiny_base: Path,
) -> None:
    swapped = {
        "inpainting_controlnet": generator_cached.model.canny_controlnet,
        "canny_controlnet": generator_cached.model.inpainting_controlnet,
    }
    with pytest.raises(InputError, match="are the two swapped"):
        opened(changed(generator_cached, tmp_path, model=swapped))
    with pytest.raises(EngineError, match="holds a FluxKontextPipeline; name black-forest-labs"):
        run_generator(changed(generator_cached, tmp_path, model={"base": str(tiny_base)}))


def test_pairs_of_the_other_split_are_not_learnt_from(generator_cached: GeneratorRun) -> None:  # noqa: F811
    assert [pair.id for pair in read_split(generator_cached.data, "train")] == [f"p{number}" for number in range(5)]
    assert [pair.id for pair in read_split(generator_cached.data, "validation")] == ["p5"]


def test_pairs_that_nobody_has_reviewed_are_one_sentence(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    rows = (Path(generator_cached.data.dataset) / "pairs.jsonl").read_text(encoding="utf-8")
    assert '"filtered_by":null' in rows
    (tmp_path / "pairs.jsonl").write_text(
        rows.replace('"filtered_by":null', '"filtered_by":"a model"'), encoding="utf-8"
    )
    data = generator_cached.data.model_copy(update={"dataset": str(tmp_path), "unreviewed": False})
    with pytest.raises(InputError, match=r"or add `unreviewed = true` in `\[data\]`\.$"):
        read_split(data, "train")


def test_the_command_tries_everything_in_two_steps(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    settings = changed(generator_cached, tmp_path / "my run", optimisation={"warmup": 0})
    file = write_run(tmp_path / "run.toml", settings.model_dump(mode="json", exclude_none=True))
    done = run_inside("train", "generator", file, "--max-steps", "2", REFGC_DEVICE="cpu")
    assert done.returncode == 0, done.stderr
    assert (
        f"REFGC_DIPTYCH_LORAS='{tmp_path / 'my run' / 'adapter'}' refgc dataset triplets" in done.stdout + done.stderr
    )
    assert [line["step"] for line in lines_of(settings)] == [1, 2]
    assert "outline_overlap" in lines_of(settings)[-1]["validation"]
    assert list((tmp_path / "my run" / "pictures" / "step_00000002").iterdir())
    assert checkpoint.checkpoints(tmp_path / "my run")
    assert_one_sentence(run_inside("train", "refiner", file), 2, "is of the kind 'generator'; give a file of a refiner")
