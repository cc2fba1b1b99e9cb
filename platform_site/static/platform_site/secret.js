// The page that shows a key's secret once: copying, and leaving no way back to it.
"use strict";

// The page is the answer to a POST. After this a reload opens the key's page instead of sending the form again.
const leaveUrl = document.getElementById("key-issued").dataset.leaveUrl;
window.history.replaceState(null, "", leaveUrl);

async function copyText(source) {
  const text = source.value === undefined ? source.textContent : source.value;
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Plain HTTP beside localhost has no clipboard object.
  const range = document.createRange();
  range.selectNodeContents(source);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
  if (source.select) {
    source.select();
  }
  document.execCommand("copy");
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await copyText(document.getElementById(button.dataset.copy));
      button.lastChild.textContent = "Copied";
    } catch {
      button.lastChild.textContent = "Select the text and copy it by hand";
    }
  });
}
