// Browsers start no Worker from a page that was opened as a file. There, the search runs in a hidden frame instead.
if (location.protocol === "file:") {
  const frameSetup = `
    postMessage = parent.postMessage.bind(parent);
    importScripts = (...urls) => urls.reduce((done, url) => done.then(() => new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = url; script.onload = resolve; script.onerror = reject;
      document.body.appendChild(script);
    })), Promise.resolve());`;

  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      const inner = this.frame.contentWindow;
      inner.document.open();
      inner.document.write(`<body><script>${frameSetup}</` + `script><script src="${url}"></` + `script></body>`);
      inner.document.close();
      this.ready = new Promise((resolve, reject) => { inner.onload = resolve; inner.onerror = reject; });
      this.receive = (event) => {
        if (event.source !== inner) return;
        const message = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(message);
        if (this.onmessage) this.onmessage(message);
      };
      addEventListener("message", this.receive);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(
        new MessageEvent("message", { data: structuredClone(data) })));
    }

    terminate() {
      removeEventListener("message", this.receive);
      this.frame.remove();
    }
  };
  window.Worker = window.IFrameWorker;
}
