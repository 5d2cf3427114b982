// The pairing with an agent: its port and the key that both sides prove to know.

const CODE = /^tandem-([0-9]{1,5})-([A-Za-z0-9_-]{43})$/;

/** {port, key} of a pairing code, or null. The key stays text; agent_client.js makes a MAC key of it. */
export function parseCode(text) {
  const found = CODE.exec(text.trim());
  const port = found ? Number(found[1]) : 0;
  return found && port >= 1 && port <= 65535 ? { port, key: found[2] } : null;
}

/** {pairing, enabled}. `pairing` is null before the first pairing; `enabled`: requests go to Tandem. */
export async function settings() {
  const { pairing = null, enabled = true } = await chrome.storage.local.get(["pairing", "enabled"]);
  return { pairing, enabled };
}

export function keep(pairing) {
  return chrome.storage.local.set({ pairing, enabled: true });
}

export function forget() {
  return chrome.storage.local.remove(["pairing", "enabled"]);
}

export function setEnabled(enabled) {
  return chrome.storage.local.set({ enabled });
}
