// The settings: pairing with an agent, and whether sites get their passkeys from it.

import { AgentClient, AgentDown, NotPaired } from "./agent_client.js";
import { forget, keep, parseCode, setEnabled, settings } from "./pairing.js";

const at = (id) => document.getElementById(id);
const SENSORS = { pictures: "face, from the camera or a picture", simulated: "simulated: measures nobody" };

at("pair-form").addEventListener("submit", pair);
at("check").addEventListener("click", () => check(true));
at("forget").addEventListener("click", async () => {
  await forget();
  await show();
  tell("Forgotten. Sites get no passkeys from Tandem until you pair again.");
});
at("enabled").addEventListener("change", async (event) => {
  await setEnabled(event.target.checked);
  tell(event.target.checked ? "Sites get their passkeys from Tandem." : "Switched off. Chromium offers its own passkeys again.", true);
});
chrome.storage.session.onChanged.addListener(tellProblem);
await show();

async function pair(event) {
  event.preventDefault();
  const pairing = parseCode(at("code").value);
  if (!pairing) {
    tell("This is no pairing code. Copy the whole line that “tandem-device pairing-code” prints.");
    return;
  }
  try {
    await new AgentClient(pairing).post("/v1/status", {});
  } catch (error) {
    tell(explain(error));
    return;
  }
  at("code").value = "";
  await keep(pairing);
  await show();
  tell("Paired. Sites that ask for a passkey now get it from Tandem.", true);
  at("paired-title").scrollIntoView({ block: "nearest" });
}

async function show() {
  const { pairing, enabled } = await settings();
  at("pair").hidden = pairing !== null;
  at("paired").hidden = pairing === null;
  at("enabled").checked = enabled;
  if (pairing) {
    at("agent").textContent = `127.0.0.1, port ${pairing.port}`;
    await check(false);
  }
  await tellProblem();
}

async function check(aloud) {
  const { pairing } = await settings();
  try {
    const status = await new AgentClient(pairing).post("/v1/status", {});
    at("sensor").textContent = `${SENSORS[status.sensor] ?? status.sensor} (profile ${status.profile})`;
    at("passkeys").textContent = String(status.passkeys);
    if (aloud) {
      tell("The agent answers.", true);
    }
  } catch (error) {
    at("sensor").textContent = at("passkeys").textContent = "unknown";
    tell(explain(error));
  }
}

async function tellProblem() {
  const { problem } = await chrome.storage.session.get("problem");
  if (problem) {
    tell(`Chromium does not let Tandem answer: ${problem} Another extension may have taken over passkeys; switch it off.`);
  }
}

function explain(error) {
  if (error instanceof AgentDown) {
    return "The agent does not answer. Is it running, and on the port of the code?";
  }
  if (error instanceof NotPaired) {
    return "A program answers there, but it does not know this code. Has the code been renewed? Then restart the agent and pair with the new one.";
  }
  return error.message;
}

function tell(text, isGood = false) {
  at("message").textContent = text;
  at("message").classList.toggle("good", isGood);
  at("message").classList.toggle("bad", !isGood);
}
