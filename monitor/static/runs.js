// The Runs tab: a page that renews itself, and buttons that confirm first.
(function () {
  "use strict";

  const live = document.getElementById("live");
  const away = document.getElementById("away");
  const confirmation = document.getElementById("confirm");
  const patience = 15000; // milliseconds; the server gives up earlier
  const kept = ["open", "data-whole"]; // attributes that the page itself sets
  let timer = null;
  let request = null; // the one that is under way

  if (live.dataset.into) {
    document.querySelector(live.dataset.into).prepend(away, live);
  }

  // Make `node` equal to `wanted`, changing only what differs: focus, selection, an opened traceback and the scroll
  // position stay as they are.
  function renew(node, wanted) {
    if (node.nodeType !== Node.ELEMENT_NODE) {
      if (node.nodeValue !== wanted.nodeValue) { node.nodeValue = wanted.nodeValue; }
      return;
    }
    renewAttributes(node, wanted);
    let at = node.firstChild;
    for (const part of wanted.childNodes) {
      const found = counterpart(node, at, part);
      if (!found) {
        node.insertBefore(document.importNode(part, true), at);
      } else {
        if (found === at) { at = at.nextSibling; } else { node.insertBefore(found, at); }
        renew(found, part);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  function counterpart(node, at, part) {
    if (part.id) {
      const found = document.getElementById(part.id);
      return found && found.parentNode === node && found.nodeName === part.nodeName ? found : null;
    }
    return at && at.nodeType === part.nodeType && at.nodeName === part.nodeName && !at.id ? at : null;
  }

  function renewAttributes(node, wanted) {
    for (const { name } of [...node.attributes]) {
      if (!wanted.hasAttribute(name) && !kept.includes(name)) { node.removeAttribute(name); }
    }
    for (const { name, value } of wanted.attributes) {
      if (node.getAttribute(name) !== value) { node.setAttribute(name, value); }
    }
  }

  // Mark the long texts of which nothing is cut off: they need no "show all".
  function markWhole() {
    const texts = [...live.querySelectorAll(".long")].filter((text) => !text.querySelector(":scope > details").open);
    const whole = texts.map(({ firstElementChild: cut }) => cut.scrollHeight <= cut.clientHeight + 1);
    texts.forEach((text, at) => text.toggleAttribute("data-whole", whole[at]));
  }

  // Screen readers announce every change, so unchanged text is not written again.
  function showStatus(reason) {
    if (away.textContent !== reason) { away.textContent = reason; }
    away.hidden = !reason;
    const dot = document.getElementById("live-dot");
    if (dot) {
      dot.classList.toggle("status-dot-error", Boolean(reason));
      dot.classList.toggle("status-dot-live", !reason);
      const words = document.getElementById("live-text");
      const state = reason ? "Not live" : "Live";
      if (words.textContent !== state) { words.textContent = state; }
    }
  }

  async function look() {
    clearTimeout(timer);
    if (request) { request.abort(); }
    const mine = request = new AbortController();
    const limit = setTimeout(() => mine.abort(), patience);
    try {
      const response = await fetch(live.dataset.from || location.href, { signal: mine.signal, credentials: "same-origin" });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      if (mine === request) { take(response, page); }
    } catch (error) {
      if (mine === request) { showStatus("Flower does not answer. What you see may be old; this page goes on trying."); }
    } finally {
      clearTimeout(limit);
      if (mine === request) {
        request = null;
        timer = document.hidden ? null : setTimeout(look, Number(live.dataset.every));
      }
    }
  }

  function take(response, page) {
    const body = live.dataset.from ? page.getElementById("batch-part") : page.getElementById("live");
    if (response.ok && body) {
      if (live.dataset.from) {
        const whole = live.cloneNode(false);
        whole.append(body);
        renew(live, whole);
      } else {
        renew(live, body);
        document.title = page.title;
      }
      markWhole();
      showStatus("");
    } else if (response.status === 503) {
      const reason = page.getElementById("away");
      showStatus((reason ? reason.textContent : "") + " What you see may be old; this page goes on trying.");
    } else if (response.status === 404) {
      showStatus("This is no longer there.");
    } else {
      showStatus("Flower asks you to log in again: load the page anew.");
    }
  }

  function cookie(name) {
    const found = document.cookie.split("; ").find((part) => part.startsWith(name + "="));
    return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
  }

  function toast(words, good) {
    const box = document.createElement("div");
    box.className = "toast align-items-center border-0 text-bg-" + (good ? "success" : "danger");
    box.setAttribute("role", good ? "status" : "alert");
    const row = document.createElement("div");
    row.className = "d-flex";
    const text = document.createElement("div");
    text.className = "toast-body";
    text.textContent = words;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn-close btn-close-white me-2 m-auto";
    close.dataset.bsDismiss = "toast";
    close.setAttribute("aria-label", "Close");
    row.append(text, close);
    box.append(row);
    document.getElementById("toast-container").append(box);
    box.addEventListener("hidden.bs.toast", () => box.remove());
    new bootstrap.Toast(box, { delay: good ? 6000 : 20000 }).show();
  }

  // Resolves to the reason that the person typed, if they agreed; else to null.
  function agreed(button) {
    document.getElementById("confirm-title").textContent = button.dataset.verb;
    document.getElementById("confirm-text").textContent = button.dataset.question;
    document.getElementById("confirm-yes").textContent = button.dataset.verb;
    document.getElementById("confirm-reason").hidden = !button.dataset.reason;
    document.getElementById("confirm-for").textContent = button.dataset.reason || "";
    document.getElementById("confirm-why").value = "";
    confirmation.returnValue = "no";
    confirmation.showModal();
    if (button.dataset.reason) { document.getElementById("confirm-why").focus(); }
    return new Promise((resolve) => {
      confirmation.addEventListener("close", () => {
        resolve(confirmation.returnValue === "yes" ? { reason: document.getElementById("confirm-why").value } : null);
      }, { once: true });
    });
  }

  async function act(button) {
    const act = button.dataset.act;
    const fields = JSON.parse(button.dataset.fields || "{}");
    const agreement = await agreed(button);
    if (!agreement) { return; }
    if (agreement.reason) { fields.reason = agreement.reason; }
    try {
      const response = await fetch(act, {
        method: "POST",
        credentials: "same-origin",
        headers: { "X-XSRFToken": cookie("_xsrf") },
        body: new URLSearchParams(fields),
      });
      const type = response.headers.get("Content-Type") || "";
      const message = type.includes("json") ? (await response.json()).message : "Flower asks you to log in again; nothing was changed.";
      toast(message, response.ok);
    } catch (error) {
      toast("Flower does not answer. Whether it was done, the page shows when it is back.", false);
    }
    look();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    if (button && !confirmation.open) { act(button); }
  });
  document.getElementById("confirm-why").addEventListener("keydown", (event) => {
    if (event.key === "Enter") { // by itself it would press the first button, which is "no"
      event.preventDefault();
      confirmation.close("yes");
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(timer); } else { look(); }
  });
  window.addEventListener("resize", markWhole);
  document.addEventListener("toggle", markWhole, true); // what a closed part holds has no size
  markWhole();
  if (live.dataset.from || !away.hidden) { look(); } else { timer = setTimeout(look, Number(live.dataset.every)); }
}());
