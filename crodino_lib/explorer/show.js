// Show what the menus and the selection ask for; the arguments stand at the end of `draw` in page.py.
const get = (name) => source.get_column(name);
const [run, chosen, wanted, [width, height]] = [model.value, colour.value, show.value, size];
const [name, sensor, image, scene, count] = [get("name"), get("sensor"), get("image"), get("scene"), source.get_length()];
const axis = (letter, block) => `${letter} ${run}/${block}/${embedding.value}`;
// the column of a measure: of the block, of the model, or of the scene
const measured = (what, block) => [`${what} ${run}/${block}`, `${what} ${run}`, what].find(get);
if (cb_obj != source.selected) {  // a menu has changed
  blocks.forEach((block, i) => {
    const [x, y] = ["x", "y"].map((letter) => ({field: axis(letter, block)}));
    const fill_color = {field: measured(chosen, block), transform: mappers[chosen]};
    captions[i].text = texts[`${run}/${block}/${embedding.value}`];
    for (const glyph of [dots[i].glyph, dots[i].selection_glyph, dots[i].nonselection_glyph])
      glyph.setv({x, y, fill_color});
    labels[i].setv({x, y, text_align: {field: axis("side", block)}});
  });
  legend.text = legends[chosen];
  kept.indices = [...Array(count).keys()].filter((i) => [name[i], sensor[i], "everything"].includes(wanted));
}
const picked = source.selected.indices;
button.disabled = !picked.length;

// Links in the clouds: to the same region of the other sensor and, from a few points, to their nearest neighbours.
const few = picked.length <= 3 ? picked : [];  // a click often selects points that lie on top of each other
const regions = new Map();
for (let i = 0; i < count; i++) {
  const region = `${scene[i]} ${name[i]}`;
  regions.set(region, [...(regions.get(region) ?? []), i]);
}
const others = (i) => regions.get(`${scene[i]} ${name[i]}`).filter((other) => other != i);
const near = (i, block) => get(`near ${run}/${block}`)?.[i] ?? [];
blocks.forEach((block, place) => {
  const [x, y] = ["x", "y"].map((letter) => get(axis(letter, block)));
  const ends = picked.flatMap((i, drawn) => others(i).map((to) => [drawn < 24 ? i : NaN, to, "#222222"]));
  for (const i of few) ends.push(...near(i, block).map((to) => [i, to, "#0072B2"]));
  const column = (values, end) => ends.map((link) => values?.[link[end]] ?? NaN);
  links[place].data = {x: column(x, 0), y: column(y, 0), to_x: column(x, 1), to_y: column(y, 1),
    colour: ends.map((link) => link[2])};
});

// The table and the pictures.
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
const crop = (i, key, title) => {
  const [view, left, top, wide, high] = ["view", "left", "top", "wide", "high"].map((column) => get(column)[i]);
  const [, , w, h] = view.split(" ");
  return `<div><svg viewBox="${view}" class="${key == sensor[i] ? "own" : ""}" style="aspect-ratio: ${w} / ${h}">
    <image href="${pictures.get_column(key)[scene[i]]}" width="${width}" height="${height}"/>
    <rect x="${left}" y="${top}" width="${wide}" height="${high}"/></svg>${safe(title)}</div>`;
};
const shown = [...sensors.map((one) => [one, one]), ["truth", "truth"],
  ...sensors.map((one) => [`${one} predicted`, `${one} ${run}`])].filter(([, key]) => pictures.get_column(key));
const neighbours = (i) => !few.includes(i) ? "" : blocks.map((block) => {
  const crops = near(i, block).map((other) => crop(other, sensor[other], `${name[other]}, ${sensor[other]}`)).join("");
  return crops && `<div class="patch near"><p>nearest in the latent space, ${block} block:</p>${crops}</div>`;
}).join("");
const patches = picked.slice(0, 24).map((i, place) => {
  const told = columns.slice(3, -1).map((column, fact) => `${column} ${facts[fact + 3][place]}`).join(", ");
  return `<div class="patch"><p><b>${safe(name[i])}</b> seen by ${safe(`${sensor[i]}, scene ${image[i]}: ${told}`)}</p>`
    + shown.map(([title, key]) => crop(i, key, title)).join("") + "</div>" + neighbours(i);
});
panel.text = !picked.length ? hint : `<p><b>${picked.length} points</b> of ${new Set(facts[2]).size} scenes: ${tally(sensor)}
  </p><p>${tally(name)}</p><p><small>${patches.length} of them, drawn at random:</small></p>${patches.join("")}`;
