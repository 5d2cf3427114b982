// The forms for one's own face: shows what was chosen or taken, sends it, and keeps it if it was not good enough.
// Pictures stay in this page until they are sent. Without this script the form with files works by itself.
"use strict";

const THUMBNAIL = 192;
const FRAME_SIDE = 1280;

const cameras = [];

for (const form of document.querySelectorAll("form[data-face]")) {
  new FaceForm(form);
}

window.addEventListener("pagehide", stopCameras);

function FaceForm(form) {
  const least = Number(form.dataset.least);
  const most = Number(form.dataset.most);
  const list = form.querySelector("[data-shots]");
  const message = form.querySelector("[data-message]");
  const files = form.querySelector('input[type="file"]');
  const camera = files ? null : new Camera(form.querySelector("[data-camera]"), { shot: add, failed });
  let shots = [];

  if (files) {
    files.addEventListener("change", () => {
      const chosen = [...files.files];
      if (most === 1) {
        shots = [];
      }
      chosen.forEach(add);
      show();
    });
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });

  function add(file) {
    if (shots.length >= most) {
      tell(`${most} pictures are the most. Take one out first.`, true);
      return;
    }
    shots.push({ file, thumbnail: thumbnail(file), problem: "" });
    show();
    if (most > 1) {
      tell(count(), false);
    }
  }

  function count() {
    const there = shots.length === 1 ? "1 picture" : `${shots.length} pictures`;
    const missing = least - shots.length;
    return missing > 0 ? `${there}, ${missing} more needed.` : `${there}: enough, and up to ${most} are better.`;
  }

  async function send() {
    if (camera && most === 1) {
      const frame = await camera.take();
      if (!frame) {
        return;
      }
      shots = [{ file: frame, thumbnail: thumbnail(frame), problem: "" }];
      show();
    }
    const large = shots.filter((shot) => shot.file.size > Number(form.dataset.bytes));
    const together = shots.reduce((sum, shot) => sum + shot.file.size, 0);
    if (shots.length < least) {
      tell(least === 1 ? "Choose a picture first." : count(), true);
    } else if (large.length || together > Number(form.dataset.bytesTogether)) {
      large.forEach((shot) => { shot.problem = "This file is too large."; });
      show();
      tell("The pictures are too large.", true);
    } else {
      await post();
    }
  }

  async function post() {
    const body = new FormData(form);
    body.delete(form.dataset.field);
    shots.forEach((shot) => body.append(form.dataset.field, shot.file, "picture"));
    const buttons = [...form.querySelectorAll("button")].filter((button) => !button.disabled);
    buttons.forEach((button) => { button.disabled = true; });
    tell(shots.length > 1 ? "Looking at the pictures …" : "Looking at the picture …", false);
    try {
      const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
      if (answer.ok && answer.redirected) {
        stopCameras();
        window.location.assign(answer.url);
        return;
      }
      failed(await answer.json().catch(() => ({})));
    } catch {
      failed({});
    }
    buttons.forEach((button) => { button.disabled = false; });
  }

  function failed(problem) {
    const pictures = problem.pictures || [];
    shots.forEach((shot, at) => {
      const found = pictures.find((one) => one.position === at + 1);
      shot.problem = found ? found.detail : "";
    });
    show();
    const detail = problem.detail || "The site did not answer. Try again.";
    tell(most === 1 && pictures.length ? `${detail} ${pictures[0].detail}` : detail, true);
  }

  function show() {
    if (files) {
      // The field holds what is shown, though files were added in several goes and single ones taken out.
      const held = new DataTransfer();
      shots.forEach((shot) => held.items.add(shot.file));
      files.files = held.files;
    }
    list.replaceChildren(...shots.map((shot, at) => {
      const item = document.createElement("li");
      item.classList.toggle("unusable", Boolean(shot.problem));
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "×";
      remove.setAttribute("aria-label", `Take out picture ${at + 1}`);
      remove.addEventListener("click", () => {
        shots.splice(at, 1);
        show();
        tell(most > 1 ? count() : "", false);
        (list.querySelectorAll("button")[Math.min(at, shots.length - 1)] || files || form.querySelector("[data-shoot]")).focus();
      });
      const told = document.createElement("span");
      told.textContent = most === 1 ? "" : shot.problem || `Picture ${at + 1}`; // one picture: the message says it
      item.append(shot.thumbnail, told, remove);
      return item;
    }));
  }

  function tell(text, isBad) {
    message.textContent = text;
    message.classList.toggle("bad", isBad);
  }
}

// A thumbnail on a canvas needs no address for the picture, so the page's policy allows none.
function thumbnail(file) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = THUMBNAIL;
  canvas.setAttribute("aria-hidden", "true");
  createImageBitmap(file).then((bitmap) => {
    const side = Math.min(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(
      bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, THUMBNAIL, THUMBNAIL,
    );
    bitmap.close();
  }).catch(() => {}); // of a kind this browser cannot show; the phone will say whether it can read it
  return canvas;
}

function Camera(place, { shot, failed }) {
  const video = place.querySelector("video");
  const off = place.querySelector("[data-off]");
  const start = place.querySelector("[data-start]");
  const shoot = place.querySelector("[data-shoot]");
  let stream = null;
  cameras.push(this);

  start.addEventListener("click", () => (stream ? this.stop() : open()));
  if (shoot) {
    shoot.addEventListener("click", async () => {
      const frame = await this.take();
      if (frame) {
        shot(frame);
      }
    });
  }

  async function open() {
    stopCameras();
    try {
      if (!navigator.mediaDevices) {
        throw new Error("none");
      }
      const wanted = { facingMode: "user", width: { ideal: FRAME_SIDE }, height: { ideal: 720 } };
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      video.srcObject = stream;
      await video.play();
    } catch (error) {
      failed({ detail: explainCamera(error) });
      return false;
    }
    show(true);
    return true;
  }

  this.take = async () => {
    if (!stream && !(await open())) {
      return null;
    }
    const scale = Math.min(1, FRAME_SIDE / Math.max(video.videoWidth, video.videoHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    return new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
  };

  this.stop = () => {
    if (stream) {
      stream.getTracks().forEach((track) => track.stop());
    }
    stream = null;
    video.srcObject = null;
    show(false);
  };

  function show(on) {
    video.hidden = !on;
    off.hidden = on;
    start.textContent = on ? "Stop the camera" : "Start the camera";
    if (shoot) {
      shoot.disabled = !on;
    }
  }
}
function stopCameras() {
  cameras.forEach((camera) => camera.stop());
}

function explainCamera(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser was not allowed to use the camera. Allow it beside the address, or use pictures.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No camera was found. Use pictures instead.";
    case "NotReadableError":
      return "The camera is in use by another program.";
    default:
      return "This browser gives no camera to this page. Use pictures instead.";
  }
}
