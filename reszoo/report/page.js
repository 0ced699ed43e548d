"use strict";
// Sorting: numbers by value, words alphabetically, missing values last.
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("th").forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
      };
      const numeric = head.classList.contains("number");
      const missing = (value) => typeof value === "string" && (numeric || value === "–" || value === "");
      const order = (one, other) => {
        const a = key(one), b = key(other);
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        const number = typeof a === "number" && typeof b === "number";
        return (down ? -1 : 1) * (number ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(order));
    });
  });
}
// Hover text at once, for mouse and touch: the browser's own tooltip is delayed, and missing on phones.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
for (const mark of document.querySelectorAll(".hover")) {
  const title = mark.querySelector("title");
  const text = title.textContent;
  title.remove();
  mark.setAttribute("aria-label", text);
  const show = (event) => {
    tip.textContent = text;
    tip.hidden = false;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 16;
    const fits = below + tip.offsetHeight < innerHeight;
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = (fits ? below : event.clientY - tip.offsetHeight - 12) + "px";
  };
  mark.addEventListener("pointermove", show);
  mark.addEventListener("pointerdown", show);
  mark.addEventListener("pointerleave", () => { tip.hidden = true; });
}
for (const block of document.querySelectorAll("pre")) {
  const button = document.createElement("button");
  const code = block.querySelector("code");
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(code);
    await navigator.clipboard?.writeText(code.textContent);
    button.textContent = "copied";
  });
  block.append(button);
}
