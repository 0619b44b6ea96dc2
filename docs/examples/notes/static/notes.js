const form = document.querySelector("form");
const list = document.querySelector("ul");

async function show() {
  const { notes } = await (await fetch("notes")).json();
  list.replaceChildren(
    ...notes.map(({ text }) => Object.assign(document.createElement("li"), { textContent: text })),
  );
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ text: form.elements.text.value });
  await fetch("notes", { method: "POST", headers: { "content-type": "application/json" }, body });
  form.reset();
  await show();
});

show();
