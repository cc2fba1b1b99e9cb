// The editor of a prompt: highlighting, adding and ordering messages, and a preview that follows what is typed.
// Running the draft is in try.js.
"use strict";

const form = document.getElementById("prompt-editor");
const list = document.getElementById("messages");
const PAUSE_MS = 300;
// Values, statements, comments: what stands between is text.
const PARTS = /\{\{[\s\S]*?\}\}|\{%[\s\S]*?%\}|\{#[\s\S]*?#\}/g;
const CLASSES = { "{{": "tk-value", "{%": "tk-tag", "{#": "tk-comment" };

let timer = 0;
let asked = 0;
let derivedSchema = "";

function highlight(area) {
  const text = area.value;
  const shown = document.createDocumentFragment();
  let position = 0;
  for (const part of text.matchAll(PARTS)) {
    shown.append(text.slice(position, part.index));
    const mark = document.createElement("span");
    mark.className = CLASSES[part[0].slice(0, 2)];
    mark.textContent = part[0];
    shown.append(mark);
    position = part.index + part[0].length;
  }
  // A last empty line has no height in a pre without something in it.
  shown.append(`${text.slice(position)}\n\u200b`);
  area.previousElementSibling.replaceChildren(shown);
}

function showMessages(messages) {
  const said = messages.map((message) => {
    const box = document.createElement("div");
    box.className = "tk-said";
    const role = document.createElement("b");
    role.textContent = message.role;
    const text = document.createElement("pre");
    text.className = "tk-mono";
    text.textContent = message.content;
    box.append(role, text);
    return box;
  });
  document.getElementById("preview-messages").replaceChildren(...said);
}

function costText(answer) {
  if (!answer.messages.length || !answer.model) {
    return "";
  }
  if (!answer.cost) {
    return `No price of ${answer.model} is known, so a call with it would be refused.`;
  }
  const { input_usd, most_usd, output_tokens } = answer.cost;
  return `A call costs about ${input_usd} USD for these messages, at most ${most_usd} USD with an answer of ${output_tokens.toLocaleString("en")} tokens (standard price of ${answer.model}).`;
}

function showPreview(answer) {
  const problem = document.getElementById("preview-problem");
  problem.hidden = !answer.problem;
  problem.textContent = answer.problem ? `${answer.field ? `${answer.field.replaceAll("_", " ")}: ` : ""}${answer.problem}` : "";
  const size = document.getElementById("preview-size");
  const tokens = answer.tokens === null || answer.tokens === undefined ? "" : `${answer.tokens.toLocaleString("en")} tokens, `;
  size.textContent = answer.messages.length ? `${tokens}${answer.characters.toLocaleString("en")} characters` : "";
  document.getElementById("preview-cost").textContent = costText(answer);
  showMessages(answer.messages);
  derivedSchema = answer.input_schema || "";
  document.getElementById("input-schema").placeholder = derivedSchema;
  const inputs = document.getElementById("sample-inputs");
  if (answer.inputs && !inputs.value.trim()) {
    inputs.placeholder = answer.inputs;
  }
}

async function preview() {
  asked += 1;
  const mine = asked;
  try {
    const response = await fetch(form.dataset.previewUrl, { method: "POST", body: new FormData(form) });
    const answer = await response.json();
    // Answers may overtake each other.
    if (mine === asked) {
      showPreview(answer);
    }
  } catch {
    showPreview({ problem: "The preview cannot be reached.", field: "", messages: [] });
  }
}

function changed() {
  window.clearTimeout(timer);
  timer = window.setTimeout(preview, PAUSE_MS);
}

form.addEventListener("input", (event) => {
  if (event.target.name === "template") {
    highlight(event.target);
  }
  changed();
});

list.addEventListener("click", (event) => {
  const message = event.target.closest(".tk-message");
  if (event.target.closest("[data-remove]")) {
    message.remove();
  } else if (event.target.dataset.move === "up" && message.previousElementSibling) {
    message.previousElementSibling.before(message);
  } else if (event.target.dataset.move === "down" && message.nextElementSibling) {
    message.nextElementSibling.after(message);
  } else {
    return;
  }
  changed();
});

document.getElementById("add-message").addEventListener("click", () => {
  list.append(document.getElementById("new-message").content.cloneNode(true));
  const area = list.lastElementChild.querySelector("textarea");
  highlight(area);
  area.focus();
  changed();
});

document.getElementById("take-schema").addEventListener("click", () => {
  const field = document.getElementById("input-schema");
  field.value = field.value.trim() || derivedSchema;
  changed();
});

for (const area of list.querySelectorAll("textarea")) {
  highlight(area);
}
preview();
