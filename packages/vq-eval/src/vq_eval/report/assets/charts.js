"use strict";

const FRAMES = "chart-frames";

/** The plots, drawn in the colours and the language of the page. */
class Charts {
  /** `onFrame(frame)` is called when a frame is chosen in the plot of frames. */
  constructor(data, onFrame) {
    this.data = data;
    this.onFrame = onFrame;
    this.views = new Map();
    this.figures = [];
    this.frame = 0;
  }

  /** Draw all, or draw them anew. */
  async draw() {
    const config = this.#config();
    for (const [id, spec] of Object.entries(this.data.charts)) {
      this.views.get(id)?.finalize();
      const options = { actions: false, renderer: "svg", config, tooltip: { theme: "custom" } };
      const worded = this.#worded(spec);
      if (id === FRAMES) worded.datasets = { figures: this.figures, playhead: [{ frame: this.frame }] };
      const { view } = await vegaEmbed(document.getElementById(id), worded, options);
      this.views.set(id, view);
      if (id === FRAMES) view.addEventListener("click", (event) => this.#choose(view, event));
    }
  }

  /** Plot a metric of one video. */
  plotFrames(metric, video) {
    this.figures = Object.entries(this.data.figures[metric] ?? {}).flatMap(([row, videos]) =>
      videos[video].map((figure, frame) => ({ row, frame, figure })).filter(({ figure }) => figure !== null),
    );
    this.views.get(FRAMES)?.data("figures", this.figures).run();
  }

  /** Move the line that marks the frame that is shown. */
  mark(frame) {
    this.frame = frame;
    this.views.get(FRAMES)?.data("playhead", [{ frame }]).run();
  }

  #choose(view, event) {
    const { left } = view.container().getBoundingClientRect();
    this.onFrame(Math.round(view.scale("x").invert(event.clientX - left - view.origin()[0])));
  }

  /** A text that begins with `@` is one of `words`. */
  #worded(value) {
    if (typeof value === "string" && value.startsWith("@")) {
      const language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
      return this.data.words[`plot_${value.slice(1)}`]?.[language] ?? value.slice(1);
    }
    if (Array.isArray(value)) return value.map((item) => this.#worded(item));
    if (value === null || typeof value !== "object") return value;
    const entries = Object.entries(value).map(([key, item]) => [key, this.#worded(item)]);
    const worded = Object.fromEntries(entries);
    const domain = worded.scale?.domain;
    if (worded.field === "row" && domain) worded.scale.range = domain.map((name) => this.#colour(name));
    return worded;
  }

  #colour(name) {
    const row = this.data.rows.find((it) => it.name === name);
    return colourOf(`--${row ? row.colour : "muted"}`);
  }

  #config() {
    const [ink, muted, line] = ["--ink", "--muted", "--line"].map(colourOf);
    const font = getComputedStyle(document.body).fontFamily;
    const text = { labelColor: muted, titleColor: muted, labelFont: font, titleFont: font, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400 };
    return {
      background: "transparent",
      font,
      view: { stroke: null },
      axis: { ...text, gridColor: line, domainColor: line, tickColor: line, titlePadding: 8 },
      axisY: { labelColor: ink },
      legend: { ...text, labelColor: ink, symbolStrokeColor: muted },
      rule: { color: muted },
      line: { color: colourOf("--accent") },
      point: { color: colourOf("--accent") },
    };
  }
}

/** The colour that a variable of the style sheet has now, as `rgb(…)`. */
function colourOf(variable) {
  const probe = document.createElement("i");
  probe.style.color = `var(${variable})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
