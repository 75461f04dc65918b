// Gradio's image slider listens to the mouse only. This gives its handle a name, a place in the tab order and the arrow
// keys, and lets a finger or a wheel over the picture scroll the page (Ctrl + wheel or two fingers still zoom).
(() => {
  const STEPS = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };

  function position(handle) {
    const track = handle.parentElement.getBoundingClientRect();
    const thumb = handle.getBoundingClientRect();
    return { share: (thumb.left + thumb.width / 2 - track.left) / track.width, track, thumb };
  }

  function mouse(type, target, x, y) {
    target.dispatchEvent(new MouseEvent(type, { bubbles: true, cancelable: true, view: window, clientX: x, clientY: y }));
  }

  function announce(handle) {
    handle.setAttribute("aria-valuenow", String(Math.round(100 * position(handle).share)));
  }

  function onKey(event) {
    const step = STEPS[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const handle = event.currentTarget;
    const { track, thumb } = position(handle);
    const y = thumb.top + thumb.height / 2;
    const from = thumb.left + thumb.width / 2;
    mouse("mousedown", handle, from, y);
    mouse("mousemove", window, from + step * track.width, y);
    mouse("mouseup", window, from + step * track.width, y);
    requestAnimationFrame(() => announce(handle));
  }

  function labelOf(part) {
    return part.closest(".block")?.querySelector("[data-testid=block-label]")?.textContent.trim();
  }

  function prepare(handle) {
    if (handle.getAttribute("role") === "slider") return;
    const attributes = { role: "slider", tabindex: "0", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "50" };
    for (const [name, value] of Object.entries(attributes)) handle.setAttribute(name, value);
    handle.setAttribute("aria-label", `${labelOf(handle) || "Comparison"}: divider between before and after`);
    handle.addEventListener("keydown", onKey);
    handle.addEventListener("mouseup", () => announce(handle));
  }

  function zoomed(slider) {
    const picture = slider.querySelector("img");
    return picture !== null && new DOMMatrix(getComputedStyle(picture).transform).a > 1;
  }

  function keepScrolling(event) {
    const slider = event.target.closest?.(".comparison");
    if (!slider || zoomed(slider)) return;
    const onHandle = event.target.closest('[data-testid="slider"]');
    const zooms = event.type === "wheel" ? event.ctrlKey : event.touches.length > 1;
    if (!onHandle && !zooms) event.stopPropagation();
  }

  // Gradio names every drop zone and every thumbnail alike, and the pictures of a slider not at all; each is given the
  // words a reader sees beside it.
  function nameControls() {
    for (const slider of document.querySelectorAll(".comparison .slider-wrap")) {
      const [before, after] = slider.querySelectorAll("img");
      const label = labelOf(slider) || "Picture";
      if (before && !before.alt) before.alt = `${label}, only enlarged`;
      if (after && !after.alt) after.alt = `${label}, result`;
    }
    for (const zone of document.querySelectorAll(".upload button.upload-container")) {
      const label = labelOf(zone);
      if (label) zone.setAttribute("aria-label", `${label}: ${zone.textContent.replace(/\s+/g, " ").trim()}`);
    }
    for (const thumbnail of document.querySelectorAll(".thumbnail-item")) {
      const caption = thumbnail.querySelector(".caption-label")?.textContent.trim();
      if (caption) thumbnail.setAttribute("aria-label", caption);
    }
  }

  // Gradio's notices have a head that is a button with another one, to close them, inside: no screen reader can tell the
  // two apart. What is said is unfolded anyway, so only the one to close stays a button.
  function simplifyNotices() {
    for (const head of document.querySelectorAll(".toast-header[role]")) {
      head.removeAttribute("role");
      head.removeAttribute("tabindex");
    }
  }

  // Called when a result may have arrived: on a narrow screen it is far below the button.
  function bringIntoView(arrived, part, whole) {
    if (!arrived) return;
    const { top, bottom } = document.querySelector(part).getBoundingClientRect();
    const middle = (top + bottom) / 2;
    if (middle < 0 || middle > window.innerHeight) {
      document.querySelector(whole).scrollIntoView({ behavior: "smooth", block: "start" });
    }
  }

  const found = (selector) => document.querySelector(selector) !== null;
  window.refgcShowResult = () => bringIntoView(found("#status .done"), "#whole", "#result");
  window.refgcShowPreview = () => bringIntoView(!found("#preview-status .problem"), "#conditions", "#preview-result");

  new MutationObserver(() => {
    document.querySelectorAll('.comparison [data-testid="slider"]').forEach(prepare);
    nameControls();
    simplifyNotices();
  }).observe(document.documentElement, { childList: true, subtree: true });
  for (const type of ["wheel", "touchstart"]) document.addEventListener(type, keepScrolling, { capture: true, passive: true });
})();
