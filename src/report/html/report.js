"use strict";
// Tables that can be sorted and filtered.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, k) => {
    const cell = row.cells[k];
    return cell.dataset.v !== undefined ? Number(cell.dataset.v) : cell.classList.contains("n") ? NaN : cell.textContent;
  };
  [...table.tHead.rows[0].cells].forEach((head, k) => {
    if (!head.textContent) return;
    head.dataset.sort = "";
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      // What has no number stands last, whichever way.
      const order = (a, b) => {
        if (typeof a === "string") return sign * a.localeCompare(b, undefined, { numeric: true });
        return Number.isNaN(a) ? (Number.isNaN(b) ? 0 : 1) : Number.isNaN(b) ? -1 : sign * (a - b);
      };
      body.append(...[...body.rows].sort((a, b) => order(value(a, k), value(b, k))));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); sort(); } });
  });
  const input = document.getElementById("filter");
  input.hidden = false;
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((w) => text.includes(w));
      if (!row.hidden) shown += 1;
    }
    document.getElementById("shown").textContent = words.length ? `${shown} of ${body.rows.length}` : "";
  };
  input.addEventListener("input", filter);
  // A page that loads itself again is as it was left.
  if (document.querySelector("meta[http-equiv=refresh]")) {
    try {
      input.value = sessionStorage.getItem("filter") || "";
      window.scrollTo(0, Number(sessionStorage.getItem("scroll")) || 0);
      window.addEventListener("pagehide", () => {
        sessionStorage.setItem("filter", input.value);
        sessionStorage.setItem("scroll", window.scrollY);
      });
    } catch { /* a browser that keeps nothing */ }
    if (input.value) filter();
  }
}
// Cubes: the spectrum under the pointer.
for (const article of document.querySelectorAll(".cube")) {
  const cube = JSON.parse(article.querySelector("script").textContent);
  const [nx, ny, nw] = cube.size;
  const bytes = Uint8Array.from(atob(cube.spectra), (c) => c.charCodeAt(0));
  const canvas = article.querySelector("canvas");
  const caption = article.querySelector(".spectrum figcaption");
  const white = article.querySelector(".white");
  const image = white.querySelector("img");
  const mark = white.querySelector("i");
  const draw = (x, y) => {
    const [low, high] = cube.ranges[y * nx + x];
    const at = (y * nx + x) * nw;
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const left = 58, bottom = height - 24, top = 8, right = width - 8;
    const px = (k) => left + (k / Math.max(nw - 1, 1)) * (right - left);
    const py = (v) => bottom - ((v - low) / (high - low || 1)) * (bottom - top);
    pen.strokeStyle = style.getPropertyValue("--line");
    pen.fillStyle = style.getPropertyValue("--soft");
    pen.font = "11px system-ui, sans-serif";
    for (let k = 0; k <= 4; k += 1) {
      const v = low + (k / 4) * (high - low);
      pen.beginPath();
      pen.moveTo(left, py(v));
      pen.lineTo(right, py(v));
      pen.stroke();
      pen.textAlign = "right";
      pen.fillText(Number(v.toPrecision(3)).toString(), left - 6, py(v) + 4);
      const w = cube.wavelength[0] + (k / 4) * (cube.wavelength[1] - cube.wavelength[0]);
      pen.textAlign = k === 0 ? "left" : k === 4 ? "right" : "center";
      pen.fillText(w.toFixed(3) + (k === 4 ? " µm" : ""), px((k / 4) * (nw - 1)), height - 6);
    }
    pen.strokeStyle = style.getPropertyValue("--accent");
    pen.lineWidth = 1.3;
    pen.beginPath();
    let down = false;
    for (let k = 0; k < nw; k += 1) {
      const b = bytes[at + k];
      if (!b) { down = false; continue; }
      const v = low + ((b - 1) / 254) * (high - low);
      if (down) pen.lineTo(px(k), py(v)); else pen.moveTo(px(k), py(v));
      down = true;
    }
    pen.stroke();
    caption.textContent = `spectrum at ${x + 1}, ${y + 1} (${cube.unit})`;
    canvas.dataset.spaxel = `${x},${y}`;
    const box = image.getBoundingClientRect();
    mark.style.cssText = `display:block;left:${(x / nx) * box.width}px;top:${((ny - 1 - y) / ny) * box.height}px;width:${box.width / nx}px;height:${box.height / ny}px`;
  };
  const move = (e) => {
    const box = image.getBoundingClientRect();
    const x = Math.floor(((e.clientX - box.left) / box.width) * nx);
    const y = ny - 1 - Math.floor(((e.clientY - box.top) / box.height) * ny);
    if (x >= 0 && y >= 0 && x < nx && y < ny) draw(x, y);
  };
  if (nx && ny && nw) {
    white.addEventListener("pointermove", move);
    white.addEventListener("pointerdown", move);
    draw(Math.floor(nx / 2), Math.floor(ny / 2));
  }
}
