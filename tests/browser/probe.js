// SPDX-License-Identifier: Apache-2.0
// Runs in the page of a report and leaves what it found wrong in <pre id="probe">.
const faults = [];
document.querySelectorAll('details').forEach(d => d.open = true);

// The places of the text that an element itself holds.
function lines(element) {
  const found = [];
  for (const node of element.childNodes) {
    if (node.nodeType !== Node.TEXT_NODE || !node.data.trim()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const r of range.getClientRects()) {
      if (r.width > 0) found.push({r, element, text: node.data.trim()});
    }
  }
  return found;
}

function channels(colour) {
  const c = colour.match(/[\d.]+/g).map(Number);
  return c.length === 4 && c[3] === 0 ? null : c.slice(0, 3);
}

function luminance(colour) {
  const [r, g, b] = colour.map(c => c / 255).map(
      c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function backgroundOf(element) {
  for (let e = element; e; e = e.parentElement) {
    const colour = channels(getComputedStyle(e).backgroundColor);
    if (colour) return colour;
  }
  return [255, 255, 255];
}

function contrast(element) {
  const style = getComputedStyle(element);
  const text = channels(element instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [luminance(text), luminance(backgroundOf(element))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}

const shown = [...document.body.querySelectorAll('*:not(script):not(title)')];
const texts = shown.flatMap(lines);
const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2;
texts.forEach((one, i) => {
  for (const other of texts.slice(i + 1)) {
    if (overlap(one.r, other.r)) faults.push(`"${one.text}" overlaps "${other.text}"`);
  }
  if (contrast(one.element) < 4.5) faults.push(`"${one.text}" is pale`);
  if (one.r.height < 10) faults.push(`"${one.text}" is tiny`);
});

const width = document.documentElement.clientWidth;
const scrolls = document.documentElement.scrollWidth;
if (scrolls > width) faults.push(`${scrolls - width} pixels too wide`);
for (const {r, element, text} of texts) {
  // A wide table scrolls by itself.
  if (!element.closest('table') && (r.left < 0 || r.right > width)) faults.push(`"${text}" is cut`);
  const picture = element.ownerSVGElement?.getBoundingClientRect();
  if (picture && (r.left < picture.left || r.right > picture.right || r.top < picture.top
      || r.bottom > picture.bottom)) {
    faults.push(`"${text}" leaves its picture`);
  }
}

const bars = [...document.querySelectorAll('.bar')];
for (const bar of bars) {
  const r = bar.getBoundingClientRect();
  const track = bar.parentElement.getBoundingClientRect();
  if (r.width < 1 || r.height < 8) faults.push('a bar is invisible');
  if (r.right > track.right + 0.5) faults.push('a bar leaves its track');
  if (texts.some(t => overlap(t.r, track))) faults.push('a text lies on a bar');
}
const dots = [...document.querySelectorAll('.dot')];
for (const dot of dots) {
  const r = dot.getBoundingClientRect();
  const picture = dot.ownerSVGElement.getBoundingClientRect();
  if (r.left < picture.left || r.right > picture.right || r.top < picture.top
      || r.bottom > picture.bottom) {
    faults.push('a dot leaves its picture');
  }
  const [x, y] = [(r.left + r.right) / 2, (r.top + r.bottom) / 2];
  for (const t of texts) {
    if (t.element.ownerSVGElement === dot.ownerSVGElement && x > t.r.left && x < t.r.right
        && y > t.r.top && y < t.r.bottom) {
      faults.push(`"${t.text}" lies on a dot`);
    }
  }
}

const result = document.createElement('pre');
result.id = 'probe';
result.textContent = JSON.stringify({
  bars: bars.length,
  dots: dots.length,
  untold: bars.filter(b => !b.parentElement.title).length
      + dots.filter(d => !d.querySelector('title').textContent).length,
  dark: matchMedia('(prefers-color-scheme: dark)').matches,
  width,
  faults,
});
document.body.append(result);
