// Names for screen readers that Gradio leaves out, names of files in full, the words for fingers, and scrolling to a
// result or a problem.
(() => {
  const TAIL = 10; // Characters at the end of a long file name that are always seen; its type is among them.
  const isCoarse = window.matchMedia("(pointer: coarse)").matches;

  // What is said to a mouse, said to a finger. A finger that drags scrolls, unless it draws a box.
  function touchWords(text) {
    if (!isCoarse) return text;
    return text
      .replace(/Drop File Here|- or -/g, "")
      .replaceAll("drag a box around it", "choose Box and draw one around it")
      .replace(/\b(C|c)lick\b/g, (_, first) => (first === "C" ? "Tap" : "tap"));
  }

  function sayForFingers(root) {
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let text = root.nodeType === Node.TEXT_NODE ? root : texts.nextNode(); text; text = texts.nextNode()) {
      const said = touchWords(text.nodeValue);
      if (said !== text.nodeValue) text.nodeValue = said;
    }
  }

  // The style sheet shortens the first part where there is no room for it.
  function nameFiles() {
    for (const cell of document.querySelectorAll(".file-preview .filename")) {
      const name = cell.getAttribute("aria-label") ?? "";
      if (cell.title === name) continue;
      const letters = [...name];
      const at = letters.length > 2 * TAIL ? letters.length - TAIL : letters.length;
      cell.title = name;
      cell.dataset.head = letters.slice(0, at).join("");
      cell.dataset.tail = letters.slice(at).join("");
    }
  }

  function labelOf(part) {
    return part.closest(".block")?.querySelector("[data-testid=block-label]")?.textContent.trim();
  }

  // Gradio names every drop zone and every thumbnail alike; each is given the words a reader sees beside it.
  function nameControls() {
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
  window.refgcShowResult = () => bringIntoView(found("#status .done"), "#comparison", "#result");
  window.refgcShowPreview = () => bringIntoView(!found("#preview-status .problem"), "#conditions", "#preview-result");

  // A problem is told once, beside what it is about; it must not be told off the screen.
  const shown = new WeakSet();
  function showProblems() {
    for (const problem of document.querySelectorAll(".status.problem")) {
      if (shown.has(problem)) continue;
      shown.add(problem);
      problem.scrollIntoView({ behavior: "smooth", block: "nearest" });
    }
  }

  // A remedy under a result presses the part of the page that it names.
  document.addEventListener("click", (event) => {
    const remedy = event.target.closest?.("[data-press]");
    if (remedy) document.querySelector(remedy.dataset.press)?.click();
  });

  window.refgcTouchWords = touchWords;

  new MutationObserver((changes) => {
    if (isCoarse) {
      for (const { type, target, addedNodes } of changes) {
        (type === "characterData" ? [target] : addedNodes).forEach(sayForFingers);
      }
    }
    nameControls();
    nameFiles();
    simplifyNotices();
    showProblems();
  }).observe(document.documentElement, { childList: true, characterData: true, subtree: true });
})();
