// Colours of code, made of elements: the pages' policy lets no text become HTML.
import bash from 'highlight.js/lib/languages/bash';
import css from 'highlight.js/lib/languages/css';
import go from 'highlight.js/lib/languages/go';
import http from 'highlight.js/lib/languages/http';
import ini from 'highlight.js/lib/languages/ini';
import javascript from 'highlight.js/lib/languages/javascript';
import json from 'highlight.js/lib/languages/json';
import nginx from 'highlight.js/lib/languages/nginx';
import php from 'highlight.js/lib/languages/php';
import python from 'highlight.js/lib/languages/python';
import ruby from 'highlight.js/lib/languages/ruby';
import sql from 'highlight.js/lib/languages/sql';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';
import type { RootContent } from 'hast';
import { createLowlight } from 'lowlight';
import { element } from './element';

const lowlight = createLowlight({ bash, css, go, http, ini, javascript, json, nginx, php, python, ruby, sql, typescript, xml, yaml });

/** Colours a block whose class names a language that is known. */
export function highlight(code: HTMLElement): void {
  const language = code.className.replace('language-', '');
  if (!lowlight.registered(language)) return;
  code.replaceChildren(...lowlight.highlight(language, code.textContent ?? '').children.map(node));
}

function node(part: RootContent): Node | string {
  if (part.type === 'text') return part.value;
  if (part.type !== 'element') return '';
  return element('span', { class: (part.properties.className as string[]).join(' ') }, ...part.children.map(node));
}
