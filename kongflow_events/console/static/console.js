// What pages cannot do without a script: copy a text. Everything else works without one.
document.addEventListener("click", async (click) => {
  const button = click.target.closest("button[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  await navigator.clipboard.writeText(text);
  const said = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = said; }, 1500);
});

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
