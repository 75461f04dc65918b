// The review: shows one row after the other, fetched ahead, and sends what a person says of it. What was said is kept in
// the browser until the server has written it down. The markup is review.html's, routes.py has the endpoints, and
// refgc/webui/assets/requests.js asks for them.
(() => {
  // Rows fetched ahead, and rows behind whose pictures are kept for going back.
  const AHEAD = 6;
  const BEHIND = 3;
  const RETRY = 2000;
  const ASK_AGAIN = 5000;
  // Of a frame, taken up by the object when zoomed.
  const FILLED = 0.9;
  const CLOSEST = 8;
  const SVG = "http://www.w3.org/2000/svg";
  const NAMES = { hrri: "HRRI", hrgt: "HRGT", lrgi: "LRGI" };
  const WHAT = { hrri: "the sharp photo", hrgt: "the same object in another view", lrgi: "the generated picture" };

  const { kept, made } = window.refgcRequests;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function drawn(tag, attributes, ...inside) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...inside);
    return element;
  }

  // Nothing can have the focus before the page is shown; see refgc/webui/index_page.py.
  function whenWhole(then) {
    if ("whole" in document.documentElement.dataset) then();
    else requestAnimationFrame(() => whenWhole(then));
  }

  const ask = (path, body) => window.refgcRequests.ask(`review/${path}`, body);

  // ---- One row ----

  // A row whose pictures are loaded and decoded ahead, so that it is shown at once.
  class PreparedRow {
    constructor(card) {
      this.card = card;
      this.panes = card.pictures.map((picture) => new Pane(picture, card));
    }

    // What it gives is over when all pictures are there, or cannot be had.
    load() {
      this.loading ??= Promise.all(this.panes.map((pane, index) => pane.load(this.card.pictures[index])));
      return this.loading;
    }

    redraw(card) {
      this.card = card;
      card.pictures.forEach((picture, index) => this.panes[index].outline(picture));
    }
  }

  class Pane {
    constructor(picture, card) {
      this.name = picture.name;
      this.view = picture.name === "hrri" ? "hrri" : "hrgt";
      this.size = [picture.width, picture.height];
      this.image = document.createElement("img");
      this.image.alt = `${NAMES[this.name]}, ${WHAT[this.name]}: ${card.object}`;
      this.image.draggable = false;
      this.svg = drawn("svg", { "aria-hidden": "true" });
      this.canvas = made("div", "review-canvas", this.image, this.svg);
      this.frame = made("div", "review-frame", this.canvas);
      this.note = made("span");
      const caption = made("figcaption", "", made("b", "", NAMES[this.name]), ` ${WHAT[this.name]}`, this.note);
      this.figure = made("figure", "review-pane", caption, this.frame);
      this.figure.pane = this;
    }

    async load(picture) {
      const outlined = this.outline(picture);
      this.image.src = picture.source;
      await this.image.decode().catch(() => this.tellMissing(picture));
      await outlined;
    }

    async tellMissing(picture) {
      const sentence = await ask(picture.source.replace("review/", "")).then(
        () => "This picture cannot be shown.",
        (problem) => problem.message,
      );
      this.image.remove();
      this.frame.append(made("p", "review-missing", sentence));
    }

    async outline(picture) {
      const source = picture.outline;
      this.source = source;
      this.note.textContent = "";
      try {
        const outline = await ask(source.replace("review/", ""));
        if (this.source === source) this.draw(outline);
        this.kept = outline;
      } catch (problem) {
        this.note.textContent = `. ${problem.message}`;
      }
      if (picture.mask_maker === "person" && this.name !== "lrgi") this.note.textContent = ", mask mended";
    }

    draw(outline) {
      this.shown = outline;
      const [width, height] = outline.size;
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.replaceChildren(drawn("path", { class: "edge", d: outline.path }), drawn("path", { class: "line", d: outline.path }));
    }

    // Marks of mending over the outline, as fractions of the picture.
    mark(clicks, cross) {
      for (const old of this.svg.querySelectorAll("circle, .cross")) old.remove();
      if (!this.svg.hasAttribute("viewBox")) this.svg.setAttribute("viewBox", `0 0 ${this.size.join(" ")}`);
      const [, , width, height] = this.svg.getAttribute("viewBox").split(" ").map(Number);
      const side = Math.max(width, height);
      for (const { kind, x, y } of clicks) {
        this.svg.append(drawn("circle", { class: kind, cx: x * width, cy: y * height, r: side / 110 }));
      }
      if (cross) {
        const [x, y, arm] = [cross.x * width, cross.y * height, side / 30];
        this.svg.append(drawn("path", { class: "cross", d: `M${x - arm} ${y}H${x + arm}M${x} ${y - arm}V${y + arm}` }));
      }
    }

    // Where a pointer is, as fractions of the picture; null outside of it.
    fraction(event) {
      const matrix = this.svg.getScreenCTM();
      if (!matrix || !this.svg.hasAttribute("viewBox")) return null;
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
      const [, , width, height] = this.svg.getAttribute("viewBox").split(" ").map(Number);
      return x >= 0 && y >= 0 && x < width && y < height ? { x: x / width, y: y / height } : null;
    }

    // The object fills the frame, moved by `pan` in parts of the frame; null shows the whole picture.
    zoom(pan) {
      if (!pan) {
        this.canvas.style.transform = "";
        this.canvas.style.setProperty("--scale", 1);
        return;
      }
      const { clientWidth: across, clientHeight: down } = this.frame;
      const [width, height] = this.shown?.size ?? this.size;
      const [left, top, right, bottom] = this.shown?.box ?? [width / 4, height / 4, (width * 3) / 4, (height * 3) / 4];
      const fit = Math.min(across / width, down / height);
      const scale = clamp(FILLED * Math.min(across / ((right - left) * fit), down / ((bottom - top) * fit)), 1.2, CLOSEST);
      const x = (across - width * fit) / 2 + ((left + right) / 2) * fit;
      const y = (down - height * fit) / 2 + ((top + bottom) / 2) * fit;
      this.canvas.style.setProperty("--scale", scale);
      this.canvas.style.transform =
        `translate(${across / 2 - x * scale + pan.x * across}px, ${down / 2 - y * scale + pan.y * down}px) scale(${scale})`;
    }
  }

  // ---- The page ----

  class Review {
    constructor(root) {
      this.root = root;
      this.told = JSON.parse(root.dataset.told);
      this.part = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
      this.outboxName = `refgc-review-outbox-${this.told.dataset}`;
      this.outbox = kept.read(this.outboxName, []);
      this.queue = [];
      this.past = [];
      this.behind = new Map();
      this.current = null;
      this.pan = null;
      this.mending = null;
      this.collected = new Set();
      this.lastSaid = "";
      this.loading = Promise.resolve();
      this.useKeys(kept.read("refgc-review-keys", true));
      this.look(kept.read("refgc-review-look", { masks: true, tint: false }));
      this.listen();
      this.rater = kept.read("refgc-review-rater", "");
      if (this.rater) this.begin();
      else this.askName();
    }

    // ---- Who reviews ----

    askName() {
      this.part.row.hidden = this.part.done.hidden = true;
      this.part.who.hidden = false;
      this.button("rename").hidden = true;
      this.part.counts.textContent = "";
      this.part.who.elements.name.value = this.rater;
      whenWhole(() => this.part.who.elements.name.focus());
    }

    async rename() {
      if (this.rater) await ask("leave", { rater: this.rater }).catch(() => {});
      this.askName();
    }

    async begin() {
      this.part.who.hidden = true;
      this.button("rename").hidden = false;
      this.queue = [];
      this.past = [];
      this.behind.clear();
      this.current = null;
      this.tell("");
      try {
        const query = new URLSearchParams({ rater: this.rater });
        await this.send();
        const [history, progress] = await Promise.all([ask(`history?${query}`), ask(`progress?${query}`)]);
        this.past = history.rows.reverse();
        this.agreement = progress.agreement;
        this.count(progress.counts);
      } catch (problem) {
        this.trouble(problem);
        if (problem.refused) this.askName();
        else setTimeout(() => this.begin(), RETRY);
        return;
      }
      this.next();
    }

    // ---- Rows ----

    async fetchAhead() {
      if (this.fetching) return this.fetching;
      const rater = this.rater;
      const holding = [...this.queue.map((row) => row.card.id), ...this.outbox.map((verdict) => verdict.row)];
      if (this.current) holding.push(this.current.card.id);
      const most = Math.max(0, AHEAD - this.queue.length);
      this.fetching = ask("rows", { rater, most, holding: holding.slice(0, 100) })
        .then(({ rows, counts }) => {
          if (rater !== this.rater) return;
          // What was judged while the answer was under way is not shown again.
          const judged = new Set([...this.outbox.map((verdict) => verdict.row), ...this.past, this.current?.card.id]);
          const fresh = rows.filter((card) => !judged.has(card.id)).map((card) => new PreparedRow(card));
          this.queue.push(...fresh);
          // One after the other, so that the next to be shown is there first.
          for (const row of fresh) this.loading = this.loading.then(() => row.load());
          this.count(counts);
        })
        .finally(() => (this.fetching = null));
      return this.fetching;
    }

    // Shows the next row. Where none is there yet, the last one is seen until it is known whether more are left.
    async next() {
      this.current = null;
      const row = this.queue.shift();
      if (row) this.show(row);
      try {
        // What is under way may have been asked for while enough were there.
        if (!row) await this.fetching;
        await this.fetchAhead();
        if (!this.outbox.length) this.tell("");
      } catch (problem) {
        this.trouble(problem);
      }
      if (this.current || !this.part.who.hidden) return;
      if (this.queue.length) this.show(this.queue.shift());
      else this.wait();
    }

    wait() {
      if (this.part.done.hidden) {
        this.part.row.hidden = true;
        this.part.done.hidden = false;
        this.part.done.querySelector("h2").focus();
        this.say(`${this.lastSaid} Nothing is left for you now.`);
      }
      clearTimeout(this.asking);
      this.asking = setTimeout(() => this.current || this.next(), ASK_AGAIN);
    }

    show(row) {
      clearTimeout(this.asking);
      const { card } = (this.current = row);
      row.load();
      this.closeReasons(false);
      this.part.done.hidden = true;
      this.part.row.hidden = false;
      this.part.panes.style.setProperty("--panes", row.panes.length);
      this.part.panes.replaceChildren(...row.panes.map((pane) => pane.figure));
      this.part.title.textContent = card.caption ? `${card.object}: ${card.caption}` : card.object;
      const said = !card.said ? "" : card.said.accepted ? "you accepted it" : `you rejected it: ${card.said.reasons.join(", ")}`;
      this.part.facts.textContent = [card.kind, card.id, card.category, ...card.facts, said].filter(Boolean).join(" · ");
      this.button("forward").hidden = !row.again;
      for (const button of this.part.reasons.querySelectorAll("button")) {
        button.hidden = card.kind === "pair" && this.told.tripletReasons.includes(button.dataset.reason);
      }
      this.zoomTo(this.pan && { x: 0, y: 0 });
      this.say(`${this.lastSaid ? `${this.lastSaid} ` : ""}${row.again ? "Again" : "Next"}: ${card.kind}, ${card.object}${said ? `, ${said}` : ""}.`);
      this.lastSaid = "";
      this.shownAt = performance.now();
    }

    // ---- Verdicts ----

    judge(accepted, reasons) {
      if (!this.current || this.mending) return;
      const { card } = this.current;
      const seconds = (performance.now() - this.shownAt) / 1000;
      this.outbox.push({ row: card.id, rater: this.rater, accepted, reasons, seconds });
      kept.write(this.outboxName, this.outbox);
      card.said = { accepted, reasons };
      this.past.push(card.id);
      this.behind.set(card.id, this.current);
      for (const id of [...this.behind.keys()].slice(0, -BEHIND)) this.behind.delete(id);
      this.lastSaid = accepted ? "Accepted." : `Rejected: ${reasons.join(", ")}.`;
      this.send();
      this.next();
    }

    // Sends what was said, one after the other; what the server has not written down stays.
    async send() {
      if (this.sending) return this.sending;
      this.sending = this.sendAll().finally(() => (this.sending = null));
      return this.sending;
    }

    async sendAll() {
      while (this.outbox.length) {
        try {
          const { counts } = await ask("verdicts", this.outbox[0]);
          if (this.outbox[0].rater === this.rater) this.count(counts);
          this.part.problem.textContent = "";
          this.sent = (this.sent || 0) + 1;
          if (this.sent % 10 === 0) this.askAgreement();
        } catch (problem) {
          if (!problem.refused) {
            this.tell(`Not written down yet, it is tried again: ${problem.message}`);
            await new Promise((done) => setTimeout(done, RETRY));
            continue;
          }
          this.tell(`A verdict was refused: ${problem.message}`);
        }
        this.outbox.shift();
        kept.write(this.outboxName, this.outbox);
      }
    }

    async askAgreement() {
      const progress = await ask(`progress?${new URLSearchParams({ rater: this.rater })}`).catch(() => null);
      if (!progress) return;
      this.agreement = progress.agreement;
      this.count(progress.counts);
    }

    async back() {
      if (this.mending) return;
      const id = this.past.pop();
      if (!id) {
        this.say("There is no row before this one.");
        return;
      }
      clearTimeout(this.asking);
      if (this.current) this.queue.unshift(this.current);
      try {
        const row = this.behind.get(id) ?? new PreparedRow(await ask(`rows/${id}?${new URLSearchParams({ rater: this.rater })}`));
        row.again = true;
        this.show(row);
      } catch (problem) {
        this.trouble(problem);
        this.next();
      }
    }

    forward() {
      if (!this.current?.again || this.mending) return;
      this.past.push(this.current.card.id);
      this.behind.set(this.current.card.id, this.current);
      this.next();
    }

    openReasons() {
      if (!this.current || this.mending) return;
      this.collected.clear();
      for (const button of this.part.reasons.querySelectorAll("button")) button.setAttribute("aria-pressed", "false");
      this.part.reasons.hidden = false;
      this.button("reject").setAttribute("aria-expanded", "true");
      this.part.reasons.querySelector("button:not([hidden])").focus();
    }

    closeReasons(refocus = true) {
      const within = this.part.reasons.contains(document.activeElement);
      this.part.reasons.hidden = true;
      this.button("reject").setAttribute("aria-expanded", "false");
      if (within && refocus) this.button("reject").focus();
      else if (within) this.part.title.focus({ preventScroll: true });
    }

    reason(button, several) {
      if (!button || button.hidden) return;
      if (!several && !this.collected.size) {
        this.judge(false, [button.dataset.reason]);
        return;
      }
      const name = button.dataset.reason;
      if (!this.collected.delete(name)) this.collected.add(name);
      button.setAttribute("aria-pressed", String(this.collected.has(name)));
    }

    // ---- How it is seen ----

    look(look) {
      this.seen = look;
      this.root.dataset.masks = look.masks ? "on" : "off";
      this.root.toggleAttribute("data-tint", look.tint);
      this.button("masks").setAttribute("aria-pressed", String(look.masks));
      this.button("tint").setAttribute("aria-pressed", String(look.tint));
      kept.write("refgc-review-look", look);
    }

    // Single letters may be said by mistake, by those who speak to their machine for instance.
    useKeys(keys) {
      this.keys = keys;
      this.press("keys", keys);
      kept.write("refgc-review-keys", keys);
    }

    zoomTo(pan) {
      this.pan = pan;
      this.root.toggleAttribute("data-zoom", Boolean(pan));
      this.button("zoom").setAttribute("aria-pressed", String(Boolean(pan)));
      for (const pane of this.current?.panes ?? []) pane.zoom(pan);
    }

    move(across, down) {
      if (this.pan) this.zoomTo({ x: clamp(this.pan.x + across, -2, 2), y: clamp(this.pan.y + down, -2, 2) });
    }

    // ---- Mending ----

    mend() {
      if (!this.current || this.mending) return;
      this.closeReasons();
      if (!this.seen.masks) this.look({ ...this.seen, masks: true });
      this.mending = { view: "hrri", clicks: [], anew: false, cross: { x: 0.5, y: 0.5 }, asked: 0 };
      this.root.dataset.mending = "";
      this.part.actions.hidden = true;
      this.part.mending.hidden = false;
      this.chooseView("hrri");
      this.press("anew", false);
      this.button("save").focus();
    }

    mendedPane() {
      return this.current.panes.find((pane) => pane.name === this.mending.view);
    }

    chooseView(view) {
      this.dropClicks();
      this.mending.view = view;
      for (const button of this.part.mending.querySelectorAll("[data-view]")) {
        button.setAttribute("aria-pressed", String(button.dataset.view === view));
      }
      this.mendedPane().mark([], this.mending.cross);
      this.say(`Mending the mask of the ${NAMES[view]}.`);
    }

    dropClicks() {
      const pane = this.mendedPane();
      this.mending.asked += 1;
      this.mending.clicks = [];
      pane.mark([]);
      if (pane.kept) pane.draw(pane.kept);
    }

    click(kind, place) {
      this.mending.cross = place;
      this.mending.clicks.push({ kind, x: place.x, y: place.y });
      return this.tryMask();
    }

    async tryMask(keep = false) {
      const { mending } = this;
      const pane = this.mendedPane();
      pane.mark(mending.clicks, mending.cross);
      const asked = (mending.asked += 1);
      if (!mending.clicks.length) {
        if (pane.kept) pane.draw(pane.kept);
        pane.mark([], mending.cross);
        return;
      }
      this.say(keep ? "The mask is being saved." : "The mask is being made.");
      const { view, clicks, anew } = mending;
      try {
        const answer = await ask("masks", { row: this.current.card.id, view, rater: this.rater, clicks, anew, keep });
        if (this.mending !== mending || mending.asked !== asked) return;
        pane.draw(answer.outline);
        pane.mark(mending.clicks, mending.cross);
        this.tell("");
        this.say(`The mask is ${keep ? "saved" : "made; S saves it"}.`);
        if (keep) {
          mending.clicks = [];
          pane.kept = answer.outline;
          this.current.redraw(answer.card);
          this.leaveMending();
        }
      } catch (problem) {
        if (mending.asked === asked) this.tell(problem.message);
      }
    }

    leaveMending() {
      this.dropClicks();
      this.mending = null;
      delete this.root.dataset.mending;
      this.part.mending.hidden = true;
      this.part.actions.hidden = false;
      this.button("mend").focus();
    }

    // ---- What is told ----

    button(name) {
      return this.root.querySelector(`[data-do="${name}"]`);
    }

    press(name, pressed) {
      this.button(name).setAttribute("aria-pressed", String(pressed));
    }

    say(text) {
      this.part.said.textContent = text;
    }

    tell(problem) {
      this.part.problem.textContent = problem;
    }

    trouble(problem) {
      this.tell(problem.message);
    }

    count(counts) {
      const decided = counts.accepted + counts.rejected;
      const all = decided + counts.disputed + counts.unreviewed;
      const agreement = this.agreement == null ? "" : ` · agreement α = ${this.agreement.toFixed(2)}`;
      this.part.counts.textContent =
        `${decided} of ${all} decided (${counts.accepted} accepted, ${counts.disputed} disputed) · ` +
        `${this.rater}: ${counts.yours} judged, ${counts.left} left${agreement}`;
      this.part.bar.max = Math.max(1, all);
      this.part.bar.value = decided;
    }

    // ---- What a person does ----

    listen() {
      this.part.who.addEventListener("submit", (event) => {
        event.preventDefault();
        this.rater = this.part.who.elements.name.value.trim().replace(/\s+/g, " ");
        if (!this.rater) return;
        kept.write("refgc-review-rater", this.rater);
        this.begin();
      });
      this.root.addEventListener("click", (event) => {
        const button = event.target.closest("button");
        if (button?.dataset.reason) this.reason(button, event.shiftKey);
        else if (button?.dataset.do) this.act(button.dataset.do, button);
      });
      document.addEventListener("keydown", (event) => this.key(event));
      this.part.panes.addEventListener("pointerdown", (event) => this.point(event));
      this.part.panes.addEventListener("contextmenu", (event) => this.mending && event.preventDefault());
      window.addEventListener("resize", () => this.zoomTo(this.pan));
      window.addEventListener("pagehide", () => {
        if (!this.rater) return;
        const body = new Blob([JSON.stringify({ rater: this.rater })], { type: "application/json" });
        navigator.sendBeacon("review/leave", body);
      });
      // What is held is held on while somebody looks at a row for long.
      setInterval(() => this.current && this.fetchAhead().catch((problem) => this.trouble(problem)), 60000);
    }

    act(name, button) {
      const acts = {
        accept: () => this.judge(true, []),
        reject: () => (this.part.reasons.hidden ? this.openReasons() : this.closeReasons()),
        back: () => this.back(),
        forward: () => this.forward(),
        masks: () => this.look({ ...this.seen, masks: !this.seen.masks }),
        tint: () => this.look({ masks: true, tint: !this.seen.tint }),
        zoom: () => this.zoomTo(this.pan ? null : { x: 0, y: 0 }),
        mend: () => this.mend(),
        view: () => this.chooseView(button?.dataset.view ?? (this.mending.view === "hrri" ? "hrgt" : "hrri")),
        anew: () => {
          this.mending.anew = !this.mending.anew;
          this.press("anew", this.mending.anew);
          this.tryMask();
        },
        undo: () => {
          this.mending.clicks.pop();
          this.tryMask();
        },
        save: () => this.tryMask(true),
        leave: () => this.leaveMending(),
        keys: () => this.useKeys(!this.keys),
        rename: () => this.rename(),
      };
      acts[name]?.();
    }

    key(event) {
      const typing = event.target.closest?.("input, textarea, select");
      if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat && !event.key.startsWith("Arrow")) return;
      if (!this.keys && event.key !== "Escape" && !(this.mending && this.isCrossKey(event))) return;
      if (this.mending ? this.mendingKey(event) : this.rowKey(event)) event.preventDefault();
    }

    rowKey(event) {
      const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
      if (!this.part.reasons.hidden) {
        if (digit) {
          this.reason(this.part.reasons.querySelectorAll("button")[digit - 1], event.shiftKey);
          return true;
        }
        if (event.key === "Enter" && this.collected.size) {
          this.judge(false, this.told.reasons.filter((reason) => this.collected.has(reason)));
          return true;
        }
        if (event.key === "Escape") {
          this.closeReasons();
          return true;
        }
      }
      const arrow = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
      if (arrow && this.pan) {
        this.move(...arrow);
        return true;
      }
      const names = { a: "accept", r: "reject", b: "back", f: "forward", m: "masks", t: "tint", z: "zoom", e: "mend" };
      const name = names[event.key.toLowerCase()];
      if (!name || !this.part.who.hidden || (!this.current && name !== "back")) return false;
      this.act(name);
      return true;
    }

    isCrossKey(event) {
      return event.key.startsWith("Arrow") || event.key === "Enter";
    }

    mendingKey(event) {
      const { mending } = this;
      const step = event.shiftKey ? 0.005 : 0.025;
      const arrow = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      if (arrow) {
        const { x, y } = mending.cross;
        mending.cross = { x: clamp(x + arrow[0], 0, 0.999), y: clamp(y + arrow[1], 0, 0.999) };
        this.mendedPane().mark(mending.clicks, mending.cross);
        return true;
      }
      if (event.key === "Enter" && !event.target.closest?.("[data-do]:not([data-do=save])")) {
        this.click(event.shiftKey ? "background" : "object", mending.cross);
        return true;
      }
      const names = { h: "view", n: "anew", u: "undo", backspace: "undo", s: "save", escape: "leave", z: "zoom", t: "tint" };
      const name = names[event.key.toLowerCase()];
      if (name) this.act(name);
      return Boolean(name);
    }

    point(event) {
      const pane = event.target.closest(".review-pane")?.pane;
      if (!pane) return;
      if (this.mending) {
        const place = pane.name === "lrgi" ? null : pane.fraction(event);
        if (!place) return;
        event.preventDefault();
        if (pane.name !== this.mending.view) this.chooseView(pane.name);
        this.click(event.shiftKey || event.button === 2 ? "background" : "object", place);
      } else if (this.pan && event.button === 0) {
        event.preventDefault();
        this.drag(event, pane.frame);
      }
    }

    drag(down, frame) {
      const from = { ...this.pan };
      const move = (event) => {
        this.zoomTo({ ...from });
        this.move((event.clientX - down.clientX) / frame.clientWidth, (event.clientY - down.clientY) / frame.clientHeight);
      };
      const end = () => {
        this.root.removeAttribute("data-dragging");
        window.removeEventListener("pointermove", move);
      };
      this.root.dataset.dragging = "";
      window.addEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, end, { once: true });
    }
  }

  // Gradio may build its component once more while it starts.
  window.refgcReview = {
    start(root) {
      if (!root || root.review) return;
      root.review = new Review(root);
    },
  };
})();
