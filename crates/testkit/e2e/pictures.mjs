// Draws the pictures of the documentation: docs/pictures/NAME.pikchr becomes docs/images/NAME.svg. Run by scripts/pictures.
//
// Pikchr is C that was compiled to WebAssembly. It places everything where the source says, and asks no font how wide a text is, so
// each machine draws the same bytes. What it knows of colours is one number each. Here each number stands for a class, whose colours
// in both schemes are those of the dashboard.
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { pathToFileURL } from 'node:url';
import pikchr from 'pikchr-js';

export const REPOSITORY = new URL('../../../', import.meta.url);
const SOURCES = new URL('docs/pictures/', REPOSITORY);
export const IMAGES = new URL('docs/images/', REPOSITORY);
const STYLESHEET = new URL('dashboard/src/style.css', REPOSITORY);
/** What every source begins with. */
const SHAPES = 'shapes.pikchr';

/** Names of colours in the sources, and what they are in the dashboard's style sheet, or in the light and the dark scheme. */
const COLOURS = {
  paper: '--bg',
  ink: '--text',
  label: '--text',
  dim: '--dim',
  quiet: '--dim',
  thread: ['#aab3bd', '#505a66'],
  panel: '--panel',
  clientline: '--link',
  clientfill: ['#e6f0fa', '#16293c'],
  fanfareline: '--accent',
  fanfarefill: '--bad-bg',
  backendline: '--good',
  backendfill: '--good-bg',
  storeline: '--dim',
  storefill: '--hover',
  warnline: '--warn',
  warnfill: '--warn-bg',
};
const NAMES = Object.keys(COLOURS);

/** Space around what is drawn, in pixels. */
const MARGIN = 14;

/** Names of all pictures, without an ending. */
export async function pictureNames() {
  const files = await readdir(SOURCES);
  return files.filter((file) => file.endsWith('.pikchr') && file !== SHAPES).map((file) => basename(file, '.pikchr')).sort();
}

/** Draws a picture, and returns the text of its SVG. */
export async function draw(name) {
  const [render, palette, shapes, source] = await Promise.all([
    pikchr(),
    dashboardColours(),
    readFile(new URL(SHAPES, SOURCES), 'utf8'),
    readFile(new URL(`${name}.pikchr`, SOURCES), 'utf8'),
  ]);
  const numbers = NAMES.map((colour, index) => `${colour} = ${index + 1}`).join('\n');
  const { svg, width, height } = render.render(`${numbers}\n${shapes}\n${source}`, 'pikchr', render.flags.PLAINTEXT_ERRORS);
  if (width <= 0) throw new Error(`docs/pictures/${name}.pikchr: ${svg}`);
  const { title, description } = texts(name, source);
  const body = svg.replace(/^[^]*?<svg[^>]*>\n?/, '').replace(/<\/svg>[^]*$/, '').trim();
  const { box, rest } = onPaper(withClasses(body));
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${box.join(' ')}" width="${box[2]}" height="${box[3]}" role="img" ` +
      `aria-labelledby="${name}-title ${name}-desc">`,
    `<title id="${name}-title">${escape(title)}</title>`,
    `<desc id="${name}-desc">${escape(description)}</desc>`,
    `<style>${style(rest, palette)}</style>`,
    `<rect class="ground" x="${box[0] + 0.5}" y="${box[1] + 0.5}" width="${box[2] - 1}" height="${box[3] - 1}" rx="10"/>`,
    rest,
    '</svg>',
  ];
  return `${lines.join('\n')}\n`;
}

/** Colours of the dashboard by name, each for the light and the dark scheme. */
export async function dashboardColours() {
  const css = await readFile(STYLESHEET, 'utf8');
  return new Map(Array.from(css.matchAll(/(--[\w-]+): light-dark\((#\w+), (#\w+)\)/g), ([, name, ...pair]) => [name, pair]));
}

/** The first two comments of a source: what a screen reader says of the picture. */
function texts(name, source) {
  const comment = (field) => {
    const [, first] = new RegExp(`^# ${field}: ((?:.|\\n#  )*)`, 'm').exec(source) ?? [];
    if (!first) throw new Error(`docs/pictures/${name}.pikchr has no comment "# ${field}: …"`);
    return first.replace(/\n#\s+/g, ' ');
  };
  return { title: comment('title'), description: comment('desc') };
}

/** Where the picture's own rectangle is, and what is drawn on it. Pikchr's bounds are wider where it takes a text to be wide. */
function onPaper(drawn) {
  const [whole, path] = /<path d="([^"]*)" class="hollow s-paper"\/>\n/.exec(drawn);
  const numbers = Array.from(path.matchAll(/([\d.]+),([\d.]+)/g), ([, x, y]) => [Number(x), Number(y)]);
  const [left, top] = [0, 1].map((axis) => Math.min(...numbers.map((point) => point[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...numbers.map((point) => point[axis])));
  const box = [left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN];
  return { box: box.map((number) => Number(number.toFixed(1))), rest: drawn.replace(whole, '') };
}

/** What Pikchr drew, with a class for each number that stood for a colour, and back quotes around code as another font. */
function withClasses(body) {
  return body
    .replace(/\s*style="([^"]*)"/g, (_, css) => ` ${attributes(css)}`)
    .replace(/ fill="rgb\(0,0,(\d+)\)"/g, (_, number) => ` class="${NAMES[number - 1]}"`)
    .replace(/`([^`]*)`/g, '<tspan class="code">$1</tspan>')
    .replace(/ dominant-baseline="central"/g, ' dy=".35em"')
    .replace(/<[^>]*>/g, (tag) => tag.replace(/-?\d+\.\d+/g, (number) => String(Number(Number(number).toFixed(1)))))
    .replace(/\u00a0/g, ' ')
    .replace(/ +\/>/g, '/>')
    .replace(/[ \t]*\n\s*/g, '\n');
}

/** `fill:rgb(0,0,7);stroke-width:1.5;stroke:rgb(0,0,6);` as classes `f-clientfill s-client`. */
function attributes(css) {
  const classes = [];
  const kept = [];
  for (const declaration of css.split(';').filter(Boolean)) {
    const [property, value] = declaration.split(':');
    const [, number] = /^rgb\(0,0,(\d+)\)$/.exec(value) ?? [];
    if (number) classes.push(`${property[0]}-${NAMES[number - 1]}`);
    else if (property === 'fill') classes.push('hollow');
    else if (property === 'stroke-dasharray') classes.push('dashed');
    else if (property !== 'stroke-width') kept.push(declaration);
    else if (Number(value) < 1.4) classes.push('thin');
    else if (Number(value) > 2) classes.push('thick');
  }
  return `class="${classes.sort().join(' ')}"${kept.length ? ` style="${kept.join(';')}"` : ''}`;
}

/** The rules that the picture needs, for the light scheme and then for the dark one. */
function style(drawn, palette) {
  const used = new Set(Array.from(drawn.matchAll(/class="([^"]*)"/g), ([, names]) => names.split(' ')).flat());
  const pair = (name) => (Array.isArray(COLOURS[name]) ? COLOURS[name] : palette.get(COLOURS[name]));
  const rules = (scheme) => {
    const ground = palette.get('--bg')[scheme];
    return [
      `.ground{fill:${ground};stroke:${palette.get('--line')[scheme]}}`,
      `text{stroke:${ground}}`,
      ...NAMES.flatMap((name) => {
        const colour = pair(name)[scheme];
        return [
          used.has(name) && `.${name}{fill:${colour}}`,
          used.has(`f-${name}`) && `.f-${name}{fill:${colour}}`,
          used.has(`s-${name}`) && `.s-${name}{stroke:${colour}}`,
        ];
      }),
    ].filter(Boolean).join('');
  };
  const fixed = [
    'text{font:14px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;paint-order:stroke;stroke-width:5px;stroke-linejoin:round}',
    '.ink,.quiet{stroke:none!important}',
    '.dim,.quiet{font-size:12.5px}',
    '.code{font:12.5px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}',
    'path,circle,polygon,ellipse{stroke-width:1.5px}',
    used.has('hollow') && '.hollow{fill:none}',
    used.has('dashed') && '.dashed{stroke-dasharray:4 4}',
    used.has('thin') && '.thin{stroke-width:1px!important}',
    used.has('thick') && '.thick{stroke-width:2.5px!important}',
  ].filter(Boolean).join('');
  return `${fixed}${rules(0)}@media(prefers-color-scheme:dark){${rules(1)}}`;
}

export function escape(text) {
  return text.replace(/[&<>]/g, (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[character]);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const name of process.argv.length > 2 ? process.argv.slice(2) : await pictureNames()) {
    await writeFile(new URL(`${name}.svg`, IMAGES), await draw(name));
  }
}
