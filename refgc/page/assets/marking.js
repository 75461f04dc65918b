// Marking an object in a picture: a click or tap, a box drawn with the mouse or between two taps, or the arrow keys and
// Enter. What was marked goes to the server as shares of the picture's width and height; the answer is drawn here.
(() => {
  const DRAG_PIXELS = 6;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const STEP = 0.02;
  const FINE_STEP = 0.004;

  const within = (share) => Math.min(1, Math.max(0, share));

  function place(part, [x0, y0], [x1, y1] = [x0, y0]) {
    part.hidden = false;
    part.style.left = `${100 * Math.min(x0, x1)}%`;
    part.style.top = `${100 * Math.min(y0, y1)}%`;
    part.style.width = `${100 * Math.abs(x1 - x0)}%`;
    part.style.height = `${100 * Math.abs(y1 - y0)}%`;
  }

  function connect(element, props, trigger, watch) {
    const part = (name) => element.querySelector(`.pad-${name}`);
    const [frame, picture, marks, cross, band, pending] =
      ["frame", "picture", "marks", "cross", "band", "pending"].map(part);
    let start = null; // where the button went down
    let corner = null; // the first corner of a box that is made of two taps
    let centre = [0.5, 0.5]; // of the cross that the arrow keys move
    let dragged = false;

    function draw() {
      const shown = props.value;
      frame.hidden = !shown;
      for (const passing of [band, pending]) passing.hidden = true;
      start = corner = null;
      if (!shown) return;
      if (picture.getAttribute("src") !== shown.picture.url) picture.src = shown.picture.url;
      picture.alt = shown.description;
      frame.setAttribute("aria-label", shown.label);
      frame.style.setProperty("--ratio", shown.ratio);
      marks.replaceChildren(...shown.marks.map(({ kind, points }) => {
        const mark = document.createElement("i");
        mark.className = `pad-mark pad-${kind}`;
        place(mark, points.slice(0, 2), points.slice(-2));
        return mark;
      }));
    }

    function position(event) {
      const box = frame.getBoundingClientRect();
      return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
    }

    function send(kind, points) {
      corner = null;
      trigger("select", { index: points, value: kind });
    }

    const mode = () => element.closest(".marking").querySelector("input[type=radio]:checked")?.value ?? "object";

    function mark(point) {
      if (mode() !== "box") {
        place(pending, point);
        send(mode(), point);
      } else if (corner === null) {
        corner = point;
        place(band, point);
      } else {
        place(band, corner, point);
        send("box", [...corner, ...point]);
      }
    }

    frame.addEventListener("pointerdown", (event) => {
      dragged = false;
      if (event.button !== 0 || (event.pointerType === "touch" && mode() !== "box")) return;
      start = position(event);
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", (event) => {
      const point = position(event);
      if (start !== null) {
        const { width, height } = frame.getBoundingClientRect();
        dragged ||= Math.hypot((point[0] - start[0]) * width, (point[1] - start[1]) * height) > DRAG_PIXELS;
        if (dragged) place(band, start, point);
      } else if (corner !== null) {
        place(band, corner, point);
      }
    });
    frame.addEventListener("pointerup", (event) => {
      if (start !== null && dragged) send("box", [...start, ...position(event)]);
      start = null;
    });
    frame.addEventListener("pointercancel", () => {
      start = null;
      band.hidden = true;
    });
    frame.addEventListener("click", (event) => {
      if (!dragged) mark(position(event));
      dragged = false;
    });

    frame.addEventListener("keydown", (event) => {
      if (ARROWS[event.key]) {
        const step = event.shiftKey ? FINE_STEP : STEP;
        centre = centre.map((share, axis) => within(share + step * ARROWS[event.key][axis]));
        place(cross, centre);
        if (corner !== null) place(band, corner, centre);
      } else if (event.key === "Enter" || event.key === " ") {
        place(cross, centre);
        mark(centre);
      } else if (event.key === "Escape" && corner !== null) {
        corner = null;
        band.hidden = true;
      } else {
        return;
      }
      event.preventDefault();
    });
    frame.addEventListener("focus", () => {
      if (frame.matches(":focus-visible")) place(cross, centre);
    });
    frame.addEventListener("blur", () => {
      cross.hidden = true;
    });

    draw();
    watch(["value", "answer"], draw);
  }

  window.refgcConnectMarking = connect;
})();
