// The consent window: shows the state of one request, takes the capture, and sends the decision.
"use strict";

const csrf = document.querySelector('meta[name="csrf-token"]').content;
let state = JSON.parse(document.querySelector('meta[name="consent-state"]').content);
const form = document.getElementById("consent");
const message = document.getElementById("message");
const allow = document.getElementById("allow");
const question = document.getElementById("question");
const base = document.querySelector('meta[name="address"]').content;

// A site chooses when this window appears, and when one of its own that lies over it goes away, in the middle of a
// double click say. A click or key that was meant for the site must not consent.
const READY_AFTER_MS = 500;
let ready = false;
let readying = 0;
let capture = null; // gives the body to send; null until the person has chosen one

// The address that opened the window is spent; this one loads again, here only.
window.history.replaceState(null, "", base);
show();
follow();
if (form && allow) {
  document.getElementById("decline").addEventListener("click", decline);
  form.addEventListener("submit", consent);
  if (form.dataset.sensor === "simulated") {
    capture = () => JSON.stringify({ finger: form.elements.finger.value });
  } else {
    setUpPictures();
  }
  window.addEventListener("blur", notReady);
  window.addEventListener("focus", readySoon);
  document.addEventListener("visibilitychange", readySoon);
  readySoon();
} else if (form) {
  document.getElementById("decline").addEventListener("click", decline);
}
// Not on a button: Enter or Space, typed for another window, must find nothing to press.
question.focus();

function show() {
  const over = state.state === "over";
  message.textContent = state.state === "signing" ? "Comparing and signing …" : state.message;
  message.classList.toggle("bad", Boolean(state.message) && !(over && state.succeeded));
  message.classList.toggle("good", over && state.succeeded);
  if (form) {
    form.hidden = over;
  }
  showReady();
  if (over) {
    stopCamera();
    question.textContent = state.succeeded ? "Done" : "Not done";
    offerToClose();
    question.focus(); // what had the focus is gone
  }
}

function showReady() {
  if (allow) {
    allow.disabled = !ready || !capture || state.state !== "waiting";
  }
}

function notReady() {
  window.clearTimeout(readying);
  ready = false;
  showReady();
}

/** Once the window has been the one in front for a while. */
function readySoon() {
  notReady();
  if (document.hasFocus() && document.visibilityState === "visible") {
    readying = window.setTimeout(() => { ready = true; showReady(); }, READY_AFTER_MS);
  }
}

function offerToClose() {
  if (document.getElementById("close")) {
    return;
  }
  const button = document.createElement("button");
  button.type = "button";
  button.id = "close";
  button.className = "plain";
  button.textContent = "Close this window";
  button.addEventListener("click", () => window.close());
  message.after(button);
}

async function post(what, body, query = "") {
  const answer = await fetch(`${base}/${what}${query}`, { method: "POST", headers: { "X-Tandem-Csrf": csrf }, body });
  if (!answer.ok) {
    throw new Error(answer.status === 413 ? "This picture is too large." : "This request is over. Close this window.");
  }
  const told = await answer.json();
  if (told.version >= state.version) {
    state = told;
    show();
  }
}

// The request may end elsewhere: the site cancels, the time is up.
async function follow() {
  while (state.state !== "over") {
    try {
      await post("wait", String(state.version));
    } catch {
      state = { ...state, state: "over", succeeded: false, message: "The agent no longer answers. Start again at the site." };
      show();
    }
  }
}

async function consent(event) {
  event.preventDefault();
  if (allow.disabled) {
    return;
  }
  allow.disabled = true;
  try {
    const body = await capture();
    const account = form.elements.account ? form.elements.account.value : "";
    await post("consent", body, `?account=${encodeURIComponent(account)}`);
    if (body instanceof File) {
      forgetPicture(); // the agent compares a picture once
    }
  } catch (error) {
    message.textContent = error.message;
    message.classList.add("bad");
    showReady();
  }
}

async function decline() {
  await post("decline", "").catch(() => {});
  window.close();
}

// ---- pictures ------------------------------------------------------------------------------------

function setUpPictures() {
  document.getElementById("camera").addEventListener("click", startCamera);
  document.getElementById("file").addEventListener("change", (event) => {
    const file = event.target.files[0];
    if (!file) {
      return;
    }
    stopCamera();
    const picture = document.getElementById("picture");
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(file);
    reveal(picture);
    chosen(() => file);
  });
}

function forgetPicture() {
  document.getElementById("file").value = "";
  document.getElementById("view").hidden = true;
  capture = null;
  show();
}

async function startCamera() {
  const video = document.getElementById("video");
  stopCamera();
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 720 } },
    });
    await video.play();
  } catch {
    message.textContent = "The camera cannot be used. Allow it for this window, or choose a picture.";
    message.classList.add("bad");
    return;
  }
  reveal(video);
  chosen(() => frameOf(video));
}

function chosen(source) {
  capture = source;
  state = { ...state, message: "" }; // it was about the last one
  show();
}

function stopCamera() {
  const video = document.getElementById("video");
  if (video && video.srcObject) {
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    capture = null;
  }
}

function reveal(element) {
  for (const other of element.parentElement.children) {
    other.hidden = other !== element;
  }
  element.parentElement.hidden = false;
}

function frameOf(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The camera gave no picture."))), "image/jpeg", 0.92);
  });
}
