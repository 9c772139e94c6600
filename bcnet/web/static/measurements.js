// What-if: a changed field is tried out at once. Without this script the button does the same.
const PAUSE = 300; // milliseconds without typing, after which the answer is asked for

for (const form of document.querySelectorAll("form[data-try]")) {
  const answer = document.getElementById("answer");
  const told = document.getElementById("told");
  let timer = 0;
  let asked = new AbortController();

  const ask = async () => {
    asked.abort(); // an answer to older values must not come last
    asked = new AbortController();
    const body = new FormData(form);
    body.set("part", "answer");
    try {
      const response = await fetch(form.dataset.try, { method: "POST", body, signal: asked.signal });
      if (response.ok || response.status === 422) {
        answer.innerHTML = await response.text(); // our own page's part, escaped by the server
      } else {
        answer.textContent = "No answer now: wait a little, then change the field again.";
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      answer.textContent = "The server does not answer.";
    }
    told.textContent = (answer.querySelector(".label, .fault") ?? answer).textContent;
  };

  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { if (form.checkValidity()) ask(); else form.reportValidity(); }, PAUSE);
  });
}
