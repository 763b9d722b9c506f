// SPDX-License-Identifier: GPL-3.0-or-later
// <form data-passkey="create|get" data-passkey-options="JSON"> with an input named credential, a [data-passkey-go]
// button and a [data-passkey-problem] line: asks the browser for a passkey, then posts the form. Without options they
// are fetched from the form's address. An unticked [name=passwordless] makes a key that is a second step only.
"use strict";
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const listed = (keys) => (keys || []).map((key) => ({ ...key, id: bytes(key.id) }));

async function optionsOf(form) {
  if (form.dataset.passkeyOptions) return JSON.parse(form.dataset.passkeyOptions).publicKey;
  const answer = await fetch(form.action, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error("The portal did not answer.");
  return (await answer.json()).request_options.publicKey;
}

async function made(form) {
  const options = await optionsOf(form);
  const alone = form.elements.passwordless?.checked;
  const choice = { ...options.authenticatorSelection, residentKey: alone ? "required" : "discouraged", requireResidentKey: Boolean(alone) };
  if (alone) choice.userVerification = "required";
  return navigator.credentials.create({ publicKey: {
    ...options,
    challenge: bytes(options.challenge),
    user: { ...options.user, id: bytes(options.user.id) },
    excludeCredentials: listed(options.excludeCredentials),
    authenticatorSelection: choice,
  } });
}

async function got(form) {
  const options = await optionsOf(form);
  return navigator.credentials.get({ publicKey: {
    ...options, challenge: bytes(options.challenge), allowCredentials: listed(options.allowCredentials),
  } });
}

function posted(key) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (key.response[name]) response[name] = text(key.response[name]);
  }
  if (key.response.getTransports) response.transports = key.response.getTransports();
  return { id: key.id, rawId: text(key.rawId), type: key.type, response, clientExtensionResults: key.getClientExtensionResults() };
}

const WHY = {
  NotAllowedError: "No passkey was given: it was cancelled, took too long, or this device has none for the portal. Try again.",
  InvalidStateError: "This device already has a passkey for you here.",
  SecurityError: "Passkeys need the portal's name in the address bar and https.",
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-passkey-go]");
  const form = button?.closest("form");
  if (!form) return;
  const problem = form.querySelector("[data-passkey-problem]");
  problem.hidden = true;
  button.disabled = true;
  try {
    if (!window.PublicKeyCredential) throw new DOMException("", "SecurityError");
    const key = await (form.dataset.passkey === "create" ? made(form) : got(form));
    form.elements.credential.value = JSON.stringify(posted(key));
    form.submit();
  } catch (error) {
    problem.textContent = WHY[error.name] || `The passkey could not be used: ${error.message}`;
    problem.hidden = false;
    button.disabled = false;
  }
});
