// Native dialogs: the browser keeps the focus inside, closes them with Escape and gives the focus back.
import { signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { Button, Prose, TextField } from './controls';

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  wide?: boolean;
  /** Called instead of closing it if Escape is pressed; such a dialog has no × either. */
  onEscape?: () => void;
}

export function Dialog({ title, onClose, children, wide, onEscape }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  // Before the next key, which belongs to the dialog.
  useLayoutEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) {
      dialog.showModal();
      firstOf(dialog)?.focus();
    }
    return () => dialog?.close();
  }, []);
  const key = (event: KeyboardEvent) => {
    if (event.key !== 'Escape' || !onEscape) return;
    event.preventDefault();
    onEscape();
  };
  const cancel = (event: Event) => {
    if (!onEscape) return;
    event.preventDefault();
    onEscape();
  };
  return (
    <dialog ref={ref} aria-labelledby={id} class={wide ? 'wide' : undefined} onClose={onClose} onKeyDown={key} onCancel={cancel}>
      <header>
        <h2 id={id} tabIndex={-1}>
          {title}
        </h2>
        {!onEscape && (
          <Button kind="quiet" label="Close" onClick={onClose}>
            ×
          </Button>
        )}
      </header>
      <div>{children}</div>
    </dialog>
  );
}

/** Where the keyboard begins: the first field, the main action of a question, or the title of what is only read. */
function firstOf(dialog: HTMLDialogElement): HTMLElement | null {
  const inOrder = ['[autofocus]', 'input:not(:disabled), select:not(:disabled), textarea:not(:disabled)', '[data-first]', '[type=submit]', 'h2'];
  for (const selector of inOrder) {
    const found = dialog.querySelector<HTMLElement>(selector);
    if (found) return found;
  }
  return null;
}

/** A form in a dialog. `submit` may fail; what the server said is shown, and the dialog stays. */
export function FormDialog({ title, action, danger, onClose, submit, children, reason, wide }: {
  title: string;
  action: string;
  danger?: boolean;
  onClose: () => void;
  submit: () => Promise<unknown>;
  children: ComponentChildren;
  reason?: string | undefined;
  wide?: boolean;
}) {
  const [error, setError] = useState<string>();
  const [busy, setBusy] = useState(false);
  const shown = useRef<HTMLParagraphElement>(null);
  // A long form may be scrolled to where it is sent from.
  useEffect(() => shown.current?.scrollIntoView({ block: 'center' }), [error]);
  const send = async (event: Event) => {
    event.preventDefault();
    if (busy || reason) return;
    setBusy(true);
    setError(undefined);
    try {
      await submit();
      onClose();
    } catch (failure) {
      setError((failure as Error).message);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose} {...(wide ? { wide } : {})}>
      <form onSubmit={(event) => void send(event)}>
        {error && (
          <p ref={shown} class="note bad" role="alert">
            <Prose text={error} />
          </p>
        )}
        {children}
        <footer>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind={danger ? 'danger' : 'main'} reason={busy ? 'Wait for the answer.' : reason}>
            {action}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}

interface Question {
  title: string;
  body: ComponentChildren;
  action: string;
  /** What has to be typed, for what can't be undone. */
  typed?: string;
  run: () => Promise<unknown>;
}

const question = signal<Question | null>(null);

/** Asks before something that can't be undone. The question names the thing. */
export function ask(next: Question): void {
  question.value = next;
}

export function Questions() {
  return question.value && <Asked key={question.value.title} {...question.value} />;
}

function Asked({ title, body, action, typed, run }: Question) {
  const [text, setText] = useState('');
  const reason = typed !== undefined && text !== typed ? `Type ${typed} first.` : undefined;
  return (
    <FormDialog title={title} action={action} danger submit={run} onClose={() => (question.value = null)} reason={reason}>
      <div>{body}</div>
      {typed !== undefined && <TextField label={`Type “${typed}” to confirm`} value={text} onInput={setText} />}
    </FormDialog>
  );
}

/** A secret that is shown once. Nothing but its button closes it, because what is closed by mistake is lost. */
export function Once({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const [asked, setAsked] = useState(false);
  return (
    <Dialog title={title} onClose={onClose} onEscape={() => setAsked(true)}>
      <p class="note warn">This is shown once. Copy it now; it can’t be shown again.</p>
      {children}
      {asked && (
        <p class="note bad" role="alert">
          It is lost once this is closed. Copy it, and press “I have copied it”.
        </p>
      )}
      <footer>
        <Button kind="main" onClick={onClose}>
          I have copied it
        </Button>
      </footer>
    </Dialog>
  );
}
