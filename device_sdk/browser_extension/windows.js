// The windows that the extension opens: one for each consent, and one that says what is wrong.

const SIZE = { width: 480, height: 720 };
let problemWindow = Promise.resolve(null); // its id

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

/** Tells the person why a site got no answer; a page that asks again and again, or twice at once, gets one window. */
export function showProblem(reason) {
  const url = chrome.runtime.getURL(`problem.html?reason=${reason}`);
  problemWindow = problemWindow.then(async (id) => {
    const open = id !== null && (await chrome.windows.get(id).catch(() => null));
    return open ? id : openWindow(url).catch(() => null);
  });
}
