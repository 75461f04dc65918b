// Names for screen readers that Gradio leaves out, names of files in full, the words for fingers, scrolling to a result or
// a problem, and links that open a part of the page.
(() => {
  const TAIL = 10; // Characters at the end of a long file name that are always seen; its type is among them.
  const isCoarse = window.matchMedia("(pointer: coarse)").matches;

  // What is said to a mouse, said to a finger. A finger that drags scrolls, unless it draws a box.
  function touchWords(text) {
    if (!isCoarse) return text;
    return text
      .replace(/Drop File Here|- or -/g, "")
      .replaceAll("drag a box around it", "choose Box and draw one around it")
      .replace("Click the picture, or hold Ctrl, to zoom with the wheel", "Spread two fingers on the picture to zoom")
      .replace("copy it with Ctrl + C", "hold it to copy it")
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
    // What is nothing else may bear no name.
    for (const empty of document.querySelectorAll(".empty[aria-label]:not([role])")) empty.setAttribute("role", "img");
  }

  // Gradio's notices have a head that is a button with another one, to close them, inside: no screen reader can tell the
  // two apart. What is said is unfolded anyway, so only the one to close stays a button.
  function simplifyNotices() {
    for (const head of document.querySelectorAll(".toast-header[role]")) {
      head.removeAttribute("role");
      head.removeAttribute("tabindex");
    }
  }

  function isSeen(selector) {
    const part = document.querySelector(selector);
    if (!part) return true;
    const { top, bottom } = part.getBoundingClientRect();
    const middle = (top + bottom) / 2;
    return middle >= 0 && middle <= window.innerHeight;
  }

  // Called when a result may have arrived: on a narrow screen it is far below the button.
  function bringIntoView(arrived, parts, whole) {
    if (!arrived || parts.every(isSeen)) return;
    document.querySelector(whole).scrollIntoView({ behavior: "smooth", block: "start" });
  }

  // Where the result stands below the inputs, as the style sheet decides, how it turned out is seen with the pictures.
  const oneColumn = window.matchMedia("(max-width: 920px)");
  function showResult(arrived) {
    bringIntoView(arrived, oneColumn.matches ? ["#comparison", "#summary .outcome"] : ["#comparison"], "#result");
  }

  const found = (selector) => document.querySelector(selector) !== null;
  window.refgcShowResult = () => showResult(found("#status .done"));
  window.refgcShowPreview = () => bringIntoView(!found("#preview-status .problem"), ["#conditions"], "#preview-result");

  // Gradio gives the pictures on the buttons of its panel on the API no words, and its list of languages no list.
  function nameDocumentation() {
    for (const button of document.querySelectorAll(".api-docs button:not([aria-label])")) {
      if (button.textContent.trim() === "") {
        button.setAttribute("aria-label", button.classList.contains("copy-button") ? "Copy" : "Close");
      }
    }
    for (const list of document.querySelectorAll(".api-docs .snippets:not([role])")) list.setAttribute("role", "list");
  }

  // Where the address asks for the panel, Gradio takes it for open and does not load it: it has to be closed first.
  let documentationWanted = new URLSearchParams(window.location.search).get("view") === "api";
  function showDocumentation() {
    const button = documentationWanted && document.querySelector("footer .show-api");
    if (!button) return;
    documentationWanted = false;
    button.click();
    button.click();
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelector(".api-docs .backdrop")?.click();
  });

  // The citation is shown once its tab is there; the address may ask for it as well. Gradio makes a tab visible without
  // adding an element, and may build it once more while it starts: the citation is shown until it has kept the focus for
  // a second.
  let citationTimer = 0;
  let focusedSince = 0;
  function showCitation() {
    const citation = document.querySelector("#cite");
    const entry = citation?.querySelector("pre");
    if (!entry || citation.getClientRects().length === 0) return;
    if (document.activeElement === entry) {
      if (performance.now() - focusedSince > 1000) stopCitation();
      return;
    }
    focusedSince = performance.now();
    citation.scrollIntoView({ block: "start" });
    entry.focus({ preventScroll: true });
  }
  function wantCitation() {
    stopCitation();
    citationTimer = window.setInterval(showCitation, 200);
    showCitation();
  }
  function stopCitation() {
    window.clearInterval(citationTimer);
  }
  // A visitor who does something else meanwhile is not pulled back.
  for (const action of ["pointerdown", "keydown", "wheel"]) document.addEventListener(action, stopCitation, true);
  if (window.location.hash === "#cite") wantCitation();

  const opens = {
    cite() {
      document.querySelector("#about-tab-button").click();
      wantCitation();
    },
    api(link) {
      const button = document.querySelector("footer .show-api");
      // As an element of another page, Gradio has no such panel.
      const page = link.closest("gradio-app[src]")?.getAttribute("src");
      if (button) button.click();
      else window.open(new URL(link.getAttribute("href"), page ?? window.location.href), "_blank", "noopener");
    },
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-opens]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    opens[link.dataset.opens](link);
  });

  // A result may be there while the run goes on; it is brought into view once, so that one may scroll away.
  let arrived = false;
  function showArrived() {
    const here = found("#status .arrived");
    if (here && !arrived) showResult(true);
    arrived = here;
  }

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
    showArrived();
    nameDocumentation();
    showDocumentation();
  }).observe(document.documentElement, { childList: true, characterData: true, subtree: true });
})();
