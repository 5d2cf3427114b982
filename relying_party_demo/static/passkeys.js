// The browser's part of registration and login: fetch options, ask for the passkey, send the answer.
// Uses the JSON helpers of WebAuthn Level 3 where the browser has them.
"use strict";

const csrfToken = document.querySelector('meta[name="csrf-token"]').content;

const ceremonies = {
  register: { options: "/register/options", verify: "/register/verify", ask: create },
  add: { options: "/passkeys/options", verify: "/passkeys/verify", ask: create },
  login: { options: "/login/options", verify: "/login/verify", ask: get },
};

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(form, ceremonies[form.dataset.passkey]);
  });
}

async function run(form, ceremony) {
  const buttons = form.querySelectorAll("button");
  const message = document.getElementById(form.dataset.message);
  tell(message, "Waiting for your passkey …", false);
  buttons.forEach((button) => { button.disabled = true; });
  try {
    if (!window.PublicKeyCredential) {
      throw new Error("This browser cannot use passkeys on this page.");
    }
    const fields = Object.fromEntries(new FormData(form));
    const options = await post(ceremony.options, fields);
    const credential = await ceremony.ask(options);
    const answer = await post(ceremony.verify, asJson(credential));
    window.location.assign(answer.next);
  } catch (error) {
    tell(message, explain(error), true);
    buttons.forEach((button) => { button.disabled = false; });
  }
}

async function post(address, body) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": csrfToken },
    body: JSON.stringify(body),
  });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new Error(content.detail || "The site did not answer as expected. Try again.");
  }
  return content;
}

function create(options) {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON
    ? PublicKeyCredential.parseCreationOptionsFromJSON(options)
    : {
        ...options,
        challenge: toBytes(options.challenge),
        user: { ...options.user, id: toBytes(options.user.id) },
        excludeCredentials: options.excludeCredentials.map(descriptor),
      };
  return navigator.credentials.create({ publicKey });
}

function get(options) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON
    ? PublicKeyCredential.parseRequestOptionsFromJSON(options)
    : {
        ...options,
        challenge: toBytes(options.challenge),
        allowCredentials: options.allowCredentials.map(descriptor),
      };
  return navigator.credentials.get({ publicKey });
}

function asJson(credential) {
  if (credential.toJSON) {
    return credential.toJSON();
  }
  const from = credential.response;
  const response = { clientDataJSON: toText(from.clientDataJSON) };
  for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (from[name]) {
      response[name] = toText(from[name]);
    }
  }
  return { id: credential.id, rawId: toText(credential.rawId), type: credential.type, response, clientExtensionResults: {} };
}

function descriptor(entry) {
  return { ...entry, id: toBytes(entry.id) };
}

function toBytes(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

function toText(buffer) {
  const binary = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function explain(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "No passkey was used: the request was cancelled, timed out, or this device has none for this site.";
    case "InvalidStateError":
      return "This device already holds a passkey for the account.";
    case "SecurityError":
      return "The browser does not allow passkeys at this address.";
    case "NotSupportedError":
      return "This device cannot make a passkey of a kind this site accepts.";
    default:
      return error.message;
  }
}

function tell(message, text, isBad) {
  message.textContent = text;
  message.classList.toggle("bad", isBad);
}
