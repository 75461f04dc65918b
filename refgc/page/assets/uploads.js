// Pictures that come another way than through Gradio's drop zones: pasted, dropped on a picture that is shown, or taken
// with the camera. Each is put into the field of its drop zone, as if it had been chosen there.
(() => {
  const FRAMES = 120; // How long to wait for a drop zone to be empty: two seconds on most screens.

  let last = null; // the pad that was used last

  const padOf = (part) => part?.closest?.(".marking") ?? null;
  const fieldOf = (pad) => pad.querySelector(".upload-container input[type=file]");
  const isShown = (pad) => pad.isConnected && pad.offsetParent !== null;

  // An empty pad comes first; among several, or where none is empty, the one that is being used.
  function padForPaste() {
    const pads = [...document.querySelectorAll(".marking")].filter(isShown);
    const used = [padOf(document.activeElement), last].find((pad) => pads.includes(pad));
    const empty = pads.filter(fieldOf);
    return empty.includes(used) ? used : empty[0] ?? used ?? pads[0];
  }

  async function emptied(pad) {
    pad.querySelector(".icon-button[aria-label=Clear]")?.click();
    for (let frame = 0; frame < FRAMES && !fieldOf(pad); frame++) await new Promise(requestAnimationFrame);
    return fieldOf(pad);
  }

  async function give(pad, file) {
    const field = fieldOf(pad) ?? (await emptied(pad));
    if (!field) return;
    const files = new DataTransfer();
    files.items.add(file);
    field.files = files.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    last = pad;
    pad.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("paste", (event) => {
    const picture = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    // Some programs copy text together with a picture of it: within a text field the text is meant.
    if (!picture || event.target.closest?.("input:not([type=radio], [type=range]), textarea")) return;
    const pad = padForPaste();
    if (!pad) return;
    event.preventDefault();
    give(pad, picture);
  });

  const bringsFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;

  function showTarget(target) {
    for (const pad of document.querySelectorAll(".marking[data-drop]")) {
      if (pad !== target) pad.removeAttribute("data-drop");
    }
    target?.setAttribute("data-drop", "");
  }

  // A drop zone takes its files itself. A file that misses everything is not opened in place of the page.
  document.addEventListener("dragover", (event) => {
    if (!bringsFiles(event) || event.target.closest?.(".upload-container")) return showTarget(null);
    const pad = padOf(event.target);
    event.preventDefault();
    event.dataTransfer.dropEffect = pad ? "copy" : "none";
    showTarget(pad);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) showTarget(null);
  });
  document.addEventListener("drop", (event) => {
    showTarget(null);
    if (!bringsFiles(event) || event.target.closest?.(".upload-container")) return;
    event.preventDefault();
    const pad = padOf(event.target);
    if (pad && event.dataTransfer.files.length) give(pad, event.dataTransfer.files[0]);
  });

  document.addEventListener("change", (event) => {
    const photo = event.target.matches?.(".pad-camera input") && event.target.files[0];
    if (!photo) return;
    give(padOf(event.target), photo);
    event.target.value = "";
  });

  for (const kind of ["pointerdown", "focusin"]) {
    document.addEventListener(kind, (event) => {
      last = padOf(event.target) ?? last;
    });
  }
})();
