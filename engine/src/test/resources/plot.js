// SPDX-License-Identifier: Apache-2.0
// Runs in the page of an evaluation, and leaves in <pre id="plots"> where in each picture the dots
// lie, by the marks of its axes.
const centre = (element) => {
  const r = element.getBoundingClientRect();
  return {across: (r.left + r.right) / 2, up: (r.top + r.bottom) / 2};
};
const plots = [...document.querySelectorAll('svg')].map(svg => {
  const scale = axis => {
    const marks = [...svg.querySelectorAll('.' + axis)].map(mark => ({
      at: centre(mark.querySelector('.grid'))[axis],
      value: parseFloat(mark.querySelector('text').textContent),
    }));
    const [first, last] = [marks[0], marks[marks.length - 1]];
    return at => first.value
        + (at - first.at) / (last.at - first.at) * (last.value - first.value);
  };
  const across = scale('across');
  const up = scale('up');
  const names = [...svg.querySelectorAll('.name')];
  const intervals = [...svg.querySelectorAll('.interval')];
  return [...svg.querySelectorAll('.dot')].map((dot, i) => {
    const at = centre(dot);
    return {
      title: dot.querySelector('title').textContent,
      agreement: across(at.across),
      speed: up(at.up),
      low: up(intervals[i].getBoundingClientRect().bottom),
      high: up(intervals[i].getBoundingClientRect().top),
      name: names[i].lastChild.data,
      same: names[i].querySelector('title').textContent
          === dot.querySelector('title').textContent,
    };
  });
});
// What is marked in each answer, by prompt.
const marked = [...document.querySelectorAll('.answers')].map(answers =>
    [...answers.children].map(one => (one.querySelector('mark') || {textContent: ''}).textContent));
const rows = [...document.querySelectorAll('tbody tr')].map(
    row => [...row.cells].map(cell => cell.textContent.trim()));
// Of the style, what this browser takes for no declaration.
const misread = [...document.querySelector('style').textContent.matchAll(/\{([^{}]*)\}/g)]
    .flatMap(block => block[1].split(';')).map(text => text.trim()).filter(text => {
      const colon = text.indexOf(':');
      return text && !CSS.supports(text.slice(0, colon).trim(), text.slice(colon + 1).trim());
    });
const found = document.createElement('pre');
found.id = 'plots';
found.textContent = JSON.stringify({
  plots,
  rows,
  marked,
  scripts: document.scripts.length,
  fetched: performance.getEntriesByType('resource').map(entry => entry.name),
  misread,
});
document.body.append(found);
