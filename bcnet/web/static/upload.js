// Makes choosing pictures easier: dropping, a check of their size, progress. The form works without.
const MOST_BYTES = 25 * 2 ** 20;
const MOST_FILES = 20;

for (const form of document.querySelectorAll("form[data-upload]")) {
  const input = form.querySelector("input[type=file]");
  const drop = form.querySelector(".drop");
  const button = form.querySelector("button");
  const progress = form.querySelector("progress");

  const check = () => {
    const bytes = [...input.files].reduce((sum, file) => sum + file.size, 0);
    const isTooMuch = bytes > MOST_BYTES || input.files.length > MOST_FILES;
    input.setCustomValidity(isTooMuch ? "At most 20 pictures and 25 MB at once." : "");
  };
  input.addEventListener("change", check);

  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    input.files = event.dataTransfer.files;
    check();
  });

  form.addEventListener("submit", () => {
    button.disabled = true;
    button.textContent = "Answering …";
    progress.removeAttribute("value"); // no share is known once the browser has taken over
    progress.hidden = false;
  });
  // Back in the browser's history, the form is ready again.
  window.addEventListener("pageshow", () => {
    button.disabled = false;
    button.textContent = "Answer";
    progress.hidden = true;
  });
}
