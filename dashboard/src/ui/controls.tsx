// Buttons, fields and the small parts that every page has.
import type { ComponentChildren, InputHTMLAttributes } from 'preact';
import { useEffect, useId, useState } from 'preact/hooks';
import { ago, localTime, utc } from '../format';
import { toast } from './toast';

type ButtonProps = {
  children: ComponentChildren;
  onClick?: (() => unknown) | undefined;
  /** Why it can't be used now. The button stays reachable, so that everyone can read the reason. */
  reason?: string | undefined;
  kind?: 'plain' | 'main' | 'danger' | 'quiet';
  type?: 'button' | 'submit';
  label?: string | undefined;
  pressed?: boolean | undefined;
  /** Whether a dialog without fields begins with it. */
  first?: boolean | undefined;
};

export function Button({ children, onClick, reason, kind = 'plain', type = 'button', label, pressed, first }: ButtonProps) {
  const [busy, setBusy] = useState(false);
  const click = async (event: MouseEvent) => {
    if (reason || busy) {
      event.preventDefault();
      if (reason) toast(reason, { bad: true });
      return;
    }
    const result = onClick?.();
    if (!(result instanceof Promise)) return;
    setBusy(true);
    try {
      await result;
    } catch (error) {
      toast((error as Error).message, { bad: true });
    } finally {
      setBusy(false);
    }
  };
  return (
    <button
      type={type}
      class={`button ${kind}`}
      onClick={(event) => void click(event)}
      aria-disabled={reason || busy ? 'true' : undefined}
      aria-busy={busy || undefined}
      aria-label={label && reason ? `${label}: ${reason}` : label}
      aria-pressed={pressed}
      data-first={first || undefined}
      title={reason ?? label}
    >
      {children}
      {reason && !label && <span class="hidden">: {reason}</span>}
    </button>
  );
}

type FieldProps = {
  label: string;
  help?: ComponentChildren;
  error?: string | undefined;
  children: (props: { id: string; 'aria-describedby'?: string }) => ComponentChildren;
};

export function Field({ label, help, error, children }: FieldProps) {
  const id = useId();
  const described = help || error ? { 'aria-describedby': `${id}-help` } : {};
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, ...described })}
      {(help || error) && (
        <div id={`${id}-help`} class="help">
          {error && (
            <span class="bad" role="alert">
              {error}{' '}
            </span>
          )}
          {prose(help)}
        </div>
      )}
    </div>
  );
}

type TextProps = {
  label: string;
  value: string;
  onInput: (value: string) => void;
  help?: ComponentChildren;
  error?: string | undefined;
  input?: Omit<InputHTMLAttributes<HTMLInputElement>, 'value' | 'onInput' | 'id'>;
};

export function TextField({ label, value, onInput, help, error, input }: TextProps) {
  return (
    <Field label={label} help={help} error={error}>
      {(props) => (
        <input type="text" autocomplete="off" spellcheck={false} {...(input as object)} {...props} value={value} onInput={(e) => onInput(e.currentTarget.value)} />
      )}
    </Field>
  );
}

type AreaProps = { label: string; value: string; onInput: (value: string) => void; rows: number; help?: ComponentChildren; required?: boolean; disabled?: boolean; placeholder?: string };

/** A text of several lines. It has as many rows as its text, and `rows` at least. */
export function TextArea({ label, value, onInput, rows, help, ...input }: AreaProps) {
  return (
    <Field label={label} help={help}>
      {(props) => <textarea {...input} {...props} rows={Math.max(rows, value.split('\n').length)} spellcheck={false} value={value} onInput={(event) => onInput(event.currentTarget.value)} />}
    </Field>
  );
}

type SelectProps<T extends string> = {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
  help?: ComponentChildren;
  reason?: string | undefined;
};

export function Select<T extends string>({ label, value, options, onChange, help, reason }: SelectProps<T>) {
  return (
    <Field label={label} help={reason ?? help}>
      {(props) => (
        <select {...props} disabled={!!reason} onChange={(e) => onChange(e.currentTarget.value as T)}>
          {options.map(([option, text]) => (
            <option key={option} value={option} selected={option === value}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

export function Check({ label, checked, onChange, help, reason }: { label: ComponentChildren; checked: boolean; onChange: (on: boolean) => void; help?: ComponentChildren; reason?: string | undefined }) {
  const id = useId();
  const text = reason ?? help;
  return (
    <div class="check">
      <input
        type="checkbox"
        id={id}
        checked={checked}
        disabled={!!reason}
        aria-describedby={text ? `${id}-help` : undefined}
        onChange={(e) => onChange(e.currentTarget.checked)}
      />
      <label for={id}>{label}</label>
      {text && (
        <div id={`${id}-help`} class="help">
          {prose(text)}
        </div>
      )}
    </div>
  );
}

function prose(help: ComponentChildren): ComponentChildren {
  return typeof help === 'string' ? <Prose text={help} /> : help;
}

/** Text in which backticks mark code. */
export function Prose({ text }: { text: string }) {
  return <>{text.split('`').map((part, at) => (at % 2 ? <code key={at}>{part}</code> : part))}</>;
}

/** A moment in the viewer's zone, with UTC on hover. */
export function Time({ at, relative }: { at: number | null | undefined; relative?: boolean }) {
  if (at === null || at === undefined) return <span class="dim">never</span>;
  return (
    <time dateTime={new Date(at).toISOString()} title={`${utc(at)}${relative ? `, here ${localTime(at)}` : ''}`}>
      {relative ? ago(at) : localTime(at)}
    </time>
  );
}

export function Copy({ text, what, name = 'copy', first }: { text: string; what: string; name?: string; first?: boolean | undefined }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => {
    await copyText(text);
    setDone(true);
  };
  return (
    <Button kind="quiet" label={done ? `Copied ${what}` : name === 'copy' ? `Copy ${what}` : name} first={first} onClick={copy}>
      {done ? 'copied' : name}
    </Button>
  );
}

/** Pages without TLS have no clipboard, but an old command that copies what is selected. */
async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement('textarea');
  area.value = text;
  (document.querySelector('dialog[open]') ?? document.body).append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  if (!copied) throw new Error('This browser does not let the page copy; select the text and copy it.');
}

/** A word that tells a state, in a colour that says it again. */
export function Badge({ children, kind = 'plain' }: { children: ComponentChildren; kind?: 'plain' | 'good' | 'warn' | 'bad' }) {
  // Words stay whole, but an address in an error is longer than any column.
  const long = typeof children === 'string' && /\S{25}/.test(children);
  return <span class={`badge ${kind}${long ? ' long' : ''}`}>{children}</span>;
}

export function Code({ text, what }: { text: string; what: string }) {
  return (
    <div class="code">
      <pre tabIndex={0} role="region" aria-label={what}>
        <code>{text}</code>
      </pre>
      <Copy text={text} what={what} />
    </div>
  );
}

/** Names and values. */
export function Facts({ of }: { of: readonly (readonly [string, ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value ?? <span class="dim">none</span>}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Tile({ label, value, note, bad }: { label: string; value: ComponentChildren; note?: ComponentChildren; bad?: boolean }) {
  return (
    <div class={bad ? 'tile bad' : 'tile'}>
      <span class="label">{label}</span>
      <span class="value">{value}</span>
      {note && <span class="dim">{note}</span>}
    </div>
  );
}

export function Panel({ title, actions, children, id }: { title: string; actions?: ComponentChildren; children: ComponentChildren; id?: string }) {
  const own = useId();
  return (
    <section class="panel" aria-labelledby={id ?? own}>
      <header>
        <h2 id={id ?? own}>{title}</h2>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </section>
  );
}

export function Page({ title, actions, children, lead }: { title: string; actions?: ComponentChildren; children: ComponentChildren; lead?: ComponentChildren }) {
  useEffect(() => {
    document.title = `${title} · Fanfare`;
  }, [title]);
  return (
    <>
      <header class="page-head">
        <h1 tabIndex={-1}>{title}</h1>
        {actions && <div class="actions">{actions}</div>}
        {lead && <p class="lead">{lead}</p>}
      </header>
      {children}
    </>
  );
}
