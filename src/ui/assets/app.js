'use strict';
// What pages cannot do without script: dialogs, a search among events, copying, confirmations. Every page works
// without it as far as it can. Nothing that came from outside is ever parsed as markup here: it is put in as text.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // ---------------------------------------------------------------------------------------------------- dialogs
  // What a form sends is compared with what it came with: to read that with FormData would lay the page out before its first paint.
  const isDirty = (form) => form?.dataset.dirty !== undefined
    && (form.dataset.dirty === 'refused' || [...form.elements].some((field) => field.name && !field.matches(':disabled') && isChanged(field)));
  const isChanged = (field) => {
    if (field.options) {
      const options = [...field.options];
      return options.findIndex((it) => it.selected) !== Math.max(0, options.findIndex((it) => it.defaultSelected));
    }
    return ['checkbox', 'radio'].includes(field.type) ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
  };

  const ask = (words, yes, no, danger) => new Promise((resolve) => {
    const dialog = make('dialog', { class: 'small', 'aria-label': words });
    const agree = make('button', { type: 'button', class: danger ? 'primary danger' : 'primary' }, yes);
    const decline = make('button', { type: 'button', class: 'left' }, no);
    dialog.append(make('section', { class: 'card' }, make('p', {}, words), make('div', { class: 'buttons' }, decline, agree)));
    let answer = false;
    agree.addEventListener('click', () => { answer = true; dialog.close(); });
    decline.addEventListener('click', () => dialog.close());
    dialog.addEventListener('close', () => { dialog.remove(); resolve(answer); });
    document.body.append(dialog);
    dialog.showModal();
    decline.focus();
  });

  const leave = async (dialog) => {
    const form = dialog.querySelector('form[data-dirty]');
    if (!isDirty(form) || await ask('Your changes are not saved.', 'Abandon Changes', 'Go On Editing', true)) dialog.close();
  };

  // A page's dialog part, and its title as the dialog's.
  const dialogPart = (text) => {
    const page = new DOMParser().parseFromString(text, 'text/html');
    const part = page.querySelector('[data-dialog-body]');
    return part && { part: document.adoptNode(part), title: page.querySelector('main h1')?.textContent ?? '' };
  };

  const fill = (dialog, { part, title }) => {
    const focused = dialog.contains(document.activeElement) && document.activeElement.id;
    const heading = make('h2', { id: `d-title-${dialog.dataset.depth}` }, title);
    dialog.setAttribute('aria-labelledby', heading.id);
    dialog.classList.toggle('small', part.dataset.dialogBody === 'small');
    all('h2.hidden', part).forEach((old) => old.remove());
    part.prepend(heading);
    dialog.replaceChildren(part);
    enhance(dialog);
    (dialog.querySelector('[aria-invalid]') ?? (focused ? document.getElementById(focused) : null) ?? dialog.querySelector('input:not([type=hidden], [type=search]), .buttons a, button'))?.focus();
  };

  // Whoever was signed out meanwhile keeps what was typed.
  const signedOut = (form) => {
    const link = make('a', { href: '/ui/login', target: '_blank' }, 'Sign in in another tab');
    form.querySelector('[data-signed-out]')?.remove();
    form.prepend(make('div', { class: 'notice bad', role: 'alert', 'data-signed-out': '' },
      make('p', {}, 'You were signed out: nothing has changed. ', link, ', and send this again.')));
    form.scrollIntoView({ block: 'start' });
  };

  // As without script, with the button that was pressed: another one would ask for something else.
  const sendPlainly = (form, pressed) => {
    if (pressed?.name) form.append(make('input', { type: 'hidden', name: pressed.name, value: pressed.value }));
    form.submit();
  };

  const open = async (path) => {
    const answer = await fetch(path, { headers: { accept: 'text/html' } });
    const found = dialogPart(await answer.text());
    if (!found || answer.redirected) { location.assign(path); return; }
    const dialog = make('dialog', { 'data-depth': String(all('dialog[open]').length) });
    dialog.addEventListener('cancel', (event) => { event.preventDefault(); leave(dialog); });
    dialog.addEventListener('close', () => dialog.remove());
    dialog.addEventListener('click', (event) => {
      if (event.target.closest('[data-close]')) { event.preventDefault(); leave(dialog); }
    });
    dialog.addEventListener('submit', async (event) => {
      const form = event.target;
      if (form.method !== 'post' || event.defaultPrevented) return;
      event.preventDefault();
      const button = event.submitter ?? form.querySelector('button.primary');
      // Before the button is disabled: what is sends nothing.
      const body = new URLSearchParams(new FormData(form, event.submitter));
      button.disabled = true;
      try {
        const sent = await fetch(form.action, { method: 'POST', body });
        if (sent.redirected && new URL(sent.url).searchParams.has('undone')) { signedOut(form); return; }
        if (sent.redirected) { location.assign(sent.url); return; }
        const again = dialogPart(await sent.text());
        if (!again) { sendPlainly(form, event.submitter); return; }
        const typed = all('input[type=password]', form).map((input) => [input.name, input.value]);
        fill(dialog, again);
        // The daemon sends no password back.
        all('[data-retype]', dialog).forEach((hint) => hint.remove());
        typed.forEach(([name, value]) => all('input[type=password]', dialog).filter((input) => input.name === name)
          .forEach((input) => { input.value = value; }));
      } catch {
        sendPlainly(form, event.submitter);
      } finally {
        button.disabled = false;
      }
    });
    document.body.append(dialog);
    fill(dialog, found);
    dialog.showModal();
  };

  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-dialog]');
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
      event.preventDefault();
      open(link.href).catch(() => location.assign(link.href));
    }
  });

  // What destroys asks first.
  document.addEventListener('submit', (event) => {
    const form = event.target;
    if (!form.dataset.confirm || form.elements.agreed) return;
    event.preventDefault();
    const words = event.submitter?.textContent.trim() || 'Go on';
    ask(form.dataset.confirm, words, 'Leave it', true).then((yes) => {
      if (!yes) return;
      // Without it the daemon asks once more, on a page. It goes again, for whoever comes back to this page.
      const agreed = make('input', { type: 'hidden', name: 'agreed', value: 'yes' });
      form.append(agreed);
      form.requestSubmit(event.submitter);
      agreed.remove();
    });
  }, true);

  // On a page of its own the form asks, too, before it is left.
  all('main [data-close]').forEach((link) => link.addEventListener('click', async (event) => {
    const form = link.closest('form');
    if (!isDirty(form)) return;
    event.preventDefault();
    if (await ask('Your changes are not saved.', 'Abandon Changes', 'Go On Editing', true)) location.assign(link.href);
  }));

  // ------------------------------------------------------------------------------------------------------ forms
  const types = (field) => {
    const search = field.querySelector('input[type=search]');
    const chosen = field.querySelector('.chosen');
    const boxes = all('input[type=checkbox]', field);
    if (!search) return;
    search.parentElement.hidden = false;
    const show = () => {
      const ticked = boxes.filter((box) => box.checked);
      chosen.hidden = ticked.length === 0;
      chosen.replaceChildren(...ticked.map((box) => {
        const button = make('button', { type: 'button', 'aria-label': `Remove ${box.value}` }, box.value, ' \u00d7');
        button.addEventListener('click', () => { box.checked = false; show(); search.focus(); });
        return make('li', {}, button);
      }));
    };
    search.addEventListener('input', () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      all('.group', field).forEach((group) => {
        let any = false;
        all('.choice', group).forEach((choice) => {
          const fits = words.every((word) => choice.textContent.toLowerCase().includes(word));
          choice.hidden = !fits;
          any ||= fits;
        });
        group.hidden = !any;
      });
    });
    search.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter') return;
      event.preventDefault();
      const first = all('.choice', field).find((choice) => !choice.hidden && !choice.parentElement.hidden);
      if (search.value && first) { const box = first.querySelector('input'); box.checked = !box.checked; show(); }
    });
    field.addEventListener('change', show);
    show();
  };

  // The box that resets becomes the button that source 001 tells of.
  const reset = (part) => {
    const label = part.querySelector('.reset-switch');
    const box = label.querySelector('input');
    const panel = part.querySelector('.reset-panel');
    const button = make('button', { type: 'button' });
    const show = () => {
      button.textContent = box.checked ? 'Keep Current Configuration' : 'Reset Webhook Authentication';
      button.setAttribute('aria-expanded', String(box.checked));
      all('input', panel).forEach((input) => { input.disabled = !box.checked; });
    };
    button.addEventListener('click', () => {
      box.checked = !box.checked;
      show();
      if (box.checked) panel.querySelector('input')?.focus();
    });
    label.hidden = true;
    label.after(button);
    show();
  };

  // What depends on a choice is fetched when another one is made: without script a button does.
  const choosing = (button) => {
    const choice = document.getElementById(button.dataset.chosen);
    if (choice?.tagName !== 'SELECT') return;
    button.hidden = true;
    choice.addEventListener('change', () => choice.form.requestSubmit(button));
  };

  const copying = (button) => {
    if (!navigator.clipboard) return;
    button.hidden = false;
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      say('Copied.');
    });
  };

  const voice = make('div', { role: 'status', class: 'hidden' });
  document.body.append(voice);
  const say = (words) => { voice.textContent = ''; setTimeout(() => { voice.textContent = words; }, 50); };

  const enhance = (root) => {
    all('[data-types]', root).forEach(types);
    all('[data-reset]', root).forEach(reset);
    all('[data-chosen]', root).forEach(choosing);
    all('[data-copy]', root).forEach(copying);
  };
  enhance(document);
})();
