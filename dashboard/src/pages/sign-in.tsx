import { useEffect, useRef, useState } from 'preact/hooks';
import { go, href, route } from '../router';
import { loadMe, me, signIn } from '../session';
import { Button, TextField } from '../ui/controls';
import { Loading } from '../ui/resource';

export function SignIn() {
  const [name, setName] = useState('owner');
  const [password, setPassword] = useState('');
  const [error, setError] = useState<string>();
  const [busy, setBusy] = useState(false);
  // Where to go afterwards: the page that was asked for.
  const target = useRef(location.hash);
  const isOwnPage = route.value.path[0] === 'sign-in';
  const link = isOwnPage ? route.value.query.get('link') : null;

  const enter = async (body: Parameters<typeof signIn>[0]) => {
    setBusy(true);
    setError(undefined);
    try {
      await signIn(body);
      go(isOwnPage ? href([]) : target.current);
    } catch (failure) {
      setError((failure as Error).message);
      setBusy(false);
    }
  };
  useEffect(() => {
    document.title = 'Sign in · Fanfare';
    if (link) {
      // The link is good for one time only, so it needn't stay in the address.
      history.replaceState(null, '', href(['sign-in']));
      // Whoever is signed in is asked first, because the link may be another operator's.
      if (!me.value) void enter({ link });
    } else if (isOwnPage && me.value) {
      go(href([]));
    } else if (me.value === undefined) {
      void loadMe();
    }
    // A link may also come into a page that is open.
  }, [link]);
  const submit = (event: Event) => {
    event.preventDefault();
    if (!busy) void enter({ name, password });
  };
  return (
    <main class="sign-in">
      <h1>Fanfare</h1>
      {me.value && isOwnPage ? (
        <section class="panel">
          <h2>You are signed in as {me.value.name}</h2>
          {error && (
            <p class="note bad" role="alert">
              {error}
            </p>
          )}
          <div class="actions">
            <a class="button main" href={href([])}>
              Go on as {me.value.name}
            </a>
            {link && !error && <Button onClick={() => enter({ link })}>Sign in by the link</Button>}
          </div>
        </section>
      ) : link && !error ? (
        <Loading />
      ) : (
        <form class="panel" onSubmit={submit}>
          <h2>Sign in</h2>
          <TextField label="Name" value={name} onInput={setName} input={{ name: 'username', autocomplete: 'username', required: true }} />
          <TextField
            label="Password"
            value={password}
            onInput={setPassword}
            input={{ type: 'password', name: 'password', autocomplete: 'current-password', required: true, autofocus: true }}
          />
          {error && (
            <p class="note bad" role="alert">
              {error}
            </p>
          )}
          <Button type="submit" kind="main" reason={busy ? 'Wait for the answer.' : undefined}>
            Sign in
          </Button>
          <p class="dim">
            The first start of the server printed the owner’s password and a link that signs in once. Neither at hand? On the server’s machine, <code>fanfare operator sign-in-link owner</code> prints another link.
          </p>
        </form>
      )}
    </main>
  );
}
