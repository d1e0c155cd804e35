/* Pages opened from disk may not start a worker, and the search of these pages runs in one. Here a
   hidden frame takes its place. Nothing is fetched that is not in this folder. */
"use strict";

if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.appendChild(frame);
      this.inside = frame.contentWindow;
      const script = this.inside.document;
      // In the frame, messages go to the page, and further scripts load one after the other.
      this.inside.postMessage = (data) =>
        this.dispatchEvent(new MessageEvent("message", { data }));
      this.inside.importScripts = (...urls) =>
        urls.reduce(
          (before, one) =>
            before.then(
              () =>
                new Promise((done, failed) => {
                  const tag = script.createElement("script");
                  tag.src = one;
                  tag.onload = done;
                  tag.onerror = failed;
                  script.body.appendChild(tag);
                })
            ),
          Promise.resolve()
        );
      const tag = script.createElement("script");
      tag.src = url;
      this.ready = new Promise((done, failed) => {
        tag.onload = done;
        tag.onerror = failed;
      });
      script.body.appendChild(tag);
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.inside.frameElement.remove();
    }
  };
  window.Worker = window.IFrameWorker;
}
