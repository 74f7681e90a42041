// Runs inside a copy of a page, at one width and in one theme, and tells the frame around it what is wrong.
(() => {
  const wrong = [];
  const theme = "THEME";
  const phone = innerWidth < 600;
  if (theme) document.documentElement.dataset.theme = theme;
  document.querySelectorAll("details").forEach((part) => { part.open = true; });

  // Nothing overflows but what scrolls by itself.
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth + 1) wrong.push(`the page is ${root.scrollWidth} px wide, the window ${root.clientWidth}`);
  for (const element of document.querySelectorAll("main *")) {
    if (element.closest(".scroll, nav, pre, .visually-hidden") || !element.getClientRects().length) continue;
    const box = element.getBoundingClientRect();
    if (box.right > root.clientWidth + 1 || box.left < -1) {
      wrong.push(`<${element.tagName} class="${element.className}"> reaches from ${Math.round(box.left)} to ${Math.round(box.right)}`);
    }
  }

  // Text can be read: WCAG 2 AA.
  const numbers = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const linear = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const background = (element) => {
    for (let node = element; node && node.nodeType === 1; node = node.parentElement) {
      const [r, g, b, a] = numbers(getComputedStyle(node).backgroundColor);
      if (r !== undefined && (a === undefined || a > 0.99)) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest("script, style, title") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const svg = element.closest("svg");
    // Cells of heat maps bring their own pair of colours.
    if (svg && ["#FAFAFA", "#14181C"].includes(element.getAttribute("fill"))) continue;
    let ink = numbers(svg ? style.fill : style.color).slice(0, 3);
    const paper = background(svg ? svg.parentElement : element);
    let opacity = 1;
    for (let up = element; up; up = up.parentElement) opacity *= Number(getComputedStyle(up).opacity);
    ink = ink.map((v, i) => v * opacity + paper[i] * (1 - opacity));
    const [a, b] = [luminance(ink), luminance(paper)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    seen += 1;
    if (ratio < (large ? 3 : 4.5)) poor.set(`${element.tagName}.${element.className}`, `${ratio.toFixed(2)}: ${node.textContent.trim().slice(0, 40)}`);
  }
  if (seen < 10) wrong.push(`only ${seen} texts were seen`);
  poor.forEach((what, where) => wrong.push(`contrast of ${where} is ${what}`));

  // Every link leads to something of this page; a number's leads to its trials, in sight.
  const links = [...document.querySelectorAll("a[href]")];
  for (const link of links) {
    const href = link.getAttribute("href");
    if (!href.startsWith("#")) wrong.push(`a link leaves the page: ${href}`);
    else if (!document.getElementById(decodeURIComponent(href.slice(1)))) wrong.push(`nothing has the id ${href}`);
  }
  const requests = performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:"));
  if (requests.length) wrong.push(`requests: ${requests.map((r) => r.name).join(", ")}`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) wrong.push("an id stands twice");
  for (const image of document.images) {
    if (!image.complete || !image.naturalWidth) wrong.push(`a picture is broken: ${image.alt}`);
    if (!image.hasAttribute("alt")) wrong.push("a picture has no words");
  }

  const number = document.querySelector(".number a");
  if (number) number.click();
  setTimeout(() => {
    if (number) {
      const box = document.querySelector(":target").getBoundingClientRect();
      if (box.bottom < 0 || box.top > innerHeight) wrong.push(`the trials of a number are out of sight: ${box.top}`);
      if (!document.querySelector(":target").closest("#all-trials")) wrong.push("a number does not lead to the trials");
    }
    // Sorting.
    const table = document.querySelector("table.sortable");
    if (table) {
      const column = [...table.tHead.rows[0].cells].findIndex((c) => c.classList.contains("number"));
      const head = table.tHead.rows[0].cells[column];
      const values = () => [...table.tBodies[0].rows].map((r) => parseFloat(r.cells[column].textContent)).filter((v) => !Number.isNaN(v));
      head.querySelector("button").click();
      const down = values();
      if (down.some((v, i) => i && v > down[i - 1])) wrong.push(`not sorted downwards: ${down}`);
      head.querySelector("button").click();
      const up = values();
      if (up.some((v, i) => i && v < up[i - 1])) wrong.push(`not sorted upwards: ${up}`);
    }
    // Filtering.
    const box = document.querySelector("input[data-filter]");
    if (box) {
      const rows = [...document.getElementById(box.dataset.filter).querySelectorAll("tbody tr")];
      box.value = "no-trial-has-this";
      box.dispatchEvent(new Event("input"));
      if (rows.some((r) => !r.hidden)) wrong.push("the filter shows rows that do not fit");
      box.value = "";
      box.dispatchEvent(new Event("input"));
      if (rows.some((r) => r.hidden)) wrong.push("an empty filter hides rows");
    }
    const theme = document.querySelector("button.theme");
    if (!theme) wrong.push("no switch for light and dark");
    else {
      const before = getComputedStyle(document.body).backgroundColor;
      theme.click();
      if (getComputedStyle(document.body).backgroundColor === before) wrong.push("the switch changes nothing");
    }
    parent.postMessage({ wrong: wrong.slice(0, 30), texts: seen, links: links.length, width: innerWidth, phone }, "*");
  }, 300);
})();
