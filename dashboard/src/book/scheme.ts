// Before anything is drawn: the colours that this browser was told to use, here or in the dashboard.
try {
  const saved = localStorage.getItem('fanfare.scheme');
  if (saved === 'light' || saved === 'dark') document.documentElement.dataset.scheme = saved;
} catch {
  // This browser keeps nothing.
}
export {};
