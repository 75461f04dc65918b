"""Tries the node pack of `integrations/comfyui` in a real ComfyUI on the CPU, and measures what comes out.

usage: COMFYUI_DIR=ComfyUI COMFYUI_PYTHON=venv/bin/python python -m benchmarks.comfyui [--folder FOLDER] [--json FILE]

COMFYUI_DIR is a copy of ComfyUI, COMFYUI_PYTHON the Python of its own environment, with ComfyUI's requirements and this
project's core installed; without it the Python of this command is taken. ComfyUI runs in a process of its own, without
a page, with a base folder of its own, so that nothing is written into COMFYUI_DIR. The pack is copied into its
`custom_nodes`. Models of random weights are written first (`comfyui_weights.py`).

The workflows of the pack are sent through the HTTP interface as prompts, and each result is fetched and checked. A
check that fails ends the trial with an `AssertionError`. With --folder the base folder is kept, pictures included.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from safetensors.torch import save_file

from benchmarks.comfyui_weights import CHECKPOINT, FLUX
from benchmarks.comfyui_workflows import to_prompt
from refgc import adapter_as_lora, refine
from refgc.diptych.comparison import fidelity
from refgc.imaging.image import Image, open_image, open_mask

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / "integrations" / "comfyui"
EXAMPLE = ROOT / "examples" / "paperback"
INPUTS = {"refgc_reference.jpg": EXAMPLE / "hrri.jpg", "refgc_generated.png": EXAMPLE / "lrgi.png"}
START_SECONDS, RUN_SECONDS = 300, 1200
SEED = 5
# The sizes at which the random models draw, in pixels.
SIDE = 64
Prompt = dict[str, dict[str, Any]]


class Server:
    """A running ComfyUI, by its HTTP interface."""

    def __init__(self, address: str, events: Path) -> None:
        self.address = address
        self.client = "trial"
        self._events = events

    def ask(self, path: str, body: Any = None, kind: str = "application/json") -> bytes:
        """The answer's bytes; with a body the request is a POST."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(self.address + path, data, {"Content-Type": kind} if data is not None else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def json(self, path: str) -> Any:
        """The answer, parsed."""
        return json.loads(self.ask(path))

    def upload(self, name: str, content: bytes) -> None:
        """Puts a picture where Load Image looks."""
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
        self.ask("/upload/image", body, f"multipart/form-data; boundary={edge}")

    def start(self, prompt: Prompt) -> str:
        """Queues a prompt.

        Returns:
            Its number.
        """
        try:
            answer = self.ask("/prompt", {"prompt": prompt, "client_id": self.client})
        except urllib.error.HTTPError as error:
            raise AssertionError(f"ComfyUI refuses the prompt: {error.read().decode()}") from error
        return str(json.loads(answer)["prompt_id"])

    def wait(self, number: str) -> dict[str, Any]:
        """What the history says of a prompt, once it has ended."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            history = self.json(f"/history/{number}")
            if number in history and history[number]["status"]["completed"] in (True, False):
                found: dict[str, Any] = history[number]
                return found
            time.sleep(0.2)
        raise AssertionError(f"prompt {number} did not end in {RUN_SECONDS} seconds")

    def run(self, prompt: Prompt) -> tuple[dict[str, Any], float]:
        """Outputs by the number of their node, and the seconds that it took."""
        started = time.perf_counter()
        ended = self.wait(self.start(prompt))
        seconds = time.perf_counter() - started
        check(ended["status"]["status_str"] == "success", ended["status"]["messages"][-1])
        outputs: dict[str, Any] = ended["outputs"]
        return outputs, round(seconds, 1)

    def failure(self, prompt: Prompt) -> str:
        """The sentence of a prompt that has to fail."""
        ended = self.wait(self.start(prompt))
        check(ended["status"]["status_str"] == "error", ended["status"])
        (error,) = (data for kind, data in ended["status"]["messages"] if kind == "execution_error")
        return str(error["exception_message"]).strip()

    def pictures(self, output: dict[str, Any]) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
        """The pictures of one node."""
        found = []
        for item in output["images"]:
            query = f"/view?filename={item['filename']}&subfolder={item['subfolder']}&type={item['type']}"
            found.append(np.asarray(PILImage.open(io.BytesIO(self.ask(query)))))
        return found

    def events(self) -> list[dict[str, Any]]:
        """What ComfyUI has told its page so far."""
        return [json.loads(line) for line in self._events.read_text().splitlines()]


def check(is_right: object, found: object) -> None:
    """Ends the trial where something is not as it should be.

    Args:
        is_right: whether it is.
        found: what was found instead, for the message.
    """
    if not is_right:
        raise AssertionError(f"this is wrong: {found}")


@contextmanager
def running(comfyui: Path, python: str, base: Path) -> Iterator[Server]:
    """ComfyUI in a process of its own, and one that listens to its events."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [python, "main.py", "--cpu", "--base-directory", str(base), "--port", str(port)]
    command += ["--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
    with (base / "server.log").open("w") as log, (base / "events.jsonl").open("w") as events:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        server = subprocess.Popen(command, cwd=comfyui, stdout=log, stderr=subprocess.STDOUT, env=environment)
        listener = None
        try:
            found = Server(address, base / "events.jsonl")
            await_start(found, server, base / "server.log")
            script = str(Path(__file__).with_name("comfyui_events.py"))
            listener = subprocess.Popen([python, script, address, found.client], stdout=events)
            while not found.events():
                time.sleep(0.1)
            yield found
        finally:
            for process in (listener, server):
                if process is not None:
                    process.terminate()
                    process.wait(30)


def await_start(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until ComfyUI answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.json("/system_stats")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"ComfyUI did not start:\n{log.read_text()[-2000:]}")


def prepare(comfyui: Path, python: str, base: Path) -> None:
    """The base folder: the pack as it is copied by hand, models and adapters."""
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    pack = base / "custom_nodes" / "refgc-sr2"
    shutil.rmtree(pack, ignore_errors=True)
    shutil.copytree(PACK, pack, ignore=shutil.ignore_patterns("__pycache__"))
    models = base / "models"
    if not (models / "diffusion_models" / FLUX).exists():
        script = str(Path(__file__).with_name("comfyui_weights.py"))
        subprocess.run([python, script, str(models)], cwd=comfyui, check=True)
    write_adapters(models / "loras")


def write_adapters(loras: Path) -> None:
    """An adapter for the random FLUX.1, the same as a plain LoRA, and one for a model with more blocks."""
    from diffusers import FluxTransformer2DModel

    from refgc.model.freqmole import FreqMoLEConfig, weight_shapes

    generator = torch.Generator().manual_seed(SEED)
    for name, blocks in (("refgc", 1), ("larger", 2)):
        with torch.device("meta"):
            transformer = FluxTransformer2DModel(num_layers=blocks, num_single_layers=1, guidance_embeds=True)
        config = FreqMoLEConfig(rank=4, lora_alpha=4.0)
        tensors = {
            key: torch.randn(shape, generator=generator) * 0.05
            for key, shape in weight_shapes(transformer, config).items()
        }
        folder = loras / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(config.model_dump_json())
        save_file(tensors, folder / "freqmole.safetensors")
    save_file(adapter_as_lora(loras / "refgc" / "freqmole.safetensors"), loras / "plain.safetensors")


def workflow(name: str, server: Server) -> Prompt:
    """A workflow of the pack as a prompt; with every file that it names replaced by the trial's."""
    content = json.loads((PACK / "example_workflows" / f"{name}.json").read_text())
    return to_prompt(content, server.json("/object_info"))


def only(prompt: Prompt, kind: str) -> dict[str, Any]:
    """The inputs of the one node of a class."""
    ((_, node),) = by_class(prompt, kind)
    inputs: dict[str, Any] = node["inputs"]
    return inputs


def number_of(prompt: Prompt, kind: str) -> str:
    """The number of the one node of a class."""
    ((number, _),) = by_class(prompt, kind)
    return number


def by_class(prompt: Prompt, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """The nodes of a class, with their numbers."""
    return [(number, node) for number, node in prompt.items() if node["class_type"] == kind]


def try_definitions(server: Server) -> dict[str, Any]:
    """The pack is loaded, and its workflows are offered with their pictures."""
    definitions = server.json("/object_info")
    ours = sorted(name for name in definitions if name.startswith("RefGC"))
    check(ours == ["RefGCDipRefGCPreview", "RefGCLoadAdapter", "RefGCRefine"], ours)
    offered = server.json("/workflow_templates")["refgc-sr2"]
    for name in offered:
        server.ask(f"/api/workflow_templates/refgc-sr2/{name}.json")
        server.ask(f"/api/workflow_templates/refgc-sr2/{name}.jpg")
    return {"nodes": ours, "workflows": sorted(offered)}


def try_refine(server: Server) -> dict[str, Any]:
    """`refine.json`: the same pixels as `refgc.refine` gives, and nearer to the truth than the enlargement."""
    prompt = workflow("refine", server)
    outputs, seconds = server.run(prompt)
    (picture,) = server.pictures(outputs[number_of(prompt, "SaveImage")])
    (mask,) = server.pictures(outputs[number_of(prompt, "PreviewImage")])
    (comparison,) = server.pictures(outputs[number_of(prompt, "RefGCRefine")])
    report = json.loads(outputs[number_of(prompt, "PreviewAny")]["text"][0])
    own = refine(*INPUTS.values(), engine="correspondence", object_name="paperback book")
    check(picture.shape == (1024, 1024, 3), picture.shape)
    check(report["placed"], report)
    check(report.keys() == own.report.model_dump().keys(), report)
    difference = np.abs(picture.astype(int) - own.image.pixels)
    check(difference.max() <= 1, f"{difference.max()} levels from refgc.refine")
    truth, object_mask = open_image(EXAMPLE / "hrgt.jpg", name="truth"), EXAMPLE / "hrgt_mask.png"
    inside = open_mask(object_mask, size=truth.size, name="mask")
    before = fidelity(truth, own.stages["upscaled"], inside).psnr_inside
    after = fidelity(truth, Image(picture.copy()), inside).psnr_inside
    check(after > before, (before, after))
    texts = [event["data"] for event in server.events() if event["type"] == "text"]
    bars = [event["data"]["value"] / event["data"]["max"] for event in server.events() if event["type"] == "progress"]
    check(report["message"] in texts, texts)
    check(len(bars) > 3 and bars == sorted(bars), bars)
    return {
        "seconds": seconds,
        "size": list(picture.shape[1::-1]),
        "largest_difference_to_refgc_refine": int(difference.max()),
        "psnr_inside_enlarged": round(before, 2),
        "psnr_inside_refined": round(after, 2),
        "refined_share": round(float((mask > 0).mean()), 3),
        "comparison_size": list(comparison.shape[1::-1]),
        "progress_events": len(bars),
        "message": report["message"],
    }


def try_batch(server: Server) -> dict[str, Any]:
    """Two generated pictures and two references of one object; the truth serves as the second photo."""
    prompt = workflow("refine", server)
    inputs = only(prompt, "RefGCRefine")
    prompt["100"] = {"class_type": "RepeatImageBatch", "inputs": {"image": inputs["generated"], "amount": 2}}
    prompt["101"] = {"class_type": "LoadImage", "inputs": {"image": "refgc_second.jpg"}}
    inputs |= {"generated": ["100", 0], "reference_2": ["101", 0], "scale": "2x"}
    outputs, seconds = server.run(prompt)
    pictures = server.pictures(outputs[number_of(prompt, "SaveImage")])
    check([picture.shape for picture in pictures] == [(512, 512, 3)] * 2, len(pictures))
    check((pictures[0] == pictures[1]).all(), "the same picture twice gives two results")
    reports = [json.loads(text) for text in outputs[number_of(prompt, "PreviewAny")]["text"]]
    check(len(reports) == 2 and reports[0]["references_used"], reports)
    return {"seconds": seconds, "pictures": len(pictures), "references_used": reports[0]["references_used"]}


def try_generate(server: Server) -> dict[str, Any]:
    """`generate_and_refine.json` with the random model: a picture of noise, in which no book can be placed."""
    prompt = workflow("generate_and_refine", server)
    only(prompt, "CheckpointLoaderSimple")["ckpt_name"] = CHECKPOINT
    only(prompt, "EmptyLatentImage").update(width=SIDE, height=SIDE, batch_size=2)
    only(prompt, "KSampler")["steps"] = 2
    outputs, seconds = server.run(prompt)
    pictures = server.pictures(outputs[number_of(prompt, "SaveImage")])
    check([picture.shape for picture in pictures] == [(4 * SIDE, 4 * SIDE, 3)] * 2, len(pictures))
    reports = [json.loads(text) for text in outputs[number_of(prompt, "PreviewAny")]["text"]]
    check(not any(report["placed"] for report in reports), reports)
    check((pictures[0] != pictures[1]).any(), "both pictures of the batch are the same")
    check(min(float(picture.std()) for picture in pictures) > 2, "a picture of one colour")
    return {"seconds": seconds, "pictures": len(pictures), "message": reports[0]["message"]}


def try_adapter(server: Server) -> dict[str, Any]:
    """`redraw_with_adapter.json` with the random FLUX.1: the adapter changes the picture, by either of its files."""
    drawn = {}
    seconds = {}
    for name, adapter, strength in (
        ("without", "refgc/freqmole.safetensors", 0.0),
        ("freqmole", "refgc/freqmole.safetensors", 1.0),
        ("plain lora", "plain.safetensors", 1.0),
    ):
        prompt = adapter_prompt(server, adapter, strength)
        outputs, seconds[name] = server.run(prompt)
        (drawn[name],) = server.pictures(outputs[number_of(prompt, "SaveImage")])
    change = float(np.abs(drawn["freqmole"].astype(int) - drawn["without"]).mean())
    check(change > 1, change)
    check((drawn["freqmole"] == drawn["plain lora"]).all(), "both files of the adapter draw different pictures")
    refusal = server.failure(adapter_prompt(server, "larger/freqmole.safetensors", 1.0))
    check("match this model" in refusal and "\n" not in refusal, refusal)
    checkpoint = adapter_prompt(server, "plain.safetensors", 1.0)
    only(checkpoint, "RefGCLoadAdapter")["model"] = [number_of(checkpoint, "CheckpointLoaderSimple"), 0]
    other = server.failure(checkpoint)
    check("match this model" in other, other)
    return {
        "seconds": seconds,
        "mean_change_in_levels": round(change, 2),
        "refusal_of_an_adapter_with_more_blocks": refusal,
        "refusal_of_another_architecture": other,
    }


def adapter_prompt(server: Server, adapter: str, strength: float) -> Prompt:
    """`redraw_with_adapter.json` at the random models' size, with the checkpoint's text encoder and autoencoder."""
    prompt = workflow("redraw_with_adapter", server)
    only(prompt, "UNETLoader")["unet_name"] = FLUX
    only(prompt, "RefGCLoadAdapter").update(adapter=adapter, strength=strength)
    only(prompt, "EmptySD3LatentImage").update(width=SIDE, height=SIDE)
    only(prompt, "KSampler")["steps"] = 2
    for _, node in by_class(prompt, "ImageScale"):
        node["inputs"].update(width=SIDE, height=SIDE)
    for kind, output in (("DualCLIPLoader", 1), ("VAELoader", 2)):
        number = number_of(prompt, kind)
        for node in prompt.values():
            for name, value in node["inputs"].items():
                if value == [number, 0]:
                    node["inputs"][name] = ["200", output]
        del prompt[number]
    prompt["200"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}}
    return prompt


def try_preview(server: Server) -> dict[str, Any]:
    """RefGC DipRefGC Preview, and RefGC Refine on what it made."""
    refining = workflow("refine", server)
    reference, inputs = only(refining, "RefGCRefine")["reference"], only(refining, "RefGCRefine")
    refining["101"] = {"class_type": "LoadImage", "inputs": {"image": "refgc_second.jpg"}}
    artifacts = dict.fromkeys(
        ("identity_distortion", "detail_inconsistency", "texture_loss", "quality_degradation"), -1.0
    )
    refining["102"] = {
        "class_type": "RefGCDipRefGCPreview",
        "inputs": {
            "reference": reference,
            "scene": ["101", 0],
            "object_name": "paperback book",
            "generator": "simulated",
            "factor": "4x",
            "seed": 1,
            **artifacts,
        },
    }
    inputs |= {"generated": ["102", 0], "generated_mask": ["102", 2], "reference_mask": ["102", 3]}
    refining["103"] = {"class_type": "PreviewAny", "inputs": {"source": ["102", 8]}}
    outputs, seconds = server.run(refining)
    report = json.loads(outputs["103"]["text"][0])
    (diptych,) = server.pictures(outputs["102"])
    check(report["simulated"] and diptych.shape[1] == 2 * report["panel_size"][0], report)
    return {"seconds": seconds, "message": report["message"], "diptych_size": list(diptych.shape[1::-1])}


def try_errors(server: Server) -> dict[str, Any]:
    """Inputs that cannot be used end in one sentence."""
    prompt = workflow("refine", server)
    only(prompt, "RefGCRefine")["generated"] = only(prompt, "RefGCRefine")["reference"]
    same = server.failure(prompt)
    check("are the same picture" in same and "\n" not in same, same)
    prompt = workflow("refine", server)
    only(prompt, "RefGCRefine")["engine"] = "diffusion"
    no_model = server.failure(prompt)
    check(no_model.endswith(".") and "\n" not in no_model, no_model)
    return {"same_picture": same, "diffusion_without_its_packages": no_model}


def try_interrupt(server: Server) -> dict[str, Any]:
    """Somebody stops a run while the engine works."""
    prompt = workflow("refine", server)
    only(prompt, "RefGCRefine").update(object_name="a book that is stopped", strength=0.9)
    before = len(server.events())
    number = server.start(prompt)
    deadline = time.monotonic() + 60
    while not any(event["type"] == "text" for event in server.events()[before:]):
        check(time.monotonic() < deadline, "no progress in 60 seconds")
        time.sleep(0.05)
    pressed = time.perf_counter()
    server.ask("/interrupt", {})
    ended = server.wait(number)
    seconds = time.perf_counter() - pressed
    kinds = [kind for kind, _ in ended["status"]["messages"]]
    check("execution_interrupted" in kinds, kinds)
    return {"seconds_until_it_ended": round(seconds, 2)}


TRIALS: dict[str, Callable[[Server], dict[str, Any]]] = {
    "definitions": try_definitions,
    "refine": try_refine,
    "batch": try_batch,
    "generate_and_refine": try_generate,
    "adapter": try_adapter,
    "preview": try_preview,
    "errors": try_errors,
    "interrupt": try_interrupt,
}


def main() -> None:
    """Runs every trial, and writes what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the base folder, with models and pictures, here")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--only", choices=TRIALS, action="append", help="run this trial; may be given for several")
    options = parser.parse_args()
    if "COMFYUI_DIR" not in os.environ:
        parser.error("COMFYUI_DIR is not set; name a folder with a copy of ComfyUI in it.")
    comfyui, python = Path(os.environ["COMFYUI_DIR"]).resolve(), os.environ.get("COMFYUI_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as temporary:
        base = (options.folder or Path(temporary)).resolve()
        prepare(comfyui, python, base)
        with running(comfyui, python, base) as server:
            for name, file in {**INPUTS, "refgc_second.jpg": EXAMPLE / "hrgt.jpg"}.items():
                server.upload(name, file.read_bytes())
            system = server.json("/system_stats")["system"]
            measured: dict[str, Any] = {
                "comfyui": system["comfyui_version"],
                "torch": system["pytorch_version"],
                "python": system["python_version"].split()[0],
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU",
            }
            for name in options.only or TRIALS:
                measured[name] = TRIALS[name](server)
                print(name, json.dumps(measured[name], indent=2), flush=True)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
