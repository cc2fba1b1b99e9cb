// Runs the draft in place: sends the editor's form, shows the answer while it comes, then what it cost.
"use strict";

(() => {
  const form = document.getElementById("prompt-editor");
  const start = document.getElementById("try-start");
  const stop = document.getElementById("try-stop");
  const output = document.getElementById("try-output");
  const problem = document.getElementById("try-problem");
  const bill = document.getElementById("try-bill");
  let running = null;

  function showProblem(text) {
    problem.hidden = !text;
    problem.textContent = text;
  }

  function showValue(value) {
    output.textContent = JSON.stringify(value, null, 2);
  }

  function billText(told) {
    if (told.cost_usd === undefined) {
      return "";
    }
    const attempts = told.attempts.length > 1 ? `, ${told.attempts.length} attempts` : "";
    const tokens = `${told.input_tokens.toLocaleString("en")} tokens in, ${told.output_tokens.toLocaleString("en")} out`;
    return `${told.model}: ${tokens}${attempts}, ${told.cost_usd} USD at the standard price, ${told.ms.toLocaleString("en")} ms. Recorded as a test, charged to nobody.`;
  }

  const shows = {
    start: (told) => { bill.textContent = `${told.model} answers …`; },
    delta: (told) => { output.textContent += told.text; },
    partial: (told) => showValue(told.value),
    done: (told) => {
      if ("value" in told) {
        showValue(told.value);
      }
      bill.textContent = billText(told);
    },
    error: (told) => {
      const wrong = (told.attempts || []).flatMap((attempt) => attempt.problems);
      showProblem([told.message, ...wrong].join(" "));
      bill.textContent = billText(told);
    },
  };

  function show(frame) {
    const lines = frame.split("\n");
    const kind = lines.find((line) => line.startsWith("event: ")).slice(7);
    const data = lines.find((line) => line.startsWith("data: ")).slice(6);
    shows[kind](JSON.parse(data));
    return kind;
  }

  async function read(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    let last = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        break;
      }
      const frames = (waiting + value).split("\n\n");
      waiting = frames.pop();
      for (const frame of frames) {
        last = show(frame);
      }
    }
    if (last !== "done" && last !== "error") {
      showProblem("The connection broke off before the answer was whole.");
    }
  }

  start.addEventListener("click", async () => {
    running = new AbortController();
    start.disabled = true;
    stop.hidden = output.hidden = false;
    output.textContent = "";
    bill.textContent = "Calling …";
    showProblem("");
    try {
      const sent = { method: "POST", body: new FormData(form), signal: running.signal };
      const response = await fetch(form.dataset.tryUrl, sent);
      if ((response.headers.get("content-type") || "").startsWith("text/event-stream")) {
        await read(response);
      } else {
        const told = response.headers.get("content-type") === "application/json" ? await response.json() : {};
        showProblem(told.message || `The server answered ${response.status}.`);
        bill.textContent = "";
      }
    } catch (error) {
      showProblem(error.name === "AbortError" ? "" : "The server cannot be reached.");
      bill.textContent = error.name === "AbortError" ? "Stopped. What the model had done until then is recorded." : "";
    }
    start.disabled = false;
    stop.hidden = true;
  });

  stop.addEventListener("click", () => running.abort());
})();
