// Lets the map over a picture fade. Without this script the map stands at its usual opacity.
for (const figure of document.querySelectorAll("figure:has(.overlay)")) {
  const label = figure.querySelector(".slider");
  const range = label.querySelector("input");
  const overlay = figure.querySelector(".overlay");
  const show = () => { overlay.style.opacity = range.value / 100; };
  label.hidden = false;
  range.addEventListener("input", show);
  show();
}
