// The viewer: a picture before and after under a divider, with zoom and pan, and the reference beside it. The markup is
// written by refgc/webui/viewer.py; this element brings it to life wherever it is put on the page.
(() => {
  const STEPS = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };
  const ZOOM_STEP = 1.25;
  // The largest number of screen pixels for one pixel of the picture.
  const CLOSEST = 8;
  // A pointer that moves less than this many pixels has clicked.
  const CLICK = 5;
  const MARGIN = 0.12;
  // Pixels between a label and the edges of what is seen, as in the style sheet.
  const LABEL_MARGIN = 12;

  const numbers = (text) => (text || "").split(" ").filter(Boolean).map(Number);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  class Viewer extends HTMLElement {
    connectedCallback() {
      if (!this.watching) {
        // The page may put another result into this same element.
        this.watching = new MutationObserver(() => this.bind());
        const attributeFilter = ["data-size", "data-box", "data-reference-size", "data-placement"];
        this.watching.observe(this, { childList: true, subtree: true, attributes: true, attributeFilter });
        this.addEventListener("click", (event) => this.press(event.target.closest("button")));
        this.addEventListener("keydown", (event) => this.key(event));
        this.addEventListener("pointerleave", () => (this.active = false));
      }
      this.bind();
    }

    bind() {
      this.size = numbers(this.dataset.size);
      this.box = numbers(this.dataset.box);
      this.referenceSize = numbers(this.dataset.referenceSize);
      this.placement = numbers(this.dataset.placement);
      this.pane = this.querySelector(".viewer-comparison");
      this.reference = this.querySelector(".viewer-reference");
      this.divider = this.querySelector(".viewer-divider");
      this.panes = this.querySelector(".viewer-panes");
      this.said = this.querySelector(".viewer-hint");
      this.at = 0.5;
      // What is looked at: "whole", "object", or "free" with a scale and a centre in pixels of the picture.
      this.mode = "whole";
      this.pointers = new Map();
      for (const pane of this.querySelectorAll(".viewer-pane")) {
        if (!pane.dataset.bound) this.listen(pane);
        pane.dataset.bound = "yes";
      }
      document.removeEventListener("fullscreenchange", this.onFullScreen);
      this.resizing?.disconnect();
      document.addEventListener("fullscreenchange", this.onFullScreen = () => {
        const full = document.fullscreenElement === this;
        this.button("screen")?.setAttribute("aria-pressed", String(full));
        this.draw();
      });
      this.resizing = new ResizeObserver(() => this.draw());
      this.resizing.observe(this.panes);
      this.draw();
    }

    disconnectedCallback() {
      this.resizing?.disconnect();
      document.removeEventListener("fullscreenchange", this.onFullScreen);
    }

    button(name) {
      return this.querySelector(`[data-do="${name}"]`);
    }

    // ---- What is seen ----

    // The part of the picture that a mode shows, as [left, top, right, bottom].
    window(mode) {
      if (mode !== "object" || this.box.length !== 4) return [0, 0, ...this.size];
      const [left, top, right, bottom] = this.box;
      const space = MARGIN * Math.max(right - left, bottom - top);
      return [left - space, top - space, right + space, bottom + space];
    }

    fitting(mode) {
      const { clientWidth: width, clientHeight: height } = this.pane;
      const [left, top, right, bottom] = this.window(mode);
      const scale = Math.min(width / (right - left), height / (bottom - top));
      return { scale, x: (left + right) / 2, y: (top + bottom) / 2 };
    }

    // Scale and centre that are shown, within the picture.
    view() {
      const { clientWidth: width, clientHeight: height } = this.pane;
      const wanted = this.mode === "free" ? this.free : this.fitting(this.mode);
      const least = this.fitting("whole").scale;
      const scale = clamp(wanted.scale, least, Math.max(CLOSEST, least));
      const kept = (centre, length, room) => {
        const half = room / scale / 2;
        return half * 2 >= length ? length / 2 : clamp(centre, half, length - half);
      };
      return { scale, x: kept(wanted.x, this.size[0], width), y: kept(wanted.y, this.size[1], height) };
    }

    draw() {
      const { clientWidth: width, clientHeight: height } = this.pane;
      if (!width || !height) return;
      const view = this.view();
      const canvas = this.pane.querySelector(".viewer-canvas");
      const left = width / 2 - view.x * view.scale;
      const top = height / 2 - view.y * view.scale;
      canvas.style.width = `${this.size[0]}px`;
      canvas.style.height = `${this.size[1]}px`;
      canvas.style.transform = `translate(${left}px, ${top}px) scale(${view.scale})`;
      const cut = clamp((this.at * width - left) / view.scale, 0, this.size[0]);
      this.label(this.pane, left, top, view.scale, this.size);
      const after = this.pane.querySelector(".viewer-after");
      after.style.clipPath = `inset(0 0 0 ${cut}px)`;
      this.divider.style.left = `${100 * this.at}%`;
      this.divider.setAttribute("aria-valuenow", String(Math.round(100 * this.at)));
      const zoomed = view.scale > this.fitting("whole").scale * 1.001;
      this.toggleAttribute("data-zoomed", zoomed);
      this.button("fit")?.setAttribute("aria-pressed", String(!zoomed));
      this.button("object")?.setAttribute("aria-pressed", String(this.mode === "object"));
      this.sharpen(view.scale);
      this.drawReference(view);
    }

    // A label stands within what is seen of its picture. Where all of them together are wider than that, each is in its
    // corner of the pane, beside the picture.
    label(pane, left, top, scale, [width, height]) {
      const [right, bottom] = [left + width * scale, top + height * scale];
      const labels = [...pane.querySelectorAll(".viewer-label")];
      const needed = labels.reduce((sum, one) => sum + one.offsetWidth + 2 * LABEL_MARGIN, 0);
      const inside = Math.min(right, pane.clientWidth) - Math.max(left, 0) >= needed;
      pane.style.setProperty("--seen-left", `${inside ? Math.max(left, 0) : 0}px`);
      pane.style.setProperty("--seen-right", `${inside ? Math.max(pane.clientWidth - right, 0) : 0}px`);
      pane.style.setProperty("--seen-bottom", `${Math.max(pane.clientHeight - bottom, 0)}px`);
    }

    // Where a spot of the picture is in the reference, and how many pixels of the picture its object has there for one of
    // its own. The placement tells both; without it, the spot is at the same share of width and height.
    spotInReference({ x, y }) {
      const [w, h] = this.referenceSize;
      const [width, height] = this.size;
      if (this.placement.length !== 9) {
        return { x: (x / width) * w, y: (y / height) * h, ratio: Math.max(width, height) / Math.max(w, h) };
      }
      const m = this.placement;
      // It counts from the middle of the first pixel.
      const at = (x, y) => {
        const depth = m[6] * x + m[7] * y + m[8];
        return [(m[0] * x + m[1] * y + m[2]) / depth + 0.5, (m[3] * x + m[4] * y + m[5]) / depth + 0.5];
      };
      const [here, right, below] = [at(x - 0.5, y - 0.5), at(x + 0.5, y - 0.5), at(x - 0.5, y + 0.5)];
      const area = (right[0] - here[0]) * (below[1] - here[1]) - (right[1] - here[1]) * (below[0] - here[0]);
      return { x: here[0], y: here[1], ratio: 1 / Math.sqrt(Math.max(Math.abs(area), 1e-9)) };
    }

    // The spot in the middle of the picture is in the middle of the reference too, and its object as large.
    drawReference(view) {
      if (!this.reference || this.reference.hidden) return;
      const { clientWidth: width, clientHeight: height } = this.reference;
      const [w, h] = this.referenceSize;
      const whole = Math.min(width / w, height / h);
      const spot = this.spotInReference(view);
      const scale = this.hasAttribute("data-zoomed") ? Math.max(view.scale * spot.ratio, whole) : whole;
      const kept = (centre, length, room) => {
        const half = room / scale / 2;
        return half * 2 >= length ? length / 2 : clamp(centre, half, length - half);
      };
      const [x, y] = [kept(spot.x, w, width), kept(spot.y, h, height)];
      const canvas = this.reference.querySelector(".viewer-canvas");
      const [left, top] = [width / 2 - x * scale, height / 2 - y * scale];
      canvas.style.width = `${w}px`;
      canvas.style.height = `${h}px`;
      canvas.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
      this.label(this.reference, left, top, scale, this.referenceSize);
    }

    // A light picture comes first; the one with every pixel is loaded once the light one is no longer enough.
    sharpen(scale) {
      for (const picture of this.pane.querySelectorAll("img[data-full]")) {
        if (!picture.naturalWidth) {
          if (!picture.complete) picture.addEventListener("load", () => this.draw(), { once: true });
          continue;
        }
        if (scale * devicePixelRatio * this.size[0] <= 1.05 * picture.naturalWidth) continue;
        const full = new Image();
        full.src = picture.dataset.full;
        picture.removeAttribute("data-full");
        full.decode().then(() => (picture.src = full.src), () => {});
      }
    }

    // ---- What the visitor does ----

    press(button) {
      const action = button?.dataset.do;
      if (action === "fit") this.mode = "whole";
      if (action === "object") this.mode = this.mode === "object" ? "whole" : "object";
      if (action === "pixels") this.zoom(1 / devicePixelRatio / this.view().scale);
      if (action === "closer") this.zoom(ZOOM_STEP);
      if (action === "wider") this.zoom(1 / ZOOM_STEP);
      if (action === "reference") {
        this.reference.hidden = !this.reference.hidden;
        button.setAttribute("aria-pressed", String(!this.reference.hidden));
        this.toggleAttribute("data-beside", !this.reference.hidden);
      }
      if (action === "screen") {
        if (document.fullscreenElement) document.exitFullscreen();
        else this.requestFullscreen?.().catch(() => {});
      }
      if (action) this.draw();
    }

    key(event) {
      const step = STEPS[event.key];
      const button = { "+": "closer", "=": "closer", "-": "wider", 0: "fit", 1: "pixels" }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (step !== undefined && event.target === this.divider) this.move(this.at + step);
      else if (button) this.press(this.button(button));
      else return;
      event.preventDefault();
    }

    move(at) {
      this.at = clamp(at, 0, 1);
      this.draw();
    }

    // Zooms so that what is under (x, y), in pixels of a pane from its top left corner, stays there.
    zoom(factor, x = this.pane.clientWidth / 2, y = this.pane.clientHeight / 2) {
      const view = this.view();
      const least = this.fitting("whole").scale;
      const scale = clamp(view.scale * factor, least, Math.max(CLOSEST, least));
      const [dx, dy] = [x - this.pane.clientWidth / 2, y - this.pane.clientHeight / 2];
      this.free = { scale, x: view.x + dx / view.scale - dx / scale, y: view.y + dy / view.scale - dy / scale };
      this.mode = scale > least * 1.001 ? "free" : "whole";
      this.draw();
    }

    pan(dx, dy) {
      const view = this.view();
      this.free = { scale: view.scale, x: view.x - dx / view.scale, y: view.y - dy / view.scale };
      this.mode = "free";
      this.draw();
    }

    listen(pane) {
      const isComparison = pane === this.pane;
      const place = (event) => {
        const box = pane.getBoundingClientRect();
        return { x: event.clientX - box.left, y: event.clientY - box.top };
      };
      pane.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        const onDivider = event.target.closest(".viewer-divider") !== null;
        this.pointers.set(event.pointerId, place(event));
        if (onDivider) this.dragged = "divider";
        else if (!isComparison || this.hasAttribute("data-zoomed")) this.dragged = "picture";
        else this.dragged = "anywhere";
        this.travelled = 0;
        pane.setPointerCapture(event.pointerId);
      });
      pane.addEventListener("pointermove", (event) => {
        const before = this.pointers.get(event.pointerId);
        if (!before) return;
        const now = place(event);
        this.travelled += Math.hypot(now.x - before.x, now.y - before.y);
        this.pointers.set(event.pointerId, now);
        if (this.pointers.size === 2) {
          const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
          const apart = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
          this.zoom(apart(now) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
        } else if (this.dragged === "picture" && this.travelled > CLICK) {
          this.pan(now.x - before.x, now.y - before.y);
        } else if (this.dragged === "divider" || (this.dragged === "anywhere" && this.travelled > CLICK)) {
          this.move(now.x / pane.clientWidth);
        }
      });
      const end = (event) => {
        if (!this.pointers.delete(event.pointerId) || event.type === "pointercancel") return;
        if (isComparison && this.travelled <= CLICK) {
          if (this.dragged !== "divider") this.move(place(event).x / pane.clientWidth);
          this.active = true;
        }
      };
      pane.addEventListener("pointerup", end);
      pane.addEventListener("pointercancel", end);
      pane.addEventListener(
        "wheel",
        (event) => {
          const wanted = event.ctrlKey || event.metaKey || this.active || document.fullscreenElement === this;
          // With nothing left to zoom out of, the page scrolls on.
          const ends = event.deltaY > 0 && !this.hasAttribute("data-zoomed") && !event.ctrlKey;
          if (!wanted) this.hint();
          if (!wanted || ends) return;
          event.preventDefault();
          const { x, y } = place(event);
          this.zoom(Math.exp(-clamp(event.deltaY, -100, 100) / 250), x, y);
        },
        { passive: false }
      );
    }

    hint() {
      this.said.classList.add("shown");
      clearTimeout(this.hiding);
      this.hiding = setTimeout(() => this.said.classList.remove("shown"), 1200);
    }
  }

  customElements.define("refgc-viewer", Viewer);
})();
