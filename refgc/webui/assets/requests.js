// What pages with endpoints of their own share: asking the server, and keeping things in the browser.
(() => {
  // What a request failed with: `refused` where asking again would not help.
  class Problem extends Error {
    constructor(sentence, refused) {
      super(sentence);
      this.refused = refused;
    }
  }

  // With a body it is posted as JSON.
  async function ask(path, body) {
    const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    let response;
    try {
      response = await fetch(path, sent || {});
    } catch {
      throw new Problem("The server does not answer.", false);
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    throw new Problem(answer.error || `The server answers with ${response.status}.`, response.status < 500);
  }

  // The browser may forbid pages to keep anything.
  const kept = {
    read(name, otherwise) {
      try {
        return JSON.parse(localStorage.getItem(name)) ?? otherwise;
      } catch {
        return otherwise;
      }
    },
    write(name, value) {
      try {
        localStorage.setItem(name, JSON.stringify(value));
      } catch {
        // It lasts as long as the page then.
      }
    },
  };

  function made(tag, name, ...inside) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...inside);
    return element;
  }

  window.refgcRequests = { ask, kept, made };
})();
