// A link that opens the page with the settings that are filled in.
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

  // Browsers allow the clipboard on secure pages only. Elsewhere the link is selected, to be copied by hand.
  async function copy(settings, values) {
    const said = document.querySelector("#link-said .link-said");
    const link = linkTo(settings, values);
    try {
      await navigator.clipboard.writeText(link);
      said.textContent = "The link is copied.";
    } catch {
      said.textContent = link;
      window.getSelection().selectAllChildren(said);
    }
  }

  window.refgcCopyLink = copy;
})();
