const form = document.querySelector("form");
const answer = document.querySelector("output");
const journal = document.querySelector("pre");

async function show() {
  const text = await (await fetch("journal")).text();
  journal.textContent = text.trim().split("\n").reverse().join("\n"); // the latest first
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const order = new FormData(form);
  const body = JSON.stringify({ item: order.get("item"), amount: Number(order.get("amount")) });
  const headers = { "content-type": "application/json" };
  answer.textContent = await (await fetch("orders", { method: "POST", headers, body })).text();
});

show();
setInterval(show, 1000);
