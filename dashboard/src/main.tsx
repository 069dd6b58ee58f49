import { render } from 'preact';
import './style.css';
import { Shell } from './shell';
import { loadMe } from './session';
import './theme';

void loadMe();
const root = document.getElementById('root');
if (root) render(<Shell />, root);
