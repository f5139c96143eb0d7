// Plays a walk over positions: play, pause, steps, speed. What is shown at each stop is the caller's.

/** Positions a second, from slow enough to read every number to a sweep. */
const SPEEDS = [0.5, 1, 2, 4, 8, 16, 32];

/** Where motion is not wanted, playing is still a reader's own choice; it begins slowly, and nothing glides. */
function firstSpeed() {
  return SPEEDS.indexOf(matchMedia("(prefers-reduced-motion: reduce)").matches ? 0.5 : 4);
}

/**
 * The controls of an animation. `walk` has stops() (a list), current() (the index of the stop shown, or -1),
 * show(stop, how) with how "play" or "step", and name(stop), an array for `window.convcore.visited`.
 * Playing goes on from where it stands, and from the beginning when it stands at the end.
 */
function animationControls(walk) {
  let timer = null;
  let speed = firstSpeed();

  const play = element("button", { type: "button", class: "play", onclick: () => (timer ? pause() : start()) });
  const speedText = element("output", {});
  const speedRange = element("input", {
    type: "range", min: 0, max: SPEEDS.length - 1, step: 1, value: speed,
    oninput: () => setSpeed(Number(speedRange.value)),
  });
  const button = (name, text, by) => element("button", {
    type: "button", "aria-label": name, title: name, onclick: () => step(by),
  }, text);
  const controls = element("div",
    { class: "animation controls", role: "group", "aria-label": "Animation of the window" },
    button("First", "|◂", -Infinity), button("Step back", "◂", -1), play, button("Step", "Step ▸", 1),
    element("label", { class: "speed" }, "Speed ", speedRange, speedText));

  function setSpeed(index) {
    speed = index;
    speedText.textContent = ` ${SPEEDS[speed]} a second`;
    speedRange.setAttribute("aria-valuetext", `${SPEEDS[speed]} positions a second`);
  }

  function visit(index, how) {
    const stop = walk.stops()[index];
    const { visited } = window.convcore;
    if (index === 0) visited.length = 0;
    visited.push(walk.name(stop));
    walk.show(stop, how);
  }

  function start() {
    const last = walk.stops().length - 1;
    const from = walk.current();
    visit(from < 0 || from === last ? 0 : from, "play");
    if (last > 0) schedule();
    label();
  }

  function schedule() {
    timer = setTimeout(() => {
      // The view may have left the page meanwhile.
      if (!controls.isConnected) return pause();
      const next = walk.current() + 1;
      visit(next, "play");
      if (next >= walk.stops().length - 1) return pause();
      schedule();
    }, 1000 / SPEEDS[speed]);
  }

  function pause() {
    clearTimeout(timer);
    timer = null;
    label();
    if (controls.isConnected) walk.show(walk.stops()[walk.current()], "step");
  }

  function step(by) {
    if (timer) pause();
    const most = walk.stops().length - 1;
    visit(Math.min(Math.max(walk.current() + by, 0), most), "step");
  }

  function label() {
    play.textContent = timer ? "⏸ Pause" : "▶ Play";
  }

  setSpeed(speed);
  label();
  return { controls, playing: () => timer !== null, pause: () => timer && pause() };
}
