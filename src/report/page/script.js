"use strict";
(() => {
  const value = (cell) => {
    const text = (cell.querySelector("a, b") || cell.firstChild || cell).textContent.trim();
    const number = parseFloat(text.replace("−", "-"));
    return Number.isFinite(number) ? number : text.toLowerCase();
  };
  const compare = (a, b) => (typeof a === "number") === (typeof b === "number")
    ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const bodies = [...table.tBodies];
        const parts = bodies.length > 1 ? bodies : [...bodies[0].rows];
        const cell = (part) => value((part.cells ? part : part.rows[0]).cells[column]);
        const home = bodies.length > 1 ? table : bodies[0];
        parts.map((part) => [cell(part), part])
          .sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])))
          .forEach(([, part]) => home.append(part));
      });
    });
  }
  for (const box of document.querySelectorAll("input[data-filter]")) {
    box.closest(".filter").style.display = "block";
    const table = document.getElementById(box.dataset.filter);
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of table.querySelectorAll("tbody tr")) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }
  const choices = [...document.querySelectorAll("select[data-choice]")];
  const choose = () => {
    for (const board of document.querySelectorAll("section.board")) {
      board.hidden = !choices.every((c) => !c.value || board.dataset[c.dataset.choice] === c.value);
    }
  };
  for (const choice of choices) {
    choice.closest(".filter").style.display = "block";
    choice.addEventListener("change", choose);
  }
  const open = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) {
      if (node.tagName === "DETAILS") node.open = true;
    }
    if (target) target.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", open);
  open();
  const root = document.documentElement;
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "theme";
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  label();
  document.querySelector("header").prepend(button);
})();
