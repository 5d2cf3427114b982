// The windows that the extension opens: one for each consent, and one that says what is wrong.

const SIZE = { width: 480, height: 720 };
let problemWindow = null;

/** Opens `url` over the middle of the browser's window. Its id. */
export async function openWindow(url) {
  const at = await chrome.windows.getLastFocused().catch(() => null);
  const place = at?.width ? { left: Math.max(0, Math.round(at.left + (at.width - SIZE.width) / 2)), top: Math.max(0, at.top + 60) } : {};
  const opened = await chrome.windows.create({ url, type: "popup", focused: true, ...SIZE, ...place });
  return opened.id;
}

export function closeWindow(id) {
  return chrome.windows.remove(id).catch(() => {});
}

/** Tells the person why a site got no answer; a page that asks again and again gets no second window. */
export async function showProblem(reason) {
  const url = chrome.runtime.getURL(`problem.html?reason=${reason}`);
  if (problemWindow !== null && (await chrome.windows.get(problemWindow).catch(() => null))) {
    return;
  }
  problemWindow = await openWindow(url);
}
