"use strict";

/** Videos of one prompt, one screen for each row, kept in step; wiped over one another, side by side, subtracted, or all. */
class Player {
  /** `onFrame(frame)` is called whenever another frame is shown, `onState(playing)` when it starts or stops. */
  constructor(stage, data, onFrame, onState) {
    this.stage = stage;
    this.data = data;
    this.onFrame = onFrame;
    this.onState = onState;
    this.canvas = stage.querySelector("canvas");
    this.source = stage.querySelector(".source");
    this.screens = new Map([...stage.querySelectorAll(".screen")].map((screen) => [screen.dataset.row, screen]));
    this.sheets = new Map();
    this.video = 0;
    this.frame = 0;
    this.gain = 8;
    this.speed = 1;
    this.playing = false;
    for (const screen of this.screens.values()) {
      const video = screen.querySelector("video");
      video.addEventListener("seeked", () => this.#draw());
      video.addEventListener("loadeddata", () => this.#draw());
    }
  }

  get mode() {
    return this.stage.dataset.mode;
  }

  get frames() {
    return this.data.videos[this.video].frames;
  }

  /** What is shown; whatever is left out stays as it is. */
  show({ video = this.video, left = this.left, right = this.right, mode = this.mode }) {
    const playing = this.playing;
    this.pause();
    Object.assign(this, { video, left, right });
    this.stage.dataset.mode = mode;
    const shape = this.data.videos[video];
    this.stage.style.setProperty("--aspect", shape.width / shape.height);
    this.stage.classList.toggle("small", shape.height < 240);
    const pair = mode === "all" ? [...this.screens.keys()] : [left, right];
    for (const [key, screen] of this.screens) {
      screen.classList.toggle("on", pair.includes(key));
      screen.classList.toggle("left", key === left);
      screen.classList.toggle("right", key === right && right !== left);
      const player = screen.querySelector("video");
      const file = this.#clip(key).video;
      if (pair.includes(key) && player.getAttribute("src") !== file) player.src = file;
    }
    this.seek(Math.min(this.frame, this.frames - 1));
    if (playing) this.play();
  }

  /** Show one frame, standing. */
  seek(frame) {
    this.pause();
    this.frame = Math.max(0, Math.min(this.frames - 1, frame));
    // The middle of a frame, because its edges are rounded.
    for (const [key, video] of this.#shown()) video.currentTime = (this.frame + 0.5) / this.#clip(key).fps;
    this.#draw();
    this.onFrame(this.frame);
  }

  async play() {
    const videos = this.#shown().map(([, video]) => video);
    if (videos[0].ended || this.frame >= this.frames - 1) for (const video of videos) video.currentTime = 0;
    this.playing = true;
    this.onState(true);
    for (const video of videos) video.playbackRate = this.speed;
    await Promise.all(videos.map((video) => video.play().catch(() => {}))); // interrupted by a pause
    requestAnimationFrame(() => this.#tick());
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.onState(false);
    for (const [, video] of this.#shown()) video.pause();
  }

  toggle() {
    if (this.playing) this.seek(this.frame);
    else this.play();
  }

  wipe(percent) {
    this.stage.style.setProperty("--wipe", percent);
  }

  amplify(gain) {
    this.gain = gain;
    this.#draw();
  }

  accelerate(speed) {
    this.speed = speed;
    for (const [, video] of this.#shown()) video.playbackRate = speed;
  }

  /** Keys and videos of the screens that are on, the left one first. */
  #shown() {
    const keys = this.mode === "all" ? [...this.screens.keys()] : [...new Set([this.left, this.right])];
    return keys.map((key) => [key, this.screens.get(key).querySelector("video")]);
  }

  #clip(key) {
    return this.data.rows.find((row) => row.key === key).clips[this.video];
  }

  /** While playing: the others follow the first, and all begin anew when it has ended. */
  #tick() {
    if (!this.playing) return;
    const [[key, first], ...others] = this.#shown();
    const { fps } = this.#clip(key);
    if (first.ended) {
      for (const video of [first, ...others.map(([, other]) => other)]) {
        video.currentTime = 0;
        video.play().catch(() => {});
      }
    }
    for (const [, other] of others) {
      if (!other.seeking && Math.abs(other.currentTime - first.currentTime) > 0.5 / fps) other.currentTime = first.currentTime;
    }
    const frame = Math.min(this.frames - 1, Math.floor(first.currentTime * fps));
    if (frame !== this.frame) {
      this.frame = frame;
      this.onFrame(frame);
      this.#draw();
    }
    requestAnimationFrame(() => this.#tick());
  }

  /** |left - right| times the gain. Pixels are never read: a page that was opened from disk may not. */
  #draw() {
    if (this.mode !== "difference") return;
    const { width, height } = this.data.videos[this.video];
    const images = [this.left, this.right].map((key) => this.#image(key));
    if (images.some((image) => image === null)) return; // drawn when it has come
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    ["copy", "difference"].forEach((operation, index) => {
      const { image, x, y } = images[index];
      context.globalCompositeOperation = operation;
      context.drawImage(image, x, y, width, height, 0, 0, width, height);
    });
    context.globalCompositeOperation = "lighter";
    for (let gain = 1; gain < this.gain; gain *= 2) context.drawImage(this.canvas, 0, 0);
    this.source.dataset.exact = images.every(({ exact }) => exact);
  }

  /** Where the current frame of a row is: on its lossless sheet, else in its video; null while that is loading. */
  #image(key) {
    const clip = this.#clip(key);
    if (!clip.sheets.length) {
      const video = this.screens.get(key).querySelector("video");
      return video.readyState < 2 ? null : { image: video, x: 0, y: 0, exact: false };
    }
    const image = this.#sheet(clip.sheets[Math.floor(this.frame / clip.per_sheet)]);
    if (!image.complete || !image.naturalWidth) return null;
    const { width, height } = this.data.videos[this.video];
    const place = this.frame % clip.per_sheet;
    const [column, row] = [place % clip.columns, Math.floor(place / clip.columns)];
    return { image, x: column * width, y: row * height, exact: true };
  }

  #sheet(file) {
    if (!this.sheets.has(file)) {
      const image = new Image();
      image.addEventListener("load", () => this.#draw());
      image.src = file;
      this.sheets.set(file, image);
    }
    return this.sheets.get(file);
  }
}
