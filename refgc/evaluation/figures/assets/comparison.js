// Sliders that compare two pictures of each scene. Nothing is loaded: every picture is in the page.
"use strict";
(() => {
  const [left, right] = [document.getElementById("left"), document.getElementById("right")];
  const zoom = document.getElementById("zoom");
  // Zoomed, the object takes this share of the frame.
  const FILLED = 0.9;
  // The height of a picture is at most so much of the window's, in percent.
  const SEEN = 75;

  class Scene {
    constructor(section) {
      const find = (selector) => section.querySelector(selector);
      this.section = section;
      this.frame = find(".frame");
      this.over = find(".layer.over");
      this.pictures = { left: find(".layer.under img"), right: find(".layer.over img") };
      this.tags = { left: find(".tag.left"), right: find(".tag.right") };
      this.line = find(".line");
      this.divider = find(".divider");
      this.reference = find(".reference img");
      this.data = JSON.parse(find("script").textContent);
      this.near = false;
      const [width, height] = this.data.size;
      this.frame.style.aspectRatio = `${width} / ${height}`;
      // Picture, names and slider are seen at once.
      find(".comparison").style.maxWidth = `max(280px, ${(SEEN * width) / height}vh)`;
      this.divider.addEventListener("input", () => this.place());
      this.frame.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        this.frame.setPointerCapture(event.pointerId);
        this.follow(event);
      });
      this.frame.addEventListener("pointermove", (event) => {
        if (this.frame.hasPointerCapture(event.pointerId)) this.follow(event);
      });
      this.place();
    }

    follow(event) {
      const box = this.frame.getBoundingClientRect();
      this.divider.value = String((100 * (event.clientX - box.left)) / box.width);
      this.place();
    }

    place() {
      const at = Number(this.divider.value);
      this.over.style.clipPath = `inset(0 0 0 ${at}%)`;
      this.line.style.left = `${at}%`;
      this.divider.setAttribute("aria-valuetext", `${Math.round(at)} % ${left.value}, the rest ${right.value}`);
    }

    // Pictures far from what is seen are let go of, so that a long page takes no more memory than a short one.
    show() {
      for (const [side, chosen] of [["left", left.value], ["right", right.value]]) {
        const picture = this.pictures[side];
        picture.alt = `${chosen}: ${this.data.name}`;
        this.tags[side].textContent = chosen;
        this.tags[side].title = chosen;
        this.fill(picture, this.data.pictures[chosen]);
        picture.style.transform = this.zoomed();
      }
      if (this.reference) this.fill(this.reference, this.data.reference);
      this.place();
    }

    fill(picture, source) {
      if (!this.near) picture.removeAttribute("src");
      else if (picture.getAttribute("src") !== source) picture.src = source;
    }

    zoomed() {
      if (!zoom.checked || !this.data.box) return "none";
      const [x, y, width, height] = this.data.box;
      const scale = Math.max(1, FILLED / Math.max(width, height));
      const kept = (middle) => Math.min(Math.max(0.5 / scale, middle), 1 - 0.5 / scale);
      const shift = (middle) => 100 * (0.5 - scale * kept(middle));
      return `translate(${shift(x + width / 2)}%, ${shift(y + height / 2)}%) scale(${scale})`;
    }
  }

  const scenes = new Map([...document.querySelectorAll(".scene")].map((section) => [section, new Scene(section)]));
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const scene = scenes.get(entry.target);
        scene.near = entry.isIntersecting;
        scene.show();
      }
    },
    { rootMargin: "100% 0px" }
  );
  for (const section of scenes.keys()) watch.observe(section);

  const all = () => scenes.forEach((scene) => scene.show());
  for (const control of [left, right, zoom]) control.addEventListener("change", all);
  document.getElementById("swap").addEventListener("click", () => {
    [left.value, right.value] = [right.value, left.value];
    all();
  });
  all();
})();
