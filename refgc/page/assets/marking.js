// Marking an object in a picture: a click or tap, a box drawn with the mouse or between two taps, or the arrow keys and
// Enter. The marks are kept here, as fractions of the picture's width and height, and drawn at once. Each change is told
// to the server, which answers with the picture that shows their mask.
(() => {
  const DRAG_PIXELS = 6;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const STEP = 0.02;
  const FINE_STEP = 0.004;

  const pads = {};
  // Names of the pads that are unfolded on a narrow screen; a picture may be set anew with each answer of the server.
  const unfolded = new Set();

  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
  const within = (share) => Math.min(1, Math.max(0, share));

  function place(part, [x0, y0], [x1, y1] = [x0, y0]) {
    part.hidden = false;
    part.style.left = `${100 * Math.min(x0, x1)}%`;
    part.style.top = `${100 * Math.min(y0, y1)}%`;
    part.style.width = `${100 * Math.abs(x1 - x0)}%`;
    part.style.height = `${100 * Math.abs(y1 - y0)}%`;
  }

  // A new box takes the place of an earlier one and of the clicks on the object outside of it.
  function added(marks, mark) {
    if (mark.kind !== "box") return [...marks, mark];
    const [x0, y0, x1, y1] = mark.points;
    const inside = ([x, y]) =>
      Math.min(x0, x1) < x && x < Math.max(x0, x1) && Math.min(y0, y1) < y && y < Math.max(y0, y1);
    const stays = ({ kind, points }) => kind === "background" || (kind === "object" && inside(points));
    return [...marks.filter(stays), mark];
  }

  function connect(name, element, props, trigger, watch) {
    const part = (name) => element.querySelector(`.pad-${name}`);
    const [frame, picture, layer, cross, band, opener] = ["frame", "picture", "marks", "cross", "band", "open"].map(part);
    let start = null; // where the button went down
    let corner = null; // the first corner of a box that is made of two taps
    let centre = [0.5, 0.5]; // of the cross that the arrow keys move
    let dragged = false;

    const marks = () => props.value?.marks ?? [];

    function draw() {
      const shown = props.drawing;
      frame.hidden = !shown;
      band.hidden = true;
      start = corner = null;
      if (!shown) return fold(true);
      if (picture.getAttribute("src") !== shown.picture.url) picture.src = shown.picture.url;
      picture.alt = shown.description;
      frame.setAttribute("aria-label", window.refgcTouchWords(shown.label));
      frame.style.setProperty("--ratio", shown.ratio);
      drawMarks();
    }

    function drawMarks() {
      layer.replaceChildren(...marks().map((mark) => {
        const { kind, points } = mark;
        const drawn = document.createElement("i");
        const waits = !props.drawing.marks.some((known) => same(known, mark));
        drawn.className = `pad-mark pad-${kind}${waits ? " pad-pending" : ""}`;
        place(drawn, points.slice(0, 2), points.slice(-2));
        return drawn;
      }));
    }

    function set(changed) {
      props.value = { ...props.value, marks: changed };
      drawMarks();
    }

    function change(changed) {
      if (!props.value) return;
      set(changed);
      trigger("input");
    }

    // The refused marks go; those that were made after them stay, and are told to the server next.
    function takeBack() {
      const { refused, kept } = props.refusal ?? {};
      if (props.value && refused && same(marks().slice(0, refused.length), refused)) {
        set([...kept, ...marks().slice(refused.length)]);
      }
      draw();
    }

    function position(event) {
      const box = frame.getBoundingClientRect();
      return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
    }

    function add(kind, points) {
      corner = null;
      band.hidden = true;
      change(added(marks(), { kind, points }));
    }

    // On a narrow screen the pictures are small until the tools are unfolded; a wide one has no such button.
    const isFolded = () => opener.offsetParent !== null && !unfolded.has(name);

    function fold(folded) {
      if (folded) unfolded.delete(name);
      else unfolded.add(name);
      opener.setAttribute("aria-expanded", String(!folded));
      if (!folded) element.scrollIntoView({ block: "nearest" });
    }

    const mode = () => element.closest(".marking").querySelector("input[type=radio]:checked")?.value ?? "object";

    function mark(point) {
      if (mode() !== "box") {
        add(mode(), point);
      } else if (corner === null) {
        corner = point;
        place(band, point);
      } else {
        add("box", [...corner, ...point]);
      }
    }

    frame.addEventListener("pointerdown", (event) => {
      dragged = false;
      if (isFolded()) return;
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
      if (start !== null && dragged) add("box", [...start, ...position(event)]);
      start = null;
    });
    frame.addEventListener("pointercancel", () => {
      start = null;
      band.hidden = true;
    });
    frame.addEventListener("click", (event) => {
      if (isFolded()) fold(false);
      else if (!dragged) mark(position(event));
      dragged = false;
    });
    opener.addEventListener("click", () => fold(unfolded.has(name)));

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

    opener.setAttribute("aria-expanded", String(unfolded.has(name)));
    draw();
    watch(["value", "drawing"], draw);
    watch("refusal", takeBack);
    pads[name] = {
      undo: () => change(marks().slice(0, -1)),
      clear: () => change([]),
      // Has the object detected anew, where there is neither a mark nor a mask file.
      detect: () => {
        if (props.value && !props.value.mask_file && marks().length === 0) trigger("input");
      },
    };
  }

  window.refgcMarking = {
    connect,
    undo: (name) => pads[name]?.undo(),
    clear: (name) => pads[name]?.clear(),
    detect: (name) => pads[name]?.detect(),
  };
})();
