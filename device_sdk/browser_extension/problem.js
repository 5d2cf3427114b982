const reason = new URLSearchParams(location.search).get("reason");

for (const section of document.querySelectorAll("section")) {
  section.hidden = section.dataset.reason !== reason;
}
document.getElementById("settings").addEventListener("click", async () => {
  await chrome.runtime.openOptionsPage();
  window.close();
});
document.getElementById("close").addEventListener("click", () => window.close());
