// Shows what the menus and the selection ask for; the arguments stand at the end of `draw` in explorer.py.
const get = (name) => source.get_column(name);
const [run, chosen, wanted, [width, height]] = [model.value, colour.value, show.value, size];
const [name, sensor, image, count] = [get("name"), get("sensor"), get("image"), source.get_length()];
// the column of a measure: of the block, of the model, or of the scene
const measured = (what, block) => [`${what} ${run}/${block}`, `${what} ${run}`, what].find(get);
if (cb_obj != source.selected) {  // a menu has changed
  renderers.forEach((renderer, i) => {
    const [x, y] = ["x", "y"].map((axis) => ({field: `${axis} ${run}/${blocks[i]}/${embedding.value}`}));
    const fill_color = {field: measured(chosen, blocks[i]), transform: mappers[chosen]};
    captions[i].text = texts[`${run}/${blocks[i]}/${embedding.value}`];
    for (const glyph of [renderer.glyph, renderer.selection_glyph, renderer.nonselection_glyph])
      glyph.setv({x, y, fill_color});
  });
  legend.text = legends[chosen];
  kept.indices = [...Array(count).keys()].filter((i) => [name[i], sensor[i], "everything"].includes(wanted));
}
const picked = source.selected.indices;
const safe = (text) => String(text).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const brief = (value) => typeof value != "number" ? value : isNaN(value) ? "no value" : Number(value.toPrecision(3));
const fields = [name, sensor, image, ...blocks.map((block) => get(`${error} ${run}/${block}`)), get(`${correct} ${run}`),
  get(measured(chosen, blocks[0]))];
const facts = fields.map((values) => picked.map((i) => brief(values[i])));
table.data = Object.fromEntries(columns.map((column, i) => [column, facts[i]]));
const tally = (values) => {
  const counts = new Map();
  for (const i of picked) counts.set(values[i], (counts.get(values[i]) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).map(([value, times]) => `${safe(value)} <b>${times}</b>`).join(", ");
};
const shown = [...sensors.map((one) => [one, one]), ["truth", "truth"],
  ...sensors.map((one) => [`${one} predicted`, `${one} ${run}`])].filter(([, key]) => sprites[key]);
const patches = picked.slice(0, 24).map((i, place) => {
  const [left, top, right, bottom] = ["left", "top", "right", "bottom"].map((edge) => get(edge)[i]);
  const side = Math.max(32, 1.3 * (right - left), 1.3 * (bottom - top));
  const [w, h] = [Math.min(side, width), Math.min(side, height)];
  const x = Math.max(0, Math.min((left + right - w) / 2, width - w));
  const y = Math.max(0, Math.min((top + bottom - h) / 2, height - h));
  const told = columns.slice(3, -1).map((column, fact) => `${column} ${facts[fact + 3][place]}`).join(", ");
  return `<div class="patch"><p><b>${safe(name[i])}</b> seen by ${safe(`${sensor[i]}, scene ${image[i]}: ${told}`)}</p>`
    + shown.map(([title, key]) => `<div><svg viewBox="${x} ${y} ${w} ${h}" class="${key == sensor[i] ? "own" : ""}"
      style="aspect-ratio: ${w} / ${h}">
      <image href="${sprites[key][get("scene")[i]]}" width="${width}" height="${height}"/>
      <rect x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"/></svg>${safe(title)}</div>`).join("")
    + "</div>";
});
panel.text = !picked.length ? hint : `<p><b>${picked.length} points</b> of ${new Set(facts[2]).size} scenes: ${tally(sensor)}
  </p><p>${tally(name)}</p><p><small>${patches.length} of them, drawn at random:</small></p>${patches.join("")}`;
