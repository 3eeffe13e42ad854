'use strict';
// The live tail: rows from the stream, newest first. What comes while it is paused waits, and is counted.
(() => {
  const SHOWN_MAX = 200;
  const tail = document.querySelector('[data-tail]');
  if (!tail) return;
  const rows = tail.querySelector('[data-rows]');
  const live = tail.querySelector('[data-live]');
  const pause = tail.querySelector('[data-pause]');
  const label = pause.querySelector('span');
  const hint = tail.querySelector('[data-waiting]');
  const tones = { succeeded: 'good', failed: 'bad', unknown: 'warn' };
  let waiting = [];
  let missed = 0;
  let paused = false;

  const say = (state, words) => {
    if (live.dataset.state === state && live.textContent === words) return;
    live.dataset.state = state;
    live.textContent = words;
  };
  const cell = (row, name, content, kind = 'td') => {
    const made = document.createElement(kind);
    made.dataset.label = name;
    made.append(content);
    row.append(made);
    return made;
  };
  const link = (path, words) => {
    const made = document.createElement('a');
    made.href = path;
    made.textContent = words;
    return made;
  };
  const badge = (word) => {
    const made = document.createElement('span');
    made.className = `badge ${tones[word] || 'flat'}`;
    made.textContent = word;
    return made;
  };
  const show = (ended) => {
    const { attempt } = ended;
    const row = document.createElement('tr');
    const at = new Date(Date.parse(attempt.started_at) + attempt.duration_ms);
    const time = document.createElement('time');
    time.dateTime = at.toISOString();
    time.title = at.toISOString();
    time.textContent = at.toLocaleTimeString();
    cell(row, 'Ended', time).className = 'nowrap';
    const outcome = document.createElement('div');
    outcome.append(badge(attempt.outcome));
    if (attempt.reason) outcome.append(` ${attempt.reason}`);
    cell(row, 'Outcome', outcome);
    cell(row, 'Event type', link(`/ui/deliveries/${encodeURIComponent(ended.delivery_id)}`, ended.type));
    cell(row, 'Destination', link(`/ui/destinations/${encodeURIComponent(ended.destination_id)}`, ended.destination_name));
    cell(row, 'Attempt', String(attempt.number)).className = 'num';
    cell(row, 'Status', attempt.status === null ? '–' : String(attempt.status)).className = 'num';
    cell(row, 'Took', `${attempt.duration_ms} ms`).className = 'num';
    rows.prepend(row);
    while (rows.childElementCount > SHOWN_MAX) rows.lastElementChild.remove();
    hint.hidden = true;
  };
  const count = () => {
    label.textContent = paused ? `Go on${waiting.length ? ` (${waiting.length})` : ''}` : 'Pause';
  };

  const stream = new EventSource(tail.dataset.tail + location.search);
  stream.onopen = () => say('on', paused ? 'paused' : 'live');
  stream.onerror = () => say('off', stream.readyState === EventSource.CLOSED ? 'ended; load the page again' : 'lost; trying again');
  stream.onmessage = (message) => {
    const ended = JSON.parse(message.data);
    if (!paused) return show(ended);
    waiting.push(ended);
    // No more than would be shown.
    if (waiting.length > SHOWN_MAX) waiting.shift();
    count();
  };
  stream.addEventListener('missed', (message) => {
    const { missed: more } = JSON.parse(message.data);
    missed += more || 0;
    say('on', missed ? `live; too fast for this page, ${missed} left out` : 'live; too fast for this page, some left out');
  });
  pause.hidden = false;
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    say('on', paused ? 'paused' : 'live');
    if (!paused) {
      waiting.forEach(show);
      waiting = [];
    }
    count();
  });
})();
