import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { Fanfare } from '../../dist/es/index.js';
import { FanfareProvider, useConnectionState, useEvent, usePresence } from '../../dist/es/react.js';

function Orders() {
  const [orders, setOrders] = useState([]);
  useEvent('orders', 'shipped', ({ id }) => setOrders((before) => [...before, id]));
  return <p id="orders">{orders.join()}</p>;
}

function App() {
  const [shown, setShown] = useState(true);
  const { members } = usePresence('presence-room');
  return (
    <>
      <p id="state">{useConnectionState()}</p>
      <p id="members">{members.map(({ id }) => id).join()}</p>
      <button onClick={() => setShown(!shown)}>toggle</button>
      {shown && <Orders />}
    </>
  );
}

globalThis.start = (key, options) => {
  globalThis.client = new Fanfare(key, options);
  createRoot(document.body.appendChild(document.createElement('main'))).render(
    <StrictMode>
      <FanfareProvider client={globalThis.client}>
        <App />
      </FanfareProvider>
    </StrictMode>,
  );
};
