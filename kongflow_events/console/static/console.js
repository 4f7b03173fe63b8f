// What pages cannot do without a script: copy a text, and say that they grow old. Everything else works without one.
document.addEventListener("click", async (click) => {
  const button = click.target.closest("button[data-copy]");
  if (!button) return;
  button.dataset.said ??= button.textContent;
  button.textContent = await copied(document.getElementById(button.dataset.copy)) ? "Copied" : "Selected";
  setTimeout(() => { button.textContent = button.dataset.said; }, 1500);
});

// Over plain HTTP from another host there is no clipboard, and a browser may refuse the one there is: then the text is
// selected, so that a key copies it if nothing else does.
async function copied(place) {
  try {
    await navigator.clipboard.writeText(place.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(place);
    return document.execCommand("copy");
  }
}

// One menu at a time, and none once somebody looks elsewhere.
document.addEventListener("click", (click) => {
  for (const menu of document.querySelectorAll("details.menu[open], details.confirm[open]")) {
    if (!menu.contains(click.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (key) => {
  if (key.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open], details.confirm[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// What cannot be loaded again stays as it was, and looks as if it held now: the page says since when it does not.
let updated = new Date();
for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failure, () => {
    const place = document.getElementById("stale");
    if (!place || place.firstChild) return;
    const since = updated.toISOString().slice(0, 19).replace("T", " ");
    const said = document.createElement("p");
    said.className = "flash warn";
    said.textContent = `Not updated since ${since} UTC: the service does not answer`;
    place.append(said);
  });
}
document.addEventListener("htmx:afterRequest", (request) => {
  if (!request.detail.successful) return;
  updated = new Date();
  document.getElementById("stale")?.replaceChildren();
});
