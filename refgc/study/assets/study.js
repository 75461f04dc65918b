// The study: shows one set of pictures after the other, and sends what a person says of them. The markup is study.html's,
// routes.py has the endpoints, and refgc/webui/assets/requests.js asks for them.
(() => {
  const RETRY = 2000;
  const CLOSEST = 10;
  // Of a click on a picture that is seen whole, and of a key or button.
  const CLICK_ZOOM = 3;
  const STEP = 1.5;
  // Pixels that a pointer may move in a click.
  const STILL = 6;
  // Pixels of a caption below its picture and between panes; and the narrowest picture on a wide window.
  const CAPTION = 26;
  const GAP = 8;
  const NARROWEST = 150;
  const PHONE = 560;

  const { ask, kept, made } = window.refgcRequests;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const spoken = (code) => `${code.slice(0, 5)}-${code.slice(5)}`;

  // A picture with its caption, loaded ahead.
  class Pane {
    constructor(token, place, caption, alt) {
      this.source = `study/pictures/${token}/${place}`;
      this.image = made("img");
      this.image.alt = alt;
      this.image.draggable = false;
      this.frame = made("div", "frame", this.image);
      this.figure = made("figure", "pane", this.frame, made("figcaption", "", ...caption));
    }

    // What it gives is over when the picture is there; it is asked for again until then.
    async load(tell) {
      for (let attempt = 0; ; attempt += 1) {
        this.image.src = attempt ? `${this.source}?again=${attempt}` : this.source;
        try {
          await this.image.decode();
          return;
        } catch {
          tell();
          await wait(RETRY);
        }
      }
    }
  }

  // A set of pictures.
  class Trial {
    constructor(told, choices) {
      Object.assign(this, told);
      const given = [
        new Pane(this.token, "generated", [made("b", "", "Generated"), made("span", "", " the small picture")], "The small generated picture"),
        new Pane(this.token, "reference", [made("b", "", "Reference"), made("span", "", " photo of the object")], "The reference photo of the object"),
      ];
      for (const pane of given) pane.figure.classList.add("given");
      this.results = Array.from({ length: choices }, (_, index) =>
        new Pane(this.token, index + 1, [made("b", "", `Result ${index + 1}`)], `Result ${index + 1}`));
      this.panes = [...given, ...this.results];
    }

    load(tell) {
      this.loading ??= Promise.all(this.panes.map((pane) => pane.load(tell)));
      return this.loading;
    }
  }

  class StudyPage {
    constructor(root) {
      this.root = root;
      this.told = JSON.parse(root.dataset.told);
      this.part = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
      this.codeName = `refgc-study-${this.told.study}`;
      this.view = { scale: 1, x: 0.5, y: 0.5 };
      this.pointers = new Map();
      this.prepared = new Map();
      this.buildQuestions();
      this.useKeys(kept.read("refgc-study-keys", true));
      this.listen();
      this.part.resume.elements.code.value = kept.read(this.codeName, "");
      // Off until now: a form that is sent before somebody listens loads the page anew and loses the code.
      for (const control of this.part.welcome.querySelectorAll(":disabled")) control.disabled = false;
    }

    // ---- Coming and going ----

    async begin() {
      await this.enter("study/begin", { agreed: true }, "code");
    }

    async resume() {
      await this.enter("study/resume", { code: this.part.resume.elements.code.value });
    }

    async enter(path, body, first) {
      this.tell("");
      try {
        const standing = await ask(path, body);
        this.code = standing.code;
        kept.write(this.codeName, spoken(this.code));
        this.part["header-code"].textContent = `Your code: ${spoken(this.code)}`;
        this.part["large-code"].textContent = spoken(this.code);
        this.button("withdraw").hidden = false;
        this.button("keys").hidden = false;
        this.part.bar.hidden = false;
        this.take(standing);
        if (first && this.trials.length) this.open(first);
        else this.show();
      } catch (problem) {
        this.tell(problem.message);
      }
    }

    async withdraw() {
      if (!confirm("Delete all of your answers? This cannot be undone, and your code is void afterwards.")) return;
      try {
        await ask("study/withdraw", { code: this.code });
      } catch (problem) {
        this.tell(problem.message);
        return;
      }
      kept.write(this.codeName, "");
      this.trial = null;
      this.part["header-code"].textContent = "";
      this.button("withdraw").hidden = this.button("keys").hidden = this.part.bar.hidden = true;
      this.open("gone");
    }

    // Shows one section, and gives its heading the focus, so that it is read out.
    open(name) {
      for (const section of ["welcome", "code", "trial", "done", "gone"]) this.part[section].hidden = section !== name;
      this.say("");
      window.scrollTo(0, 0);
      this.part[name].querySelector("[tabindex='-1']")?.focus({ preventScroll: true });
    }

    // ---- One set of pictures after the other ----

    take({ trials, total, done }) {
      this.total = total;
      this.part.bar.max = total;
      this.part.bar.value = done;
      this.trials = trials.map((told) => this.prepared.get(told.token) ?? new Trial(told, this.told.choices));
      this.prepared = new Map(this.trials.map((trial) => [trial.token, trial]));
    }

    async show() {
      const [trial, after] = this.trials;
      this.trial = trial;
      if (!trial) {
        this.open("done");
        return;
      }
      this.part.title.textContent = `Set ${trial.number} of ${this.total}`;
      this.part.panes.style.setProperty("--ratio", trial.size[0] / trial.size[1]);
      this.part.panes.replaceChildren(...trial.panes.map((pane) => pane.figure));
      this.part.questions.reset();
      this.zoomTo({ scale: 1, x: 0.5, y: 0.5 });
      this.open("trial");
      this.lock(true);
      this.layOut();
      this.say("The pictures are loading.");
      await trial.load(() => this.tell("A picture has not come; it is asked for again."));
      if (this.trial !== trial) return;
      this.tell("");
      this.lock(false);
      this.activate(0);
      this.say(`Set ${trial.number} of ${this.total}. ${this.told.questions[0].text}`);
      this.shownAt = performance.now();
      after?.load(() => {});
    }

    async next() {
      const { trial } = this;
      if (!trial || this.sending || !this.complete()) return;
      this.sending = true;
      const seconds = (performance.now() - this.shownAt) / 1000;
      const answers = Object.fromEntries(this.told.questions.map(({ name }, index) => [name, Number(this.answer(index))]));
      this.lock(true);
      for (;;) {
        try {
          const standing = await ask("study/answers", { code: this.code, token: trial.token, answers, seconds });
          this.tell("");
          this.sending = false;
          if (this.trial !== trial) return;
          this.take(standing);
          this.show();
          return;
        } catch (problem) {
          if (problem.refused) {
            this.tell(problem.message);
            this.sending = false;
            this.lock(false);
            return;
          }
          this.tell(`Your answers are not saved yet; it is tried again. ${problem.message}`);
          await wait(RETRY);
        }
      }
    }

    // ---- Questions ----

    buildQuestions() {
      this.fieldsets = this.told.questions.map(({ text }, index) => {
        const answers = Array.from({ length: this.told.choices + 1 }, (_, place) => {
          const value = place < this.told.choices ? place + 1 : 0;
          const input = made("input");
          Object.assign(input, { type: "radio", name: `question-${index}`, value: String(value), required: true });
          return made("label", "answer", input, made("span", "", value ? String(value) : "No difference"));
        });
        const fieldset = made("fieldset", "", made("legend", "", text), made("div", "answers", ...answers));
        fieldset.addEventListener("change", () => this.answered(index));
        fieldset.addEventListener("focusin", () => this.activate(index));
        return fieldset;
      });
      this.part.fieldsets.replaceChildren(...this.fieldsets);
    }

    answer(index) {
      return this.fieldsets[index].querySelector("input:checked")?.value;
    }

    complete() {
      return this.fieldsets.every((_, index) => this.answer(index) !== undefined);
    }

    lock(locked) {
      for (const fieldset of this.fieldsets) fieldset.disabled = locked;
      this.locked = locked;
      this.button("next").disabled = locked || !this.complete();
    }

    activate(index) {
      this.active = index;
      this.fieldsets.forEach((fieldset, at) => fieldset.toggleAttribute("data-active", at === index));
      const chosen = Number(this.answer(index) ?? 0);
      this.trial?.results.forEach((pane, at) => pane.figure.toggleAttribute("data-chosen", at + 1 === chosen));
    }

    answered(index) {
      this.button("next").disabled = this.locked || !this.complete();
      this.activate(index);
    }

    // By a key: the answer to the question that is marked, then on to the next one that has none.
    choose(value) {
      const input = this.fieldsets[this.active].querySelector(`input[value="${value}"]`);
      if (!input || this.locked) return;
      input.checked = true;
      const at = this.active;
      this.answered(at);
      const said = value ? `Result ${value}.` : "No difference.";
      const open = this.fieldsets.findIndex((_, index) => this.answer(index) === undefined);
      if (open >= 0) this.activate(open);
      this.say(open >= 0 ? `${said} ${this.told.questions[open].text}` : `${said} All is answered; Enter goes on.`);
    }

    before() {
      if (this.locked || this.active === 0) return;
      this.activate(this.active - 1);
      this.say(this.told.questions[this.active].text);
    }

    // ---- Zoom ----

    // The same part of all pictures: `x` and `y` are the middle of what is seen, as fractions.
    zoomTo({ scale, x, y }) {
      scale = clamp(scale, 1, CLOSEST);
      const margin = 0.5 / scale;
      this.view = { scale, x: clamp(x, margin, 1 - margin), y: clamp(y, margin, 1 - margin) };
      const across = (0.5 - this.view.x * scale) * 100;
      const down = (0.5 - this.view.y * scale) * 100;
      this.root.toggleAttribute("data-zoomed", scale > 1);
      this.button("fit").setAttribute("aria-pressed", String(scale === 1));
      for (const pane of this.trial?.panes ?? []) {
        pane.image.style.transform = scale === 1 ? "" : `translate(${across}%, ${down}%) scale(${scale})`;
      }
    }

    // So that the point under a pointer stays where it is.
    zoomAt(scale, place) {
      const { x, y, scale: before } = this.view;
      const after = clamp(scale, 1, CLOSEST);
      const point = { x: x + (place.x - 0.5) / before, y: y + (place.y - 0.5) / before };
      this.zoomTo({ scale: after, x: point.x - (place.x - 0.5) / after, y: point.y - (place.y - 0.5) / after });
    }

    // Where a pointer is, as fractions of its frame.
    placeIn(frame, { clientX, clientY }) {
      const box = frame.getBoundingClientRect();
      return { x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height };
    }

    down(event) {
      const frame = event.target.closest(".frame");
      if (!frame || event.button !== 0) return;
      if (!this.pointers.size) this.gesture = { frame, moved: false, view: { ...this.view } };
      this.pointers.set(event.pointerId, { start: event, now: event });
      if (this.pointers.size === 2) {
        Object.assign(this.gesture, { moved: true, apart: this.apart(), scale: this.view.scale });
      }
    }

    apart() {
      const [one, other] = [...this.pointers.values()].map(({ now }) => now);
      return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    }

    move(event) {
      const pointer = this.pointers.get(event.pointerId);
      if (!pointer) return;
      const { gesture } = this;
      pointer.now = event;
      if (this.pointers.size === 2) {
        const [one, other] = [...this.pointers.values()].map(({ now }) => now);
        const middle = { clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 };
        this.root.dataset.dragging = "";
        this.zoomAt((gesture.scale * this.apart()) / gesture.apart, this.placeIn(gesture.frame, middle));
        return;
      }
      const [across, down] = [event.clientX - pointer.start.clientX, event.clientY - pointer.start.clientY];
      if (Math.hypot(across, down) > STILL) gesture.moved = true;
      if (!gesture.moved || this.view.scale === 1 || gesture.apart) return;
      const { width, height } = gesture.frame.getBoundingClientRect();
      const { scale, x, y } = gesture.view;
      this.root.dataset.dragging = "";
      this.zoomTo({ scale, x: x - across / width / scale, y: y - down / height / scale });
    }

    up(event) {
      if (!this.pointers.delete(event.pointerId) || this.pointers.size) return;
      const { gesture } = this;
      this.root.removeAttribute("data-dragging");
      if (gesture.moved || event.type === "pointercancel") return;
      this.zoomAt(this.view.scale > 1 ? 1 : CLICK_ZOOM, this.placeIn(gesture.frame, event));
    }

    wheel(event) {
      const frame = event.target.closest(".frame");
      if (!frame || !(event.ctrlKey || this.view.scale > 1)) return;
      event.preventDefault();
      this.zoomAt(this.view.scale * 1.0015 ** -event.deltaY, this.placeIn(frame, event));
    }

    // As large as the window allows for all panes and the questions; on a phone two beside each other.
    layOut() {
      if (!this.trial || this.part.trial.hidden) return;
      const { panes } = this.part;
      const across = this.root.clientWidth - 2 * parseFloat(getComputedStyle(this.root).paddingLeft);
      const ratio = this.trial.size[0] / this.trial.size[1];
      const number = this.trial.panes.length;
      let [columns, width] = [2, (across - GAP) / 2];
      if (window.innerWidth > PHONE) {
        const above = panes.getBoundingClientRect().top + window.scrollY;
        const below = this.part.questions.offsetHeight + this.part.said.offsetHeight;
        const high = window.innerHeight - above - below - 4 * GAP;
        const fitting = (count) => {
          const rows = Math.ceil(number / count);
          return Math.min((across - GAP * (count - 1)) / count, ratio * ((high - GAP * (rows - 1)) / rows - CAPTION));
        };
        const counts = Array.from({ length: number }, (_, index) => index + 1);
        columns = counts.reduce((best, count) => (fitting(count) > fitting(best) ? count : best));
        // Where the window is too low for all, the page is longer than the window.
        width = fitting(columns);
        if (width < NARROWEST) {
          columns = clamp(Math.floor((across + GAP) / (NARROWEST * 1.5 + GAP)), 2, number);
          width = (across - GAP * (columns - 1)) / columns;
        }
      }
      panes.dataset.rows = Math.ceil(number / columns);
      panes.style.setProperty("--columns", columns);
      panes.style.setProperty("--pane", `${Math.floor(width)}px`);
    }

    // ---- What is told ----

    button(name) {
      return this.root.querySelector(`[data-do="${name}"]`);
    }

    say(text) {
      this.part.said.textContent = text;
    }

    tell(problem) {
      this.part.problem.textContent = problem;
    }

    // Single letters may be said by mistake, by those who speak to their machine for instance.
    useKeys(keys) {
      this.keys = keys;
      this.button("keys").setAttribute("aria-pressed", String(keys));
      kept.write("refgc-study-keys", keys);
    }

    // ---- What a person does ----

    listen() {
      this.part.resume.addEventListener("submit", (event) => {
        event.preventDefault();
        this.resume();
      });
      this.part.questions.addEventListener("submit", (event) => {
        event.preventDefault();
        this.next();
      });
      this.root.addEventListener("click", (event) => {
        const button = event.target.closest("button[type=button]");
        if (button) this.act(button.dataset.do);
      });
      document.addEventListener("keydown", (event) => this.key(event));
      this.part.panes.addEventListener("pointerdown", (event) => this.down(event));
      window.addEventListener("pointermove", (event) => this.move(event));
      for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, (event) => this.up(event));
      this.part.panes.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      this.part.panes.addEventListener("contextmenu", (event) => event.preventDefault());
      window.addEventListener("resize", () => this.layOut());
    }

    act(name) {
      const { scale, x, y } = this.view;
      const acts = {
        begin: () => this.begin(),
        start: () => this.show(),
        keys: () => this.useKeys(!this.keys),
        withdraw: () => this.withdraw(),
        wider: () => this.zoomTo({ scale: scale / STEP, x, y }),
        closer: () => this.zoomTo({ scale: scale * STEP, x, y }),
        fit: () => this.zoomTo({ scale: 1, x: 0.5, y: 0.5 }),
      };
      acts[name]?.();
    }

    key(event) {
      if (!this.trial || this.part.trial.hidden || !this.keys) return;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      // Arrows change the answer of a question that has the focus, and buttons are pressed by Enter.
      if (arrow && (this.view.scale === 1 || event.target.matches?.("input"))) return;
      if (event.key === "Enter" && event.target.matches?.("button")) return;
      if (this.pressed(event, arrow)) event.preventDefault();
    }

    pressed(event, arrow) {
      const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code)?.[1];
      const { scale, x, y } = this.view;
      if (arrow) this.zoomTo({ scale, x: x + (arrow[0] * 0.15) / scale, y: y + (arrow[1] * 0.15) / scale });
      else if (event.repeat) return false;
      else if (digit !== undefined && Number(digit) <= this.told.choices) this.choose(Number(digit));
      else if (event.key === "Enter") this.next();
      else if (event.key === "Backspace") this.before();
      else if (event.key.toLowerCase() === "z") this.zoomAt(scale > 1 ? 1 : CLICK_ZOOM, { x: 0.5, y: 0.5 });
      else if (event.key === "+") this.act("closer");
      else if (event.key === "-") this.act("wider");
      else return false;
      return true;
    }
  }

  new StudyPage(document.getElementById("study"));
})();
