// The gallery: its sliders, and a card looked at closely, whose large pictures are asked for only then.
(() => {
  function enlarged(card) {
    const copy = card.querySelector("article").cloneNode(true);
    copy.className = "closely";
    copy.querySelector(".card-reference").remove();
    copy.querySelector(".reveal").replaceWith(copy.querySelector(".card-viewer").content.cloneNode(true));
    copy.querySelector(".card-viewer").remove();
    copy.querySelector(".card-open").remove();
    return copy;
  }

  function open(card) {
    const dialog = document.createElement("dialog");
    const close = document.createElement("button");
    const copy = enlarged(card);
    dialog.className = "closely-dialog";
    dialog.setAttribute("aria-label", copy.querySelector("h3").textContent);
    close.type = "button";
    close.className = "closely-close";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
    dialog.addEventListener("close", () => dialog.remove());
    dialog.append(close, copy);
    // Inside of the gallery, so that the page's colours and the slider's events reach it.
    card.closest(".cards").parentElement.after(dialog);
    dialog.showModal();
  }

  function reveal(event) {
    event.target.closest(".reveal")?.style.setProperty("--at", `${event.target.value}%`);
  }

  // Chooses the card's example in the Refine tab, so that the visitor's own pictures and results stay; false where that
  // tab was never open, and nothing can be lost.
  function tryHere(link) {
    const title = link.closest("article").querySelector("h3").textContent;
    const thumbnails = [...document.querySelectorAll("#examples .thumbnail-item")];
    const thumbnail = thumbnails.find((one) => one.querySelector(".caption-label")?.textContent.trim() === title);
    const tab = document.querySelector("#refine-tab-button");
    if (!thumbnail || !tab) return false;
    link.closest("dialog")?.close();
    tab.click();
    thumbnail.click();
    return true;
  }

  function connect(element) {
    element.addEventListener("input", reveal);
    element.addEventListener("click", (event) => {
      const opener = event.target.closest(".card-open");
      if (opener) open(opener.closest(".card"));
      const link = event.target.closest(".card-link");
      if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && tryHere(link)) event.preventDefault();
      // What the address already says, such as the theme, holds on the page that opens.
      else if (link) {
        const address = new URL(window.location.href);
        address.searchParams.delete("tab");
        for (const [name, value] of new URL(link.href).searchParams) address.searchParams.set(name, value);
        link.href = address.href;
      }
    });
  }

  window.refgcConnectGallery = connect;
})();
