// Copying: any text, and a link that opens the page with the settings that are filled in.
(() => {
  // The example whose pictures are filled in, if both are.
  function exampleOf(examples, reference, generated) {
    const isOf = ([, files]) => files[0] === reference?.path && files[1] === generated?.path;
    return Object.entries(examples).find(isOf)?.[0];
  }

  function linkTo({ options, defaults, examples }, values) {
    const link = new URL(window.location.pathname, window.location.origin);
    const [reference, generated] = values.slice(options.length);
    const example = exampleOf(examples, reference, generated);
    if (example) link.searchParams.set("example", example);
    options.forEach((name, at) => {
      if (values[at] !== null && values[at] !== defaults[at]) link.searchParams.set(name, values[at]);
    });
    return link.href;
  }

  const SAID_MILLISECONDS = 6000;

  // Copies a text and says so for a while. Browsers allow the clipboard on secure pages only; elsewhere the text stays
  // selected in the part that `byHand` shows it in, to be copied by hand.
  async function copyText(text, said, copied, byHand) {
    clearTimeout(said.hiding);
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = copied;
      said.hiding = setTimeout(() => (said.textContent = ""), SAID_MILLISECONDS);
    } catch {
      window.getSelection().selectAllChildren(byHand());
    }
  }

  function copyLink(settings, values) {
    const said = document.querySelector("#link-said .link-said");
    const link = linkTo(settings, values);
    return copyText(link, said, "The link is copied.", () => {
      said.textContent = link;
      return said;
    });
  }

  window.refgcCopyText = copyText;
  window.refgcCopyLink = copyLink;
})();
