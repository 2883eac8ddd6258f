// Save the selected points as a CSV file, without rounding.
const quoted = (value) => {
  const text = typeof value == "number" && isNaN(value) ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const rows = source.selected.indices.map((i) => columns.map((name) => source.get_column(name)[i]));
const text = [columns, ...rows].map((row) => row.map(quoted).join(",") + "\n").join("");
const link = document.createElement("a");
link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
link.download = `${title}.csv`;
link.click();
setTimeout(() => URL.revokeObjectURL(link.href), 1000);
