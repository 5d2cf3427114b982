// Takes the place of the browser's own authenticators on every page, and hands each request to the local agent.

import { AgentClient } from "./agent_client.js";
import { cancelAll, Ceremony, ceremonyWith, dropDocuments, interrupted } from "./ceremony.js";
import { settings } from "./pairing.js";
import { watchDocuments } from "./requesting_page.js";

const proxy = chrome.webAuthenticationProxy;

// Listeners first and without waiting: an event that wakes the worker is given to those alone.
proxy.onCreateRequest.addListener((request) => begin("create", request));
proxy.onGetRequest.addListener((request) => begin("get", request));
proxy.onIsUvpaaRequest.addListener(answerIsUvpaa);
proxy.onRequestCanceled.addListener((requestId) => cancelWhere((ceremony) => ceremony.requestId === requestId));
chrome.windows.onRemoved.addListener((id) => cancelWhere((ceremony) => ceremony.windowId === id));
watchDocuments(async (isGone) => {
  await started;
  dropDocuments(isGone, (ceremony) => ceremony.cancel());
});
chrome.storage.local.onChanged.addListener(() => { client = connected(); });
chrome.runtime.onStartup.addListener(() => {}); // the browser starts, and with it this worker, which attaches
chrome.action.onClicked.addListener(() => chrome.runtime.openOptionsPage());
chrome.runtime.onInstalled.addListener(({ reason }) => {
  if (reason === "install") {
    chrome.runtime.openOptionsPage();
  }
});

let client = connected(); // promise of an AgentClient, or of null where Tandem is not to answer
const started = resume();

/** Attach to or detach from the browser as the person has set it. */
async function connected() {
  const { pairing, enabled } = await settings();
  if (!pairing || !enabled) {
    await cancelAll();
    await proxy.detach().catch(() => {});
    await tell(pairing ? "off" : "", "");
    return null;
  }
  const problem = await proxy.attach();
  await tell(problem ? "!" : "", problem ?? "");
  return new AgentClient(pairing);
}

async function tell(badge, problem) {
  await chrome.action.setBadgeText({ text: badge });
  await chrome.storage.session.set({ problem });
}

async function resume() {
  const agent = await client;
  for (const saved of agent ? await interrupted() : []) {
    new Ceremony(saved.kind, saved.requestId).resume(agent, saved);
  }
}

async function begin(kind, { requestId, requestDetailsJson }) {
  const ceremony = new Ceremony(kind, requestId);
  const agent = await client;
  if (agent) {
    await ceremony.serve(agent, JSON.parse(requestDetailsJson));
  } else {
    await ceremony.refuse();
  }
}

async function answerIsUvpaa({ requestId }) {
  const agent = await client;
  const isUvpaa = agent !== null && (await agent.post("/v1/status", {}).then(() => true, () => false));
  await proxy.completeIsUvpaaRequest({ requestId, isUvpaa }).catch(() => {});
}

async function cancelWhere(test) {
  await started;
  await ceremonyWith(test)?.cancel();
}
