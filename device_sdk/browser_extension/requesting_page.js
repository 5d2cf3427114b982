// Which document asked? Chromium tells a request's origin but not its tab, and does not tell when the page goes away: a
// reloaded or closed page would still get its signature. So the documents that may have asked are found by their origin
// and watched. A request ends when the last of them is gone.

/**
 * {key, documents}: the documents of `origin` that may have asked, [{tabId, frameId, documentId}], and a name for the page.
 * The tab in front is taken before all others. Documents in `busy` (ids) have a request already, and Chromium lets a
 * document have one at a time.
 */
export async function requestingPage(origin, busy) {
  const [front] = await chrome.tabs.query({ active: true, lastFocusedWindow: true });
  let documents = front ? await documentsIn(front.id, origin, busy) : [];
  if (!documents.length) {
    const tabs = await chrome.tabs.query({});
    documents = (await Promise.all(tabs.map((tab) => documentsIn(tab.id, origin, busy)))).flat();
  }
  return { key: documents.length === 1 ? documents[0].documentId : crypto.randomUUID(), documents };
}

/** Call `gone(isGone)` with a test for documents whenever some go away: navigated, reloaded, or their tab closed. */
export function watchDocuments(gone) {
  chrome.webNavigation.onCommitted.addListener(({ tabId, frameId, documentId, documentLifecycle }) => {
    if (documentLifecycle === "active") {
      gone((known) => known.tabId === tabId && known.documentId !== documentId && (frameId === 0 || known.frameId === frameId));
    }
  });
  chrome.webNavigation.onTabReplaced.addListener(({ replacedTabId }) => gone((known) => known.tabId === replacedTabId));
  chrome.tabs.onRemoved.addListener((tabId) => gone((known) => known.tabId === tabId));
}

async function documentsIn(tabId, origin, busy) {
  const frames = (await chrome.webNavigation.getAllFrames({ tabId }).catch(() => null)) ?? [];
  return frames
    .filter((frame) => originOf(frame.url) === origin && !busy.has(frame.documentId))
    .map(({ frameId, documentId }) => ({ tabId, frameId, documentId }));
}

function originOf(url) {
  try {
    return new URL(url).origin;
  } catch {
    return null;
  }
}
